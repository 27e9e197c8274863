"""Small DICOM series written by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from converters.conformance import Outcome, code_of_refusal, convert, only_source
from harmonize_converters.contract import Description
from harmonize_converters.dicom import DicomConverter

SERIES = "1.2.826.0.1.3680043.8.498.1"
PLANTED = ("Planted", "MRN-4711", "SN-PLANTED", "planted free text", "19300102", "20230405", SERIES)
"""What identifies in ``slice_dataset``: none of it may be in a description."""
AXIAL = [1, 0, 0, 0, 1, 0]


def stored_planes(count: int, rows: int = 6, columns: int = 5, seed: int = 0, bits: int = 12) -> np.ndarray:
    """Signed values of ``bits`` bits, the extremes among them."""
    high = 1 << (bits - 1)
    planes = np.random.default_rng(seed).integers(-high, high, (count, rows, columns)).astype(np.int16)
    planes[:, 0, 0], planes[:, 0, 1] = -high, high - 1
    return planes


def changed(ds: Dataset, changes: Mapping[str, Any]) -> Dataset:
    """Set elements by keyword, or take them away where None."""
    for name, value in changes.items():
        if value is not None:
            setattr(ds, name, value)
        elif name in ds:
            delattr(ds, name)
    return ds


def slice_dataset(pixels: np.ndarray, number: int, z: float, **changes: Any) -> Dataset:
    """One CT slice; ``changes`` set elements by keyword, or delete them where None."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{SERIES}.{number}"
    ds.SeriesInstanceUID = SERIES
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.3"
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName = "Planted^Secret"
    ds.PatientID = "MRN-4711-PLANTED"
    ds.PatientBirthDate = "19300102"
    ds.PatientSex = "F"
    ds.PatientAge = "093Y"
    ds.PatientWeight = "61.5"
    ds.PatientSize = "1.64"
    ds.InstitutionName = "Planted General Hospital"
    ds.DeviceSerialNumber = "SN-PLANTED-9"
    ds.StudyDate, ds.StudyTime = "20230405", "101112"
    ds.AcquisitionDate, ds.AcquisitionTime = "20230405", f"1012{number % 60:02d}.5"
    ds.SeriesDescription = "planted free text"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "ACME", "Scan 1", "v2"
    ds.KVP, ds.SliceThickness, ds.ConvolutionKernel = "120", "2", "B30f"
    ds.BodyPartExamined, ds.PatientPosition = "CHEST", "HFS"
    ds.InstanceNumber = number
    ds.ImageOrientationPatient = AXIAL
    ds.ImagePositionPatient = [-10.0, -20.0, z]
    ds.PixelSpacing = [0.5, 0.75]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "-1024", "HU"
    ds.PixelData = pixels.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return changed(ds, changes)


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a data set as a DICOM file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    planes: np.ndarray,
    step: float = 2.5,
    each: Callable[[int], dict[str, Any]] = lambda k: {},
    **changes: Any,
) -> Path:
    """Slices from low to high z, in files and with instance numbers that say otherwise."""
    count = len(planes)
    for k in range(count):
        number = (k * 7 + 3) % count + 1  # a permutation where 7 does not divide count
        ds = slice_dataset(planes[k], number, 100.0 + k * step, **{**changes, **each(k)})
        ds.SOPInstanceUID = f"{SERIES}.{k + 1}"
        save(ds, folder / f"IM{number:04d}-{k}.dcm")
    return folder


def groups(**macros: dict[str, Any]) -> Dataset:
    """One item of functional groups: each macro by its sequence's name, with the elements of its one item."""
    made = Dataset()
    for name, elements in macros.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(made, name, [item])
    return made


