"""Headers of DICOM files in one pass over their elements: what is asked for is taken, the rest skipped (PS3.5 7.1).

``dcmread`` does the same in several times the time. What is not plainly well formed, and what needs more than a pass
(deflated, big-endian), is left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import SEEK_END, BufferedReader, BytesIO

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from harmonize_converters._dicom_plain import vr_of

PREFIX_AT = 128
PREFIX = b"DICM"
_META_AT = PREFIX_AT + len(PREFIX)
_META_HEAD = b"\x02\x00\x00\x00UL\x04\x00"
_WINDOW = 1 << 14
"""Bytes read at a time. Most headers fit; what is longer than that is skipped unread."""
_LONGEST = 1 << 26
_DELIMITER_BYTES = 8
MOST_ELEMENTS = 1 << 16
"""More top-level elements than any header has."""
UNDEFINED = 0xFFFFFFFF
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_STORAGE_CLASS, _SYNTAX, CHARACTER_SET = 0x00020002, 0x00020010, 0x00080005
_META_BEGIN, _META_END = 0x00020000, 0x0002FFFF
_DELIMITERS, ITEM, ITEM_END, SEQUENCE_END = 0xFFFE, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# Value representations by the width of their lengths, 16 bits or 32 (PS3.5 7.1.2).
_SHORT_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
_LONG_VRS = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV"
_SHORT, _LONG = ({one: one.decode() for one in vrs.split()} for vrs in (_SHORT_VRS, _LONG_VRS))
_HEAD, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")
_IS_IMPLICIT = {str(ImplicitVRLittleEndian): True, str(ExplicitVRLittleEndian): False} | {
    str(one): False for one in AllTransferSyntaxes if one.is_encapsulated and not one.is_deflated
}
Elements = dict[BaseTag, RawDataElement]
Tags = Mapping[int, BaseTag]
"""Tags that are asked for, by their numbers: pydicom's compare slowly, and not at all with themselves."""
Stream = BufferedReader | BytesIO
META_TAGS = {tag: BaseTag(tag) for tag in (_STORAGE_CLASS, _SYNTAX)}
"""What is taken of a file's own group (PS3.10 7.1)."""
_CHARACTER_SET = BaseTag(CHARACTER_SET)
_NAMELESS = BytesIO()


class _LeftToPydicom(Exception):
    """What is found is not plain."""


class _EndOfFile(_LeftToPydicom):
    """The file ends where an element would begin: right behind the last one of a file without pixel data."""


class _Window:
    """A file of which a piece is in memory: that which was asked for last, and what follows it."""

    def __init__(self, opened: Stream) -> None:
        self._opened = opened
        self._at, self._data = 0, opened.read(_WINDOW)

    def value(self, at: int, length: int) -> bytes:
        """``length`` bytes from ``at`` on."""
        here = at - self._at
        if here >= 0 and here + length <= len(self._data):
            return self._data[here : here + length]
        if length > _LONGEST:
            raise _LeftToPydicom
        self._opened.seek(at)
        found = self._opened.read(length)
        if len(found) < length:
            raise _LeftToPydicom
        return found

    def at(self, at: int) -> tuple[bytes, int]:
        """A piece with the 12 bytes from ``at`` on (or the 8 that end the file), and where it begins."""
        if not 0 <= at - self._at <= len(self._data) - 12:
            self._opened.seek(at)
            self._at, self._data = at, self._opened.read(_WINDOW)
            if len(self._data) < 8:
                raise _EndOfFile if not self._data and self._opened.seek(0, SEEK_END) == at else _LeftToPydicom
        return self._data, self._at

    def element(self, at: int, implicit: bool) -> tuple[int, str | None, int, int]:
        """Tag, value representation, length and place of the value of the element at ``at`` (PS3.5 7.1, 7.5)."""
        data, begin = self.at(at)
        here = at - begin
        group, number, kind, short = _HEAD.unpack_from(data, here)
        tag = group << 16 | number
        if implicit or group == _DELIMITERS:
            return tag, None, _LENGTH.unpack_from(self._data, here + 4)[0], at + 8
        if kind in _SHORT:
            return tag, _SHORT[kind], short, at + 8
        if kind in _LONG and here + 12 <= len(data):
            return tag, _LONG[kind], _LENGTH.unpack_from(data, here + 8)[0], at + 12
        raise _LeftToPydicom


def walk(opened: Stream, tags: Tags, until: tuple[int, ...] = PIXELS) -> FileDataset | None:
    """The elements with ``tags`` before the first of ``until`` as they lie, ``opened`` left at that one; None where
    ``dcmread`` is needed."""
    try:
        return _walk(opened, tags, until)
    except _LeftToPydicom:
        return None


