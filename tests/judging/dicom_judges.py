"""Other readers of DICOM: the NIfTI beside a series, dcm2niix, and pydicom with the formulas of PS3.3."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import dcm2niix as bundled
import nibabel as nib
import numpy as np
import pydicom
from pydicom.pixels.processing import apply_color_lut, apply_rescale
from pydicom.waveforms import multiplex_array

from judging.dicom_model import Reading, Signals, Volume

BESIDE = {"NIfTI beside": "_ground_truth.nii.gz", "the same, reoriented": "_ground_truth_reoriented.nii.gz"}


def beside(folder: Path) -> dict[str, Reading]:
    """What dicom2nifti made of a series; empty where there is none."""
    found = {judge: folder.parent / f"{folder.name}{suffix}" for judge, suffix in BESIDE.items()}
    bval = folder.parent / f"{folder.name}_ground_truth.bval"
    return {judge: Reading(tuple(nifti(path, bval))) for judge, path in found.items() if path.exists()}


def is_dicom(path: Path) -> bool:
    """Whether a file has the prefix of PS3.10 7.1."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def binary() -> str:
    """The program that the wheel of dcm2niix brings (``bin/dcm2niix`` is Python that starts it)."""
    return str(bundled.bin)


def dcm2niix_version() -> str:
    """As it says itself."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=False).stdout
    return said.split()[-1]


def dcm2niix(folder: Path) -> Reading:
    """All images that it writes for a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [binary(), "-z", "n", "-b", "n", "-f", "%s", "-o", temporary, str(folder)]
        subprocess.run(command, capture_output=True, check=False)
        images = sorted(Path(temporary).glob("*.nii"))
        volumes = [volume for path in images for volume in nifti(path, path.with_suffix(".bval"))]
    return Reading(tuple(volumes), "it writes no image")


def nifti(path: Path, bval: Path) -> list[Volume]:
    """The volumes of one NIfTI, by nibabel."""
    image: Any = nib.load(path)
    data = np.asanyarray(image.dataobj)
    if data.dtype.names:  # colours; what may be transparent is not
        data = np.stack([data[name] for name in ("R", "G", "B")], axis=-1)
        data = data[..., None, :] if data.ndim == 4 else data
    else:
        data = data.reshape((*data.shape[:3], -1))
        data = data[..., None]
    values = data.astype(np.float64)  # (x, y, z, volume, colour)
    b_values = bval.read_text().split() if bval.exists() else [None] * values.shape[3]
    code = "".join(nib.aff2axcodes(image.affine))
    return [
        Volume(
            values[:, :, :, n, 0] if values.shape[4] == 1 else values[:, :, :, n],
            image.affine,
            code,
            None if b_value is None else float(b_value),
        )
        for n, b_value in enumerate(b_values)
    ]


def pixels(path: Path) -> Reading:
    """One file's ``pixel_array``, its palette applied or rescaled by pydicom; (x, y, 1) of each frame, colours last.
    Or its waveforms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some files are damaged on purpose
        try:
            dataset = pydicom.dcmread(path)
            if "WaveformSequence" in dataset:
                return _waveforms(dataset)
            palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
            process = apply_color_lut if palette else apply_rescale
            array = process(dataset.pixel_array, dataset).astype(np.float64)
        # pydicom and its decoders raise whatever damaged data lead to.
        except Exception as error:  # noqa: BLE001
            return Reading((), type(error).__name__)
    colour = palette or int(dataset.SamplesPerPixel) > 1
    frames = array if int(dataset.get("NumberOfFrames") or 1) > 1 else array[None]
    planes = [frame.transpose(1, 0, 2)[:, :, None] if colour else frame.T[:, :, None] for frame in frames]
    return Reading(tuple(Volume(plane, None, "RAS") for plane in planes))


def _waveforms(dataset: pydicom.Dataset) -> Reading:
    """The multiplex groups that are original, in physical values."""
    groups = enumerate(dataset.WaveformSequence)
    return Reading(
        signals=tuple(
            Signals(multiplex_array(dataset, index, as_raw=False).T, float(group.SamplingFrequency))
            for index, group in groups
            if group.WaveformOriginality == "ORIGINAL"
        )
    )


def stacked(folder: Path) -> Reading:
    """A single-frame series as pydicom reads it: slices along the normal (PS3.3 C.7.6.2.1.1), one at a place."""
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    x, y = np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
    places = np.array([dataset.ImagePositionPatient for dataset in datasets], float)
    order = np.argsort(places @ np.cross(x, y))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = x * datasets[0].PixelSpacing[1], y * datasets[0].PixelSpacing[0]
    affine[:3, 3] = places[order[0]]
    affine[:3, 2] = (places[order[-1]] - places[order[0]]) / max(len(order) - 1, 1)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    planes = [apply_rescale(datasets[n].pixel_array, datasets[n]).T.astype(np.float64) for n in order]
    known = len(order) > 1
    code = "".join(nib.aff2axcodes(affine if known else np.diag([1.0, 1.0, 1.0, 1.0])))
    return Reading((Volume(np.stack(planes, axis=2), affine if known else None, code),))


def stored_pixels(folder: Path) -> frozenset[bytes]:
    """The decoded pixels of each file, as hashes."""
    arrays = (pydicom.dcmread(path).pixel_array for path in folder.iterdir())
    return frozenset(hashlib.sha256(array.astype("<i4").tobytes()).digest() for array in arrays)
