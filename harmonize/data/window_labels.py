"""Labels of windows from annotations: what is asked for, and what each window gets. Pure.

Times are compared in samples of the window's stream, each at the sample nearest to it, so that an annotation of 30 s
and a window of 30 s that begin at one sample also end at one. An annotation is the samples from its onset up to, not
including, its end; one without a duration, or shorter than a sample, is an **instant** at its onset's sample.

All runs are laid end to end on one **axis** of samples (and for rules that treat labels apart, once for each label), so
that a few bisections answer for a whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from harmonize.data.annotation_runs import Runs, sample_at
from harmonize.data.domains import UNKNOWN
from harmonize.data.index import WindowIndex
from harmonize.data.shuffle import Ints

Rule = Literal["majority", "any", "onset", "event"]


@dataclass(frozen=True)
class WindowLabel:
    """How a window gets its ``label`` from annotations.

    Parameters
    ----------
    labels
        Terms of annotations, in the order of their codes; or names of classes, each with its term or terms:
        ``{"N3": ("sleep_3", "sleep_4"), "R": "sleep_rem"}``.
    rule
        "majority": the code of the label that covers most of the window's samples, of equals the first listed; -1 where
        that is less than ``min_share`` of the window. Where annotations of one label overlap, time counts once.
        "any": float32 (label,), 1 for labels with a sample, or an instant, in the window.
        "onset": the code of the annotation in force at the window's first sample; of several the one begun last, and of
        those the first listed; -1 where there is none. An instant is in force at its sample.
        "event": the code of the annotation that the window was made of (``events=``); -1 where it is another label.
    min_share
        From above 0 to 1.
    where
        A polars expression or SQL condition over the columns of ``Store.annotations``: which of them count
        ("source = 'wfdb:atr'").
    column
        Where ``labels`` are found: "label", or "text", which stores hold where privacy allows it.

    Raises
    ------
    ValueError
        For an unknown rule, a share out of range, no label, or one that is listed twice.
    """

    labels: Sequence[str] | Mapping[str, str | Sequence[str]]
    rule: Rule = "majority"
    min_share: float = 0.5
    where: pl.Expr | str | None = None
    column: Literal["label", "text"] = "label"

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ValueError(f"rule={self.rule!r} is none of {get_args(Rule)}")
        if not 0 < self.min_share <= 1:
            raise ValueError(f"min_share={self.min_share} is a share, above 0 and up to 1")
        if self.column not in ("label", "text"):
            raise ValueError(f"column={self.column!r} is none of 'label', 'text'")
        if isinstance(self.labels, str) or not self.labels:
            raise ValueError("labels= takes a list of labels, or names with labels")
        listed = [term for _, terms in self._classes() for term in terms]
        if twice := {term for term in listed if listed.count(term) > 1}:
            raise ValueError(f"{sorted(twice)} are listed twice")

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each code."""
        return tuple(name for name, _ in self._classes())

    @property
    def codes(self) -> dict[str, int]:
        """The code of each term."""
        return {term: code for code, (_, terms) in enumerate(self._classes()) for term in terms}

    def _classes(self) -> list[tuple[str, tuple[str, ...]]]:
        if not isinstance(self.labels, Mapping):
            return [(name, (name,)) for name in self.labels]
        return [(name, (of,) if isinstance(of, str) else tuple(of)) for name, of in self.labels.items()]


@dataclass(frozen=True)
class Placed:
    """Annotations in runs, all (piece,): ``run``; ``start`` and ``stop``, samples of it, equal for an instant;
    ``code``; ``onset_s``. One that meets several runs has a piece in each."""

    run: Ints
    start: Ints
    stop: Ints
    code: Ints
    onset_s: np.ndarray


def place(index: WindowIndex, recording_id: pl.Series, annotations: pl.DataFrame, codes: Mapping[str, int]) -> Placed:
    """Annotations (recording_id, onset_s, duration_s, name, _stream) as far as they lie in runs.

    ``recording_id`` is that of each row of the stream table; ``codes`` are those of each ``name``.
    """
    stop_s = annotations["onset_s"] + annotations["duration_s"]
    row, run = Runs(index, recording_id).reached(annotations["recording_id"], annotations["onset_s"], stop_s)
    onset_s = annotations["onset_s"].to_numpy()[row]
    start, stop = sample_at(index, run, onset_s), sample_at(index, run, stop_s.to_numpy()[row])
    only = annotations["_stream"].fill_null(-1).to_numpy()[row]
    size = index.run_samples[run]
    inside = (start < size) & np.where(start == stop, start >= 0, stop > 0)
    inside &= (only == -1) | (only == index.stream[run])
    code = annotations["name"].replace_strict(codes, return_dtype=pl.Int64).to_numpy()[row]
    start, stop = np.maximum(start, 0), np.minimum(stop, size)
    return Placed(run[inside], start[inside], stop[inside], code[inside], onset_s[inside])


