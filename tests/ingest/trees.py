"""Miniature trees in the documented layouts of the data sets that recipes ship for: a few recordings of some
samples, tables of a few rows with a missing value and an age above 89, and events. Written byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from converters.dicom_files import stored_planes, write_series
from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from converters.wfdb_bytes import END, aux, pack, word
from ingest.trees_arrays import ARRAY_TREES

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def write(file: Path, content: str | bytes) -> None:
    """A file and its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def wfdb(file: Path, leads: Sequence[str], comments: Sequence[str] = (), **texts: str) -> None:
    """A record of eight samples in format 16, ``file`` without suffix; in ``.mat`` files behind 24 bytes.

    ``texts``: signal (suffix of its file), rate, start, unit, samples (how many).
    """
    suffix, rate, start = texts.get("signal", "dat"), texts.get("rate", "500"), texts.get("start", "")
    form = "16+24" if suffix == "mat" else "16"
    count = int(texts.get("samples", "8"))
    samples = np.arange(count * len(leads)).reshape(count, -1) % 1000
    lines = [f"{file.name} {len(leads)} {rate} {count} {start}".rstrip()]
    for lead, column in zip(leads, samples.T, strict=True):
        total = (int(column.sum()) + 32768) % 65536 - 32768
        line = f"{file.name}.{suffix} {form} 1000/{texts.get('unit', 'mV')} 16 0 {column[0]} {total} 0 {lead}"
        lines.append(line)
    write(Path(f"{file}.hea"), "\n".join([*lines, *(f"#{comment}" for comment in comments)]) + "\n")
    raw = pack(16, samples.ravel().tolist())
    write(Path(f"{file}.{suffix}"), bytes(24 if suffix == "mat" else 0) + raw)


def edf(file: Path, labels: Iterable[str], patient: str = "X X X X", plus: bool = False, **texts: str) -> None:
    """Two seconds at 8 Hz. ``texts``: date, time, and the units of labels that are not in µV."""
    units = {"SaO2": "%", "SpO2": "%"}
    signals = [Signal(label, np.arange(16), unit=units.get(label, "uV")) for label in labels]
    if plus:
        signals.append(annotations(timekeeping(2)))
    reserved = "EDF+C" if plus else ""
    when = {"date": texts.get("date", "01.01.85"), "time": texts.get("time", "22.00.00")}
    write(file, edf_bytes(signals, n_records=2, patient=patient, reserved=reserved, **when))


def hypnogram(file: Path, date: str, time: str, marks: Mapping[int, str]) -> None:
    """Stages by onset, 30 s each, in a file of annotations alone."""
    (first,) = timekeeping(1)
    tals = first + b"".join(b"+%d\x1530\x14%s\x14\0" % (at, text.encode()) for at, text in marks.items())
    texts = annotations([tals], per_record=200)
    write(file, edf_bytes([texts], n_records=1, reserved="EDF+C", date=date, time=time, record_s="0"))


def nsrr(file: Path, events: Iterable[tuple[str, float, float]]) -> None:
    """An annotation file of the National Sleep Research Resource."""
    scored = "".join(
        f"<ScoredEvent><EventType>x</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start}</Start><Duration>{duration}</Duration></ScoredEvent>\n"
        for concept, start, duration in events
    )
    write(file, f"<PSGAnnotation><ScoredEvents>\n{scored}</ScoredEvents></PSGAnnotation>")


def ptb(root: Path) -> None:
    leads = [*(lead.lower() for lead in LEADS), "vx", "vy", "vz"]
    wfdb(root / "patient001/s0010_re", leads, [" age: 91", " sex: female", " ECG date: 01/10/1990", "",
         " Diagnose:", " Reason for admission: Myocardial infarction",
         " Acute infarction (localization): infero-latera", " Former infarction (localization): no",
         " Additional diagnoses: Diabetes mellitus", " Smoker: no"])  # fmt: skip
    wfdb(root / "patient001/s0014lre", leads, [" age: 91", " sex: female", " ECG date: 03/10/1990",
         " Reason for admission: Myocardial infarction", " Smoker: n/a"])  # fmt: skip
    wfdb(root / "patient104/s0306lre", leads, [" age: n/a", " sex: male", " ECG date: n/a",
         " Reason for admission: Healthy control", " Smoker: yes"])  # fmt: skip
    write(root / "RECORDS", "patient001/s0010_re\n")
    write(root / "CONTROLS", "patient104/s0306lre\n")


