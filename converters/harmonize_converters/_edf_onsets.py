"""When each data record of an EDF+ or BDF+ file starts, and the gap-free runs that follow (FIDELITY S01).

Pure functions. The slow reference of ``parse_onsets`` is ``_edf_tal.first_onset``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harmonize_converters._edf_tal import first_onset
from harmonize_converters.contract import ConversionError

ONSET_BYTES = 66
"""So many first bytes of an annotation signal hold any time-keeping list: onset and duration of up to 15 digits
before and behind the point, and their marks."""
_ROUNDING_S = 0.001
"""Onsets are decimal texts, rounded by some writers."""
_EXACT_DIGITS = 15
"""Integers of so many digits are exact in float64, and so is the rounding of their quotient."""


@dataclass(frozen=True, slots=True)
class RecordRun:
    """Records ``first`` to ``first + count`` follow each other without a gap; the first starts at ``onset_s``."""

    first: int
    count: int
    onset_s: float


def parse_onsets(starts: np.ndarray) -> np.ndarray:
    """Onsets in s, float64 (record,), from each record's first annotation signal, uint8 (record, byte). NaN
    where a record does not begin with a time-keeping list.

    Plain numbers ("+12.5" and two bytes 0x14) are read byte by byte of all records at once; all else is left to
    ``first_onset``.
    """
    columns = np.ascontiguousarray(starts[:, : _EXACT_DIGITS + 4].T)  # sign, point, end marks
    n = len(starts)
    value, before, behind = np.zeros((3, n), np.int64)  # digits as a number, and how many on each side of the point
    inside, plain, point = np.ones(n, bool), np.ones(n, bool), np.zeros(n, bool)
    for number, (column, after) in enumerate(pairwise(columns)):
        inside &= (column != 0x14) | (after != 0x14)
        if not inside.any():
            break
        digit = column - np.uint8(ord("0"))  # what is no digit is above 9
        is_digit = inside & (digit <= 9)
        is_point = inside & (column == ord(".")) & ~point
        is_sign = (column == ord("+")) | (column == ord("-")) if number == 0 else False
        plain &= ~inside | is_digit | is_point | is_sign
        value = np.where(is_digit, value * 10 + digit, value)
        before += is_digit & ~point
        behind += is_digit & point
        point |= is_point
    plain &= ~inside & (before >= 1) & (before + behind <= _EXACT_DIGITS)
    onsets: np.ndarray = value / 10.0**behind
    if n and len(columns):
        onsets = np.where(columns[0] == ord("-"), -onsets, onsets)
    for record in np.flatnonzero(~plain):
        onset_s = first_onset(starts[record].tobytes())
        onsets[record] = np.nan if onset_s is None else onset_s
    return onsets


def tolerance_s(record_s: float, most_samples: int) -> float:
    """By how much the onset of a record may differ from the end of the one before it: one sample of the
    fastest signal, of which a record has ``most_samples``, or a rounded text."""
    return max(record_s / most_samples, _ROUNDING_S)


def breaks(onsets: np.ndarray, record_s: float, tolerance: float, first: int = 0) -> np.ndarray:
    """Numbers of the records before which there is a gap; ``onsets`` are those of record ``first`` and on.

    Raises ``ConversionError`` where a record starts before the one in front of it ends: one moment would have
    two samples.
    """
    steps = np.diff(onsets) - record_s
    if (early := np.flatnonzero(steps < -tolerance)).size:
        message = "A data record starts before the one in front of it ends."
        raise ConversionError("inconsistent_onsets", message, f"data record {first + early[0] + 1}")
    return first + 1 + np.flatnonzero(steps > tolerance)


def record_runs(onsets: np.ndarray, record_s: float, tolerance: float) -> list[RecordRun]:
    """Gap-free runs of all records, whose onsets are known. Raises as ``breaks`` does, also where onsets drift
    so far that a run would end after the next one's start."""
    firsts = [0, *breaks(onsets, record_s, tolerance).tolist()]
    runs = [
        RecordRun(first, stop - first, float(onsets[first]))
        for first, stop in zip(firsts, [*firsts[1:], len(onsets)], strict=True)
    ]
    for run, after in pairwise(runs):
        if run.onset_s + run.count * record_s > after.onset_s:
            message = "The records before a gap are longer by their rate than by their onsets."
            raise ConversionError("inconsistent_onsets", message, f"data record {after.first}")
    return runs


def drifts(onsets: np.ndarray, runs: list[RecordRun], record_s: float, tolerance: float) -> bool:
    """Whether small steps add up within a run, so that its declared rate is not that of its onsets."""
    lasts = [run.first + run.count - 1 for run in runs]
    return any(
        abs(onsets[last] - run.onset_s - (run.count - 1) * record_s) > tolerance
        for run, last in zip(runs, lasts, strict=True)
    )
