"""A small made-up cohort in real formats: two EEG sites, a PSG, ECG of two devices, CT of two scanners, T1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyedflib
import wfdb
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

TEN_TWENTY = tuple("Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2".split())  # noqa: SIM905
TEN_TEN = (*TEN_TWENTY, *"AF3 AF4 FC5 FC1 FC2 FC6 CP5 CP1 CP2 CP6 PO3 PO4 Oz".split())  # noqa: SIM905
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
RECIPE = r"""# How the demo's folders name site, device and subject. The data are made up, so nothing needs hiding.
dataset: demo
privacy: keep
paths:
  - '(?P<site>hospital-[a-z]+)/(?P<modality>[a-z]+)/(?P<device_maker>[^_]+)_(?P<device_model>\w+)/(?P<subject>sub-\d+)'
"""


def write_cohort(folder: Path, seed: int = 0) -> None:
    """Write the cohort's files and ``recipe.yaml`` below ``folder``."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE, "utf-8")
    for number in range(1, 5):
        north = folder / "hospital-north" / "eeg" / "Nihon_EEG1200" / f"sub-{number:03d}"
        _edf(north / "eeg.edf", rng, TEN_TWENTY, 256, 120, "uV")
        south = folder / "hospital-south" / "eeg" / "BioSemi_ActiveTwo" / f"sub-{number + 100}"
        _edf(south / "eeg.bdf", rng, TEN_TEN, 512, 90, "mV")
    _psg(folder / "hospital-south" / "psg" / "Embla_N7000" / "sub-201" / "night.edf", rng)
    for number in range(1, 13):
        _ecg(folder / "hospital-north" / "ecg" / "Schiller_AT110" / f"sub-{number + 300}", rng, 1000.0)
        _ecg(folder / "hospital-south" / "ecg" / "GE_MAC2000" / f"sub-{number + 400}", rng, 204.8)
    _ct(folder / "hospital-north" / "ct" / "Siemens_Force" / "sub-501", rng, "SIEMENS", "SOMATOM Force", 1.5)
    _ct(folder / "hospital-south" / "ct" / "GE_Revolution" / "sub-601", rng, "GE MEDICAL SYSTEMS", "Revolution CT", 2.5)
    _t1(folder / "hospital-north" / "mr" / "Siemens_Prisma" / "sub-501" / "T1w.nii.gz", rng)


def _rhythm(rng: np.random.Generator, n_channels: int, seconds: float, rate: int, hz: float, uv: float) -> np.ndarray:
    """Coloured noise with a waxing rhythm, (channel, time) in µV."""
    n = int(seconds * rate)
    spectrum = np.fft.rfft(rng.normal(size=(n_channels, n)), axis=1)
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / rate), 0.5))
    noise = np.fft.irfft(spectrum, n, axis=1)
    t = np.arange(n) / rate
    wave = np.sin(2 * np.pi * hz * t + rng.uniform(0, 6, (n_channels, 1))) * (1 + np.sin(0.4 * t))
    values: np.ndarray = uv * (noise / noise.std() + 0.6 * wave)
    return values


def _header(label: str, unit: str, rate: int, limit: float, bits: int) -> dict[str, Any]:
    rail = 2 ** (bits - 1)
    return {
        "label": label, "dimension": unit, "sample_frequency": rate, "physical_min": -limit, "physical_max": limit,
        "digital_min": -rail, "digital_max": rail - 1, "prefilter": "HP:0.1Hz LP:75Hz", "transducer": "",
    }  # fmt: skip


def _edf(file: Path, rng: np.random.Generator, names: Sequence[str], rate: int, seconds: int, unit: str) -> None:
    file.parent.mkdir(parents=True)
    bdf = file.suffix == ".bdf"
    kind = pyedflib.FILETYPE_BDFPLUS if bdf else pyedflib.FILETYPE_EDFPLUS
    limit = 3276.8 if unit == "uV" else 262.144
    with pyedflib.EdfWriter(str(file), len(names), file_type=kind) as writer:
        writer.setSignalHeaders([_header(f"EEG {name}", unit, rate, limit, 24 if bdf else 16) for name in names])
        values = _rhythm(rng, len(names), seconds, rate, 10 if unit == "uV" else 9, 20)
        writer.writeSamples(list(values if unit == "uV" else values / 1000))


