"""Classic multi-frame objects: which are a cine of frames in time, and the step between them (PS3.3 C.7.6.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import items, number, numbers, text, value_of
from harmonize_converters.contract import ConversionError

TAGS = (
    *("FrameIncrementPointer", "FrameTime", "FrameTimeVector", "CineRate"),
    *("PixelSpacing", "ImagerPixelSpacing", "SequenceOfUltrasoundRegions"),
)
_TIMES = ("FrameTime", "FrameTimeVector")
# Objects whose frames are a cine by their own definition (PS3.3 A.7, A.14, A.16), pointer or not.
_CINE_CLASSES = ("Ultrasound", "X-Ray Angiographic", "X-Ray Radiofluoroscopic")
_POSITIONS = ("ImagePositionPatient", "ImageOrientationPatient", "DetectorInformationSequence")
_TISSUE_2D, _CENTIMETRES = 1, 3
_EVEN = 1e-3
"""How far, of the step, a frame time may be from another; they are written to the microsecond at best."""


@dataclass(frozen=True, slots=True)
class PlaneSpacing:
    """Spacing along x and y in mm, and what it was read from."""

    mm: tuple[float, float]
    source: Literal["pixel_spacing", "imager_pixel_spacing", "ultrasound_regions"]


def check(header: Dataset, sop_class: UID) -> None:
    """Refuse frames that are no times, or that may have a place. Raises ``ConversionError``."""
    name = sop_class.name
    if any(value_of(header, tag) is not None for tag in _POSITIONS):
        raise ConversionError("unsupported_multiframe", f"{name}: one position for many frames.")
    pointers = _pointers(header)
    by_class = name.startswith(_CINE_CLASSES)
    if pointers not in (("FrameTime",), ("FrameTimeVector",)) and not (by_class and not pointers):
        raise ConversionError("unsupported_multiframe", f"{name}: the frames are not said to be times.")
    if (text(header, "BurnedInAnnotation") or "").upper() != "NO":
        raise ConversionError("quarantined_burned_in_risk", "", "BurnedInAnnotation")


def time_step(header: Dataset) -> float | None:
    """Seconds from frame to frame where constant: FrameTime or FrameTimeVector as pointed to, else CineRate."""
    pointers = _pointers(header)
    if pointers == ("FrameTimeVector",) or (not pointers and value_of(header, "FrameTime") is None):
        vector = numbers(header, "FrameTimeVector") or ()
        steps = vector[1:]  # the first is 0: there is no frame before it
        if steps and len(vector) == n_frames(header):
            even = min(steps) > 0 and max(steps) - min(steps) <= _EVEN * max(steps)
            return sum(steps) / len(steps) / 1000 if even else None
        if pointers:
            return None
    milliseconds = number(header, "FrameTime")
    if milliseconds is not None:
        return milliseconds / 1000 if milliseconds > 0 else None
    rate_hz = number(header, "CineRate")
    return 1 / rate_hz if rate_hz is not None and rate_hz > 0 else None


def plane_spacing(header: Dataset) -> PlaneSpacing | None:
    """PixelSpacing, else ultrasound regions, else ImagerPixelSpacing at the detector (PS3.3 10.7.1, C.8.5.5)."""
    if (found := numbers(header, "PixelSpacing")) is not None:
        return _rows_columns(found, "pixel_spacing")
    if value_of(header, "SequenceOfUltrasoundRegions") is not None:
        return _regions(items(header, "SequenceOfUltrasoundRegions"))
    if (found := numbers(header, "ImagerPixelSpacing")) is not None:
        return _rows_columns(found, "imager_pixel_spacing")
    return None


def _rows_columns(found: tuple[float, ...], source: Literal["pixel_spacing", "imager_pixel_spacing"]) -> PlaneSpacing:
    if len(found) != 2 or min(found) <= 0:
        raise ConversionError("invalid_header", "Two spacings above zero would be right.", source)
    return PlaneSpacing((found[1], found[0]), source)


def _regions(regions: list[Dataset]) -> PlaneSpacing | None:
    """The spacing that all two-dimensional regions in tissue have (PS3.3 C.8.5.5); None where they differ."""
    found = set()
    for region in regions:
        if number(region, "RegionSpatialFormat") != _TISSUE_2D:
            continue
        units = (number(region, "PhysicalUnitsXDirection"), number(region, "PhysicalUnitsYDirection"))
        deltas = (number(region, "PhysicalDeltaX"), number(region, "PhysicalDeltaY"))
        if units != (_CENTIMETRES, _CENTIMETRES) or None in deltas or 0 in deltas:
            return None
        found.add(tuple(abs(delta) * 10 for delta in deltas if delta is not None))
    if len(found) != 1:
        return None
    ((x, y),) = found
    return PlaneSpacing((x, y), "ultrasound_regions") if math.isfinite(x * y) else None


def _pointers(header: Dataset) -> tuple[str, ...]:
    """Keywords of the elements that FrameIncrementPointer names."""
    value = value_of(header, "FrameIncrementPointer")
    if value is None:
        return ()
    try:
        many: list[Any] = list(value) if isinstance(value, MultiValue | list) else [value]
        return tuple(keyword_for_tag(int(one)) for one in many)
    except (TypeError, ValueError, OverflowError):
        raise ConversionError("invalid_header", "", "FrameIncrementPointer") from None
