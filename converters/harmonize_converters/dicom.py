"""DICOM: frames of scans with a place in the patient to volumes, cines to images in time, single images to planes,
segmentations to label images, waveforms to signals.

The unit is a frame: a file and a frame number. A Siemens mosaic is a frame of many slices, one in colour is of three
planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydicom.dataset import Dataset

from harmonize_converters import _dicom_seg, _dicom_subject, _dicom_waveform
from harmonize_converters._dicom_color import GREY
from harmonize_converters._dicom_frames import frame_headers, has_groups, n_frames
from harmonize_converters._dicom_header import whole
from harmonize_converters._dicom_kept import headers
from harmonize_converters._dicom_kinds import Kind, kind_of, members
from harmonize_converters._dicom_mosaic import mosaic_slices
from harmonize_converters._dicom_pixel_data import PixelData
from harmonize_converters._dicom_pixels import libraries
from harmonize_converters._dicom_planes import PlaneFiles
from harmonize_converters._dicom_private import is_orphaned
from harmonize_converters._dicom_reading import Reading, state_of, unpack
from harmonize_converters._dicom_risks import burned_in_risk, is_capture, recognizable_features
from harmonize_converters._dicom_series import SEGMENTATION, WAVEFORM, Peek, peek, series_sources
from harmonize_converters._dicom_slice import (
    Slice,
    Tile,
    check_kind,
    is_mosaic,
    is_planar,
    pixels_of,
    planar_slices,
    slice_of,
)
from harmonize_converters._dicom_tracer import tracer
from harmonize_converters._dicom_volume import Volume, assemble, b_values, b_vectors
from harmonize_converters._dicom_walk import PREFIX, PREFIX_AT
from harmonize_converters._dicom_waveform_events import read_annotations
from harmonize_converters.contract import (
    Block,
    ConversionError,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    Identity,
    SourceFiles,
)
from harmonize_schemas import Image


@dataclass(frozen=True, slots=True)
class _Frames:
    """The slices of one source, the file that each is in, where each file's pixels are, the flat header of the first
    slice, and flags of any."""

    slices: tuple[Slice, ...]
    files: tuple[int, ...]
    pixel_data: tuple[PixelData | None, ...]
    first: Dataset
    flags: tuple[str, ...]

    def plane(self, index: int) -> tuple[int, int, Tile | None]:
        """File, frame and tile of a slice."""
        return self.files[index], self.slices[index].frame, self.slices[index].tile


class DicomConverter:
    """DICOM series and multi-frame objects to images, waveforms to signals (``converter`` contract)."""

    name = "dicom"
    version = "4"
    suffixes = frozenset({".dcm", ".ima"})

    def recognize(self, head: bytes, name: str) -> bool:
        """The prefix of PS3.10 7.1, whatever the file is called."""
        return head[PREFIX_AT : PREFIX_AT + len(PREFIX)] == PREFIX

    def peek(self, file: FoundFile) -> Peek:
        """Its series, its place and what it is: see ``Peek``."""
        return peek(file)

    def group(
        self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile], peeked: Iterable[Peek | None] | None = None
    ) -> list[SourceFiles]:
        """One source a volume: see ``series_sources``. Volumes of the same multi-frame files have a ``member``."""
        return series_sources(self.name, files, map(peek, files) if peeked is None else peeked)

    def describe(self, source: SourceFiles) -> Described:
        """Headers of all frames; pixels only of frames at one place and time, to tell copies apart."""
        if SEGMENTATION in source.roles:
            (header,) = headers(source)
            return _dicom_seg.describe(source, header)
        if WAVEFORM in source.roles:
            return _dicom_waveform.describe(source)
        found, volume = _assemble(source)
        slices, first = found.slices, found.first
        lead = slices[0]
        earliest = min((s.start for s in slices if s.start is not None), default=None)
        acquisition = _dicom_subject.acquisition(first)
        if lead.meaning.modality == "pt":
            acquisition = acquisition.model_copy(update={"tracer": tracer(first, earliest)})
        description = Description(
            format="DICOM",
            modality=lead.meaning.modality,
            image=_image(slices, volume),
            acquisition=acquisition,
            demographics=_dicom_subject.demographics(first),
            flags=(*volume.geometry.flags, *volume.flags, *_flags(lead), *found.flags),
            transfer_syntax=lead.pixels.transfer_syntax,
            libraries=libraries(lead.pixels.transfer_syntax),
            reading=_reading(source, found, volume).packed(),
        )
        identity: Identity = replace(_dicom_subject.identity(first), start=earliest)
        return Described(description, identity, _dicom_subject.recipe_texts(first))

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Planes in the order t, c, z (``Reading.blocks``). Of waveforms, samples."""
        if SEGMENTATION in source.roles:
            (header,) = headers(replace(source, peeked=(description.reading,)))
            yield from _dicom_seg.read(source, header, description, block_bytes)
            return
        if WAVEFORM in source.roles:
            yield from _dicom_waveform.read(source, description, block_bytes)
            return
        reading = unpack(description.reading, source)
        if reading is None:
            found, volume = _assemble(source)
            if _image(found.slices, volume) != description.image:
                raise ConversionError("source_changed")
            reading = _reading(source, found, volume)
        for start, samples in reading.blocks(source.files, block_bytes):
            yield Block(None, start, samples)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Those of waveforms; images have no events."""
        return iter(read_annotations(source) if WAVEFORM in source.roles else ())


def _assemble(source: SourceFiles) -> tuple[_Frames, Volume]:
    found = _frames(source)
    with PlaneFiles(source.files, found.pixel_data) as planes:

        def same(a: int, b: int) -> bool:
            one, other = (planes.slice(*found.plane(i), found.slices[i].pixels) for i in (a, b))
            return bool(np.array_equal(one, other))

        return found, assemble(found.slices, same, source.uneven_slices)


def _frames(source: SourceFiles) -> _Frames:
    """The frames of a source: all of its files', or those of its ``member``."""
    slices: list[Slice] = []
    files: list[int] = []
    pixel_data: list[PixelData | None] = []
    kinds: list[Kind] = []
    firsts: dict[Kind | None, Dataset] = {}
    flags: dict[str, None] = {}
    for number, (file, (header, data)) in enumerate(zip(source.files, headers(source), strict=True)):
        pixel_data.append(data)
        kind = check_kind(header).name
        pixels = pixels_of(header, file.size)
        parts = whole(header, "InConcatenationTotalNumber")
        if parts is not None and parts > len(source.files):
            raise ConversionError("missing_file", f"{len(source.files)} of {parts} parts of a concatenation.")
        flat: Dataset = header
        if has_groups(header):
            for frame, flat in enumerate(frame_headers(header)):
                slices.append(slice_of(flat, pixels, frame))
                kinds.append(kind_of(flat))
                firsts.setdefault(kinds[-1], flat)
        elif is_mosaic(header):
            slices += mosaic_slices(header, pixels)
        elif n_frames(header) > 1 or is_planar(header):
            slices += planar_slices(header, pixels)
        else:
            slices.append(slice_of(header, pixels))
        files += [number] * (len(slices) - len(files))
        firsts.setdefault(None, header)
        flags |= dict.fromkeys(_risks(kind, flat, slices[-1]))
    if not firsts:
        raise ConversionError("missing_file")
    if kinds and len(kinds) != len(slices):
        raise ConversionError("inconsistent_series", "Some files have functional groups and others none.")
    names = members(kinds) if kinds else [None] * len(slices)
    own = [index for index, name in enumerate(names) if name == source.member]
    if not own:
        raise ConversionError("source_changed")
    first = firsts[kinds[own[0]] if kinds else None]
    own_slices, own_files = tuple(slices[index] for index in own), tuple(files[index] for index in own)
    return _Frames(own_slices, own_files, tuple(pixel_data), first, tuple(flags))


