"""Comparing two readings of one recording: pure functions of what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from judging.model import Event, Key, Reading, Refusal, Signal

Aspect = Literal["file", "signals", "samples", "values", "annotations", "triggers", "segments"]
Kind = Literal["identical", "differs", "cannot"]

STEP_TOLERANCE = 1e-6
"""Values are identical where they differ by less than this part of one digital step."""
ULPS = 8
"""... or by so many units in the last place of the largest value: both compute with float64."""
ONSET_TOLERANCE_S = 1e-6
"""MNE rounds onsets to microseconds."""

SI = {"V": 1.0, "mV": 1e-3, "mv": 1e-3, "uV": 1e-6, "µV": 1e-6, "nV": 1e-9}
SAME = {"bpm": "1/min", "Ohm": "Ω"}
"""What the files' units are called in the store; nothing is scaled."""
NO_UNITS = ("", "Boolean")
"""What some headers say of channels whose values are codes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of comparing one aspect. ``text`` begins in small letters and has no full stop."""

    aspect: Aspect
    kind: Kind
    text: str


def counted(n: int, noun: str) -> str:
    """ "1 trigger", "2 triggers"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def compare(ours: Reading | Refusal, judge: Reading | Refusal) -> list[Finding]:
    """All aspects that the judge speaks of."""
    if isinstance(ours, Refusal) and isinstance(judge, Refusal):
        return [Finding("file", "identical", f"refuses too ({judge})")]
    if isinstance(judge, Refusal):
        return [Finding("file", "differs", f"refuses: {judge}")]
    if isinstance(ours, Refusal):
        return [Finding("file", "differs", f"reads {len(judge.signals)} signals")]
    findings = [_signals(ours, judge), _samples(ours, judge), _values(ours, judge), _events(ours, judge)]
    findings += [_triggers(ours, judge), _segments(ours, judge)]
    return [finding for finding in findings if finding is not None]


def _signals(ours: Reading, judge: Reading) -> Finding | None:
    """Whether both have the same signals at the same rates, of the same length."""
    partial = judge.note("values")
    extra = [key for key in judge.signals if key not in ours.signals]
    lacking = [] if partial else [key for key in ours.signals if key not in judge.signals]
    texts = [f"has {_names(extra)}, which harmonize has not"] if extra else []
    texts += [f"lacks {_names(lacking)}"] if lacking else []
    if partial:
        texts.append(partial)
    lengths = [(_length(ours.signals[key]), _length(judge.signals[key])) for key in _common(ours, judge)]
    if other := [f"{b} samples instead of {a}" for a, b in lengths if a != b]:
        texts.append(f"{len(other)} signals have another length ({other[0]})")
    return Finding("signals", "differs", "; ".join(texts)) if texts else None


def _samples(ours: Reading, judge: Reading) -> Finding | None:
    pairs = [(ours.signals[key], judge.signals[key]) for key in _common(ours, judge)]
    pairs = [(a, b) for a, b in pairs if a.digital is not None and b.digital is not None]
    if not pairs:
        why = judge.note("samples")
        return Finding("samples", "cannot", why) if why else None
    total = differing = largest = 0
    where: list[str] = []
    for a, b in pairs:
        n = min(_length(a), _length(b))
        assert a.digital is not None
        assert b.digital is not None
        here, there = _present(a)[:n], _present(b)[:n]
        apart = np.where(here & there, np.abs(a.digital[:n] - b.digital[:n]), here != there)
        total += int(np.count_nonzero(here | there))
        differing += int(np.count_nonzero(apart))
        largest = max(largest, int(apart.max(initial=0)))
        where += [a.label] if apart.any() else []
    if differing:
        return Finding(
            "samples", "differs", f"{differing:,} of {total:,} samples differ, by up to {largest:,}, {_in(where)}"
        )
    return Finding("samples", "identical", f"{total:,} samples")


def _values(ours: Reading, judge: Reading) -> Finding | None:
    total = differing = 0
    largest, unit, gaps = 0.0, "", 0
    where: list[str] = []
    units: set[str] = set()
    for key in _common(ours, judge):
        a, b = ours.signals[key], judge.signals[key]
        if a.physical is None or b.physical is None:
            continue
        n = min(_length(a), _length(b))
        factor = ratio(b.unit or "", a.unit)
        if factor is None:
            units.add(f"{b.unit} instead of {a.unit}")
            continue
        left, right = a.physical[:n], b.physical[:n] * factor
        tolerance = max(STEP_TOLERANCE * a.step, ULPS * np.spacing(np.nanmax(np.abs(left), initial=0.0)))
        apart = np.abs(left - right)
        gone = np.isnan(left) != np.isnan(right)
        wrong = (apart > tolerance) | gone
        total += int(np.count_nonzero(~(np.isnan(left) & np.isnan(right))))
        differing += int(np.count_nonzero(wrong))
        gaps += int(np.count_nonzero(gone))
        where += [a.label] if wrong.any() else []
        far = float(np.nanmax(apart, initial=0.0)) if wrong.any() else 0.0
        if far > largest:
            largest, unit = far, "" if a.unit is None and b.unit in NO_UNITS else a.unit or b.unit or ""
    if units:
        return Finding("values", "differs", f"units differ: {', '.join(sorted(units))}")
    if differing:
        parts = [f"{differing:,} of {total:,} values differ"]
        parts += [f"by up to {largest:,.6g} {unit}".rstrip()] if largest else []
        parts += [f"{gaps:,} are missing in one of both"] if gaps else []
        return Finding("values", "differs", ", ".join([*parts, _in(where)]))
    return Finding("values", "identical", f"{total:,} values") if total else None


def ratio(found: str, ours: str | None) -> float | None:
    """What a value in the unit ``found`` is multiplied with for one in ``ours`` (None: the unit found); None where
    the two are no units of one thing."""
    if ours is None or found == ours or SAME.get(found) == ours:
        return 1.0
    return SI[found] / SI[ours] if found in SI and ours in SI else None


def _events(ours: Reading, judge: Reading) -> Finding | None:
    if judge.events is None or ours.events is None:
        return None
    n, other = len(ours.events), len(judge.events)
    if _same(ours.events, judge.events, judge.zero_durations):
        return Finding("annotations", "identical", counted(n, "annotation"))
    start_s = ours.segments[0][0] if ours.segments else 0.0
    later = [replace(event, onset_s=event.onset_s + start_s) for event in judge.events]
    if start_s and _same(ours.events, later, judge.zero_durations):
        text = f"all {n} are {start_s:g} s earlier, counted from the first sample"
        return Finding("annotations", "differs", text)
    left, right = (Counter((round(e.onset_s, 5), e.text) for e in events) for events in (ours.events, judge.events))
    only = [(min(rest), whose) for rest, whose in ((left - right, "harmonize"), (right - left, "the judge")) if rest]
    examples = [f"only {whose} has {text!r} at {onset_s:g} s" for (onset_s, text), whose in only]
    return Finding("annotations", "differs", f"{other:,} of {n:,}; {', '.join(examples)}")


def _same(ours: Sequence[Event], judge: Sequence[Event], zero_durations: bool) -> bool:
    """Whether two lists say the same things at the same times, whatever their order."""
    if len(ours) != len(judge):
        return False
    left, right = (sorted(events, key=lambda e: (e.text, e.onset_s)) for events in (ours, judge))
    if [event.text for event in left] != [event.text for event in right]:
        return False
    times = np.array([[(e.onset_s, e.duration_s) for e in events] for events in (left, right)]).reshape(2, -1, 2)
    if zero_durations:
        times[..., 1] = np.maximum(times[..., 1], 0)
    return bool(np.all(np.abs(times[0] - times[1]) <= ONSET_TOLERANCE_S * (1 + 1e-3)))


def _triggers(ours: Reading, judge: Reading) -> Finding | None:
    if judge.triggers is None or ours.triggers is None:
        return None
    left, right = ([(round(t, 6), code) for t, code in one] for one in (ours.triggers, judge.triggers))
    if left == right:
        return Finding("triggers", "identical", counted(len(left), "trigger")) if left else None
    return Finding("triggers", "differs", f"{counted(len(right), 'trigger')} instead of {len(left)}")


def _segments(ours: Reading, judge: Reading) -> Finding | None:
    if judge.segments is None or ours.segments is None:
        return None
    left, right = (np.array(one).reshape(-1, 2) for one in (ours.segments, judge.segments))
    if left.shape == right.shape and np.allclose(left, right, rtol=0, atol=ONSET_TOLERANCE_S):
        return Finding("segments", "identical", counted(len(left), "segment"))
    return Finding("segments", "differs", f"{counted(len(right), 'segment')} instead of {len(left)}")


def _common(ours: Reading, judge: Reading) -> list[Key]:
    return [key for key in ours.signals if key in judge.signals]


def _length(signal: Signal) -> int:
    line = signal.digital if signal.digital is not None else signal.physical
    return 0 if line is None else len(line)


def _present(signal: Signal) -> np.ndarray:
    return np.ones(_length(signal), bool) if signal.present is None else signal.present


def _in(labels: list[str]) -> str:
    return f"in {', '.join(map(repr, labels))}" if len(labels) < 4 else f"in {len(labels)} signals"


def _names(keys: list[Key]) -> str:
    return f'"{keys[0][0]}"' if len(keys) == 1 else f"{len(keys)} signals"
