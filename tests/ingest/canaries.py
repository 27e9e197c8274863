"""Files of every format with a unique string in every field that can identify (issue 3, point 3).

``python tests/ingest/canaries.py`` prints the list of planted fields, those of ``canaries_recipes`` too.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import h5py
import mne
import nibabel
import numpy as np
import pydicom
import soundfile
from pydicom.datadict import DicomDictionary, keyword_for_tag

from converters.dicom_files import changed, save
from converters.seg_files import seg_dataset, segment
from converters.test_opensignals import MAC, device
from converters.waveform_files import annotation, channel, group, noise, waveform_dataset
from harmonize.report.demo_cohort import _ct
from harmonize_converters._dicom_slice import TAGS

DATE = "19830217"
DATES = (DATE, "1983-02-17", "1983-2-17", "17.02.83", "17-FEB-1983", "17/02/1983")
"""One day in every spelling: it must be in none of what is made. ``MAC`` (of a device) neither."""
PASSING = frozenset(
    {
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "ConvolutionKernel",
        "BodyPartExamined",
        "PatientPosition",
    }
)
"""Texts of DICOM that name a kind of device or view, and are kept (the allow-list)."""
_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC", "UR", "AE"})
_TYPED = frozenset(
    {
        *TAGS,
        "PatientAge",
        "PatientBirthDate",
        "PatientSex",
        "PatientWeight",
        "PatientSize",
        "SpecificCharacterSet",
        "SeriesInstanceUID",
    }
)
_FIRST_UID = "1.2.826.0.1.424242"


class Canaries:
    """Unique strings, each remembered with where it was put."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def new(self, where: str, size: int = 64) -> str:
        """A text of ten characters: "Qz" and a number that is found again."""
        text = f"Qz{len(self.planted):06d}xK"[:size]
        self.planted[text] = where
        return text

    def uid(self, where: str) -> str:
        """A UID that is found again."""
        text = f"{_FIRST_UID}.{len(self.planted) + 100000}"
        self.planted[text] = where
        return text


def plant(folder: Path) -> Canaries:
    """Good recordings of every format below ``folder``, and one damaged file."""
    made = Canaries()
    for plants in (edf, wfdb, dicom, segmentation, waveform, nifti, audio, brainvision, fif, opensignals, tables):
        plants(folder, made)
    (folder / f"{made.new('damaged file: name')}.edf").write_text(made.new("damaged file: content"))
    return made


def place(folder: Path, made: Canaries, kind: str, suffix: str) -> Path:
    """A file in a folder, with a canary in both names."""
    path = folder / made.new(f"{kind}: folder") / f"{made.new(f'{kind}: file name')}{suffix}"
    path.parent.mkdir(parents=True)
    return path


def edf(folder: Path, made: Canaries) -> None:
    """EDF+ with every text of the header and of the annotations; written byte by byte."""

    def text(value: str, width: int) -> bytes:
        return value.encode().ljust(width)[:width]

    new = made.new
    patient = f"{new('EDF+: patient code')} F 17-FEB-1983 {new('EDF+: patient name')} {new('EDF+: patient additional')}"
    recording = (
        f"Startdate 18-FEB-2013 {new('EDF+: administration code')} {new('EDF+: technician')} {new('EDF+: equipment')} "
        f"{new('EDF+: recording additional')}"
    )
    note = f"+1\x150.5\x14{new('EDF+: annotation')}\x14".encode()
    tals = [(b"+%d\x14\x14\0" % i + (note + b"\0" if i == 0 else b"")).ljust(120, b"\0") for i in range(4)]
    columns = [("EEG C3", "EDF Annotations"), 16, (new("EDF: transducer"), ""), 80, ("uV", ""), 8, ("-100", "-1"), 8,
               ("100", "1"), 8, ("-32768", "-32768"), 8, ("32767", "32767"), 8, (new("EDF: prefilter"), ""), 80,
               ("100", "60"), 8, (new("EDF: reserved of signal"), ""), 32]  # fmt: skip
    header = [
        text("0", 8),
        text(patient, 80),
        text(recording, 80),
        text("18.02.13", 8),
        text("10.11.12", 8),
        text("768", 8),
    ]
    header += [text("EDF+C" + new("EDF: reserved"), 44), text("4", 8), text("1", 8), text("2", 4)]
    for values, width in zip(columns[::2], columns[1::2], strict=True):
        header += [text(value, width) for value in values]
    samples = np.arange(100, dtype="<i2").tobytes()
    place(folder, made, "EDF+", ".edf").write_bytes(b"".join(header) + b"".join(samples + tal for tal in tals))


