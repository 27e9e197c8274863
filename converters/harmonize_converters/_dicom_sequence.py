"""The items of a sequence, one at a time (PS3.5 7.5): the samples of a day's waveforms, and a hundred thousand
annotations of them, are more than ``dcmread`` should hold at once."""

from __future__ import annotations

import struct
from collections.abc import Iterator, MutableSequence
from io import SEEK_CUR, SEEK_END
from typing import NamedTuple

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from harmonize_converters._dicom_walk import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, Stream
from harmonize_converters.contract import ConversionError

ITEM_BYTES = 1 << 22
"""Most bytes that an item may hold beside the one value that is left where it is."""
MOST_ITEMS = 1 << 20
"""Twice the beats of two days."""


class Value(NamedTuple):
    """Where a value lies in its stream, in bytes; ``length`` may be ``UNDEFINED``."""

    start: int
    length: int


class _Encoding(NamedTuple):
    """How elements of items are written."""

    implicit: bool
    little: bool
    characters: str | MutableSequence[str]

    def layout(self, fields: str) -> str:
        """Of ``struct``, in this byte order."""
        return f"{'<' if self.little else '>'}{fields}"


class _Counted:
    """A stream that gives no more bytes than an item may hold."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._left = stream, ITEM_BYTES
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        self._left -= size
        if size < 0 or self._left < 0:
            raise ConversionError("implausible_size", "An item of a sequence is larger than any header.")
        return self._stream.read(size)


def sequence_items(
    stream: Stream, header: FileDataset, tag: int, until: int | None = None
) -> Iterator[tuple[Dataset, Value | None]]:
    """The items of the sequence ``tag``, at which ``read_header(..., until=(tag,))`` left ``stream``: of each the
    elements before ``until``, and where the value of that one is, None where it is not there. No items where the stream
    is at another element or at its end. To be used within ``parsing``."""
    implicit, little = map(bool, header.original_encoding)
    encoding = _Encoding(implicit, little, header.original_character_set or "iso8859")
    begun = _begun(stream, tag, encoding)
    if begun is None:
        return
    length, encoding = begun
    end = None if length == UNDEFINED else stream.tell() + length
    size = size_of(stream)
    for _ in range(MOST_ITEMS):
        if stream.tell() == end:
            return
        delimiter, length = _delimiter(stream, encoding)
        if delimiter == SEQUENCE_END and end is None:
            return
        item_end = None if length == UNDEFINED else stream.tell() + length
        if delimiter != ITEM or (end is not None and (item_end or 0) > end):
            raise ConversionError("invalid_header", "A sequence holds something else than its items.")
        if (item_end or 0) > size:
            raise EOFError
        item, value = _elements(stream, until, item_end, encoding)
        yield item, value
        if value is not None and item_end is not None:
            stream.seek(item_end)
        elif value is not None:
            stream.seek(value.start + value.length)
            _elements(stream, None, None, encoding)  # up to the delimiter
    raise ConversionError("implausible_size", "There are more items than any sequence has.")


def size_of(stream: Stream) -> int:
    """Bytes of a stream, which stays where it is."""
    here = stream.tell()
    size = stream.seek(0, SEEK_END)
    stream.seek(here)
    return size


def _begun(stream: Stream, tag: int, encoding: _Encoding) -> tuple[int, _Encoding] | None:
    """The length of a sequence, and how its items are written; None where another element is next."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, number, kind = struct.unpack(encoding.layout("HH2s2x"), head)
    if group << 16 | number != tag:
        return None
    if not encoding.implicit and kind not in (b"SQ", b"UN"):
        raise ConversionError("invalid_header", "A sequence would be right.")
    (length,) = struct.unpack(encoding.layout("L"), head[4:] if encoding.implicit else stream.read(4))
    return length, encoding._replace(implicit=encoding.implicit or kind == b"UN")  # PS3.5 6.2.2, note 2


def _delimiter(stream: Stream, encoding: _Encoding) -> tuple[int, int]:
    """Tag and length of the beginning of an item, or of the end of an item or a sequence."""
    raw = stream.read(8)
    if len(raw) < 8:
        raise EOFError
    group, number, length = struct.unpack(encoding.layout("HHL"), raw)
    return group << 16 | number, length


def _elements(stream: Stream, until: int | None, end: int | None, encoding: _Encoding) -> tuple[Dataset, Value | None]:
    """The elements before ``until``, or up to ``end`` or the item's delimiter, and where the value of ``until`` is."""
    found: Value | None = None

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal found
        found = Value(stream.tell(), length) if tag == until else None
        return found is not None

    item = read_dataset(
        _Counted(stream),  # type: ignore[arg-type] # it reads, seeks and tells
        encoding.implicit,
        encoding.little,
        None if end is None else end - stream.tell(),
        stop,
        parent_encoding=encoding.characters,
        at_top_level=False,
    )
    if found is not None:
        behind = found.start + (0 if found.length == UNDEFINED else found.length)
        if end is not None and behind > end:
            raise ConversionError("invalid_header", "A value is longer than the item that holds it.")
        if end is None and found.length == UNDEFINED:
            raise ConversionError("invalid_header", "A value of undefined length would be read through.")
        return item, found
    if end is not None and stream.tell() > end:
        raise ConversionError("invalid_header", "An element is longer than the item that holds it.")
    if end is not None and stream.tell() < end:
        raise EOFError
    if end is None:
        stream.seek(-8, SEEK_CUR)
        if _delimiter(stream, encoding)[0] != ITEM_END:
            raise EOFError
    return item, None
