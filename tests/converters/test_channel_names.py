"""Channel names: the 10-05 system against MNE, derivations, and the labels of public corpora by hand (issue 4)."""

from __future__ import annotations

import json

import mne
import numpy as np
import pytest

import harmonize as hz
from converters.edf_cases import CONVERTER, source_of
from harmonize.ingest.channel_rules import apply_rules
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import read_recipe, shipped_recipes
from harmonize_converters.channels import canonical_name, canonical_names
from harmonize_converters.contract import Description
from harmonize_schemas import Channel, ChannelRule, Recipe, Segment, SignalStream
from ingest.trees import edf, wfdb
from realdata import DATA, needs_data

MODERN = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8", "A1": "M1", "A2": "M2"}


def montage() -> list[str]:
    """The 10-05 positions of Oostenveld & Praamstra (2001), as MNE has them; it renamed the montage."""
    names = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in names else "standard_1005"
    return list(mne.channels.make_standard_montage(name).ch_names)


def test_every_position_of_the_10_05_system_has_its_name() -> None:
    positions = montage()
    assert len(positions) == 343
    for label in positions:
        for spelling in (label, label.upper(), label.lower(), f"EEG {label}-REF", f"{label}.."):
            found = canonical_name(spelling)
            assert (found.name, found.type, found.mapped) == (MODERN.get(label, label), "eeg", True), spelling


@pytest.mark.parametrize(
    ("label", "name", "kind", "anode", "cathode", "reference"),
    [
        ("EEG C4-A1", "C4-M1", "eeg", "C4", "M1", None),
        ("C3-M2", "C3-M2", "eeg", "C3", "M2", None),
        ("FP1 - F7", "Fp1-F7", "eeg", "Fp1", "F7", None),
        ("T3-T5", "T7-P7", "eeg", "T7", "P7", None),
        ("EEG Fpz-Cz", "Fpz-Cz", "eeg", "Fpz", "Cz", None),
        ("LOC-ROC", "EOG left-EOG right", "eog", "EOG left", "EOG right", None),
        ("E1-M2", "EOG left", "eog", "EOG left", "M2", "M2"),
        ("EOG ROC-A2", "EOG right", "eog", "EOG right", "M2", "M2"),
        ("EKG1-EKG2", "ECG1-ECG2", "ecg", "ECG1", "ECG2", None),
        ("EEG T3-REF", "T7", "eeg", None, None, "REF"),
        ("EEG FP1-LE", "Fp1", "eeg", None, None, "LE"),
        ("Fz-A1A2", "Fz", "eeg", None, None, "A1A2"),
        ("Cz-M1+M2", "Cz", "eeg", None, None, "M1+M2"),
        ("Oz-Avg", "Oz", "eeg", None, None, "AVG"),
        ("EEG EKG1-REF", "ECG1", "ecg", None, None, "REF"),
    ],
)
def test_derivations_and_references(label, name, kind, anode, cathode, reference) -> None:
    found = canonical_name(label)
    assert (found.name, found.type, found.mapped) == (name, kind, True)
    assert (found.anode, found.cathode, found.reference) == (anode, cathode, reference)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("X1", "misc"), ("X", "misc"), ("1", "misc"), ("01", "misc"), ("-", "misc"), ("LUE-RAE", "misc"),
        ("T7-T3", "misc"), ("C3-C3", "misc"), ("C3-P3-O1", "misc"), ("EKG1-CHIN", "misc"),
        ("ECG C3", "ecg"), ("EEG V1", "eeg"), ("EEG II", "eeg"), ("EEG T1-REF", "eeg"), ("EKG_Off", "misc"),
        ("EOG-L_Off", "misc"), ("Event marker", "misc"), ("DC1", "misc"), ("C3-LOC", "misc"),
    ],
)  # fmt: skip
def test_what_could_be_several_things_is_not_guessed(label, kind) -> None:
    """ "EEG V1" is no lead of the ECG, "ECG C3" no electrode on the scalp, "T7-T3" is twice the same electrode."""
    found = canonical_name(label)
    assert (found.name, found.type, found.mapped) == (label, kind, False)
    assert (found.anode, found.cathode) == (None, None)


EEGMMIDB = (
    "Fc5. Fc3. Fc1. Fcz. Fc2. Fc4. Fc6. C5.. C3.. C1.. Cz.. C2.. C4.. C6.. Cp5. Cp3. Cp1. Cpz. Cp2. Cp4. Cp6. Fp1. Fpz. "
    "Fp2. Af7. Af3. Afz. Af4. Af8. F7.. F5.. F3.. F1.. Fz.. F2.. F4.. F6.. F8.. Ft7. Ft8. T7.. T8.. T9.. T10. Tp7. Tp8. "
    "P7.. P5.. P3.. P1.. Pz.. P2.. P4.. P6.. P8.. Po7. Po3. Poz. Po4. Po8. O1.. Oz.. O2.. Iz.."
)

