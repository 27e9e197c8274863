"""Segmentations (PS3.3 A.51) to label images: which voxels belong to which segment, in the place of their frames.

Frames may come in any order, several at one position (one a segment), and none where a slice is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Literal, NamedTuple

import numpy as np
from pydantic import ValidationError
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SegmentationStorage

from harmonize_converters import _dicom_frames, _dicom_pixels, _dicom_risks, _dicom_subject
from harmonize_converters._dicom_codes import concepts
from harmonize_converters._dicom_frames import frame_headers, has_groups
from harmonize_converters._dicom_header import items, lenient_text, number, text, value_of, whole
from harmonize_converters._dicom_pixel_data import Header
from harmonize_converters._dicom_pixels import PixelFormat, pixel_format
from harmonize_converters._dicom_planes import PlaneFiles
from harmonize_converters._dicom_slice import Place, place_of, sop_class_of
from harmonize_converters._dicom_volume import check_places
from harmonize_converters.contract import Block, ConversionError, Described, Description, SourceFiles
from harmonize_converters.geometry import Stack, plane_normal, same_positions, stack, with_gaps
from harmonize_schemas import CodedConcept, Image, ImageSegment

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage (PS3.4 B.5), which pydicom 3.0 has no name for."""
SOP_CLASSES = (SegmentationStorage, LABEL_MAP_STORAGE)
TAGS: tuple[str | int, ...] = (
    *("SOPClassUID", "Modality", "SegmentationType", "SegmentationFractionalType", "MaximumFractionalValue"),
    *("TotalPixelMatrixColumns", "ConcatenationUID", "SegmentsOverlap", "SegmentSequence"),
    *("ReferencedSeriesSequence", "PixelPaddingValue"),
    *(*_dicom_frames.TAGS, *_dicom_pixels.TAGS, *_dicom_risks.TAGS),
    *(*_dicom_subject.TAGS, *_dicom_subject.RECIPE_TAGS),
)
_BITS = {"BINARY": (1,), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}
_ALGORITHMS = "AUTOMATIC|SEMIAUTOMATIC|MANUAL"
Values = Literal["label", "mask", "probability", "occupancy"]