def wfdb(folder: Path, made: Canaries) -> None:
    """A WFDB record with comments, a date, and annotations with AUX texts and subtypes."""
    header = place(folder, made, "WFDB", ".hea")
    name = header.stem
    np.arange(500, dtype="<i2").tofile(header.with_suffix(".dat"))
    total = int(np.arange(500, dtype=np.int16).sum(dtype=np.int16))
    lines = [f"{name} 1 250 500 10:11:12 17/02/1983", f"{name}.dat 16 1000/mV 16 0 0 {total} 0 II"]
    lines += [f"# {made.new('WFDB: comment')}", "# Age: 44", "# Sex: F", f"# Name: {made.new('WFDB: named comment')}"]
    lines += [f"#<diagnosis>: {made.new('WFDB: bracketed comment')}"]
    header.write_text("\n".join(lines) + "\n")
    aux = made.new("WFDB: annotation AUX").encode() + b"\0"
    aux += b"\0" * (len(aux) % 2)
    marks = struct.pack("<H", 28 << 10 | 25) + struct.pack("<H", 63 << 10 | len(aux)) + aux
    header.with_suffix(".atr").write_bytes(marks + struct.pack("<H", 0))


def dicom(folder: Path, made: Canaries) -> None:
    """A CT series: every textual element and UID of the dictionary, on top and in a sequence, and private ones."""
    where = folder / made.new("DICOM: folder")
    _ct(where, np.random.default_rng(0), "Maker", "Model", 1.5)
    extra = {depth: _dicom_elements(made, depth) for depth in ("top", "sequence")}
    series = made.uid("DICOM: (0020,000e) SeriesInstanceUID")
    private = [made.new(f"DICOM: private {vr}") for vr in ("LO", "UN")]
    for number, file in enumerate(sorted(where.glob("*.dcm"))):
        ds = pydicom.dcmread(file)
        ds.update(extra["top"])
        item = pydicom.Dataset()
        item.update(extra["sequence"])
        deeper = pydicom.Dataset()
        deeper.CodeMeaning = made.new(f"DICOM: nested twice, slice {number}")
        item.ConceptNameCodeSequence = [deeper]
        ds.RequestAttributesSequence = [item]
        block = ds.private_block(0x0011, made.new("DICOM: private creator"), create=True)
        block.add_new(1, "LO", private[0])
        block.add_new(2, "UN", private[1].encode())
        ds.SeriesInstanceUID, ds.PatientAge, ds.PatientSex = series, "055Y", "F"
        ds.PatientBirthDate = ds.StudyDate = ds.SeriesDate = ds.ContentDate = DATE
        for tag in ("AcquisitionDate", "AcquisitionDateTime", "AcquisitionTime", "ContentTime", "SeriesTime"):
            if tag in ds:
                delattr(ds, tag)
        ds.StudyTime = f"1011{number:02d}"
        ds.preamble = made.new("DICOM: preamble").encode().ljust(128, b"\0")
        ds.save_as(file.with_name(f"{made.new('DICOM: file name')}.dcm"))
        file.unlink()


def segmentation(folder: Path, made: Canaries) -> None:
    """A DICOM segmentation: the words and codes of its segments, and the UIDs that name other objects."""

    def concept(where: str) -> list[pydicom.Dataset]:
        words = {"CodeValue": made.new(f"DICOM SEG: value of {where}"), "CodeMeaning": made.new(f"DICOM SEG: {where}")}
        return [changed(pydicom.Dataset(), {"CodingSchemeDesignator": "SCT", **words})]

    words = ("SegmentLabel", "SegmentDescription", "SegmentAlgorithmName", "TrackingID")
    codes = ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence")
    planted = {word: made.new(f"DICOM SEG: {word}") for word in words} | {code: concept(code) for code in codes}
    planted["SegmentAlgorithmType"] = made.new("DICOM SEG: SegmentAlgorithmType").upper()
    planted["TrackingUID"] = made.uid("DICOM SEG: TrackingUID")
    source = changed(pydicom.Dataset(), {"SeriesInstanceUID": made.uid("DICOM SEG: source series")})
    uids = {name: made.uid(f"DICOM SEG: {name}") for name in ("SeriesInstanceUID", "FrameOfReferenceUID")}
    ds = seg_dataset([(100.0, 1, np.ones((5, 7), np.uint8))], **uids, PatientAge=None, PatientBirthDate=None)
    ds.SegmentSequence, ds.ReferencedSeriesSequence = [segment(1, **planted)], [source]
    ds.ContentLabel, ds.ContentDescription = made.new("DICOM SEG: label").upper(), made.new("DICOM SEG: description")
    save(ds, place(folder, made, "DICOM SEG", ".dcm"))