CORPORA: dict[str, dict[str, tuple[str, str]]] = {
    "sleep-edf": {
        "EEG Fpz-Cz": ("Fpz-Cz", "eeg"), "EEG Pz-Oz": ("Pz-Oz", "eeg"), "EOG horizontal": ("EOG horizontal", "eog"),
        "Resp oro-nasal": ("Airflow", "airflow"), "EMG submental": ("EMG chin", "emg"), "Temp rectal": ("Temp", "temperature"),
        "Event marker": ("Event marker", "misc"),
    },
    "shhs": {
        "SaO2": ("SpO2", "spo2"), "H.R.": ("HR", "heart_rate"), "EEG(sec)": ("C3-M2", "eeg"), "EEG": ("C4-M1", "eeg"),
        "ECG": ("ECG", "ecg"), "EMG": ("EMG chin", "emg"), "EOG(L)": ("EOG left", "eog"), "EOG(R)": ("EOG right", "eog"),
        "SOUND": ("Sound", "sound"), "AIRFLOW": ("Airflow", "airflow"), "NEW AIR": ("Airflow", "airflow"),
        "THOR RES": ("Resp chest", "resp"), "ABDO RES": ("Resp abdomen", "resp"), "POSITION": ("Position", "position"),
        "LIGHT": ("Light", "light"), "OX stat": ("OX stat", "misc"), "PR": ("HR", "heart_rate"),
    },
    "mesa": {
        "EKG": ("ECG", "ecg"), "EOG-L": ("EOG left", "eog"), "EOG-R": ("EOG right", "eog"), "EMG": ("EMG chin", "emg"),
        "EEG1": ("Fz-Cz", "eeg"), "EEG2": ("Cz-Oz", "eeg"), "EEG3": ("C4-M1", "eeg"), "Pres": ("Pres", "misc"),
        "Flow": ("Airflow", "airflow"), "Snore": ("Sound", "sound"), "Thor": ("Resp chest", "resp"),
        "Abdo": ("Resp abdomen", "resp"), "Leg": ("Leg", "misc"), "Therm": ("Airflow oro-nasal", "airflow"),
        "Pos": ("Position", "position"), "EKG_Off": ("EKG_Off", "misc"), "EOG-L_Off": ("EOG-L_Off", "misc"),
        "EMG_Off": ("EMG_Off", "misc"), "SpO2": ("SpO2", "spo2"), "HR": ("HR", "heart_rate"), "Pleth": ("PPG", "ppg"),
        "OxStatus": ("OxStatus", "misc"), "DHR": ("DHR", "misc"),
    },
    "mros": {
        "C3": ("C3", "eeg"), "C4": ("C4", "eeg"), "A1": ("M1", "eeg"), "A2": ("M2", "eeg"), "ROC": ("EOG right", "eog"),
        "LOC": ("EOG left", "eog"), "ECG L": ("ECG L", "ecg"), "ECG R": ("ECG R", "ecg"), "L Chin": ("EMG chin left", "emg"),
        "R Chin": ("EMG chin right", "emg"), "Leg L": ("EMG leg left", "emg"), "Leg R": ("EMG leg right", "emg"),
        "Airflow": ("Airflow", "airflow"), "Cannula Flow": ("Nasal pressure", "airflow"), "Thoracic": ("Resp chest", "resp"),
        "Abdominal": ("Resp abdomen", "resp"), "SUM": ("Resp sum", "resp"), "Position": ("Position", "position"),
        "SaO2": ("SpO2", "spo2"), "HR": ("HR", "heart_rate"), "STAT": ("STAT", "misc"), "DHR": ("DHR", "misc"),
    },
    "physionet2018": {
        "F3-M2": ("F3-M2", "eeg"), "F4-M1": ("F4-M1", "eeg"), "C3-M2": ("C3-M2", "eeg"), "C4-M1": ("C4-M1", "eeg"),
        "O1-M2": ("O1-M2", "eeg"), "O2-M1": ("O2-M1", "eeg"), "E1-M2": ("EOG left", "eog"), "Chin1-Chin2": ("EMG chin", "emg"),
        "ABD": ("Resp abdomen", "resp"), "CHEST": ("Resp chest", "resp"), "AIRFLOW": ("Airflow", "airflow"),
        "SaO2": ("SpO2", "spo2"), "ECG": ("ECG", "ecg"),
    },
    "chb-mit": {
        "FP1-F7": ("Fp1-F7", "eeg"), "T8-P8": ("T8-P8", "eeg"), "FZ-CZ": ("Fz-Cz", "eeg"), "FT9-FT10": ("FT9-FT10", "eeg"),
        "PZ-OZ": ("Pz-Oz", "eeg"), "FC1-Ref": ("FC1", "eeg"), "C3-CS2": ("C3-CS2", "eeg"), "CP6": ("CP6", "eeg"),
        "01": ("01", "misc"), "-": ("-", "misc"), ".": ("unnamed", "misc"), "ECG": ("ECG", "ecg"), "VNS": ("VNS", "misc"),
        "LOC-ROC": ("EOG left-EOG right", "eog"), "EKG1-EKG2": ("ECG1-ECG2", "ecg"), "EKG1-CHIN": ("EKG1-CHIN", "misc"),
        "LUE-RAE": ("LUE-RAE", "misc"),
    },
    "tueg": {
        "EEG FP1-REF": ("Fp1", "eeg"), "EEG T3-REF": ("T7", "eeg"), "EEG T6-LE": ("P8", "eeg"), "EEG A1-REF": ("M1", "eeg"),
        "EEG CZ-LE": ("Cz", "eeg"), "EEG T1-REF": ("EEG T1-REF", "eeg"), "EEG SP1-REF": ("EEG SP1-REF", "eeg"),
        "EEG 26-REF": ("EEG 26-REF", "eeg"), "EEG C3P-REF": ("EEG C3P-REF", "eeg"), "EEG LOC-REF": ("EOG left", "eog"),
        "EEG ROC-REF": ("EOG right", "eog"), "EEG EKG1-REF": ("ECG", "ecg"), "ECG EKG-REF": ("ECG", "ecg"),
        "EMG-REF": ("EMG", "emg"), "PULSE RATE": ("HR", "heart_rate"), "RESP ABDOMEN-REF": ("Resp abdomen", "resp"),
        "PHOTIC-REF": ("PHOTIC-REF", "misc"), "IBI": ("IBI", "misc"), "BURSTS": ("BURSTS", "misc"), "DC1-DC": ("DC1-DC", "misc"),
    },
    "siena": {
        "EEG Fp1": ("Fp1", "eeg"), "EEG T3": ("T7", "eeg"), "EEG Cz": ("Cz", "eeg"), "EEG CP5": ("CP5", "eeg"),
        "EEG F10": ("F10", "eeg"), "EKG EKG": ("ECG", "ecg"), "SPO2": ("SpO2", "spo2"), "HR": ("HR", "heart_rate"),
        "1": ("1", "misc"), "2": ("2", "misc"), "MK": ("MK", "misc"),
    },
    "eegmmidb": {label: (label.rstrip(".").upper().replace("Z", "z").replace("FP", "Fp"), "eeg") for label in EEGMMIDB.split()},
}  # fmt: skip
"""Label as found to canonical name and type, by the recipe that ships: from the corpora's documentation (sleepdata.org,
physionet.org, the TUH report on channel labels) and from code that lists what is in their files."""


