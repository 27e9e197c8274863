"""One frame of a DICOM file as a slice: what kind of object it is, where it lies, how its values are meant."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from harmonize_converters import (
    _dicom_cine,
    _dicom_frames,
    _dicom_pixels,
    _dicom_private,
    _dicom_risks,
    _dicom_spacing,
    _dicom_subject,
)
from harmonize_converters._dicom_color import GREY
from harmonize_converters._dicom_frames import has_groups, n_frames
from harmonize_converters._dicom_header import items, meta_uid, number, numbers, text, texts, uid, whole
from harmonize_converters._dicom_lookup import modality_lut
from harmonize_converters._dicom_pixels import PixelFormat, pixel_format
from harmonize_converters._dicom_private import scale_slope, weighting
from harmonize_converters._dicom_risks import is_capture
from harmonize_converters._dicom_spacing import PlaneSpacing, plane_spacing
from harmonize_converters.contract import ConversionError
from harmonize_schemas import ValueTable

TIME_TAGS = ("TemporalPositionIdentifier", "TriggerTime", "FrameReferenceTime", "AcquisitionNumber")
"""What tells volumes at the same positions apart in time, the most specific first."""
_OWN_TAGS: tuple[str | int, ...] = (
    *("SOPClassUID", "Modality", "ImageType", *_dicom_frames.TAGS, *_dicom_cine.TAGS),
    *(*_dicom_spacing.TAGS, *_dicom_risks.TAGS),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "DiffusionBValue"),
    *("DiffusionGradientOrientation", "DiffusionDirectionality", *_dicom_private.TAGS),
    *("TemporalResolution", "MRAcquisitionType", "ScanningSequence", "EchoPlanarPulseSequence"),
    "InstanceNumber",
)
TAGS = (*_OWN_TAGS, *TIME_TAGS, *_dicom_pixels.TAGS, *_dicom_subject.TAGS)
_PLACE = ("ImageOrientationPatient", "ImagePositionPatient")
MODALITIES = {
    **{"CT": "ct", "MR": "mr", "PT": "pt", "NM": "nm", "US": "ultrasound", "IVUS": "ultrasound"},
    **dict.fromkeys(("CR", "DX", "RG", "IO", "PX"), "xray"),
    **{"MG": "mammography", "XA": "fluoroscopy", "RF": "fluoroscopy", "ES": "endoscopy"},
    **{"XC": "photograph", "DMS": "photograph", "OP": "ophthalmic", "GM": "microscopy", "SM": "microscopy"},
}
_PROJECTIONS = ("xray", "mammography", "fluoroscopy")
# Of these an image without a place is a slice that lost it.
_SLICES = ("CT Image Storage", "MR Image Storage", "Positron Emission Tomography Image Storage")
# Image objects of PS3.4 B.5 that say "image" but whose pixels are no stored scan values.
_NO_SCAN = ("Segmentation", "Parametric Map", "Presentation", "Dose")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What stored values mean, apart from the rescale pair; the same in all slices of a volume."""

    modality: str
    unit: str | None
    padding: tuple[int, int] | None
    """Where the range of stored values without data begins and ends, in either order."""
    time_step_s: float | None
    spacing: PlaneSpacing | None = None
    """That of an image without a place; a slice with a place has it there."""
    table: ValueTable | None = None
    """A Modality LUT, in place of the rescale pair."""


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Diffusion weighting of a slice: s/mm2, and the gradient's direction (unit vector, LPS) where there is one."""

    b_value: float | None
    direction: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plane lies, mm, LPS."""

    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    between: float | None


@dataclass(frozen=True, slots=True)
class Tile:
    """The part of a mosaic frame that is one slice: its first row and column, and the size of the whole frame."""

    row: int
    column: int
    frame_rows: int
    frame_columns: int


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane: ``frame`` of its file (from 0), and what must agree or vary along with its place.

    ``place`` is None for a single image without one, and for the frames of a cine object, which follow each other in
    time. ``tile`` is None where the frame is the slice; ``pixels`` is the slice's format, not the frame's. ``number``
    is InstanceNumber where a sequence images the same places again and again in time, None for all else.
    ``scale_slope`` is Philips' (2005,100E).
    """

    frame: int
    place: Place | None
    times: tuple[float | None, ...]
    diffusion: Diffusion
    slope: float
    intercept: float
    pixels: PixelFormat
    meaning: Meaning
    start: datetime | None
    number: int | None = None
    scale_slope: float | None = None
    tile: Tile | None = None


