"""Siemens mosaics: one frame that holds the slices of a volume as tiles (nibabel, doc/source/dicom/dicom_mosaic)."""

from __future__ import annotations

import math
from dataclasses import replace

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import number
from harmonize_converters._dicom_pixels import PixelFormat
from harmonize_converters._dicom_private import SIEMENS, csa_numbers, private_numbers
from harmonize_converters._dicom_slice import Place, Slice, Tile, slice_of
from harmonize_converters.contract import ConversionError
from harmonize_converters.geometry import mosaic_positions

COUNT = 0x0019100A
"""NumberOfImagesInMosaic of "SIEMENS MR HEADER"."""


def mosaic_slices(header: Dataset, pixels: PixelFormat) -> list[Slice]:
    """The tiles of a mosaic as slices, in the order of their numbers. Raises ``ConversionError``.

    The direction of stacking is SliceNormalVector of the CSA header, the step SpacingBetweenSlices: neither
    is guessed. Mosaics whose tiles are numbered in reverse (ProtocolSliceNumber above 0) are refused.
    """
    csa = csa_numbers(header)
    counts = {*private_numbers(header, COUNT, SIEMENS)[:1], *csa.get("NumberOfImagesInMosaic", ())[:1]}
    if len(counts) > 1:
        raise ConversionError("invalid_header", "Two numbers of slices that differ.", "(0019,100A)")
    count = int(counts.pop()) if counts else 0
    normal = csa.get("SliceNormalVector", ())
    step = number(header, "SpacingBetweenSlices")
    if count < 1 or len(normal) != 3 or step is None or step <= 0:
        raise ConversionError("unsupported_multiframe", "A Siemens mosaic without count, normal or step of its slices.")
    if any(csa.get("ProtocolSliceNumber", ())[:1]):
        raise ConversionError("unsupported_multiframe", "A Siemens mosaic whose slices are numbered in reverse.")
    across = math.ceil(math.sqrt(count))
    if pixels.rows % across or pixels.columns % across:
        raise ConversionError("invalid_header", f"{count} slices do not tile Rows x Columns.", "(0019,100A)")
    tile = replace(pixels, rows=pixels.rows // across, columns=pixels.columns // across)
    whole = slice_of(header, tile)
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