def waveform(folder: Path, made: Canaries) -> None:
    """A DICOM waveform: words, private codes and units of its groups, channels and annotations."""

    def code(where: str, scheme: str = "99LOCAL") -> list[pydicom.Dataset]:
        words = {"CodeValue": made.new(f"DICOM waveform: value of {where}", 16)}
        words["CodeMeaning"] = made.new(f"DICOM waveform: meaning of {where}")
        return [changed(pydicom.Dataset(), {"CodingSchemeDesignator": scheme, **words})]

    one = channel(
        ChannelSourceSequence=code("ChannelSourceSequence"),
        ChannelSensitivityUnitsSequence=code("ChannelSensitivityUnitsSequence", "UCUM"),
        ChannelSourceModifiersSequence=code("ChannelSourceModifiersSequence", "DCM"),
        ChannelDerivationDescription=made.new("DICOM waveform: ChannelDerivationDescription"),
        ChannelStatus=made.new("DICOM waveform: ChannelStatus").upper(),
    )
    samples = group(noise(2, 40), [one, channel()], MultiplexGroupLabel=made.new("DICOM waveform: label", 16))
    note = annotation(
        UnformattedTextValue=made.new("DICOM waveform: UnformattedTextValue"),
        ConceptNameCodeSequence=code("ConceptNameCodeSequence"),
        ConceptCodeSequence=code("ConceptCodeSequence"),
        MeasurementUnitsCodeSequence=code("MeasurementUnitsCodeSequence", "UCUM"),
        TemporalRangeType="POINT",
        ReferencedSamplePositions=[4],
    )
    uids = {name: made.uid(f"DICOM waveform: {name}") for name in ("SeriesInstanceUID", "SOPInstanceUID")}
    dated = {"AcquisitionDateTime": f"{DATE}101112", "StudyDate": DATE, "AcquisitionDate": DATE}
    ds = waveform_dataset([samples], [note], PatientAge=None, PatientBirthDate=None, **dated, **uids)
    save(ds, place(folder, made, "DICOM waveform", ".dcm"))


def _dicom_elements(made: Canaries, depth: str) -> pydicom.Dataset:
    """Every element of the dictionary that can hold a name, a code, a UID or a date."""
    ds = pydicom.Dataset()
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 <= 0x0006 or not keyword or keyword in _TYPED | PASSING or "Pixel" in keyword:
            continue
        where = f"DICOM {depth}: ({tag >> 16:04x},{tag & 0xFFFF:04x}) {keyword_for_tag(tag)}"
        if vr in _TEXT:
            ds.add_new(tag, vr, made.new(where))
        elif vr == "CS":
            ds.add_new(tag, vr, made.new(where).upper())
        elif vr == "UI" and "SOPClass" not in keyword and "TransferSyntax" not in keyword:
            ds.add_new(tag, vr, made.uid(where))
        elif vr in ("DA", "DT"):
            ds.add_new(tag, vr, DATE)
    return ds


def nifti(folder: Path, made: Canaries) -> None:
    """NIfTI with every text of the header, an extension, and a JSON sidecar."""
    image = nibabel.Nifti1Image(np.arange(729, dtype=np.int16).reshape(9, 9, 9), np.eye(4))
    for field, size in (("descrip", 80), ("aux_file", 24), ("db_name", 18), ("intent_name", 16)):
        image.header[field] = made.new(f"NIfTI: {field}", size)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", made.new("NIfTI: extension").encode()))
    file = place(folder, made, "NIfTI", ".nii.gz")
    nibabel.save(image, file)
    named = ("InstitutionName", "InstitutionAddress", "StationName", "DeviceSerialNumber", "PatientName", "PatientID",
             "SeriesDescription", "ProtocolName", "ProcedureStepDescription", "InstitutionalDepartmentName")  # fmt: skip
    sidecar = {name: made.new(f"NIfTI sidecar: {name}") for name in named}
    sidecar |= {
        "AcquisitionDateTime": "1983-02-17T10:11:12",
        "global": {"const": {"x": made.new("NIfTI sidecar: nested")}},
    }
    file.with_name(file.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(sidecar))


def audio(folder: Path, made: Canaries) -> None:
    """WAVE and FLAC with every text that libsndfile can write."""
    for suffix in (".wav", ".flac"):
        kind = suffix[1:].upper()
        with soundfile.SoundFile(place(folder, made, kind, suffix), "w", 8000, 1, "PCM_16") as sound:
            for name in (
                "title",
                "copyright",
                "software",
                "artist",
                "comment",
                "date",
                "album",
                "tracknumber",
                "genre",
            ):
                setattr(sound, name, made.new(f"{kind}: {name}"))
            sound.write(np.arange(800, dtype=np.int16))


