"""Palettes of DICOM images: tables, plain or in segments, and stored values to colours (PS3.3 C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pydicom.dataset import Dataset

from harmonize_converters._dicom_lookup import Descriptor, descriptor, plain, words
from harmonize_converters.contract import ConversionError

_COLORS = ("Red", "Green", "Blue")
TAGS = tuple(
    f"{kind}{color}PaletteColorLookupTable{part}"
    for color in _COLORS
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2
_BITS = frozenset({8, 16})


@dataclass(frozen=True, slots=True)
class Palette:
    """``first`` is the stored value of the first entry; ``table`` are the entries (3, n), little endian, as bytes."""

    first: int
    bits: int
    table: bytes

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"uint{self.bits}")

    def colors(self, stored: np.ndarray) -> np.ndarray:
        """Red, green and blue (3, rows, columns). Values below the first entry get the first, above the last the last
        (PS3.3 C.7.6.3.1.5)."""
        table = np.frombuffer(self.table, self.dtype.newbyteorder("<")).astype(self.dtype).reshape(3, -1)
        index = np.clip(stored.astype(np.int64) - self.first, 0, table.shape[1] - 1)
        return table[:, index]


def palette_of(header: Dataset, signed: bool) -> Palette:
    """The palette that a header holds; ``signed``: of the pixels. Raises ``ConversionError``."""
    found = [descriptor(header, f"{color}PaletteColorLookupTableDescriptor", signed, _BITS) for color in _COLORS]
    if len(set(found)) > 1:
        raise _wrong("The three tables differ in size.")
    table = b"".join(_table(header, color, found[0]) for color in _COLORS)
    return _shared(found[0].first, found[0].bits, table)


def _table(header: Dataset, color: str, what: Descriptor) -> bytes:
    name = f"{color}PaletteColorLookupTableData"
    if (data := words(header, name)) is not None:
        return plain(data, what, name)
    if (packed := words(header, f"Segmented{name}")) is not None:
        return _segmented(packed, what)
    raise _wrong("There is no table.")


@lru_cache(maxsize=16)
def _shared(first: int, bits: int, table: bytes) -> Palette:
    """One object for equal palettes: each of many slices may bring the same."""
    return Palette(first, bits, table)


def _wrong(message: str) -> ConversionError:
    return ConversionError("invalid_header", message, "PaletteColorLookupTable")


def _segmented(data: bytes, what: Descriptor) -> bytes:
    """Segments to a table (PS3.3 C.7.9.2). Stops where the table is full."""
    entries, bits = what.entries, what.bits
    codes = np.frombuffer(data[: len(data) // (bits // 8) * (bits // 8)], f"<u{bits // 8}").tolist()
    table: list[int] = []
    at = 0
    while len(table) < entries and at + 1 < len(codes):
        kind, length = codes[at : at + 2]
        if kind == _INDIRECT:
            words = codes[at + 2 : at + 2 + 32 // bits]
            start = sum(word << (bits * place) for place, word in enumerate(words)) // (bits // 8)
            for _ in range(length):
                start += _append(table, codes, start, entries)
            at += 2 + len(words)
        else:
            at += _append(table, codes, at, entries)
    if len(table) < entries:
        raise _wrong(f"{len(table)} of {entries} entries.")
    return np.array(table[:entries], f"<u{bits // 8}").tobytes()


def _append(table: list[int], codes: list[int], at: int, entries: int) -> int:
    """Append what the discrete or linear segment at ``at`` holds; how many codes it takes."""
    kind, length = codes[at : at + 2] if at + 1 < len(codes) else (-1, 0)
    content = codes[at + 2 : at + 2 + (length if kind == _DISCRETE else 1)]
    if 0 < length <= entries - len(table):
        if kind == _DISCRETE and len(content) == length:
            table += content
            return 2 + length
        if kind == _LINEAR and content and table:
            table += np.rint(np.linspace(table[-1], content[0], length + 1)[1:]).astype(int).tolist()
            return 3
    raise _wrong("Its segments cannot be read.")
