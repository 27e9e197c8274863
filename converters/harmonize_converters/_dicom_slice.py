"""One DICOM file as a slice: what kind of object it is, where it lies, how its values are meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import FileDataset
from pydicom.uid import MediaStorageDirectoryStorage

from harmonize_converters import _dicom_pixels, _dicom_subject
from harmonize_converters._dicom_header import meta_uid, number, numbers, text, texts, uid, value_of, whole
from harmonize_converters._dicom_pixels import PixelFormat, pixel_format
from harmonize_converters.contract import ConversionError

TIME_TAGS = ("TemporalPositionIdentifier", "TriggerTime", "FrameReferenceTime", "AcquisitionNumber")
"""What tells volumes at the same positions apart in time, the most specific first."""
_OWN_TAGS = (
    *("SOPClassUID", "Modality", "ImageType", "BurnedInAnnotation", "SharedFunctionalGroupsSequence"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "DiffusionBValue"),
    *("TemporalResolution", "MRAcquisitionType", "ScanningSequence"),
)
TAGS = (*_OWN_TAGS, *TIME_TAGS, *_dicom_pixels.TAGS, *_dicom_subject.TAGS)
MODALITIES = {"CT": "ct", "MR": "mr", "PT": "pt"}
# Image objects of PS3.4 B.5 that say "image" but whose pixels are no stored scan values.
_NO_SCAN = ("Segmentation", "Parametric Map", "Presentation", "Dose")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What stored values mean, apart from the rescale pair; the same in all slices of a volume."""

    modality: str
    unit: str | None
    padding: int | None
    b_value: float | None
    time_step_s: float | None


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane: position and what must agree or vary along with it. Units as in DICOM (mm, LPS)."""

    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    between: float | None
    times: tuple[float | None, ...]
    slope: float
    intercept: float
    pixels: PixelFormat
    meaning: Meaning
    start: datetime | None


def is_directory(header: FileDataset) -> bool:
    """Whether a file is a DICOMDIR: an index of others, and no recording."""
    return meta_uid(header, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def slice_of(header: FileDataset, size: int) -> Slice:
    """A header to a slice, refusing every kind of object that is not one. Raises ``ConversionError``."""
    _check_kind(header)
    if (text(header, "BurnedInAnnotation") or "").upper() == "YES":
        raise ConversionError("quarantined_burned_in")
    orientation = numbers(header, "ImageOrientationPatient")
    position = numbers(header, "ImagePositionPatient")
    spacing = numbers(header, "PixelSpacing")
    if orientation is None or position is None or spacing is None:
        _check_color_first(header)
        if whole(header, "Rows") is None:
            raise ConversionError("no_data", "An image object without pixels.", "Rows")
        raise ConversionError("unsupported_geometry")
    if len(position) != 3:
        raise ConversionError("invalid_header", "Three numbers would be right.", "ImagePositionPatient")
    pixels = pixel_format(header, size)
    slope, intercept = _rescale(header)
    return Slice(
        position=(position[0], position[1], position[2]),
        orientation=orientation,
        pixel_spacing=spacing,
        between=number(header, "SpacingBetweenSlices"),
        times=tuple(number(header, tag) for tag in TIME_TAGS),
        slope=slope,
        intercept=intercept,
        pixels=pixels,
        meaning=Meaning(
            modality=MODALITIES.get(text(header, "Modality") or "", "image"),
            unit=_unit(header),
            padding=_padding(header, pixels),
            b_value=number(header, "DiffusionBValue"),
            time_step_s=_time_step(header),
        ),
        start=_dicom_subject.start(header),
    )


def _check_kind(header: FileDataset) -> None:
    sop_class = uid(text(header, "SOPClassUID") or meta_uid(header, "MediaStorageSOPClassUID"))
    if not sop_class:
        raise ConversionError("invalid_header", "The element is missing.", "SOPClassUID")
    name = sop_class.name
    if name == sop_class:
        raise ConversionError("unsupported_sop_class", "Its SOP class is private or not known.")
    frames = whole(header, "NumberOfFrames")
    if "Image Storage" not in name or any(word in name for word in _NO_SCAN if "For Presentation" not in name):
        raise ConversionError("unsupported_sop_class", f"Its SOP class is: {name}.")
    if name.startswith(("Enhanced", "Legacy Converted Enhanced")) or (frames or 1) > 1:
        raise ConversionError("unsupported_multiframe", f"{name}, {frames or 1} frames.")
    if value_of(header, "SharedFunctionalGroupsSequence") is not None:
        raise ConversionError("unsupported_multiframe", f"{name} with functional groups.")
    if "MOSAIC" in texts(header, "ImageType"):
        raise ConversionError("unsupported_multiframe", "A Siemens mosaic holds many slices in one frame.")


def _check_color_first(header: FileDataset) -> None:
    """A colour photograph without geometry is refused for its colour: that is what would help first."""
    photometric = text(header, "PhotometricInterpretation")
    if photometric is not None and not photometric.startswith("MONOCHROME"):
        raise ConversionError("unsupported_photometric", "Only MONOCHROME1 and MONOCHROME2 are converted.")


def _rescale(header: FileDataset) -> tuple[float, float]:
    if value_of(header, "ModalityLUTSequence") is not None:
        raise ConversionError("unsupported_rescale", "Values come through a Modality LUT.", "ModalityLUTSequence")
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if (slope is None) != (intercept is None):
        raise ConversionError("unsupported_rescale", "There is a rescale slope or intercept without the other.")
    if slope is None or intercept is None:
        return 1.0, 0.0
    if slope == 0:
        raise ConversionError("unsupported_rescale", "The rescale slope is zero.", "RescaleSlope")
    return slope, intercept


def _unit(header: FileDataset) -> str | None:
    """HU where CT says so or, being original, need not (PS3.3 C.8.2.1); Bq/ml where PET says so."""
    modality, declared = text(header, "Modality"), text(header, "RescaleType")
    if modality == "PT":
        return "Bq/ml" if text(header, "Units") == "BQML" else None
    if modality != "CT" or number(header, "RescaleSlope") is None:
        return None
    kinds = texts(header, "ImageType")
    original = kinds[:1] == ("ORIGINAL",) and "LOCALIZER" not in kinds
    return "HU" if declared == "HU" or (declared is None and original) else None


def _padding(header: FileDataset, pixels: PixelFormat) -> int | None:
    """PixelPaddingValue as a stored value, None where there is none."""
    padding, limit = whole(header, "PixelPaddingValue"), whole(header, "PixelPaddingRangeLimit")
    if padding is None:
        return None
    if limit not in (None, padding):
        raise ConversionError("unsupported_rescale", "Padding is a range of values.", "PixelPaddingRangeLimit")
    # Written as unsigned (or signed) against PixelRepresentation: the same bits, read as the pixels are.
    bits = padding % (1 << pixels.bits_allocated)
    value = bits - (1 << pixels.bits_allocated) if pixels.signed and bits >> (pixels.bits_allocated - 1) else bits
    stored = pixels.bits_stored
    if pixels.signed and value == bits and bits >> (stored - 1) == 1:
        value = bits - (1 << stored)
    low, high = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if pixels.signed else (0, (1 << stored) - 1)
    if not low <= value <= high or not -(1 << pixels.bits_allocated) < padding < (1 << pixels.bits_allocated):
        raise ConversionError("unsupported_rescale", "Padding does not fit into BitsStored.", "PixelPaddingValue")
    return value


def _time_step(header: FileDataset) -> float | None:
    """Seconds from volume to volume, where a tag means just that.

    TemporalResolution does; RepetitionTime only in 2-D echo-planar series, which take one shot a slice.
    """
    milliseconds = number(header, "TemporalResolution")
    if milliseconds is None and text(header, "MRAcquisitionType") == "2D" and "EP" in texts(header, "ScanningSequence"):
        milliseconds = number(header, "RepetitionTime")
    return milliseconds / 1000 if milliseconds is not None and 50 <= milliseconds <= 600_000 else None