def _walk(opened: Stream, tags: Tags, until: tuple[int, ...]) -> FileDataset:
    window = _Window(opened)
    prefix = window.value(PREFIX_AT, 16)
    if not prefix.startswith(PREFIX + _META_HEAD):
        raise _LeftToPydicom
    begin = PREFIX_AT + len(PREFIX)
    start = begin + 12 + int.from_bytes(prefix[-4:], "little")
    meta, _ = _elements(window, begin, start, False, META_TAGS, (_META_END + 1,))
    syntax = meta.get(META_TAGS[_SYNTAX])
    implicit = _IS_IMPLICIT.get((syntax.value or b"").decode("latin-1").rstrip("\0 ") if syntax else "")
    looks = window.value(start + 4, 2)
    if implicit is None or (implicit and looks.isalpha() and looks.isupper()):  # explicit after all
        raise _LeftToPydicom
    found, end = _elements(window, start, None, implicit, tags, until)
    opened.seek(end)
    return plain_dataset(found, meta, implicit)


def plain_dataset(found: Elements, meta: Elements, implicit: bool) -> FileDataset:
    """Elements in little endian, and those of the file's own group, as ``dcmread`` gives them, none converted yet."""
    # Of a file with a name pydicom asks the system for its time, which nobody wants.
    header = FileDataset(_NAMELESS, found, None, FileMetaDataset(meta), implicit, True)  # type: ignore[arg-type] # as dcmread
    raw = found.get(_CHARACTER_SET)
    named = default_encoding if raw is None else convert_encodings(convert_raw_data_element(raw).value or "")
    header.set_original_encoding(implicit, True, named)
    return header


def _elements(
    window: _Window, at: int, end: int | None, implicit: bool, tags: Tags, until: tuple[int, ...]
) -> tuple[Elements, int]:
    """The elements with ``tags`` from ``at`` to ``end``, or to the first of ``until`` or the end of the file, and where
    they end."""
    found: Elements = {}
    # The file's own group ends where its length says (PS3.10 7.1), or that length is wrong.
    last, bound = (_META_END if end is None else _META_BEGIN - 1), min(until)
    data, begin = b"", 0
    # As ``_Window.element`` has it, without a call for each of hundreds of elements of each of thousands of files.
    unpack, short_vrs, long_vrs, unpack_length = _HEAD.unpack_from, _SHORT, _LONG, _LENGTH.unpack_from
    for _ in range(MOST_ELEMENTS):
        if at == end:
            return found, at
        here = at - begin
        if here > len(data) - 12:
            try:
                data, begin = window.at(at)
            except _EndOfFile:
                if end is not None:
                    raise
                return found, at
            here = at - begin
        group, number, kind, length = unpack(data, here)
        tag = group << 16 | number
        if tag >= bound:
            if tag in until and end is None:
                return found, at
            if end is not None or group == _DELIMITERS:
                raise _LeftToPydicom
        if tag <= last:
            raise _LeftToPydicom
        last = tag
        if implicit:
            vr, value_at = None, at + 8
            (length,) = unpack_length(data, here + 4)
        elif kind in short_vrs:
            vr, value_at = short_vrs[kind], at + 8
        elif kind in long_vrs and here + 12 <= len(data):
            vr, value_at = long_vrs[kind], at + 12
            (length,) = unpack_length(data, here + 8)
        else:
            raise _LeftToPydicom
        if length == UNDEFINED:
            if vr not in (None, "SQ") or (tag in tags and implicit and vr_of(tag) != "SQ"):
                raise _LeftToPydicom
            at = _behind_sequence(window, value_at, implicit)
            length = at - value_at - _DELIMITER_BYTES
        else:
            at = value_at + length
        if tag in tags:
            value = window.value(value_at, length) if length else empty_value_for_VR(vr, raw=True)
            wanted = tags[tag]
            found[wanted] = RawDataElement(wanted, vr, length, value, value_at, implicit, True)  # type: ignore[arg-type] # as dcmread
    raise _LeftToPydicom


def _behind_sequence(window: _Window, at: int, implicit: bool) -> int:
    """The end of a sequence of undefined length whose first item is at ``at``, however deep it is (PS3.5 7.5)."""
    due = [SEQUENCE_END]  # delimiters of what is open, the innermost last
    while due:
        tag, vr, length, at = window.element(at, implicit)
        if tag == due[-1]:
            due.pop()
        elif (tag == ITEM) != (due[-1] == SEQUENCE_END) or (tag != ITEM and tag >> 16 == _DELIMITERS):
            raise _LeftToPydicom
        elif length != UNDEFINED:
            at += length
        elif tag == ITEM:
            due.append(ITEM_END)
        elif vr in (None, "SQ", "OB", "OW"):
            due.append(SEQUENCE_END)
        else:
            raise _LeftToPydicom
    return at