def _psg(file: Path, rng: np.random.Generator) -> None:
    file.parent.mkdir(parents=True)
    seconds = 600
    breath = np.sin(2 * np.pi * 0.25 * np.arange(seconds * 25) / 25)[None] * 300
    signals = [
        *(("EEG C3-M2", "uV", 200, row) for row in _rhythm(rng, 1, seconds, 200, 2, 30)),
        *(("EOG LOC", "uV", 200, row) for row in _rhythm(rng, 1, seconds, 200, 0.5, 40)),
        *(("EMG chin", "uV", 200, row) for row in _rhythm(rng, 1, seconds, 200, 40, 10)),
        *(("Resp chest", "", 25, row) for row in breath),
        *(("SaO2", "%", 1, row) for row in 96 + rng.normal(0, 0.5, (1, seconds))),
    ]
    with pyedflib.EdfWriter(str(file), len(signals), file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        limits = {"uV": 3276.8, "": 1000.0, "%": 120.0}
        writer.setSignalHeaders([_header(name, unit, rate, limits[unit], 16) for name, unit, rate, _ in signals])
        writer.writeSamples([np.ascontiguousarray(row) for *_, row in signals])
        for epoch, stage in enumerate("WW1223332RRR22332RWW"):
            writer.writeAnnotation(30.0 * epoch, 30.0, f"Sleep stage {stage}")


def _ecg(folder: Path, rng: np.random.Generator, gain: float) -> None:
    folder.mkdir(parents=True)
    rate, seconds = 500, 10
    t = np.arange(rate * seconds) / rate
    beat = (t * rng.uniform(0.9, 1.6)) % 1.0
    waves = ((0.30, 0.025, 0.12), (0.46, 0.008, -0.1), (0.48, 0.010, 1.0), (0.50, 0.009, -0.2), (0.75, 0.05, 0.3))
    beats = sum(height * np.exp(-(((beat - at) / width) ** 2)) for at, width, height in waves)
    values = np.outer(beats, rng.uniform(-0.8, 1.4, 12)) + rng.normal(0, 0.01, (len(t), 12))
    age, sex = int(rng.integers(20, 89)), "Female" if rng.random() < 0.5 else "Male"
    wfdb.wrsamp(
        "ecg", fs=rate, units=["mV"] * 12, sig_name=LEADS, p_signal=values, fmt=["16"] * 12, adc_gain=[gain] * 12,
        baseline=[0] * 12, comments=[f"Age: {age}", f"Sex: {sex}"], write_dir=str(folder),
    )  # fmt: skip


def _ct(folder: Path, rng: np.random.Generator, maker: str, model: str, step_mm: float) -> None:
    """An axial series of an ellipsoid "head" with bone and ventricles, in Hounsfield units."""
    folder.mkdir(parents=True)
    n, slices, pixel_mm = 160, 24, 1.4
    y, x = np.mgrid[:n, :n] - n / 2
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    for k in rng.permutation(slices):  # as scanners send them: in no order
        size = np.sqrt(1 - ((k - slices / 2) / (0.8 * slices)) ** 2)
        radius = np.hypot(x / 55, y / 68) / size
        hu = np.where(radius < 1, 35.0, -1000.0) + np.where((radius > 0.9) & (radius < 1), 900, 0)
        hu = np.where(np.hypot((np.abs(x) - 9) / 6, y / 20) < size**2, 5, hu) + rng.normal(0, 8, (n, n))
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, "CT"
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.StudyInstanceUID = series, frame, study
        ds.Manufacturer, ds.ManufacturerModelName, ds.PatientID = maker, model, folder.name
        ds.ImageType, ds.KVP, ds.SliceThickness = ["ORIGINAL", "PRIMARY", "AXIAL"], 120, step_mm
        ds.InstanceNumber = int(slices - k)
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [pixel_mm, pixel_mm]
        ds.ImagePositionPatient = [-n / 2 * pixel_mm, -n / 2 * pixel_mm, float(k * step_mm)]
        ds.Rows = ds.Columns = n
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        ds.PixelData = np.clip(hu + 1024, 0, 4095).astype("<u2").tobytes()
        ds.save_as(folder / f"IM{rng.integers(10**8):08d}.dcm", enforce_file_format=True)


def _t1(file: Path, rng: np.random.Generator) -> None:
    file.parent.mkdir(parents=True)
    grid = np.mgrid[:96, :112, :96] - np.array([48, 56, 48])[:, None, None, None]
    radius = np.sqrt(((grid / np.array([36, 46, 36])[:, None, None, None]) ** 2).sum(axis=0))
    folds = np.cos(grid[0] / 3.1) * np.cos(grid[1] / 3.7) * np.cos(grid[2] / 3.3)
    brain = np.where(radius < 0.85 + 0.05 * folds, 700 - 250 * (radius > 0.65 + 0.1 * folds), 0)
    head = brain + np.where((radius > 1) & (radius < 1.12), 450, 0) + np.abs(rng.normal(0, 15, radius.shape))
    image = nibabel.Nifti1Image(head.astype(np.int16), np.diag([-2.0, 2.0, 2.0, 1.0]) + _shift(96, -112, -96))
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    nibabel.save(image, str(file))


def _shift(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[:3, 3] = x, y, z
    return matrix
