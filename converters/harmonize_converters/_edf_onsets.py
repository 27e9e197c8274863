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

    Plain numbers ("+12.5" and two bytes 0x14) are read column by column, all of one length and one place of the
    point at once; all else is left to ``first_onset``.
    """
    head = starts[:, : _EXACT_DIGITS + 4]  # sign, point, end marks
    ends = (head[:, :-1] == 0x14) & (head[:, 1:] == 0x14)
    end = ends.argmax(axis=1)  # 0 where there is none: no number
    body = head[:, : max(1, int(end.max(initial=0)))]
    points = body == ord(".")
    point = np.where(points.any(axis=1), np.minimum(points.argmax(axis=1), end), end)
    onsets, plain = np.empty(len(head)), np.zeros(len(head), bool)
    # Records of one form follow each other: onsets only grow.
    cuts = np.flatnonzero((np.diff(end) != 0) | (np.diff(point) != 0)) + 1
    for first, stop in pairwise([0, *cuts.tolist(), len(head)]):
        if stop > first:
            rows = slice(first, stop)
            onsets[rows], plain[rows] = _plain_numbers(body[rows], int(end[first]), int(point[first]))
    for record in np.flatnonzero(~plain):
        onset_s = first_onset(starts[record].tobytes())
        onsets[record] = np.nan if onset_s is None else onset_s
    return onsets


def _plain_numbers(head: np.ndarray, end: int, point: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of one form, their point at column ``point`` (``end``: none), and which rows hold such a number."""
    first = head[:, :1]
    minus = (first == ord("-")).ravel()
    signed = (first == ord("+")).ravel() | minus
    digits = head[:, :end] - np.uint8(ord("0"))  # what is no digit is above 9
    if point < end:
        digits = np.delete(digits, point, axis=1)
    n_digits = digits.shape[1] - signed
    plain = (n_digits >= 1) & (n_digits <= _EXACT_DIGITS) & (point - signed >= 1)
    wrong = digits > 9
    plain &= ~wrong[:, 1:].any(axis=1) & (signed | ~wrong[:, :1].any(axis=1))
    digits = np.where(wrong, 0, digits)[:, -_EXACT_DIGITS - 1 :]
    value = digits @ (10 ** np.arange(digits.shape[1], dtype=np.int64)[::-1])
    scaled = value / 10.0 ** max(0, end - point - 1)
    return np.where(minus, -scaled, scaled), np.asarray(plain)


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