class WindowLabels:
    """The labels of an index' windows, by a rule other than "event", which asks for no times."""

    def __init__(self, rule: WindowLabel, index: WindowIndex, placed: Placed) -> None:
        self._rule, self._length = rule, index.length
        self._n = len(rule.names)
        self._begin: Ints = np.cumsum(index.run_samples) - index.run_samples
        self._axis = int(index.run_samples.sum())
        start, stop = self._begin[placed.run] + placed.start, self._begin[placed.run] + placed.stop
        if rule.rule == "onset":
            self._force = _Force(start, np.where(start == stop, start + 1, stop), placed.code, placed.onset_s)
        else:
            shift, instant = placed.code * self._axis, start == stop
            self._cover = _Cover((start + shift)[~instant], (stop + shift)[~instant])
            self._instants: Ints = np.sort((start + shift)[instant])

    def read(self, windows: Ints, run: Ints, first: Ints) -> np.ndarray:
        """Labels of windows by number, run and first sample in it: int64 (window,), or for "any" float32
        (window, label)."""
        low = self._begin[run] + first
        if self._rule.rule == "onset":
            return self._force.at(low)
        length = self._length[run]
        low = low[:, None] + np.arange(self._n) * self._axis
        high = low + length[:, None]
        covered = self._cover.before(high) - self._cover.before(low)
        if self._rule.rule == "any":
            inside = np.searchsorted(self._instants, high) - np.searchsorted(self._instants, low)
            hot: np.ndarray = ((covered > 0) | (inside > 0)).astype(np.float32)
            return hot
        code = covered.argmax(axis=1)
        most = covered[np.arange(len(code)), code]
        enough = most >= self._rule.min_share * length * (1 - 1e-12)  # 0.07 * 100 is above 7
        coded: Ints = np.where(enough, code, UNKNOWN)
        return coded


class _Cover:
    """How much of an axis spans cover, time that several cover counted once."""

    def __init__(self, start: Ints, stop: Ints) -> None:
        order = np.argsort(start, kind="stable")
        start, reach = start[order], np.maximum.accumulate(stop[order])
        apart = np.append(True, start[1:] > reach[:-1])[: len(start)]
        self._start: Ints = start[apart]
        self._stop: Ints = reach[np.append(apart[1:], True)[: len(start)]]
        self._total: Ints = np.append(0, np.cumsum(self._stop - self._start))

    def before(self, place: Ints) -> Ints:
        """Covered samples below each place."""
        spans = np.searchsorted(self._start, place)
        if not len(self._start):
            return np.zeros(place.shape, np.int64)
        beyond = np.maximum(self._stop[np.maximum(spans - 1, 0)] - place, 0)
        covered: Ints = self._total[spans] - np.where(spans > 0, beyond, 0)
        return covered


class _Force:
    """Which span, of those that a place lies in, began last."""

    def __init__(self, start: Ints, stop: Ints, code: Ints, onset_s: np.ndarray) -> None:
        order = np.lexsort((-code, onset_s, start))
        self._start, self._stop, self._code = start[order], stop[order], code[order]
        # Of each span the last one before it that ends later: those between end no later than it does.
        outer = np.arange(len(order)) - 1
        while len(short := np.flatnonzero((outer >= 0) & (self._stop[outer] <= self._stop))):
            outer[short] = outer[outer[short]]
        self._outer = outer

    def at(self, place: Ints) -> Ints:
        """The code at each place, -1 where there is none."""
        span = np.searchsorted(self._start, place, side="right") - 1
        while len(over := np.flatnonzero((span >= 0) & (self._stop[span] <= place) if len(self._stop) else span > 0)):
            span[over] = self._outer[span[over]]
        return np.where(span >= 0, self._code[span], UNKNOWN) if len(self._code) else np.full(len(place), UNKNOWN)
