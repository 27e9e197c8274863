"""What a judge says of a recording, in terms that all judges share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

Key = tuple[str, Fraction, int]
"""A signal: its label, its rate (1/s), and which one it is of those that share both."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal on the record's time line, from its first sample on.

    ``digital`` int64 (time,) holds the integers of the file, or is None where the judge does not give them;
    ``physical`` float64 (time,) the values in ``unit``, NaN where there is none. ``present`` bool (time,) is False
    in gaps, None where there is no gap. ``step`` is what one digital unit is worth, in ``unit``; ``missing`` the
    integer that means "no value".
    """

    label: str
    rate_hz: Fraction
    digital: np.ndarray | None
    physical: np.ndarray | None
    unit: str | None
    present: np.ndarray | None = None
    step: float = 1.0
    missing: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """A time in s from the recording's start, what is said there, and for how long (-1: not given)."""

    onset_s: float
    text: str
    duration_s: float = -1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a judge says. None: the judge does not say such things at all, ``notes`` says why by aspect."""

    signals: dict[Key, Signal]
    events: tuple[Event, ...] | None = None
    triggers: tuple[tuple[float, int], ...] | None = None
    segments: tuple[tuple[float, float], ...] | None = None
    """Onset and duration in s of each gap-free stretch in which anything was recorded."""
    notes: tuple[tuple[str, str], ...] = ()
    zero_durations: bool = False
    """Whether an event without a duration looks like one of 0 s."""

    def note(self, aspect: str) -> str | None:
        return dict(self.notes).get(aspect)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A judge's refusal: what kind, and its first words."""

    kind: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}" if self.words else self.kind


def refusal(error: Exception, path: Path) -> Refusal:
    """A judge's exception, without what only this machine has: the folder."""
    if isinstance(error, FileNotFoundError):
        return Refusal("FileNotFoundError", Path(error.filename).name)
    words = str(error).replace(f"{path}: ", "").replace(f"{path.parent}/", "")
    return Refusal(type(error).__name__, " ".join(words.split())[:100])


def keyed(signals: Iterable[Signal]) -> dict[Key, Signal]:
    """Signals by label, rate and number among equals, in their order."""
    seen: Counter[tuple[str, Fraction]] = Counter()
    found: dict[Key, Signal] = {}
    for signal in signals:
        name = (signal.label, signal.rate_hz)
        found[(*name, seen[name])] = signal
        seen[name] += 1
    return found


def time_line(pieces: Sequence[tuple[int, np.ndarray]], n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Pieces (first sample, samples) of a signal, laid on a time line of ``n`` samples, and where there are any
    (None: everywhere)."""
    if len(pieces) == 1 and len(pieces[0][1]) == n:
        return pieces[0][1], None
    line = np.zeros(n, pieces[0][1].dtype if pieces else np.int64)
    present = np.zeros(n, bool)
    for start, samples in pieces:
        line[start : start + len(samples)] = samples
        present[start : start + len(samples)] = True
    return line, None if present.all() else present