def named(labels: list[str], rules: dict[str, ChannelRule]) -> list[Channel]:
    """Channels as a converter and then a recipe name them."""
    channels = tuple(
        Channel(label=label, unit_found="", unit=None, scale=1.0, offset=0.0, **name.fields())
        for label, name in zip(labels, canonical_names(labels), strict=True)
    )
    stream = SignalStream(
        name="s", rate_hz=1, dtype="int16", n_samples=1, channels=channels,
        segments=(Segment(start=0, n_samples=1, onset_s=0.0),),
    )  # fmt: skip
    (found,), _ = apply_rules(Description("EDF", "psg", (stream,)), rules)
    return list(found.channels)


@pytest.mark.parametrize("corpus", CORPORA)
def test_labels_of_public_corpora(corpus) -> None:
    expected = CORPORA[corpus]
    recipe = read_recipe(shipped_recipes()[corpus])
    channels = named(list(expected), recipe.channels)
    assert {c.label: (c.name, c.type) for c in channels} == expected
    assert all(c.mapped == (c.type != "misc") or c.name == c.label for c in channels)


def test_a_rule_may_name_a_derivation() -> None:
    (found,) = named(["EEG"], {"EEG": ChannelRule(name="C4-A1")})
    assert (found.name, found.anode, found.cathode, found.label) == ("C4-M1", "C4", "M1", "EEG")


def test_a_rule_whose_type_contradicts_the_name_makes_it_local() -> None:
    (found,) = named(["A1"], {"A1": ChannelRule(type="ieeg")})
    assert (found.name, found.type, found.mapped) == ("local:A1", "ieeg", True)
    (found,) = named(["C3-C4"], {"C3-C4": ChannelRule(type="ieeg")})
    assert (found.name, found.anode, found.cathode) == ("local:C3-C4", None, None)