def _flags(lead: Slice) -> Iterator[str]:
    """What all slices share."""
    if lead.pixels.lossy:
        yield "lossy_compression"
    if lead.pixels.photometric not in (*GREY, "RGB"):
        yield "color_converted"
    if lead.meaning.spacing is not None and not lead.meaning.spacing.certain:
        yield "spacing_uncalibrated"


def _risks(sop_class_name: str, header: Dataset, one: Slice) -> Iterator[str]:
    """What any file of a source may say."""
    if is_capture(sop_class_name):
        yield "secondary_capture"
    if burned_in_risk(header, sop_class_name, one.place is not None):
        yield "burned_in_risk"
    if recognizable_features(header, one.meaning.modality):
        yield "recognizable_features"
    if one.diffusion.b_value and is_orphaned(header):
        yield "private_creator_missing"


def _reading(source: SourceFiles, found: _Frames, volume: Volume) -> Reading:
    planes = tuple(found.plane(index) for index in volume.planes)
    return Reading(state_of(source), found.slices[0].pixels, volume.n_times, planes, found.pixel_data)


def _image(slices: Sequence[Slice], volume: Volume) -> Image:
    lead, geometry = slices[0], volume.geometry
    n_places = len(volume.planes) // volume.n_times
    flat, colors, padding = lead.meaning.spacing, lead.pixels.colors, lead.meaning.padding
    pairs = [(slices[i].slope, slices[i].intercept) for i in volume.planes]
    pairs = pairs[:1] if len(set(pairs)) == 1 else pairs
    scales = [slices[i].scale_slope for i in volume.planes]
    sizes = {
        **({"t": volume.n_times} if volume.n_times > 1 else {}),
        **({"c": colors} if colors > 1 else {}),
        **({"z": n_places} if lead.place is not None else {}),
        **{"y": lead.pixels.rows, "x": lead.pixels.columns},
    }
    fields: dict[str, Any] = {
        "axes": tuple(sizes),
        "shape": tuple(sizes.values()),
        "dtype": str(lead.pixels.dtype),
        "affine": geometry.affine,
        "affine_source": "plane_position" if geometry.affine is not None else "unknown",
        "spacing_mm": flat.mm if flat is not None else geometry.spacing_mm,
        "spacing_source": flat.source
        if flat is not None
        else "affine"
        if geometry.spacing_mm is not None
        else "unknown",
        "orientation": geometry.orientation,
        "slice_places": geometry.places,
        "slopes": tuple(slope for slope, _ in pairs),
        "intercepts": tuple(intercept for _, intercept in pairs),
        "scale_slopes": () if None in scales else tuple(scales[:1] if len(set(scales)) == 1 else scales),
        "unit": lead.meaning.unit,
        "padding_value": None if padding is None else padding[0],
        "padding_limit": None if padding is None or padding[0] == padding[1] else padding[1],
        "time_step_s": volume.time_step_s,
        "b_values_s_mm2": b_values(slices, volume),
        "b_vectors_ras": b_vectors(slices, volume),
        "photometric": lead.pixels.photometric if colors == 1 else "RGB",
        "value_table": lead.meaning.table,
    }
    try:
        return Image(**fields)
    except ValidationError:
        raise ConversionError("invalid_header", "The header's numbers do not make an image.") from None