def is_directory(header: FileDataset) -> bool:
    """Whether a file is a DICOMDIR: an index of others, and no recording."""
    return meta_uid(header, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def check_kind(header: FileDataset) -> UID:
    """What kind of object it is. Raises ``ConversionError`` for every kind that is no image of those converted."""
    sop_class = sop_class_of(header)
    if not sop_class:
        raise ConversionError("invalid_header", "The element is missing.", "SOPClassUID")
    name = sop_class.name
    if name == sop_class:
        raise ConversionError("unsupported_sop_class", "Its SOP class is private or not known.")
    if "Image Storage" not in name or any(word in name for word in _NO_SCAN if "For Presentation" not in name):
        raise ConversionError("unsupported_sop_class", f"Its SOP class is: {name}.")
    if is_mosaic(header) and (has_groups(header) or n_frames(header) > 1):
        raise ConversionError("unsupported_multiframe", "A mosaic of several frames.")
    if has_groups(header):
        return sop_class
    if name.startswith(("Enhanced", "Legacy Converted Enhanced")):
        raise ConversionError("unsupported_multiframe", f"{name} without functional groups.")
    if n_frames(header) > 1:
        _dicom_cine.check(header, sop_class)
    return sop_class


def sop_class_of(header: FileDataset) -> UID:
    """What kind of object it is; empty where it does not say."""
    return uid(text(header, "SOPClassUID") or meta_uid(header, "MediaStorageSOPClassUID"))


def is_planar(header: FileDataset) -> bool:
    """Whether a file is one image of its own, without a place and of a kind that needs none."""
    if any(numbers(header, tag) is not None for tag in _PLACE) or has_groups(header) or n_frames(header) > 1:
        return False
    return sop_class_of(header).name not in _SLICES and not is_mosaic(header)


def is_mosaic(header: Dataset) -> bool:
    """Whether ImageType says that a frame holds the slices of a volume as tiles."""
    return "MOSAIC" in texts(header, "ImageType")


def slice_of(header: Dataset, pixels: PixelFormat, frame: int = 0) -> Slice:
    """A flat header (``frame_headers``) to the slice with a place that it describes. Raises ``ConversionError``."""
    return _slice(header, pixels, frame, place_of(header))


def place_of(header: Dataset) -> Place:
    """The place that a flat header gives. Raises ``ConversionError`` where it gives none."""
    orientation = numbers(header, "ImageOrientationPatient")
    position = numbers(header, "ImagePositionPatient")
    spacing = numbers(header, "PixelSpacing")
    if orientation is None or position is None or spacing is None:
        raise ConversionError("unsupported_geometry")
    if len(position) != 3:
        raise ConversionError("invalid_header", "Three numbers would be right.", "ImagePositionPatient")
    between = number(header, "SpacingBetweenSlices")
    return Place((position[0], position[1], position[2]), orientation, spacing, between)


def planar_slices(header: FileDataset, pixels: PixelFormat) -> list[Slice]:
    """The frames of an object without a place: one image, or a cine in time."""
    one = _slice(header, pixels, 0, None)
    step = _dicom_cine.time_step(header) if n_frames(header) > 1 else None
    calibrated_by_macro = one.meaning.modality in _PROJECTIONS or is_capture(sop_class_of(header).name)
    spacing = plane_spacing(header, calibrated_by_macro)
    one = replace(one, meaning=replace(one.meaning, time_step_s=step, spacing=spacing))
    return [replace(one, frame=frame) for frame in range(n_frames(header))]


def pixels_of(header: FileDataset, size: int) -> PixelFormat:
    """``pixel_format``, after what would help first: a slice is refused for the place that it lacks."""
    if not has_groups(header) and n_frames(header) == 1:
        if whole(header, "Rows") is None:
            raise ConversionError("no_data", "An image object without pixels.", "Rows")
        if not is_planar(header) and any(numbers(header, tag) is None for tag in (*_PLACE, "PixelSpacing")):
            raise ConversionError("unsupported_geometry")
    return pixel_format(header, size)


def _slice(header: Dataset, pixels: PixelFormat, frame: int, place: Place | None) -> Slice:
    table = _modality_lut(header, pixels)
    slope, intercept = _rescale(header) if table is None else (1.0, 0.0)
    grey = pixels.photometric in GREY
    if not grey and (table is not None or (slope, intercept) != (1.0, 0.0)):
        raise ConversionError("unsupported_rescale", "Colours that are rescaled.", "RescaleSlope")
    return Slice(
        frame=frame,
        place=place,
        times=tuple(_time(header, tag) for tag in TIME_TAGS),
        diffusion=_diffusion(header),
        slope=slope,
        intercept=intercept,
        pixels=pixels,
        meaning=Meaning(
            modality=MODALITIES.get(text(header, "Modality") or "", "image"),
            unit=_unit(header),
            padding=_padding(header, pixels) if grey else None,  # of grey values only (PS3.3 C.7.5.1.1.2)
            time_step_s=_time_step(header),
            table=table,
        ),
        start=_dicom_subject.start(header),
        number=whole(header, "InstanceNumber") if _is_repeated(header) else None,
        scale_slope=scale_slope(header) if text(header, "Modality") == "MR" else None,
    )


def _is_repeated(header: Dataset) -> bool:
    """Original slices of an echo-planar sequence: what differs between those at one place is when they were taken
    (fMRI, diffusion, perfusion)."""
    return (
        text(header, "Modality") == "MR"
        and not has_groups(header)
        and texts(header, "ImageType")[:1] == ("ORIGINAL",)
        and "EP" in texts(header, "ScanningSequence")
    )


def _time(header: Dataset, tag: str) -> float | None:
    """The number of a time tag; FrameReferenceDateTime in milliseconds for FrameReferenceTime (PS3.3 C.7.6.16.2.2)."""
    found = number(header, tag)
    if found is None and tag == "FrameReferenceTime":
        moment = _dicom_subject.moment(header, "FrameReferenceDateTime")
        return None if moment is None else (moment - datetime(1970, 1, 1)).total_seconds() * 1000
    return found


def _diffusion(header: Dataset) -> Diffusion:
    """DiffusionBValue and DiffusionGradientOrientation (PS3.3 C.8.13.5.9), else what makers write; no direction at
    b = 0."""
    b_value, direction = number(header, "DiffusionBValue"), numbers(header, "DiffusionGradientOrientation")
    if b_value is None and text(header, "DiffusionDirectionality") == "NONE":
        b_value = 0.0
    if b_value is not None and b_value < 0:
        raise ConversionError("invalid_header", "Zero or more would be right.", "DiffusionBValue")
    if text(header, "Modality") == "MR" and (b_value is None or (b_value and direction is None)):
        own, own_direction = weighting(header)
        if b_value is None or own == b_value:
            b_value, direction = own, own_direction
    return Diffusion(b_value, _unit_vector(direction or ()) if b_value else None)


def _unit_vector(found: tuple[float, ...]) -> tuple[float, float, float] | None:
    """Three numbers as a direction; None for none or zeros. Raises ``ConversionError``."""
    if not any(found):
        return None
    if len(found) != 3 or not abs(math.hypot(*found) - 1) <= 0.01:
        raise ConversionError("invalid_header", "A gradient direction of length 1 would be right.")
    return found[0], found[1], found[2]


def _modality_lut(header: Dataset, pixels: PixelFormat) -> ValueTable | None:
    """The table from stored values to values; it goes before a rescale pair (PS3.3 C.11.1)."""
    found = items(header, "ModalityLUTSequence")
    return modality_lut(found[0], pixels.signed) if found else None


def _rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if (slope is None) != (intercept is None):
        raise ConversionError("unsupported_rescale", "There is a rescale slope or intercept without the other.")
    if slope is None or intercept is None:
        return 1.0, 0.0
    if slope == 0:
        raise ConversionError("unsupported_rescale", "The rescale slope is zero.", "RescaleSlope")
    return slope, intercept


def _unit(header: Dataset) -> str | None:
    """HU where CT says so or, being original, need not (PS3.3 C.8.2.1); Bq/ml where PET says so."""
    modality, declared = text(header, "Modality"), text(header, "RescaleType")
    if lut := items(header, "ModalityLUTSequence"):
        return "HU" if modality == "CT" and text(lut[0], "ModalityLUTType") == "HU" else None
    if modality == "PT":
        return "Bq/ml" if text(header, "Units") == "BQML" else None
    if modality != "CT" or number(header, "RescaleSlope") is None:
        return None
    kinds = texts(header, "ImageType")
    original = kinds[:1] == ("ORIGINAL",) and "LOCALIZER" not in kinds
    return "HU" if declared == "HU" or (declared is None and original) else None


def _padding(header: Dataset, pixels: PixelFormat) -> tuple[int, int] | None:
    """PixelPaddingValue and PixelPaddingRangeLimit as stored values, twice the value without a limit; None where there
    is none (PS3.3 C.7.5.1.1.2)."""
    value, limit = whole(header, "PixelPaddingValue"), whole(header, "PixelPaddingRangeLimit")
    if value is None:
        return None
    value = _stored(value, pixels, "PixelPaddingValue")
    return value, value if limit is None else _stored(limit, pixels, "PixelPaddingRangeLimit")


def _stored(padding: int, pixels: PixelFormat, where: str) -> int:
    """A padding value as pixels are stored. Raises ``ConversionError`` where no pixel can have it."""
    # Written as unsigned (or signed) against PixelRepresentation: the same bits, read as the pixels are.
    bits = padding % (1 << pixels.bits_allocated)
    value = bits - (1 << pixels.bits_allocated) if pixels.signed and bits >> (pixels.bits_allocated - 1) else bits
    stored = pixels.bits_stored
    if pixels.signed and value == bits and bits >> (stored - 1) == 1:
        value = bits - (1 << stored)
    low, high = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if pixels.signed else (0, (1 << stored) - 1)
    if not low <= value <= high or not -(1 << pixels.bits_allocated) < padding < (1 << pixels.bits_allocated):
        raise ConversionError("unsupported_rescale", "Padding does not fit into BitsStored.", where)
    return value


def _time_step(header: Dataset) -> float | None:
    """Seconds from volume to volume, where a tag means just that.

    TemporalResolution does; RepetitionTime only in 2-D echo-planar series, which take one shot a slice.
    """
    milliseconds = number(header, "TemporalResolution")
    planar = "EP" in texts(header, "ScanningSequence") or text(header, "EchoPlanarPulseSequence") == "YES"
    if milliseconds is None and text(header, "MRAcquisitionType") == "2D" and planar:
        milliseconds = number(header, "RepetitionTime")
    return milliseconds / 1000 if milliseconds is not None and 50 <= milliseconds <= 600_000 else None