def enhanced_dataset(
    planes: np.ndarray,
    frames: Sequence[dict[str, dict[str, Any]]],
    shared: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> Dataset:
    """An enhanced multi-frame object: ``frames[k]`` are the macros of frame ``k``, whose pixels are ``planes[k]``."""
    common = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": AXIAL},
        "PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.75], "SliceThickness": "2"},
        "PixelValueTransformationSequence": {"RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "HU"},
    }
    moved = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness")
    moved += ("RescaleSlope", "RescaleIntercept", "RescaleType")
    ds = slice_dataset(planes[0], 1, 0.0, **dict.fromkeys(moved))
    ds.SOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(frames)
    ds.SharedFunctionalGroupsSequence = [groups(**{**common, **(shared or {})})]
    ds.PerFrameFunctionalGroupsSequence = [groups(**frame) for frame in frames]
    ds.PixelData = planes.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return changed(ds, changes)


def at(position: Sequence[float], **macros: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The macros of a frame at ``position`` (LPS), and more."""
    return {"PlanePositionSequence": {"ImagePositionPatient": list(position)}, **macros}


def cine_dataset(planes: np.ndarray, **changes: Any) -> Dataset:
    """A classic multi-frame ultrasound: frames in time, without geometry."""
    geometry = dict.fromkeys(("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleType"))
    ds = slice_dataset(planes[0], 1, 0.0, **geometry, Modality="US")
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.BurnedInAnnotation = "NO"
    ds.NumberOfFrames = len(planes)
    ds.FrameIncrementPointer = tag_for_keyword("FrameTime")
    ds.FrameTime = "40"
    ds.PixelData = planes.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return changed(ds, changes)


def planar_dataset(pixels: np.ndarray, **changes: Any) -> Dataset:
    """A radiograph: one image (rows, columns), or (rows, columns, 3) in colour, without a place in the patient."""
    geometry = dict.fromkeys(("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleType"))
    ds = slice_dataset(pixels[..., 0] if pixels.ndim == 3 else pixels, 1, 0.0, **geometry)
    ds.SOPClassUID, ds.Modality = ComputedRadiographyImageStorage, "CR"
    del ds.RescaleSlope, ds.RescaleIntercept
    colored(ds, pixels)
    for name, value in changes.items():
        setattr(ds, name, value)
    return ds


def colored(ds: Dataset, pixels: np.ndarray) -> Dataset:
    """Give a data set unsigned pixels, whatever it had: (..., 3) are RGB, color by pixel."""
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    if pixels.shape[-1] == 3 and pixels.ndim >= 3:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW"
    return ds


def csa_header(**elements: Sequence[float]) -> bytes:
    """A Siemens CSA2 header of numbers."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(elements), 77)]
    for name, values in elements.items():
        parts.append(struct.pack("<64si4s3i", name.encode(), len(values), b"FD", 0, len(values), 77))
        for value in values:
            text = f"{value:.10f}".encode() + b"\0"
            parts += [struct.pack("<4i", len(text), len(text), 77, 0), text.ljust(-(-len(text) // 4) * 4, b"\0")]
    return b"".join(parts)


def mosaic_dataset(planes: np.ndarray, first: Sequence[float], orientation: Sequence[float], step: float) -> Dataset:
    """A Siemens mosaic of planes whose first voxel lies at ``first`` (LPS), stacked along X x Y, or against it
    where ``step`` is below zero."""
    count, rows, columns = planes.shape
    across = int(np.ceil(np.sqrt(count)))
    whole = np.zeros((across * rows, across * columns), np.int16)
    for k, plane in enumerate(planes):
        row, column = k // across * rows, k % across * columns
        whole[row : row + rows, column : column + columns] = plane
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    # Siemens writes the position of a plane as large as the mosaic, with the centre of the slice
    shifted = np.array(first) - x * 0.75 * (across - 1) * columns / 2 - y * 0.5 * (across - 1) * rows / 2
    ds = slice_dataset(
        whole,
        1,
        0.0,
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        ImageOrientationPatient=list(orientation),
        ImagePositionPatient=[round(float(value), 9) for value in shifted],
        SpacingBetweenSlices=abs(step),
        Modality="MR",
    )
    ds.SOPClassUID = MRImageStorage
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    normal = np.cross(x, y) * np.sign(step)
    csa = csa_header(NumberOfImagesInMosaic=[count], SliceNormalVector=normal.tolist(), ProtocolSliceNumber=[0])
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa)
    return ds


CONVERTER = DicomConverter()


one = partial(only_source, CONVERTER)
code_of = partial(code_of_refusal, CONVERTER)


def array(description: Description, stored: np.ndarray) -> np.ndarray:
    """Values as nibabel has them: (x, y, z[, t]), rescaled."""
    image = description.image
    slopes = np.array(image.slopes).reshape(-1, 1, 1)
    intercepts = np.array(image.intercepts).reshape(-1, 1, 1)
    return (stored * slopes + intercepts).reshape(image.shape).T


def stack(planes: np.ndarray, order: list[int] | None = None, **changes) -> Dataset:
    """The series of ``write_series`` as one enhanced object, its frames in the order given."""
    order = order or list(range(len(planes)))
    return enhanced_dataset(planes[order], [at([-10.0, -20.0, 100.0 + 2.5 * k]) for k in order], **changes)


def converted(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Outcome:
    """One file converted."""
    save(ds, folder / "x.dcm", syntax)
    return convert(CONVERTER, one(folder))


def refused(ds: Dataset, folder: Path) -> str:
    """The code with which one file is refused."""
    save(ds, folder / "x.dcm")
    return code_of(folder)


def rle_frame(plane: np.ndarray) -> bytes:
    """A plane as one RLE frame."""
    return RLELosslessEncoder.encode(
        plane.astype("<i2").tobytes(),
        rows=plane.shape[0],
        columns=plane.shape[1],
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=1,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


def j2k_frame(plane: np.ndarray) -> bytes:
    """A plane as one lossless JPEG 2000 frame."""
    ds = slice_dataset(plane, 1, 0.0)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    return next(generate_frames(ds.PixelData, number_of_frames=1))