def mitdb(root: Path) -> None:
    wfdb(root / "100", ["MLII", "V5"], [" 69 M 1085 1629 x1", " Aldomet, Inderal"], rate="360")
    wfdb(root / "201", ["MLII", "V1"], [" 68 M 1960 4277 x1", " Digoxin, Hydrochlorthiazide"], rate="360")
    wfdb(root / "202", ["MLII", "V1"], [" -1 M 1960 4277 x1", " None"], rate="360")
    wfdb(root / "x_mitdb/x_108", ["MLII", "V1"], rate="360")
    rhythm = word(28, 0) + aux(b"(N\0")
    write(root / "100.atr", rhythm + word(1, 2) + word(5, 3) + END)
    write(root / "102-0.atr", END)


def cinc2017(root: Path) -> None:
    for name in ("A00001", "A00002", "A00003"):
        wfdb(root / f"training/A00/{name}", ["ECG"], signal="mat", rate="300", start="05:05:15 1/05/2000")
    wfdb(root / "validation/A00001", ["ECG"], signal="mat", rate="300", start="05:05:15 1/05/2000")
    write(root / "REFERENCE-v3.csv", "A00001,N\nA00002,~\n")


def _challenge(file: Path, age: str, sex: str, dx: str, rx: str = "Unknown") -> None:
    comments = [f"Age: {age}", f"Sex: {sex}", f"Dx: {dx}", f"Rx: {rx}", "Hx: Unknown", "Sx: Unknown"]
    wfdb(file, LEADS, comments, signal="mat")


def cinc2020(root: Path) -> None:
    _challenge(root / "training/cpsc_2018/g1/A0001", "74", "Male", "59118001")
    _challenge(root / "training/st_petersburg_incart/g1/I0001", "NaN", "Female", "164865005,426783006")
    _challenge(root / "training/ptb-xl/g1/HR00001", "92", "Male", "426783006")
    _challenge(root / "training/georgia/g1/E00001", "53", "Female", "426783006")
    write(root / "training/georgia/g1/RECORDS", "E00001\n")


def cpsc2018(root: Path) -> None:
    _challenge(root / "training/cpsc_2018/g1/A0001", "74", "Male", "59118001")
    _challenge(root / "training/cpsc_2018/g1/A0002", "92", "Female", "164889003,164931005")
    _challenge(root / "training/cpsc_2018/g2/A1549", "NaN", "Male", "426783006")
    _challenge(root / "training/georgia/g1/E00001", "53", "Female", "426783006")


