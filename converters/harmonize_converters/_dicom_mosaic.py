"""Siemens mosaics: one frame that holds the slices of a volume as tiles (nibabel, doc/source/dicom/dicom_mosaic)."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import element, number
from harmonize_converters._dicom_pixels import PixelFormat
from harmonize_converters._dicom_slice import Diffusion, Place, Slice, Tile, slice_of, unit_vector
from harmonize_converters.contract import ConversionError
from harmonize_converters.geometry import mosaic_positions

_CREATORS = {0x00190010: "SIEMENS MR HEADER", 0x00290010: "SIEMENS CSA HEADER"}
_COUNT, _B_VALUE, _DIRECTION, _CSA = 0x0019100A, 0x0019100C, 0x0019100E, 0x00291010
TAGS = (*_CREATORS, _COUNT, _B_VALUE, _DIRECTION, _CSA)
_MAX_ITEMS = 1000


def mosaic_slices(header: Dataset, pixels: PixelFormat) -> list[Slice]:
    """The tiles of a mosaic as slices, in the order of their numbers. Raises ``ConversionError``.

    The direction of stacking is SliceNormalVector of the CSA header, the step SpacingBetweenSlices: neither
    is guessed. Mosaics whose tiles are numbered in reverse (ProtocolSliceNumber above 0) are refused.
    """
    csa = csa_numbers(_private(header, _CSA))
    counts = {_one(_private(header, _COUNT)), _one(csa.get("NumberOfImagesInMosaic"))} - {None}
    if len(counts) > 1:
        raise ConversionError("invalid_header", "Two numbers of slices that differ.", "(0019,100A)")
    count = int(counts.pop() or 0) if counts else 0
    normal = csa.get("SliceNormalVector", ())
    step = number(header, "SpacingBetweenSlices")
    if count < 1 or len(normal) != 3 or step is None or step <= 0:
        raise ConversionError("unsupported_multiframe", "A Siemens mosaic without count, normal or step of its slices.")
    if _one(csa.get("ProtocolSliceNumber")):
        raise ConversionError("unsupported_multiframe", "A Siemens mosaic whose slices are numbered in reverse.")
    across = math.ceil(math.sqrt(count))
    if pixels.rows % across or pixels.columns % across:
        raise ConversionError("invalid_header", f"{count} slices do not tile Rows x Columns.", "(0019,100A)")
    tile = replace(pixels, rows=pixels.rows // across, columns=pixels.columns // across)
    whole = slice_of(header, tile)
    whole = replace(whole, diffusion=_diffusion(header, whole.diffusion))
    shape, tile_shape = (pixels.rows, pixels.columns), (tile.rows, tile.columns)
    place = whole.place
    if place is None:
        raise ConversionError("unsupported_geometry")
    positions = mosaic_positions(
        *(place.position, place.orientation, place.pixel_spacing, shape, tile_shape), normal, step, count
    )
    return [
        replace(
            whole,
            tile=Tile(k // across * tile.rows, k % across * tile.columns, pixels.rows, pixels.columns),
            place=Place(position, place.orientation, place.pixel_spacing, step),
        )
        for k, position in enumerate(positions)
    ]


def csa_numbers(data: object) -> dict[str, tuple[float, ...]]:
    """The numeric elements of a Siemens CSA2 header by name; others are left out. Raises ``ConversionError``."""
    if not isinstance(data, bytes) or data[:4] != b"SV10":
        return {}
    found: dict[str, tuple[float, ...]] = {}
    try:
        (count,) = struct.unpack_from("<I", data, 8)
        at = 16
        for _ in range(min(count, _MAX_ITEMS)):
            name, _vm, _vr, _, items, _ = struct.unpack_from("<64si4s3i", data, at)
            at += 84
            if not 0 <= items <= _MAX_ITEMS:
                raise ConversionError("invalid_header", "The CSA header cannot be read.", "(0029,1010)")
            values = []
            for _ in range(items):
                (length,) = struct.unpack_from("<i", data, at + 4)
                at += 16
                if not 0 <= length <= len(data) - at:
                    raise ConversionError("invalid_header", "The CSA header cannot be read.", "(0029,1010)")
                if length:
                    values.append(data[at : at + length].split(b"\0")[0])
                at += -(-length // 4) * 4
            try:
                numeric = tuple(float(value) for value in values)
            except ValueError:
                continue
            if all(math.isfinite(value) for value in numeric):
                found[name.split(b"\0")[0].decode("latin-1")] = numeric
    except struct.error:
        raise ConversionError("invalid_header", "The CSA header ends early.", "(0029,1010)") from None
    return found


def _private(header: Dataset, tag: int) -> object:
    """A private element, None where absent or where its block is another maker's."""
    creator = tag & 0xFFFF0000 | 0x10
    owner = element(header, creator)
    return element(header, tag) if isinstance(owner, str) and owner.strip() == _CREATORS[creator] else None


def _one(value: object) -> float | None:
    try:
        found = value[0] if isinstance(value, tuple) and value else value
        return float(found) if found not in (None, ()) else None  # type: ignore[arg-type] # refused below
    except (TypeError, ValueError, OverflowError):
        raise ConversionError("invalid_header", "A number would be right.", "SIEMENS MR HEADER") from None


def _diffusion(header: Dataset, standard: Diffusion) -> Diffusion:
    """B_value and DiffusionGradientDirection (LPS) of Siemens, where the standard's own elements are absent."""
    b_value = _one(_private(header, _B_VALUE))
    if standard.b_value is not None or b_value is None:
        return standard
    if b_value < 0 or not math.isfinite(b_value):
        raise ConversionError("invalid_header", "Zero or more would be right.", "(0019,100C)")
    try:
        found = tuple(float(one) for one in (_private(header, _DIRECTION) or ()))  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        raise ConversionError("invalid_header", "Three numbers would be right.", "(0019,100E)") from None
    return Diffusion(b_value, unit_vector(found, "(0019,100E)") if b_value else None)
