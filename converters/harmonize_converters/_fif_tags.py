"""The tags of a FIF file (Functional Image File Format, Elekta/MNE): where its raw buffers lie and which files follow.

A tag is kind, type, size and next as big-endian int32, then ``size`` bytes. ``next`` is 0 where the next tag
follows at once, its offset, or -1 at the end of the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from harmonize_converters._fields import decode_text
from harmonize_converters._open import opened, read_at
from harmonize_converters.contract import ConversionError, FoundFile

FIRST_TAG = struct.pack(">iii", 100, 31, 20)  # FIFF_FILE_ID, an ID of 20 bytes
DTYPES = {2: "int16", 16: "int16", 3: "int32", 4: "float32", 5: "float64"}
"""FIFFT_SHORT, FIFFT_DAU_PACK16, FIFFT_INT, FIFFT_FLOAT, FIFFT_DOUBLE."""

_HEADER = 16
_BLOCK_START, _BLOCK_END, _N_CHANNELS, _FIRST_SAMPLE = 104, 105, 200, 208
_BUFFER, _SKIP_BUFFERS, _SKIP_SAMPLES = 300, 301, 303
_REF_ROLE, _REF_NUMBER, _REF_NAME = 115, 117, 118
_RAW, _CONTINUOUS, _MAXSHIELD, _REF = 102, 112, 119, 118
_NOT_RAW = {104: "an average (evoked)", 373: "epochs", 200: "source spaces", 351: "source spaces"}
_ANNOTATIONS = 3810
_PREVIOUS, _NEXT = 1, 2
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag; its data are ``size`` bytes from ``at`` on."""

    kind: int
    type: int
    size: int
    at: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """Samples (time, channel): ``n_samples`` from byte ``at`` on, whose first comes ``gap`` samples late."""

    at: int
    n_samples: int
    gap: int


@dataclass(frozen=True, slots=True)
class FifPart:
    """One file. ``follower`` is the name of the file that goes on, ``is_follower`` says that one came before."""

    n_channels: int
    dtype: str
    first_sample: int
    buffers: tuple[Buffer, ...]
    maxshield: bool
    annotated: bool
    follower: str | None
    is_follower: bool


def walk(handle: BinaryIO, size: int) -> Iterator[Tag]:
    """All tags in order. Offsets only grow, so a walk ends. Raises ``ConversionError``."""
    at = 0
    while at >= 0:
        if at + _HEADER > size:
            raise ConversionError("truncated", "The file ends before its last tag.", f"byte {at}")
        kind, type_, length, follows = struct.unpack(">iiii", read_at(handle, at, _HEADER))
        if length < 0 or follows < -1 or 0 < follows <= at:
            raise ConversionError("corrupt", "A tag's size or successor is impossible.", f"byte {at}")
        if at + _HEADER + length > size:
            raise ConversionError("truncated", "A tag is longer than the file.", f"byte {at}")
        yield Tag(kind, type_, length, at + _HEADER)
        at = follows or at + _HEADER + length


def read_part(file: FoundFile) -> FifPart:
    """Find the raw buffers of one file. Raises ``ConversionError``, "not_raw" for epochs and averages."""
    with opened(file) as handle:
        if file.size < _HEADER or read_at(handle, 0, len(FIRST_TAG)) != FIRST_TAG:
            raise ConversionError("invalid_header", "The first tag is not that of a FIF file.", "byte 0")
        return _Walk(handle, file).part()