class SegmentFrame(NamedTuple):
    """A frame of the file (from 0) and the number of the segment that it is of; None: of all (LABELMAP)."""

    frame: int
    segment: int | None


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One object: ``layers[z]`` are the frames at slice z, none where the file leaves an empty slice out."""

    pixels: PixelFormat
    image: Image
    layers: tuple[tuple[SegmentFrame, ...], ...]
    most: int
    """The stored value that means 1 (FRACTIONAL)."""
    flags: tuple[str, ...]


def describe(source: SourceFiles, found: Header) -> Described:
    """As ``Converter.describe``; ``found`` holds what ``TAGS`` name.

    Pixels are looked at only where the header does not tell whether segments overlap.
    """
    header, one = found.elements, _opened(source, found)
    description = Description(
        format="DICOM",
        modality="segmentation",
        image=one.image,
        acquisition=_dicom_subject.acquisition(header),
        demographics=_dicom_subject.demographics(header),
        flags=one.flags,
        transfer_syntax=one.pixels.transfer_syntax,
        libraries=_dicom_pixels.libraries(one.pixels.transfer_syntax),
        reading=source.peeked[0] if source.peeked else b"",
    )
    # It was made from an acquisition, and is none itself: it has no start.
    identity = replace(_dicom_subject.identity(header), start=None, derived_from=_source_series(header))
    return Described(description, identity, _dicom_subject.recipe_texts(header))


def read(source: SourceFiles, found: Header, description: Description, block_bytes: int) -> Iterator[Block]:
    """As ``Converter.read``: planes in the order c, z, one frame of the file in memory at a time."""
    image = description.image
    one = _opened(source, found, None if image is None else image.segment_values)
    if one.image != image:
        raise ConversionError("source_changed")
    at_once = max(1, block_bytes // (one.pixels.rows * one.pixels.columns * np.dtype(image.dtype).itemsize))
    with PlaneFiles(source.files, [found.pixel_data]) as files:
        planes = _planes(one, files)
        for start in range(0, image.n_planes, at_once):
            yield Block(None, start, np.stack(list(islice(planes, at_once))))


def is_segmentation(header: FileDataset) -> bool:
    """Whether a file is an object of this kind."""
    return sop_class_of(header) in SOP_CLASSES


def _opened(source: SourceFiles, found: Header, values: Values | None = None) -> Segmentation:
    """The frames of a file in order. ``values`` is what the voxels say, where that is known already."""
    header = found.elements
    if not is_segmentation(header):
        raise ConversionError("source_changed")
    if value_of(header, "ConcatenationUID") is not None or len(source.files) > 1:
        raise ConversionError("unsupported_segmentation", "It lies in several files (a concatenation).")
    if value_of(header, "TotalPixelMatrixColumns") is not None:
        raise ConversionError("unsupported_geometry", "Its frames are tiles of a slide.")
    if not has_groups(header):
        raise ConversionError("unsupported_segmentation", "It has no functional groups.")
    kind = text(header, "SegmentationType") or ""
    pixels = pixel_format(header, source.primary.size)
    if kind not in _BITS or pixels.bits_allocated not in _BITS[kind] or pixels.signed or pixels.colors > 1:
        raise ConversionError(
            "unsupported_segmentation", "BINARY of 1 bit, FRACTIONAL of 8 or LABELMAP of 8 or 16 bits would be right."
        )
    segments, withheld = _segments(header, kind)
    frames, places = _frames(header, kind, {segment.number for segment in segments})
    layers, geometry = _layers(frames, places)
    if values is None:
        values = _values(source, found, kind, pixels, layers)
    most = _most(header) if kind == "FRACTIONAL" else 1
    image = _image(pixels, kind, segments, values, most, len(layers), geometry)
    return Segmentation(pixels, image, layers, most, (*geometry.flags, *_flags(header, pixels, withheld)))


def _image(
    pixels: PixelFormat,
    kind: str,
    segments: tuple[ImageSegment, ...],
    values: Values,
    most: int,
    n_slices: int,
    geometry: Stack,
) -> Image:
    channels = {} if values == "label" else {"c": len(segments)}
    sizes = {**channels, "z": n_slices, "y": pixels.rows, "x": pixels.columns}
    dtype: np.dtype = np.dtype(np.uint8)
    if kind == "LABELMAP":
        dtype = pixels.dtype
    elif values == "label" and segments[-1].number > 255:
        dtype = np.dtype(np.uint16)
    try:
        return Image(
            axes=tuple(sizes),  # type: ignore[arg-type] # the schema checks them
            shape=tuple(sizes.values()),
            dtype=str(dtype),
            affine=geometry.affine,
            affine_source="unknown" if geometry.affine is None else "plane_position",
            spacing_mm=geometry.spacing_mm,
            spacing_source="unknown" if geometry.spacing_mm is None else "affine",
            orientation=geometry.orientation,
            slopes=(1 / most,),
            segments=segments,
            segment_values=values,
        )
    except ValidationError:
        raise ConversionError("invalid_header", "The header's numbers do not make an image.") from None


def _planes(one: Segmentation, files: PlaneFiles) -> Iterator[np.ndarray]:
    """The planes (rows, columns) in the order c, z."""
    if one.image.segment_values == "label":
        known = np.array([0, *(segment.number for segment in one.image.segments)])
        for layer in one.layers:
            yield _labels(one, layer, files, known)
        return
    for segment in one.image.segments:
        for layer in one.layers:
            yield _channel(one, next((f.frame for f in layer if f.segment == segment.number), None), files)


def _source_series(header: FileDataset) -> tuple[str, ...]:
    """SeriesInstanceUID of the series that it was made from (PS3.3 C.12.4.1)."""
    try:
        found = [lenient_text(item, "SeriesInstanceUID") for item in items(header, "ReferencedSeriesSequence")]
    except ConversionError:
        return ()
    return tuple(dict.fromkeys(uid for uid in found if uid))


def _segments(header: FileDataset, kind: str) -> tuple[tuple[ImageSegment, ...], bool]:
    """What each segment is, in order of their numbers, and whether a code was withheld. A label map's background,
    whose number is 0, is left out."""
    background = kind == "LABELMAP"
    if background and value_of(header, "PixelPaddingValue") is not None and whole(header, "PixelPaddingValue") != 0:
        raise ConversionError("unsupported_segmentation", "Its background has another number than 0.")
    found: dict[int, ImageSegment] = {}
    withheld = False
    for item in items(header, "SegmentSequence"):
        segment = whole(item, "SegmentNumber")
        if segment is None or segment in found or not (0 if background else 1) <= segment < 1 << 16:
            raise ConversionError("invalid_header", "Each segment with a number of its own would be right.")
        if segment > 0:
            found[segment], hidden = _segment(item, segment)
            withheld = withheld or hidden
    if not found:
        raise ConversionError("no_data", "There is no segment.", "SegmentSequence")
    return tuple(found[segment] for segment in sorted(found)), withheld


def _segment(item: Dataset, segment: int) -> tuple[ImageSegment, bool]:
    categories = concepts(item, "SegmentedPropertyCategoryCodeSequence")
    types, regions = concepts(item, "SegmentedPropertyTypeCodeSequence"), concepts(item, "AnatomicRegionSequence")
    type_modifiers = _modifiers(item, "SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence")
    region_modifiers = _modifiers(item, "AnatomicRegionSequence", "AnatomicRegionModifierSequence")
    made = ImageSegment(
        number=segment,
        category=next(iter(categories), None),
        type=next(iter(types), None),
        type_modifiers=_known(type_modifiers),
        region=next(iter(regions), None),
        region_modifiers=_known(region_modifiers),
        algorithm=lenient_text(item, "SegmentAlgorithmType", _ALGORITHMS),  # type: ignore[arg-type] # one of these
    )
    return made, None in (*categories, *types, *type_modifiers, *regions, *region_modifiers)


def _modifiers(item: Dataset, of: str, name: str) -> list[CodedConcept | None]:
    """They lie in the item of what they modify; some writers put them beside it."""
    try:
        holders = [*items(item, of)[:1], item]
    except ConversionError:
        return [None]
    return list(chain.from_iterable(concepts(holder, name) for holder in holders))


def _known(found: Iterable[CodedConcept | None]) -> tuple[CodedConcept, ...]:
    return tuple(one for one in found if one is not None)


def _frames(header: FileDataset, kind: str, numbers: set[int]) -> tuple[list[SegmentFrame], list[Place]]:
    frames, places = [], []
    for index, flat in enumerate(frame_headers(header)):
        segment = None if kind == "LABELMAP" else whole(flat, "ReferencedSegmentNumber")
        if kind != "LABELMAP" and segment not in numbers:
            raise ConversionError("invalid_header", "A frame is of no segment.", "ReferencedSegmentNumber")
        frames.append(SegmentFrame(index, segment))
        places.append(place_of(flat))
    for place in places[1:]:
        check_places(places[0], place)
    return frames, places


def _layers(frames: list[SegmentFrame], places: list[Place]) -> tuple[tuple[tuple[SegmentFrame, ...], ...], Stack]:
    """Frames by slice, and where the slices lie."""
    lead = places[0]
    normal = plane_normal(lead.orientation)
    positions = np.array([place.position for place in places])
    groups = same_positions(positions, normal)
    for group in groups:
        if len({frames[index].segment for index in group}) < len(group):
            raise ConversionError("conflicting_slices", "A segment has several frames at one position.")
    points, at = with_gaps(positions[[group[0] for group in groups]], normal, lead.between)
    layers: list[tuple[SegmentFrame, ...]] = [()] * len(points)
    for z, group in zip(at, groups, strict=True):
        layers[z] = tuple(frames[index] for index in group)
    return tuple(layers), stack(points, lead.orientation, lead.pixel_spacing, lead.between)


def _values(
    source: SourceFiles,
    found: Header,
    kind: str,
    pixels: PixelFormat,
    layers: Iterable[tuple[SegmentFrame, ...]],
) -> Values:
    if kind == "LABELMAP":
        return "label"
    if kind == "FRACTIONAL":
        means: Mapping[str, Values] = {"PROBABILITY": "probability", "OCCUPANCY": "occupancy"}
        meant = text(found.elements, "SegmentationFractionalType") or ""
        if meant not in means:
            raise ConversionError("invalid_header", "PROBABILITY or OCCUPANCY.", "SegmentationFractionalType")
        return means[meant]
    declared = lenient_text(found.elements, "SegmentsOverlap")
    if declared in ("YES", "NO"):
        return "mask" if declared == "YES" else "label"
    with PlaneFiles(source.files, [found.pixel_data]) as files:
        return "mask" if any(_overlap(layer, pixels, files) for layer in layers) else "label"


def _overlap(layer: tuple[SegmentFrame, ...], pixels: PixelFormat, files: PlaneFiles) -> bool:
    if len(layer) < 2:
        return False
    taken = np.zeros((pixels.rows, pixels.columns), bool)
    for frame, _ in layer:
        inside = files.plane(0, frame, pixels)[0] > 0
        if np.any(taken & inside):
            return True
        taken |= inside
    return False


def _labels(one: Segmentation, layer: tuple[SegmentFrame, ...], files: PlaneFiles, known: np.ndarray) -> np.ndarray:
    """A plane of segment numbers, 0 where there is none."""
    out = np.zeros((one.pixels.rows, one.pixels.columns), one.image.dtype)
    for frame, segment in layer:
        plane: np.ndarray = files.plane(0, frame, one.pixels)[0]
        if segment is None:
            if not np.isin(plane, known).all():
                raise ConversionError("corrupt", "A voxel has the number of no segment.", "PixelData")
            return plane
        if np.any(out[plane > 0]):
            raise ConversionError("corrupt", "Segments overlap, although the header denies it.", "SegmentsOverlap")
        out[plane > 0] = segment
    return out


def _channel(one: Segmentation, frame: int | None, files: PlaneFiles) -> np.ndarray:
    """The plane of one segment, zeros where it has no frame."""
    if frame is None:
        return np.zeros((one.pixels.rows, one.pixels.columns), np.uint8)
    plane: np.ndarray = files.plane(0, frame, one.pixels)[0]
    if plane.max() > one.most:
        raise ConversionError("corrupt", "A share is above MaximumFractionalValue.", "PixelData")
    return plane


def _most(header: FileDataset) -> int:
    found = number(header, "MaximumFractionalValue")
    if found is None or not 1 <= found <= 255 or not found.is_integer():
        raise ConversionError("invalid_header", "A whole number from 1 to 255.", "MaximumFractionalValue")
    return int(found)


def _flags(header: FileDataset, pixels: PixelFormat, withheld: bool) -> Iterator[str]:
    if pixels.lossy:
        yield "lossy_compression"
    if withheld:
        yield "segment_code_withheld"
    _dicom_risks.burned_in_risk(header, "Segmentation", placed=True)  # refuses what is declared
    if _dicom_risks.recognizable_features(header, "segmentation"):
        yield "recognizable_features"
