"""Small segmentations written by hand, and by highdicom of real series."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from converters.dicom_files import at, changed, enhanced_dataset

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
Frame = tuple[float, int, np.ndarray]
"""z in mm, number of the segment, values (rows, columns)."""
ORIGIN = (-10.0, -20.0)
STEP = 2.5


def concept(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence."""
    return changed(Dataset(), {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning})


def segment(number: int, **changes: Any) -> Dataset:
    """One item of SegmentSequence: a liver, outlined by hand."""
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = "planted label"
    item.SegmentDescription = "planted description"
    item.SegmentAlgorithmType = "MANUAL"
    item.SegmentedPropertyCategoryCodeSequence = [concept("91723000", "SCT", "planted meaning")]
    item.SegmentedPropertyTypeCodeSequence = [concept("10200004", "SCT", "planted meaning")]
    return changed(item, changes)


def seg_dataset(frames: Sequence[Frame], kind: str = "BINARY", between: float | None = STEP, **changes: Any) -> Dataset:
    """A segmentation by hand: orientation axial, spacing 0.5 x 0.75 mm."""
    macros = [at((*ORIGIN, z), **({} if kind == "LABELMAP" else identification(number))) for z, number, _ in frames]
    measures = {"PixelSpacing": [0.5, 0.75], "SliceThickness": "2"}
    if between is not None:
        measures["SpacingBetweenSlices"] = between
    planes = np.stack([plane for _, _, plane in frames])
    gone = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType", "KVP", "ConvolutionKernel"))
    ds = enhanced_dataset(planes, macros, {"PixelMeasuresSequence": measures}, **gone)
    del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    ds.SOPClassUID, ds.Modality = (LABEL_MAP_STORAGE if kind == "LABELMAP" else SegmentationStorage), "SEG"
    ds.SegmentationType = kind
    ds.SegmentSequence = [segment(n) for n in sorted({number for _, number, _ in frames})]
    bits = 1 if kind == "BINARY" else 8 * planes.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    data = np.packbits(planes.ravel(), bitorder="little").tobytes() if bits == 1 else planes.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if bits == 16 else "OB"
    if kind == "FRACTIONAL":
        ds.SegmentationFractionalType, ds.MaximumFractionalValue = "PROBABILITY", 200
    source = Dataset()
    source.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.77"
    ds.ReferencedSeriesSequence = [source]
    return changed(ds, changes)


def identification(number: int) -> Mapping[str, Mapping[str, int]]:
    """The Segment Identification macro (PS3.3 C.8.20.3.1)."""
    return {"SegmentIdentificationSequence": {"ReferencedSegmentNumber": number}}


def completed(path: Path) -> Dataset:
    """A slice of a real series with the elements that highdicom asks of a source image."""
    ds = pydicom.dcmread(path)
    empty = ("PatientSex", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyTime", "StudyDate", "SeriesNumber")
    for keyword in (*empty, "ReferringPhysicianName"):
        if keyword not in ds:
            setattr(ds, keyword, "")
    ds.PatientName, ds.PatientID = "Planted^Name", "MRN-4711"
    ds.setdefault("SliceThickness", "1")
    ds.setdefault("FrameOfReferenceUID", "1.2.826.0.1.3680043.8.498.3")
    return ds


def described(number: int, kind: Any) -> hd.seg.SegmentDescription:
    """A segment as highdicom writes it, found by an algorithm."""
    algorithm = hd.AlgorithmIdentificationSequence("planted name", codes.DCM.ArtificialIntelligence, "1")
    return hd.seg.SegmentDescription(
        number, "planted label", codes.SCT.AnatomicalStructure, kind, "AUTOMATIC", algorithm
    )


def by_highdicom(source: Sequence[Dataset], mask: np.ndarray, kind: str, **more: Any) -> hd.seg.Segmentation:
    """A segmentation of a series: ``mask`` (z, y, x) of labels or (z, y, x, segment), 1 the liver, 2 the kidney."""
    segments = [described(1, codes.SCT.Liver), described(2, codes.SCT.Kidney)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are not a family's and a given one
        return hd.seg.Segmentation(
            source, mask, kind, segments, hd.UID(), 1, hd.UID(), 1, "ACME", "Model", "1", "SN-PLANTED-9", **more
        )  # fmt: skip
