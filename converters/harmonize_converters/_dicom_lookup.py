"""Lookup tables of DICOM, of palettes and of Modality LUTs: descriptors, entries (PS3.3 C.7.6.3.1.5, C.11.1.1)."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import value_of
from harmonize_converters.contract import ConversionError
from harmonize_schemas import ValueTable

_SIXTEEN = 1 << 16
_MODALITY_BITS = frozenset(range(8, 17))
"""8 or 16 (PS3.3 C.11.1.1.1); any from 10 to 16 before 2003."""


class Descriptor(NamedTuple):
    """Number of entries, the stored value of the first, bits of an entry."""

    entries: int
    first: int
    bits: int

    @property
    def width(self) -> int:
        """Bytes of an entry."""
        return 1 if self.bits == 8 else 2


def descriptor(header: Dataset, name: str, signed: bool, bits: Set[int]) -> Descriptor:
    """The descriptor ``name``, whose numbers may be written as signed or not; ``signed``: of the pixels, ``bits``: that
    an entry may have. Raises ``ConversionError``."""
    value = value_of(header, name)
    try:
        entries, first, own = (int(one) for one in value)  # type: ignore[attr-defined] # refused below
    except (TypeError, ValueError, OverflowError):
        raise ConversionError("invalid_header", "Three numbers would be right.", name) from None
    if not -_SIXTEEN < min(entries, first) <= max(entries, first) < _SIXTEEN or own not in bits:
        message = f"Entries of {min(bits)} or {max(bits)} bits, 65,536 at most, would be right."
        raise ConversionError("invalid_header", message, name)
    entries, first = entries % _SIXTEEN or _SIXTEEN, first % _SIXTEEN
    return Descriptor(entries, first - _SIXTEEN if signed and first >= _SIXTEEN // 2 else first, own)


def words(header: Dataset, name: str) -> bytes | None:
    """The bytes of a table as little-endian 16-bit words, which is what they are (VR OW or US); None where absent."""
    value = value_of(header, name)
    if value is None:
        return None
    if isinstance(value, bytes):
        whole = value[: len(value) // 2 * 2]
        little = header.original_encoding[1] is not False
        return value if little else np.frombuffer(whole, ">u2").astype("<u2").tobytes()
    try:
        return np.array(value, "<u2").tobytes()
    except (TypeError, ValueError, OverflowError):
        raise ConversionError("invalid_header", "16-bit words would be right.", name) from None


def plain(data: bytes, what: Descriptor, name: str) -> bytes:
    """The entries of a table, each of the width that its descriptor gives. Raises ``ConversionError``."""
    if what.bits == 8 and len(data) >= 2 * what.entries:
        data = data[: 2 * what.entries : 2]  # some write each entry of 8 bits as a word (PS3.3 C.7.6.3.1.5, note)
    if len(data) < what.entries * what.width:
        raise ConversionError("invalid_header", f"{len(data) // what.width} of {what.entries} entries.", name)
    return data[: what.entries * what.width]


def modality_lut(item: Dataset, signed: bool) -> ValueTable:
    """An item of ModalityLUTSequence; ``signed``: of the pixels. Raises ``ConversionError``."""
    what = descriptor(item, "LUTDescriptor", signed, _MODALITY_BITS)
    data = words(item, "LUTData")
    if data is None:
        raise ConversionError("invalid_header", "There is no table.", "LUTData")
    return _shared(what.first, what.width, plain(data, what, "LUTData"))


@lru_cache(maxsize=16)
def _shared(first: int, width: int, entries: bytes) -> ValueTable:
    """One object for equal tables: each of many slices may bring the same."""
    return ValueTable(first=first, values=tuple(np.frombuffer(entries, f"<u{width}").tolist()))
