"""Classic multi-frame objects: which are a cine of frames in time, and the step between them (PS3.3 C.7.6.5)."""

from __future__ import annotations

from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import number, numbers, value_of
from harmonize_converters.contract import ConversionError

TAGS = ("FrameIncrementPointer", "FrameTime", "FrameTimeVector", "CineRate")
_TIMES = ("FrameTime", "FrameTimeVector")
# Objects whose frames are a cine by their own definition (PS3.3 A.7, A.14, A.16), pointer or not.
_CINE_CLASSES = ("Ultrasound", "X-Ray Angiographic", "X-Ray Radiofluoroscopic")
_POSITIONS = ("ImagePositionPatient", "ImageOrientationPatient", "DetectorInformationSequence")
_EVEN = 1e-3
"""How far, of the step, a frame time may be from another; they are written to the microsecond at best."""


def check(header: Dataset, sop_class: UID) -> None:
    """Refuse frames that are no times, or that may have a place. Raises ``ConversionError``."""
    name = sop_class.name
    if any(value_of(header, tag) is not None for tag in _POSITIONS):
        raise ConversionError("unsupported_multiframe", f"{name}: one position for many frames.")
    pointers = _pointers(header)
    by_class = name.startswith(_CINE_CLASSES)
    if pointers not in (("FrameTime",), ("FrameTimeVector",)) and not (by_class and not pointers):
        raise ConversionError("unsupported_multiframe", f"{name}: the frames are not said to be times.")


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
