"""The items of a sequence, one at a time (PS3.5 7.5): the samples of a day's waveforms, and a hundred thousand
annotations of them, are more than ``dcmread`` should hold at once."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from harmonize_converters._dicom_walk import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, Stream
from harmonize_converters.contract import ConversionError

ITEM_BYTES = 1 << 22
"""Most bytes that an item may hold beside the one value that is left where it is."""
MOST_ITEMS = 1 << 20
"""Twice the beats of two days."""


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value lies in its stream, in bytes; ``length`` may be ``UNDEFINED``."""

    start: int
    length: int


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
    order = "<" if little else ">"
    begun = _begun(stream, tag, implicit, order)
    if begun is None:
        return
    length, implicit = begun
    end = None if length == UNDEFINED else stream.tell() + length
    size = size_of(stream)
    for _ in range(MOST_ITEMS):
        if stream.tell() == end:
            return
        delimiter, length = _unpack(stream, f"{order}HHL")
        if delimiter == SEQUENCE_END and end is None:
            return
        item_end = None if length == UNDEFINED else stream.tell() + length
        if delimiter != ITEM or (end is not None and (item_end or 0) > end):
            raise ConversionError("invalid_header", "A sequence holds something else than its items.")
        if (item_end or 0) > size:
            raise EOFError

        def read(to: int | None, item_end: int | None = item_end) -> tuple[Dataset, Value | None]:
            return _elements(stream, to, item_end, implicit, little, header)

        item, value = read(until)
        yield item, value
        if value is not None:
            stream.seek(value.start + value.length if item_end is None else item_end)
            if item_end is None:  # what follows the value is read for the delimiter's sake
                read(None)
    raise ConversionError("implausible_size", "There are more items than any sequence has.")


def size_of(stream: Stream) -> int:
    """Bytes of a stream, which stays where it is."""
    here = stream.tell()
    size = stream.seek(0, SEEK_END)
    stream.seek(here)
    return size


def _begun(stream: Stream, tag: int, implicit: bool, order: str) -> tuple[int, bool] | None:
    """The length of a sequence, and whether its items are in Implicit VR; None where another element is next."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, number, kind, length = struct.unpack(f"{order}HH2sH", head)
    if group << 16 | number != tag:
        return None
    if implicit:
        return struct.unpack(f"{order}L", head[4:])[0], True
    if kind not in (b"SQ", b"UN"):
        raise ConversionError("invalid_header", "A sequence would be right.")
    (length,) = struct.unpack(f"{order}L", stream.read(4))
    return length, kind == b"UN"  # PS3.5 6.2.2, note 2


def _unpack(stream: Stream, layout: str) -> tuple[int, int]:
    """Tag and length of an item, or of a delimiter."""
    raw = stream.read(8)
    if len(raw) < 8:
        raise EOFError
    group, number, length = struct.unpack(layout, raw)
    return group << 16 | number, length


def _elements(
    stream: Stream, until: int | None, end: int | None, implicit: bool, little: bool, header: FileDataset
) -> tuple[Dataset, Value | None]:
    """The elements before ``until``, or up to ``end`` or the item's delimiter, and where the value of ``until`` is."""
    found: Value | None = None

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal found
        found = Value(stream.tell(), length) if tag == until else None
        return found is not None

    item = read_dataset(
        _Counted(stream),  # type: ignore[arg-type] # it reads, seeks and tells
        implicit,
        little,
        None if end is None else end - stream.tell(),
        stop,
        parent_encoding=header.original_character_set or "iso8859",
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
        if _unpack(stream, "<HHL" if little else ">HHL")[0] != ITEM_END:
            raise EOFError
    return item, None