class _Walk:
    """One pass over the tags of a file."""

    def __init__(self, handle: BinaryIO, file: FoundFile) -> None:
        self._handle = handle
        self._name = file.path.name
        self._n_channels = 0
        self._first = 0
        self._raw = 0
        self._raw_blocks = 0
        self._gap: tuple[int, int] = (0, 0)  # skipped buffers, skipped samples
        self._type: int | None = None
        self._buffers: list[Buffer] = []
        self._references: list[dict[int, Tag]] = []
        self._kinds: set[int] = set()
        blocks: list[int] = []
        for tag in walk(handle, file.size):
            if tag.kind == _BLOCK_START:
                blocks.append(self._int(tag))
                self._kinds.add(blocks[-1])
                if blocks[-1] in (_RAW, _CONTINUOUS, _MAXSHIELD):
                    self._raw, self._raw_blocks = blocks[-1], self._raw_blocks + 1
                elif blocks[-1] == _REF:
                    self._references.append({})
            elif tag.kind == _BLOCK_END:
                if not blocks or blocks.pop() != self._int(tag):
                    raise ConversionError("corrupt", "Blocks do not nest.", f"byte {tag.at}")
            elif blocks and blocks[-1] == _REF:
                self._references[-1][tag.kind] = tag
            elif blocks and blocks[-1] == self._raw:
                self._data(tag)
            elif tag.kind == _N_CHANNELS and not self._n_channels:
                self._n_channels = self._int(tag)
        self._refuse_what_is_not_raw()

    def part(self) -> FifPart:
        roles = [self._int(found[_REF_ROLE]) if _REF_ROLE in found else None for found in self._references]
        return FifPart(
            n_channels=self._n_channels,
            dtype=DTYPES[self._type or 0],
            first_sample=self._first + self._buffers[0].gap,
            buffers=(Buffer(self._buffers[0].at, self._buffers[0].n_samples, 0), *self._buffers[1:]),
            maxshield=self._raw == _MAXSHIELD,
            annotated=_ANNOTATIONS in self._kinds,
            follower=self._follower(self._references[roles.index(_NEXT)]) if _NEXT in roles else None,
            is_follower=_PREVIOUS in roles,
        )

    def _int(self, tag: Tag) -> int:
        if tag.size < 4:
            raise ConversionError("corrupt", "A tag should hold a number.", f"byte {tag.at}")
        (value,) = struct.unpack(">i", read_at(self._handle, tag.at, 4))
        return int(value)

    def _data(self, tag: Tag) -> None:
        """A tag of the raw block. Skips count buffers of the size of the next one, or samples."""
        if tag.kind == _FIRST_SAMPLE and not self._buffers:
            self._first = self._int(tag)
        elif tag.kind in (_SKIP_BUFFERS, _SKIP_SAMPLES):
            count = self._int(tag)
            if count < 0:
                raise ConversionError("corrupt", "A skip cannot be negative.", f"byte {tag.at}")
            self._gap = (count, self._gap[1]) if tag.kind == _SKIP_BUFFERS else (self._gap[0], count)
        elif tag.kind == _BUFFER:
            if tag.type not in DTYPES or self._type not in (None, tag.type):
                raise ConversionError("unsupported_dtype", f"Found buffers of type {tag.type}.", f"byte {tag.at}")
            self._type = tag.type
            frame = self._n_channels * int(re.sub(r"\D", "", DTYPES[tag.type])) // 8
            if frame <= 0 or tag.size % frame or tag.size == 0:
                raise ConversionError("corrupt", "A buffer is no whole number of samples.", f"byte {tag.at}")
            n_samples = tag.size // frame
            gap = self._gap[0] * n_samples + self._gap[1]
            self._buffers.append(Buffer(tag.at, n_samples, gap))
            self._gap = (0, 0)

    def _follower(self, reference: dict[int, Tag]) -> str:
        """The name in the reference, or else made from its number as Elekta's software numbers files."""
        if (name := reference.get(_REF_NAME)) is not None and 0 < name.size <= _MAX_TEXT:
            return decode_text(read_at(self._handle, name.at, name.size)).rstrip("\0")
        if _REF_NUMBER not in reference:
            raise ConversionError("invalid_header", "The file that goes on has no name.", "FIFF_REF_FILE_NAME")
        return re.sub(r"(-\d+)?(\.\w+)?$", rf"-{self._int(reference[_REF_NUMBER])}\2", self._name, count=1)

    def _refuse_what_is_not_raw(self) -> None:
        if self._raw_blocks == 1 and self._buffers:
            return
        if self._raw_blocks > 1:
            raise ConversionError("not_raw", "The file holds several stretches of raw data.")
        found = next((name for kind, name in _NOT_RAW.items() if kind in self._kinds), None)
        if found is None and _ANNOTATIONS in self._kinds and not self._raw_blocks:
            raise ConversionError("unsupported_annotation_only")
        raise ConversionError("not_raw", f"Found {found or 'no raw data'}.")
