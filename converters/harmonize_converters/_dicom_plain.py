"""Values of DICOM elements as they lie, where they are plain: ASCII and numbers, well formed (PS3.5 6.2).

pydicom converts them to the same in ten times the time, and all others alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement

_TEXT = frozenset(["AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI"])
_WRITTEN = {"DS": float, "IS": int}
_BINARY = {"US": ("H", 2), "SS": ("h", 2), "UL": ("I", 4), "SL": ("i", 4), "FL": ("f", 4), "FD": ("d", 8)}


def plain_numbers(element: DataElement | RawDataElement | None) -> tuple[float, ...] | None:
    """The numbers of an element; None where it is not plainly numbers."""
    found = _plain(element)
    if found is None:
        return None
    vr, value = found
    try:
        if vr in _BINARY:
            code, size = _BINARY[vr]
            return tuple(map(float, struct.unpack(f"<{len(value) // size}{code}", value)))
        if vr in _WRITTEN:
            return tuple(float(_WRITTEN[vr](text)) for text in value.decode("ascii").split("\\"))
    except (ValueError, OverflowError, struct.error):
        return None
    return None


def plain_texts(element: DataElement | RawDataElement | None) -> tuple[str, ...] | None:
    """The texts of an element, stripped; None where it is not plainly text."""
    found = _plain(element)
    if found is None:
        return None
    vr, value = found
    if vr in _BINARY:
        numbers = plain_numbers(element)
        return None if numbers is None or vr in ("FL", "FD") else tuple(str(int(one)) for one in numbers)
    if vr in _WRITTEN and plain_numbers(element) is None:
        return None
    if vr not in _TEXT and vr not in _WRITTEN:
        return None
    if b"\x1b" in value or not value.isascii():  # another character set
        return None
    return _stripped(value.decode("ascii").rstrip("\0 ").split("\\"))


def _stripped(texts: Sequence[str]) -> tuple[str, ...] | None:
    """None where all is blank: how that is read depends on the kind of text."""
    found = tuple(text.strip("\0 ") for text in texts)
    return found if any(found) else None


def _plain(element: DataElement | RawDataElement | None) -> tuple[str, bytes] | None:
    if not isinstance(element, RawDataElement) or not element.value or not element.is_little_endian:
        return None
    vr = element.VR or vr_of(element.tag)
    return (vr, element.value) if isinstance(element.value, bytes) else None


@cache
def vr_of(tag: int) -> str:
    """The value representation of an element as PS3.6 has it, empty where it has none."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""