def brainvision(folder: Path, made: Canaries) -> None:
    """A BrainVision triplet with comments, marker texts, and a date."""
    header = place(folder, made, "BrainVision", ".vhdr")
    np.arange(500, dtype="<i2").tofile(header.with_suffix(".eeg"))
    new = made.new
    header.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n"
        f"; {new('BrainVision: comment line')}\n[Common Infos]\nDataFile={header.stem}.eeg\nMarkerFile={header.stem}.vmrk\n"
        "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=1\nSamplingInterval=4000\n"
        f"[User Infos]\nProp1={new('BrainVision: user info')}\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=C3,,0.1,µV\n"
        f"[Comment]\nPatient {new('BrainVision: comment section')}\nImpedances by {new('BrainVision: technician')}\n"
    )
    header.with_suffix(".vmrk").write_text(
        f"Brain Vision Data Exchange Marker File, Version 1.0\n; {new('BrainVision: marker comment')}\n"
        f"[Common Infos]\nDataFile={header.stem}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0,{DATE}101112000000\n"
        f"Mk2={new('BrainVision: marker type')},{new('BrainVision: marker description')},10,1,0\n"
    )


def fif(folder: Path, made: Canaries) -> None:
    """Raw FIF with every text that MNE writes."""
    new = made.new
    info = mne.create_info(["EEG 001", "EEG 002"], 250.0, "eeg", verbose="error")
    raw = mne.io.RawArray(np.random.default_rng(0).normal(0, 1e-5, (2, 500)), info, verbose="error")
    raw.info["subject_info"] = {
        "his_id": new("FIF: his_id"), "last_name": new("FIF: last_name"), "first_name": new("FIF: first_name"),
        "middle_name": new("FIF: middle_name"), "birthday": datetime(1983, 2, 17, tzinfo=UTC).date(), "sex": 2,
    }  # fmt: skip
    raw.info["description"], raw.info["experimenter"] = new("FIF: description"), new("FIF: experimenter")
    # The model names a kind of device, and is kept.
    raw.info["device_info"] = {"model": "Model"} | {
        name: new(f"FIF: device {name}") for name in ("type", "serial", "site")
    }
    raw.info["helium_info"] = {
        "orig_file_guid": new("FIF: helium guid"),
        "meas_date": datetime(1983, 2, 17, tzinfo=UTC),
    }
    with raw.info._unlock():
        raw.info["proj_name"], raw.info["proj_id"] = new("FIF: proj_name"), 7
    raw.set_meas_date(datetime(2013, 2, 18, 10, 11, 12, tzinfo=UTC))
    raw.set_annotations(mne.Annotations([0.5], [0.1], [new("FIF: annotation")]))
    raw.save(place(folder, made, "FIF", "_raw.fif"), verbose="error")


def opensignals(folder: Path, made: Canaries) -> None:
    """OpenSignals HDF5 with every text attribute, and attributes and a group of nobody's."""
    with h5py.File(place(folder, made, "HDF5", ".h5"), "w") as root:
        root.attrs["owner"] = made.new("HDF5: attribute of the file")
        group = device(root, MAC, ("ECG",), 1500, comments=made.new("HDF5: comments"), date="1983-2-17")
        for name in ("device name", "keywords", "serial"):
            group.attrs[name] = made.new(f"HDF5: {name}")
        group["raw/channel_1"].attrs["label"] = made.new("HDF5: channel label")
        group["raw/channel_1"].attrs["note"] = made.new("HDF5: attribute of a data set")


def tables(folder: Path, made: Canaries) -> None:
    """A table and a note that no recipe names."""
    people = place(folder, made, "table", ".csv")
    people.write_text(f"id,{made.new('table: column')}\n{made.new('table: key')},{made.new('table: value')}\n")
    people.with_suffix(".txt").write_text(made.new("note: content"))


def main() -> None:
    """Print what is planted, by format."""
    from ingest.canaries_recipes import plant_by_recipe  # it plants with what is here

    with tempfile.TemporaryDirectory() as folder:
        made = plant(Path(folder))
        plant_by_recipe(Path(folder, "by-recipe"), made)
        planted = made.planted
    for kind, count in Counter(where.partition(":")[0] for where in planted.values()).items():
        print(f"{kind}: {count}")
    print(*sorted(planted.values()), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