def test_a_rule_that_says_trigger_keeps_the_integers() -> None:
    (found,) = named(["C3"], {"C3": ChannelRule(type="trigger")})
    assert (found.unit, found.scale, found.offset, found.calibrated) == (None, 1.0, 0.0, True)


def test_every_converter_fills_anode_and_cathode(tmp_path) -> None:
    """EDF, WFDB, BrainVision, FIF and bare arrays, converted; the document says what was subtracted from what."""
    values = np.arange(16, dtype="<i2")
    label = "C4-A1"
    edf(tmp_path / "in/a.edf", [f"EEG {label}"])
    wfdb(tmp_path / "in/b", [label])
    (tmp_path / "in/c.eeg").write_bytes(values.tobytes())
    (tmp_path / "in/c.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=c.eeg\nDataFormat=BINARY\n"
        "DataOrientation=MULTIPLEXED\nNumberOfChannels=1\nSamplingInterval=4000\n[Binary Infos]\nBinaryFormat=INT_16\n"
        f"[Channel Infos]\nCh1={label},,0.1,µV\n"
    )
    raw = mne.io.RawArray(values[np.newaxis] * 1e-6, mne.create_info([label], 250.0, "eeg"), verbose="error")
    raw.save(tmp_path / "in/d_raw.fif", verbose="error")
    np.save(tmp_path / "in/e.npy", values)
    arrays = {
        "files": "*.npy",
        "streams": [{"samples": "", "axes": ["time"], "rate_hz": 10, "channels": [label], "unit": "uV"}],
    }
    recipe = Recipe.model_validate_json(json.dumps({"dataset": "in", "arrays": [arrays]}))
    assert hz.convert(tmp_path / "in", tmp_path / "s", recipe=recipe, key=ProjectKey(bytes(32))).failures == []
    store = hz.open(tmp_path / "s")
    assert len(store.recordings) == 5
    for name in store.recordings["recording_id"]:
        (channel,) = store[name].meta.streams[0].channels
        assert (channel.name, channel.type, channel.anode, channel.cathode) == ("C4-M1", "eeg", "C4", "M1")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["A1", "C3", "M2"], [("M1", "eeg"), ("C3", "eeg"), ("M2", "eeg")]),
        (["A1", "A3", "C3", "Fp1"], [("local:A1", "misc"), ("local:A3", "misc"), ("local:C3", "misc"), ("Fp1", "eeg")]),
        (["EEG A1-REF", "EEG B12-REF", "EEG F7-REF"], [("local:A1", "eeg"), ("local:B12", "eeg"), ("local:F7", "eeg")]),
        (["A1-A2", "A2-A3", "A3"], [("local:A1-A2", "misc"), ("local:A2-A3", "misc"), ("local:A3", "misc")]),
        (["E1", "E2", "C4"], [("EOG left", "eog"), ("EOG right", "eog"), ("C4", "eeg")]),
        (
            ["E1", "E2", "E128", "C4"],
            [("local:E1", "misc"), ("local:E2", "misc"), ("local:E128", "misc"), ("C4", "eeg")],
        ),
        (["ECG", "V3", "V4", "aVF"], [("ECG", "ecg"), ("V3", "ecg"), ("V4", "ecg"), ("aVF", "ecg")]),
    ],
)
def test_neighbours_tell_what_a_letter_and_a_number_mean(labels, expected) -> None:
    """BioSemi's ABC caps, implanted electrodes and EGI's nets have an A1, C3 or E1 that is not the 10-20 system's."""
    names = canonical_names(labels)
    assert [(name.name, name.type) for name in names] == expected
    assert [name.mapped for name in names] == [not name.startswith("local:") for name, _ in expected]


@needs_data
def test_a_real_biosemi_cap_has_no_mastoids() -> None:
    path = DATA / "edf/mne/test.edf"
    names = {c.label: c.name for c in CONVERTER.describe(source_of(path)).description.streams[0].channels}
    assert [names[label] for label in ("A1", "A16", "C3", "I1", "Status")] == [
        "local:A1", "local:A16", "local:C3", "local:I1", "Status",
    ]  # fmt: skip
    assert not {"M1", "M2"} & set(names.values())


def test_a_rule_keeps_what_the_neighbours_told() -> None:
    found = named(["A1", "A3", "C3"], {"C3": ChannelRule(type="eeg")})
    assert [(c.name, c.type) for c in found] == [("local:A1", "misc"), ("local:A3", "misc"), ("local:C3", "eeg")]
