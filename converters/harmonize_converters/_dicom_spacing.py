"""The spacing of images without a place in the patient, and what it was read from (FIDELITY I10; PS3.3 10.7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import items, number, numbers, value_of
from harmonize_converters.contract import ConversionError

TAGS = (
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    "SequenceOfUltrasoundRegions",
)
_TISSUE_2D, _CENTIMETRES = 1, 3
_Read = Literal["pixel_spacing", "imager_pixel_spacing", "nominal_scanned_pixel_spacing"]


@dataclass(frozen=True, slots=True)
class PlaneSpacing:
    """Spacing along x and y in mm, and what it was read from. ``certain`` is False where the header does not say
    whether it is in the patient or at the detector or film."""

    mm: tuple[float, float]
    source: Literal[_Read, "ultrasound_regions"]
    certain: bool = True


def plane_spacing(header: Dataset, projection: bool) -> PlaneSpacing | None:
    """PixelSpacing, else ultrasound regions, else the spacing at the detector, else on the film.

    ``projection``: an image of the kinds of PS3.3 10.7, where PixelSpacing may be that of the detector or the film:
    it is where it equals theirs and no calibration is named, and unsaid where neither is there (PS3.3 10.7.1.1).
    """
    pixel = _rows_columns(header, "PixelSpacing", "pixel_spacing")
    detector = _rows_columns(header, "ImagerPixelSpacing", "imager_pixel_spacing")
    film = _rows_columns(header, "NominalScannedPixelSpacing", "nominal_scanned_pixel_spacing")
    if pixel is None:
        regions = items(header, "SequenceOfUltrasoundRegions")
        return _regions(regions) if regions else detector or film
    if not projection or value_of(header, "PixelSpacingCalibrationType") is not None:
        return pixel
    at_device = [one for one in (detector, film) if one is not None]
    if not at_device:
        return PlaneSpacing(pixel.mm, pixel.source, certain=False)
    return next((one for one in at_device if one.mm == pixel.mm), pixel)


def _rows_columns(header: Dataset, name: str, source: _Read) -> PlaneSpacing | None:
    found = numbers(header, name)
    if found is None:
        return None
    if len(found) != 2 or min(found) <= 0:
        raise ConversionError("invalid_header", "Two spacings above zero would be right.", name)
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
