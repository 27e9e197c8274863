"""DICOM files to sources: which files and which of their frames make one image (FIDELITY I01, I05)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, NamedTuple
from urllib.parse import quote

from pydicom.dataset import Dataset

from harmonize_converters import _dicom_kept
from harmonize_converters._dicom_frames import frame_headers, has_groups, n_frames
from harmonize_converters._dicom_header import lenient_texts, numbers
from harmonize_converters._dicom_kept import SERIES_TAGS
from harmonize_converters._dicom_kinds import Kind, kind_of, members
from harmonize_converters._dicom_seg import is_segmentation
from harmonize_converters._dicom_slice import is_directory, is_planar
from harmonize_converters._dicom_volume import clusters
from harmonize_converters._dicom_waveform import is_waveform
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles
from harmonize_converters.geometry import is_one_stack

SLICE, SEGMENTATION, WAVEFORM = "slice", "segmentation", "waveform"
"""The roles of files."""
_DIRECTORY = "directory"
KEPT_BYTES = 1 << 27
"""Most bytes of headers that are kept from grouping to describing, some 60,000 slices'. Those beyond are read again."""
_Series = tuple[str, ...]
"""A folder, a series UID, and what no volume spans."""


class Peek(NamedTuple):
    """What grouping must know of a file.

    ``mark``: its series UID and what no volume spans; or one word for what belongs to no series. ``grouped``: it has
    functional groups, and its frames' places are not looked at here. ``kept``: its header, for describing.
    """

    mark: tuple[str, ...]
    orientation: tuple[float, ...] | None = None
    position: tuple[float, ...] | None = None
    grouped: bool = False
    kept: bytes = b""


class _Found(NamedTuple):
    """A file of a series."""

    file: FoundFile
    peek: Peek


def peek(file: FoundFile) -> Peek:
    """What grouping must know of a file; what cannot be read is described alone, where the reason is given. Never
    raises."""
    kept = b""
    try:
        (header, _), kept = _dicom_kept.read_and_keep(file)
        if is_directory(header):
            return Peek((_DIRECTORY,))
        if is_segmentation(header):
            return Peek((SEGMENTATION,), kept=kept)
        if is_waveform(header):
            return Peek((WAVEFORM,))
        uid = lenient_texts(header, "SeriesInstanceUID")
        grouped = has_groups(header)
        if not uid or (not grouped and n_frames(header) > 1) or is_planar(header):
            return Peek((SLICE,), kept=kept)
    except ConversionError:
        return Peek((SLICE,), kept=kept)
    split = tuple("\\".join(lenient_texts(header, tag)) for tag in SERIES_TAGS)
    if grouped:  # the parts of a concatenation (PS3.3 C.7.6.16.2.2.4) differ in their number of frames
        whole = lenient_texts(header, "ConcatenationUID") or split[-1:]
        return Peek((uid[0], *split[:-1], f"{whole[0]} by functional groups"), grouped=True, kept=kept)
    return Peek((uid[0], *split), _numbers(header, "ImageOrientationPatient"), _position(header), kept=kept)


def series_sources(name: str, files: Sequence[FoundFile], peeked: Iterable[Peek | None]) -> list[SourceFiles]:
    """Sources of the converter ``name``: one a volume, the slices of one series split by what no volume spans; one a
    file for cine objects, segmentations, waveforms, images without a place and what cannot be read. A series lies in
    one folder, or in several that make one stack together. ``peeked``: of each file, None where that was lost. Never
    raises."""
    sources: list[SourceFiles] = []
    series: dict[_Series, list[_Found]] = {}
    for file, seen in sorted(zip(files, _shared(peeked), strict=True), key=lambda pair: pair[0].key):
        if seen.mark in ((SLICE,), (SEGMENTATION,), (WAVEFORM,)):
            sources.append(SourceFiles(name, file.key, (file,), seen.mark, peeked=(seen.kept,)))
        elif seen.mark != (_DIRECTORY,):
            series.setdefault((file.key.rpartition("/")[0], *seen.mark), []).append(_Found(file, seen))
    for (folder, uid_, *split_), found in _across_folders(series).items():
        kinds = clusters([one.peek.orientation for one in found])
        for kind in sorted(set(kinds)):
            own = [one for one, k in zip(found, kinds, strict=True) if k == kind]
            mark = hashlib.sha256("\0".join([*split_, str(kind)]).encode()).hexdigest()[:8]
            key = f"{folder}/{uid_}-{mark}"
            files_, kept = tuple(one.file for one in own), tuple(one.peek.kept for one in own)
            source = SourceFiles(name, key, files_, (SLICE,) * len(own), peeked=kept)
            for member in _members(source) if found[0].peek.grouped else [None]:
                named = key if member is None else f"{key}#{quote(member, safe='')}"
                sources.append(replace(source, key=named, member=member))
    return sources


def _shared(peeked: Iterable[Peek | None]) -> Iterator[Peek]:
    """What most files of a series have in common is held once, also where it comes from other processes; and of
    headers no more than ``KEPT_BYTES``."""
    known: dict[object, Any] = {}
    left = KEPT_BYTES
    for one in peeked:
        seen = one or Peek((SLICE,))
        left -= len(seen.kept)
        shared: dict[str, Any] = {"mark": seen.mark, "orientation": seen.orientation}
        shared = {name: known.setdefault(value, value) for name, value in shared.items()}
        yield seen._replace(**shared, kept=seen.kept if left >= 0 else b"")


def _members(source: SourceFiles) -> list[str | None]:
    """The volumes within multi-frame files; one, which says why, for files that cannot be read."""
    try:
        kinds: list[Kind] = []
        for header, _ in _dicom_kept.headers(source):
            kinds += [kind_of(flat) for flat in frame_headers(header)]
    except ConversionError:
        return [None]
    return sorted(set(members(kinds)), key=lambda member: member or "")


def _across_folders(series: Mapping[_Series, list[_Found]]) -> dict[_Series, list[_Found]]:
    """Folders whose slices make one even stack together are one, under the folder that holds them all. Copies, which
    lie on each other, and stacks of their own stay apart."""
    folders: dict[tuple[str, ...], list[str]] = {}
    for folder, *rest in series:
        folders.setdefault(tuple(rest), []).append(folder)
    joined: dict[_Series, list[_Found]] = {}
    for rest_, names in folders.items():
        parts = [series[(name, *rest_)] for name in names]
        if len(names) > 1 and (above := _above(names)) and _one_stack(parts):
            joined[(above, *rest_)] = sorted((one for part in parts for one in part), key=lambda one: one.file.key)
        else:
            joined |= {(name, *rest_): series[(name, *rest_)] for name in names}
    return joined


def _above(folders: Sequence[str]) -> str:
    """The folder that holds them all; none where they were found under different ones."""
    parts = zip(*(folder.split("/") for folder in folders), strict=False)
    return "/".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))


def _one_stack(parts: Sequence[Sequence[_Found]]) -> bool:
    orientations = [one.peek.orientation for part in parts for one in part]
    positions = [[one.peek.position for one in part if one.peek.position is not None] for part in parts]
    if orientations[0] is None or len(set(clusters(orientations))) > 1 or sum(map(len, positions)) < len(orientations):
        return False
    return is_one_stack(positions, orientations[0])


def _position(header: Dataset) -> tuple[float, ...] | None:
    found = _numbers(header, "ImagePositionPatient")
    return found if found is not None and len(found) == 3 else None


def _numbers(header: Dataset, tag: str) -> tuple[float, ...] | None:
    try:
        return numbers(header, tag)
    except ConversionError:
        return None