def mimic_iv_ecg(root: Path) -> None:
    rows, machine = [], []
    for subject, study, when, cart, reports in (
        ("10000032", "40689238", "2180-07-23 08:44:00", "6848296", ("Sinus rhythm", "Normal ECG")),
        ("10000032", "44458630", "2180-07-23 09:54:00", "6848296", ("Sinus rhythm",)),
        ("10000117", "45800000", "2181-11-15 04:32:00", "", ()),
    ):
        path = f"files/p{subject[:4]}/p{subject}/s{study}/{study}"
        wfdb(root / path, ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"))
        rows.append(f"{subject},{study},{study},{when},{path}")
        texts = [*reports, *[""] * (18 - len(reports))]
        machine.append(",".join([subject, study, cart, when, *texts, "0.005-150 Hz", "60 Hz notch"]))
    write(root / "record_list.csv", "\n".join(["subject_id,study_id,file_name,ecg_time,path", *rows]))
    columns = ["subject_id", "study_id", "cart_id", "ecg_time", *(f"report_{i}" for i in range(18)), "bandwidth"]
    write(root / "machine_measurements.csv", "\n".join([",".join([*columns, "filtering"]), *machine[:2]]))


def chapman_shaoxing(root: Path) -> None:
    _challenge(root / "WFDBRecords/01/010/JS00001", "85", "Male", "164889003,59118001")
    _challenge(root / "WFDBRecords/01/010/JS10646", "98", "Female", "426177001")
    _challenge(root / "WFDBRecords/46/460/JS45551", "NaN", "Unknown", "426177001,123")
    write(root / "ConditionNames_SNOMED-CT.csv",
          "\ufeffAcronym Name,Full Name,Snomed_CT\nAFIB,Atrial Fibrillation,164889003\nSB,Sinus Bradycardia,426177001\n")  # fmt: skip


def sleep_edf(root: Path) -> None:
    labels = [
        "EEG Fpz-Cz",
        "EEG Pz-Oz",
        "EOG horizontal",
        "Resp oro-nasal",
        "EMG submental",
        "Temp rectal",
        "Event marker",
    ]
    for name, patient, date in (
        ("SC4001E0", "X F X Female_33yr", "24.04.89"),
        ("SC4002E0", "X F X Female_33yr", "25.04.89"),
        ("SC4761E0", "X M X Male_101yr", "12.12.91"),
    ):
        edf(root / f"sleep-cassette/{name}-PSG.edf", labels, patient, plus=True, date=date, time="16.13.00")
    edf(root / "sleep-telemetry/ST7011J0-PSG.edf", labels[:3], "X X X X", plus=True, date="05.01.94")
    stages = {0: "Sleep stage W", 30: "Sleep stage 1", 60: "Sleep stage ?"}
    hypnogram(root / "sleep-cassette/SC4001EC-Hypnogram.edf", "24.04.89", "16.13.00", stages)
    hypnogram(root / "sleep-telemetry/ST7011JP-Hypnogram.edf", "05.01.94", "22.00.00", {0: "Sleep stage R"})


def shhs(root: Path) -> None:
    labels = ["SaO2", "H.R.", "EEG(sec)", "ECG", "EMG", "EOG(L)", "EOG(R)", "EEG", "THOR RES", "ABDO RES", "POSITION"]
    for visit, subject in ((1, 200001), (2, 200077), (1, 200077), (1, 200099)):
        edf(root / f"polysomnography/edfs/shhs{visit}/shhs{visit}-{subject}.edf", labels)
    nsrr(root / "polysomnography/annotations-events-nsrr/shhs1/shhs1-200001-nsrr.xml",
         [("Recording Start Time", 0, 2), ("Wake|0", 0, 30), ("Stage 4 sleep|4", 30, 30), ("REM sleep|5", 60, 30),
          ("Hypopnea|Hypopnea", 61.5, 12.5), ("SpO2 desaturation|SpO2 desaturation", 70, 9), ("Unsure|Unsure", 80, 5)])  # fmt: skip
    write(root / "datasets/shhs-harmonized-dataset-0.21.0.csv",
          "nsrrid,visitnumber,nsrr_age,nsrr_age_gt89,nsrr_sex\n200001,1,55,no,male\n200077,1,41,no,female\n"
          "200077,2,,,not reported\n200099,1,90,yes,male\n")  # fmt: skip


def mesa(root: Path) -> None:
    labels = ["EKG", "EOG-L", "EOG-R", "EMG", "EEG1", "EEG2", "EEG3", "Pres", "Flow", "Thor", "Abdo", "SpO2", "HR"]
    for subject in ("0001", "0012", "6814"):
        edf(root / f"polysomnography/edfs/mesa-sleep-{subject}.edf", labels)
    nsrr(root / "polysomnography/annotations-events-nsrr/mesa-sleep-0012-nsrr.xml",
         [("Stage 2 sleep|2", 0, 30), ("Unsure|Unsure", 3, 11), ("Obstructive apnea|Obstructive Apnea", 20, 10)])  # fmt: skip
    write(root / "datasets/mesa-sleep-harmonized-dataset-0.8.0.csv",
          "mesaid,examnumber,nsrr_age,nsrr_age_gt89,nsrr_sex\n1,5,74,no,female\n12,5,90,yes,male\n6814,5,,,\n")  # fmt: skip


def mros(root: Path) -> None:
    labels = ["C3", "C4", "A1", "A2", "ROC", "LOC", "ECG L", "ECG R", "L Chin", "R Chin", "Thoracic", "Cannula Flow"]
    for visit, subject in ((1, "aa0001"), (2, "aa0001"), (1, "aa5050")):
        edf(root / f"polysomnography/edfs/visit{visit}/mros-visit{visit}-{subject}.edf", labels)
    nsrr(root / "polysomnography/annotations-events-nsrr/visit1/mros-visit1-aa0001-nsrr.xml",
         [("Stage 3 sleep|3", 0, 30), ("Arousal|Arousal ()", 4, 3), ("Periodic breathing|Periodic Breathing", 9, 60)])  # fmt: skip
    write(root / "datasets/mros-visit1-harmonized-0.6.0.csv",
          "nsrrid,visit,nsrr_age,nsrr_age_gt89,nsrr_sex\nAA0001,1,77,no,male\nAA5050,1,,,male\n")  # fmt: skip
    write(root / "datasets/mros-visit2-dataset-0.6.0.csv", "nsrrid,visit,gender,vs2age1\nAA0001,2,2,90\n")


def physionet2018(root: Path) -> None:
    channels = ["F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "Chin1-Chin2", "ABD", "CHEST",
                "AIRFLOW", "SaO2", "ECG"]  # fmt: skip
    for name in ("training/tr03-0005", "training/tr03-0029", "test/te03-0001"):
        file = root / name / name.rpartition("/")[2]
        wfdb(file, channels, signal="mat", rate="200", unit="uV", samples="3200")
        write(Path(f"{file}-arousal.mat"), b"\x89HDF\r\n\x1a\n")
    marks = ((0, "W"), (1000, "N1"), (200, "(resp_hypopnea"), (600, "N2"), (800, "resp_hypopnea)"), (10, "(arousal_rera"),
             (300, "arousal_rera)"))  # fmt: skip
    raw = b"".join(word(28, step) + aux(text.encode()) for step, text in marks)
    write(root / "training/tr03-0005/tr03-0005.arousal", raw + END)
    write(root / "age-sex.csv", "Record,Age,Sex\ntr03-0005,59,M\ntr03-0029,92,F\nte03-0001,,F\n")


SUMMARY = """Data Sampling Rate: 256 Hz
*************************

Channels in EDF Files:
**********************
Channel 1: FP1-F7

File Name: chb01_01.edf
File Start Time: 11:42:54
File End Time: 12:42:54
Number of Seizures in File: 0

File Name: chb01_03.edf
File Start Time: 13:43:04
File End Time: 14:43:04
Number of Seizures in File: 2
Seizure 1 Start Time: 0 seconds
Seizure 1 End Time: 1 seconds
Seizure 2 Start Time: 1 seconds
Seizure 2 End Time: 2 seconds
"""


def chb_mit(root: Path) -> None:
    labels = ["FP1-F7", "F7-T7", "T8-P8", "FZ-CZ", "-", "T8-P8"]
    for name, time in (("chb01/chb01_01", "11.42.54"), ("chb01/chb01_03", "13.43.04"), ("chb21/chb21_01", "14.00.00"),
                       ("chb24/chb24_01", "14.00.00"), ("chb02/chb02_16+", "02.00.00")):  # fmt: skip
        edf(root / f"{name}.edf", labels, date="06.11.76", time=time)
    write(root / "chb01/chb01-summary.txt", SUMMARY)
    write(root / "chb01/chb01_03.edf.seizures", b"\0\1")
    write(root / "SUBJECT-INFO", "Case\tGender\tAge (years)\nchb01\tF\t11\nchb02\tM\t 1.5\nchb21\tF\t13\n")


TUH = ["EEG FP1-REF", "EEG T3-REF", "EEG CZ-REF", "EEG EKG1-REF"]


def tueg(root: Path) -> None:
    for file, patient in (
        ("000/aaaaaaaa/s001_2015/01_tcp_ar/aaaaaaaa_s001_t000", "aaaaaaaa M 01-JAN-1960 aaaaaaaa Age:55"),
        ("000/aaaaaaaa/s001_2015/01_tcp_ar/aaaaaaaa_s001_t001", "aaaaaaaa M 01-JAN-1960 aaaaaaaa Age:55"),
        ("000/aaaaaaab/s002_2002/02_tcp_le/aaaaaaab_s002_t000", "aaaaaaab F 01-JAN-1905 aaaaaaab Age:97"),
        ("000/aaaaaaac/s001_2002/03_tcp_ar_a/aaaaaaac_s001_t000", "aaaaaaac X XX-XXX-XXXX aaaaaaac"),
    ):
        edf(root / f"edf/{file}.edf", [label.replace("-REF", "-LE") if "_le/" in file else label for label in TUH],
            patient, date="01.01.15")  # fmt: skip
    write(root / "AAREADME.txt", "TUH EEG Corpus\n")


def tuab(root: Path) -> None:
    for file, patient in (
        ("train/normal/01_tcp_ar/aaaaaaav_s004_t000", "aaaaaaav F 01-JAN-1969 aaaaaaav Age:46"),
        ("train/abnormal/01_tcp_ar/aaaaaaaq_s004_t000", "aaaaaaaq M 01-JAN-1920 aaaaaaaq Age:95"),
        ("eval/abnormal/01_tcp_ar/aaaaamye_s001_t000", "aaaaamye X XX-XXX-XXXX aaaaamye"),
    ):
        edf(root / f"edf/{file}.edf", TUH, patient)


def tuev(root: Path) -> None:
    edf(root / "edf/train/aaaaaaar/aaaaaaar_00000001.edf", TUH, "aaaaaaar M 01-JAN-1960 aaaaaaar Age:55")
    write(root / "edf/train/aaaaaaar/aaaaaaar_00000001.rec", "13,0.4,1.4,6\n1,1.0,2.0,1\n")
    write(root / "edf/train/aaaaaaar/aaaaaaar_00000001_ch000.lab", "0 100000 bckg\n")
    edf(root / "edf/eval/000/bckg_000_a_.edf", TUH, "00000000 F 01-JAN-1920 00000000 Age:95")
    write(root / "edf/eval/000/bckg_000_a_.rec", "0,0.0,1.0,6\n")
    edf(root / "edf/eval/003/gped_003_a_1.edf", TUH, "X X X X")
    write(root / "edf/eval/003/gped_003_a_1.rec", "0,0.0,1.0,2\n0,1.0,2.0,4\n")


def eegmmidb(root: Path) -> None:
    for name in ("S001/S001R01", "S001/S001R04", "S109/S109R14"):
        signals = [Signal(label, np.arange(16)) for label in ("Fc5.", "Cz..", "Iz..")]
        first, second = timekeeping(2)
        tals = [first + b"+0\x151\x14T0\x14\0", second + b"+1\x151\x14T2\x14\0"]
        raw = edf_bytes([*signals, annotations(tals)], n_records=2, reserved="EDF+C", date="12.08.09", time="16.15.00",
                        recording="Startdate 12-AUG-2009 X X BCI2000")  # fmt: skip
        write(root / f"{name}.edf", raw)
        write(root / f"{name}.edf.event", b"\0")


def siena(root: Path) -> None:
    labels = ["EEG Fp1", "EEG T3", "EEG Cz", "EKG EKG", "SPO2"]
    for name in ("PN00/PN00-1", "PN00/PN00-2", "PN10/PN10-4.5.6", "PN12/PN12-1.2"):
        edf(root / f"{name}.edf", labels, date="01.01.16", time="19.39.33")
    write(root / "PN00/Seizures-list-PN00.txt", "Seizure n 1\nFile name: PN00-1.edf\n")
    write(root / "subject_info.csv",
          "patient_id, age_years, gender, seizure, localization, lateralization, eeg_channel, number_seizures, rec_time_minutes\n"
          "PN00, 55, Male, IAS, T, R, 29, 5, 198\nPN10, 91, Male, FBTC, F, Bilateral, 20, 10, 1002\n"
          "PN12,,Female,,T,L,29,4,246\n")  # fmt: skip


def dicom(root: Path) -> None:
    planes = stored_planes(2)
    trial = {"ClinicalTrialSubjectID": "T-0001", "ClinicalTrialSiteID": "S7", "ClinicalTrialTimePointID": "week 12"}
    write_series(root / "a", planes, **trial)
    other = {"SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.91", "PatientAge": "045Y", "PatientSex": None}
    described = {
        "BodyPartExamined": None,
        "StudyDescription": "CT Thorax native, Dr. Planted",
        "ImageType": ["DERIVED"],
    }
    write_series(root / "b", planes, each=lambda k: {"SOPInstanceUID": f"1.2.3.{k}"}, **other, **described)


TREES: dict[str, Callable[[Path], None]] = {
    "ptb": ptb, "mitdb": mitdb, "cinc2017": cinc2017, "cinc2020": cinc2020, "cpsc2018": cpsc2018,
    "mimic-iv-ecg": mimic_iv_ecg, "chapman-shaoxing": chapman_shaoxing, "sleep-edf": sleep_edf, "shhs": shhs,
    "mesa": mesa, "mros": mros, "physionet2018": physionet2018, "chb-mit": chb_mit, "tueg": tueg, "tuab": tuab,
    "tuev": tuev, "eegmmidb": eegmmidb, "siena": siena, "dicom": dicom, **ARRAY_TREES,
}  # fmt: skip
"""The tree of each recipe, by its name."""
