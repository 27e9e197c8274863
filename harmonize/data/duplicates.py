"""Duplicates in a store: the same data in two recordings, exactly or resampled, rescaled, cropped.

Signals are read once to be fingerprinted; keys wait in files on disk and are joined part by part, so that memory
grows with the pairs found and not with the store; each candidate is then compared on all of its overlap.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from harmonize.data.exact import SILENT_TYPES, exact_pairs
from harmonize.data.fingerprint import (
    BLOCK,
    LOWEST_RATE_HZ,
    RATE_HZ,
    agreement,
    anchors,
    edge,
    n_trace,
    radius,
    shifted,
    trace,
)
from harmonize.data.reader import ArrayReader
from harmonize.store import Store, catalog

SIMILARITY = 0.985
"""Copies reach 0.9999 after resampling; other recordings, of the same patient too, stay below 0.96 at their best lag
(tests/data/test_duplicates_real.py)."""
MIN_OVERLAP_S = 5.0
CHUNK = 600 * RATE_HZ
_FILES, _SPOOL_ROWS, _NEIGHBOURS, _VOTES = 64, 1 << 20, 16, 16
_ROW = np.dtype([("key", "u8"), ("run", "u4"), ("at", "f8")])
_VOTE = {"a": pl.UInt32, "b": pl.UInt32, "lag": pl.Float64}


@dataclass(frozen=True)
class Run:
    """A gap-free run of a stream: ``start`` in its part, ``channels`` that are evidence, ``missing`` (channel,)."""

    recording: str
    path: str
    start: int
    n_samples: int
    rate: Fraction
    onset_s: float
    channels: list[int]
    missing: np.ndarray

    @property
    def n_trace(self) -> int:
        return n_trace(self.n_samples, self.rate)


def find_duplicates(
    store: Store,
    near: bool = True,
    similarity: float = SIMILARITY,
    min_overlap_s: float = MIN_OVERLAP_S,
    progress: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> pl.DataFrame:
    """All pairs of recordings with the same data.

    Exact: see ``exact_pairs``. Near: at one lag, at least half of the channels of the stream that has fewer agree
    with a channel of the other, whatever their names, order, unit and sign: the mean correlation of their blocks
    of 1 s, band-passed to 1-15 Hz, is at least ``similarity`` over at least ``min_overlap_s``. Streams below 50
    Hz, trigger channels and images are compared exactly only. A copy at a rate that differs from the declared
    one drifts and is not found.

    Returns
    -------
    (recording_a, recording_b, kind, similarity, channels, overlap_s, lag_s), sorted; recording_a < recording_b.
    ``similarity`` is the median over channels, ``channels`` how many agree, ``lag_s`` what is added to times in b
    to get those in a. None for images: channels, overlap and lag.
    """
    exact = exact_pairs(store).with_columns(
        kind=pl.lit("exact"), similarity=pl.lit(1.0), lag_s=pl.when(pl.col("overlap_s").is_not_null()).then(0.0)
    )
    schema = catalog.DERIVED["duplicates"]
    frames = [exact.select(pl.col(name).cast(kind) for name, kind in schema.items())]
    pair = ["recording_a", "recording_b"]
    if near:
        rows = pl.DataFrame(list(_near(store, similarity, min_overlap_s, progress)), schema=schema, orient="row")
        rows = rows.sort("overlap_s", "similarity", "lag_s", descending=True).unique(pair, keep="first")
        frames.append(rows.join(exact, on=pair, how="anti"))
    return pl.concat(frames).sort(pair)


def update_duplicates(store: Store, **options: Any) -> pl.DataFrame:
    """Find near and exact duplicates and put them in the store in place of those found before."""
    found = find_duplicates(store, near=True, **options)
    catalog.replace_derived(store.path, "duplicates", found, store.version)
    return found


def _near(
    store: Store, similarity: float, min_overlap_s: float, progress: Callable[[str, int, int], None]
) -> Iterator[tuple[Any, ...]]:
    runs = _runs(store, min_overlap_s)
    reader = _Traces(store, runs)
    candidates = _candidates(reader, progress)
    for number, (a, b, lags) in enumerate(candidates.iter_rows()):
        progress("compare", number + 1, len(candidates))
        lag = densest(np.array(lags))
        if lag is None:
            continue
        value, channels, overlap_s, lag = _compare(reader, a, b, lag, min_overlap_s, similarity)
        if value >= similarity:
            one, other, sign = runs[a], runs[b], 1
            if one.recording > other.recording:
                one, other, sign = other, one, -1
            lag_s = sign * lag / RATE_HZ + one.onset_s - other.onset_s
            yield one.recording, other.recording, "near", value, channels, overlap_s, lag_s


def _runs(store: Store, min_overlap_s: float) -> list[Run]:
    """Runs that can be compared, in an order that keeps parts together."""
    runs = []
    streams = store.streams.join(store.recordings.select("recording_id"), on="recording_id", how="semi")
    for row in streams.sort("part", "start").iter_rows(named=True):
        rate = Fraction(row["rate_num"], row["rate_den"])
        channels = [i for i, kind in enumerate(row["types"]) if kind not in SILENT_TYPES]
        if rate < LOWEST_RATE_HZ or not channels:
            continue
        missing = np.array([np.nan if row["missing"][i] is None else row["missing"][i] for i in channels])
        segments = zip(row["segment_start"], row["segment_samples"], row["segment_onset_s"], strict=True)
        for start, n, onset_s in segments:
            if n >= min_overlap_s * rate:
                path = f"{row['part']}/samples"
                runs.append(Run(row["recording_id"], path, row["start"] + start, n, rate, onset_s, channels, missing))
    return runs


class _Traces:
    """Traces of runs, the short ones of late kept."""

    def __init__(self, store: Store, runs: list[Run]) -> None:
        self.runs = runs
        self._arrays = ArrayReader(store.path)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __call__(self, run: int, first: int, stop: int) -> np.ndarray:
        """Trace samples (channel, stop - first) of a run."""
        n = self.runs[run].n_trace
        if n > CHUNK:
            return self._read(run, first, stop)
        if run not in self._kept:
            self._kept[run] = self._read(run, 0, n)
            if len(self._kept) > 64:
                self._kept.popitem(last=False)
        self._kept.move_to_end(run)
        return self._kept[run][:, first:stop]

    def _read(self, number: int, first: int, stop: int) -> np.ndarray:
        run = self.runs[number]
        array = self._arrays(run.path)

        def read(low: int, high: int) -> np.ndarray:
            digital = array.read([(0, array.shape[0]), (run.start + low, run.start + high)])[run.channels]
            values = digital.astype(np.float64)
            values[(values == run.missing[:, None]) | ~np.isfinite(values)] = np.nan
            return values

        return trace(read, run.n_samples, run.rate, first, stop)


def _candidates(traces: _Traces, progress: Callable[[str, int, int], None]) -> pl.DataFrame:
    """Pairs of runs (a, b) of different recordings whose windows share keys, with the lags they share them at."""
    recording = np.unique([run.recording for run in traces.runs], return_inverse=True)[1]
    with tempfile.TemporaryDirectory(prefix="harmonize-") as folder:
        _spool(traces, Path(folder), progress)
        votes = pl.DataFrame(schema=_VOTE)
        for number in range(_FILES):
            progress("match", number + 1, _FILES)
            file = Path(folder) / str(number)
            if file.exists():
                more = _votes(np.fromfile(file, _ROW), recording)
                votes = pl.concat([votes, more]).group_by("a", "b", maintain_order=True).head(_VOTES)
    grouped = votes.group_by("a", "b").agg("lag").filter(pl.col("lag").list.len() > 1)
    return grouped.sort("a", "b")


def _spool(traces: _Traces, folder: Path, progress: Callable[[str, int, int], None]) -> None:
    """Keys of all runs to files by their leading bits."""
    waiting: list[np.ndarray] = []
    size = 0
    for number, run in enumerate(traces.runs):
        n, reach = run.n_trace, radius(run.n_trace)
        beside = reach + 2 * BLOCK
        for first in range(0, n, CHUNK):
            low, high = max(0, first - beside), min(n, first + CHUNK + beside)
            found = anchors(traces(number, low, high), reach)
            at = found.at + low
            mine = (at >= first) & (at < first + CHUNK)
            rows = np.empty((int(mine.sum()), found.keys.shape[1]), _ROW)
            rows["key"], rows["run"], rows["at"] = found.keys[mine], number, at[mine, None]
            waiting.append(rows.ravel())
            size += rows.size
        progress("fingerprint", number + 1, len(traces.runs))
        if size > _SPOOL_ROWS or number + 1 == len(traces.runs):
            everything = np.concatenate(waiting)
            file = everything["key"] >> np.uint64(64 - 6)
            for one in np.unique(file):
                with (folder / str(one)).open("ab") as handle:
                    everything[file == one].tofile(handle)
            waiting, size = [], 0


def _votes(rows: np.ndarray, recording: np.ndarray) -> pl.DataFrame:
    """Pairs of windows with one key, of different recordings: each with its next ``_NEIGHBOURS``, so that a key
    that very many share costs no square."""
    rows = rows[np.lexsort((rows["at"], rows["run"], rows["key"]))]
    found = [pl.DataFrame(schema=_VOTE)]
    for step in range(1, _NEIGHBOURS + 1):
        one, other = rows[:-step], rows[step:]
        same = one["key"] == other["key"]
        if not same.any():
            break
        same &= recording[one["run"]] != recording[other["run"]]
        a, b = one[same], other[same]
        found.append(pl.DataFrame({"a": a["run"], "b": b["run"], "lag": a["at"] - b["at"]}, schema=_VOTE))
    return pl.concat(found)


def densest(lags: np.ndarray, width: float = 2.0) -> float | None:
    """The median of the most lags that lie within ``width`` trace samples; None where no two do."""
    lags = np.sort(lags)
    ends = np.searchsorted(lags, lags + width, side="right")
    best = int(np.argmax(ends - np.arange(len(lags))))
    if ends[best] - best < 2:
        return None
    return float(np.median(lags[best : ends[best]]))


def _compare(
    traces: _Traces, a: int, b: int, lag: float, min_overlap_s: float, similarity: float
) -> tuple[float, int, float, float]:
    """Similarity, channels that agree, seconds compared and exact lag of two runs near a lag (trace samples)."""
    n_a, n_b = traces.runs[a].n_trace, traces.runs[b].n_trace
    edge_a, edge_b = edge(traces.runs[a].rate), edge(traces.runs[b].rate) + 3  # 3: cubic interpolation, steps of lag
    low, high = max(edge_a, int(np.ceil(lag)) + edge_b), min(n_a - edge_a, int(n_b + lag) - edge_b)
    if high - low < min_overlap_s * RATE_HZ:
        return 0.0, 0, 0.0, lag

    def agree(first: int, stop: int, lag: float) -> tuple[np.ndarray, np.ndarray]:
        near = int(np.floor(first - lag)) - 2
        other = traces(b, max(0, near), min(n_b, near + stop - first + 6))
        moved = shifted(other, first - lag - max(0, near), stop - first)
        return agreement(traces(a, first, stop), moved)

    middle = max(low, (low + high) // 2 - 30 * BLOCK)
    probe = middle, min(high, middle + 60 * BLOCK)
    lag = max((lag + step for step in np.arange(-4, 5) * 0.2), key=lambda lag: float(_best(*agree(*probe, lag)).sum()))
    sums, counts = np.zeros(1), np.zeros(1)
    for first in range(low, high, CHUNK):
        more, blocks = agree(first, min(high, first + CHUNK), lag)
        sums, counts = sums + more, counts + blocks
    sums = np.where(counts * BLOCK >= min_overlap_s * RATE_HZ, sums, 0)
    best = np.sort(_best(sums, counts))[::-1]
    value = float(best[(len(best) - 1) // 2]) if len(best) else 0.0
    return value, int((best >= similarity).sum()), float(counts.max(initial=0)) * BLOCK / RATE_HZ, lag


def _best(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """For each channel of the side that has fewer, its best mean correlation; channels without any are left out."""
    if sums.shape[0] > sums.shape[1]:
        sums, counts = sums.T, counts.T
    known = counts.max(axis=1) > 0
    best: np.ndarray = (np.abs(sums) / np.maximum(counts, 1)).max(axis=1)[known]
    return best
