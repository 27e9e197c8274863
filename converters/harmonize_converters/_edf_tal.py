"""Time-stamped Annotations Lists, as bytes (edfplus.info/specs/edfplus.html 2.2). Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from harmonize_converters.contract import ConversionError

_ONSET = re.compile(rb"([+-]?\d{1,15}(?:\.\d{0,15})?)(?:\x15(\d{0,15}(?:\.\d{0,15})?))?")


@dataclass(frozen=True, slots=True)
class Tal:
    """One list: onset and duration in s, exact, and its texts as bytes (a time-keeping one has an empty
    first text)."""

    onset_s: Fraction
    duration_s: Fraction | None
    texts: tuple[bytes, ...]


def parse_tals(raw: bytes) -> list[Tal]:
    """All lists of one annotation signal in one data record."""
    return [_parse_tal(part) for part in raw.rstrip(b"\0").split(b"\0") if part]


def first_onset(raw: bytes) -> float | None:
    """When the data record starts, by its time-keeping list: the first one, whose first text is empty. None
    where it has none. A float: onsets of records are only compared."""
    found = _ONSET.match(raw)
    return float(found[1]) if found and raw[found.end() : found.end() + 2] == b"\x14\x14" else None


def _parse_tal(part: bytes) -> Tal:
    stamp, *texts = part.split(b"\x14")
    found = _ONSET.fullmatch(stamp)
    # A list ends in 0x14, so that the last of the parts is empty.
    if found is None or not texts or texts[-1]:
        raise ConversionError("corrupt", "An annotation list is not of the form of EDF+.", "annotation signal")
    duration = Fraction(found[2].decode()) if found[2] and found[2] != b"." else None
    return Tal(Fraction(found[1].decode()), duration, tuple(texts[:-1]))
