"""Windows of signals as a map-style PyTorch data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from harmonize.data.batch import BatchDataset, Sample
from harmonize.data.domain_columns import domain_columns
from harmonize.data.domains import select, with_labels
from harmonize.data.index import index_windows, samples_of
from harmonize.data.reader import ArrayReader, Chunk
from harmonize.data.resample import Resampling, resample, resampling
from harmonize.store import Store, open_store
from harmonize.store.calibrate import calibrate
from harmonize.store.place import Place


class WindowDataset(BatchDataset):
    """Every window of a store's signals, by number.

    Parameters
    ----------
    store
        A ``Store``, or its path or URL.
    window, stride
        Seconds; ``stride`` None: windows that touch. No window crosses a gap or a recording.
    rate
        Hz of every window (an int, "n/d" or ``Fraction``), resampled without delay where it differs from
        the stream's; None: the native rate, which must then be the same for all streams.
    channels
        Canonical names, in the order wanted; what a recording lacks is zero and False in
        ``channel_mask``. None: all channels, which must then be the same for all streams.
    where
        A polars expression or an SQL condition over the columns of ``Store.recordings`` and ``Store.labels``
        and ``rate_hz``, ``stream``, ``layout``, ``n_channels`` of its streams.
    target
        A column of these: float32 for numbers, codes of its values for text, float32 (name,) of zeros and
        ones for a multi-label (its names in ``codes["target"].names``).
    domains
        More columns to put into samples as codes ("device_model", "fold", a label).
    transform
        Applied to each sample (a dict) before it is returned.

    Samples are dicts: ``signal`` float32 (channel, time) in canonical units, missing samples NaN;
    ``channel_mask`` bool (channel,); int64 codes ``dataset``, ``site``, ``device``, ``subject``, ``sex``
    (-1: unknown; names through ``codes``); ``age`` float32; ``start`` float64, seconds from the
    recording's start; ``recording_id``; ``target`` where asked. Memory grows with the number of streams
    and segments, not of windows. Nothing of the store is open before the first read in a process, so
    workers may be forked or spawned.

    Raises
    ------
    ValueError
        Where the streams chosen differ in rate or channels and nothing says how to make them alike, where
        one recording has the channels in several streams at one time, or where there is no window at all.
    """

    def __init__(
        self,
        store: Store | str | Place,
        window: float = 10.0,
        stride: float | None = None,
        rate: int | str | Fraction | None = None,
        channels: Sequence[str] | None = None,
        where: pl.Expr | str | None = None,
        target: str | None = None,
        domains: Sequence[str] = (),
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        store = store if isinstance(store, Store) else open_store(store)
        self._opened, self._choice = (store.path, store.version), (where, channels)
        table = _streams(store, where, channels, target, *domains)
        if table.is_empty():
            raise ValueError("no stream of the store has these channels, or meets this condition")
        self.channels: tuple[str, ...] = tuple(channels) if channels is not None else _common_channels(table)
        self.rate_hz: Fraction = Fraction(rate) if rate is not None else _common_rate(table)
        _one_stream_at_a_time(table)
        self.window_s = window
        self.n_samples = samples_of(window, self.rate_hz)
        self._index = index_windows(table, window, window if stride is None else stride)
        if len(self._index) == 0:
            raise ValueError(f"no stream is as long as a window of {window} s")
        super().__init__(domain_columns(table, target, domains), transform)
        self._parts = [f"{part}/samples" for part in table["part"]]
        self._maps = _ChannelMaps(table, self.channels)
        rates = [Fraction(n, d) for n, d in table.select("rate_num", "rate_den").iter_rows()]
        self._resampling = [resampling(one, self.rate_hz) for one in rates]
        self._reader = ArrayReader(store.path)

    def __len__(self) -> int:
        return len(self._index)

    def row_sizes(self) -> np.ndarray:
        """Windows of each stream."""
        per_run = np.diff(self._index.ends, prepend=0)
        return np.bincount(self._index.stream, per_run, len(self._parts)).astype(np.int64)

    def _rows(self, field: str) -> pl.DataFrame:
        return _streams(open_store(*self._opened), *self._choice, field)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Samples that are views of one batch."""
        windows = np.asarray(indices, np.int64)
        run, first = self._index.locate(windows)
        stream = self._index.stream[run]
        shape = (len(windows), len(self.channels), self.n_samples)
        signal = np.zeros(shape, np.float32) if self._maps.any_absent else np.empty(shape, np.float32)
        # In order of place, so that neighbours find the chunk decoded. A chunk lives for this batch only.
        chunks = self._reader.read_ahead(self._spans(run, first))
        origin = self._index.origin[run] + first
        for i in np.lexsort((origin, stream)):
            self._fill(signal[i], int(run[i]), int(first[i]), chunks)
        start = self._index.onset_s[run] + first / self._index.rate_hz[run]
        columns = {"signal": signal, "channel_mask": self._maps.present[stream], "start": start}
        return self._batch(columns, stream)

    def _fill(self, out: np.ndarray, run: int, first: int, chunks: dict[Chunk, np.ndarray]) -> None:
        stream = int(self._index.stream[run])
        plan = self._resampling[stream]
        rows, places, scaling = self._maps[stream]
        if plan is None:
            digital = self._read(run, *self._span(run, first), chunks)
            if rows is None:
                calibrate(digital, *scaling, out)
            else:
                out[places] = calibrate(digital[rows], *scaling)
            return
        padded = self._padded(run, first, plan, chunks)
        values = calibrate(padded if rows is None else padded[rows], *scaling)
        out[slice(None) if places is None else places] = resample(values, plan, self.n_samples)

    def _span(self, run: int, first: int) -> tuple[int, int]:
        """The samples of a run that a window is made of, with the margin of the filter: it may reach over the ends."""
        plan, stop = self._resampling[int(self._index.stream[run])], first + int(self._index.length[run])
        return (first, stop) if plan is None else (first - plan.margin, stop + plan.margin + plan.down)

    def _spans(self, runs: np.ndarray, firsts: np.ndarray) -> Iterator[tuple[str, int, int]]:
        """Where what is read of these windows lies: path of the array, first sample and end."""
        for run, first in zip(runs.tolist(), firsts.tolist(), strict=True):
            low, high = self._span(run, first)
            low, high = max(0, low), min(int(self._index.run_samples[run]), high)
            origin = int(self._index.origin[run])
            yield self._parts[int(self._index.stream[run])], origin + low, origin + high

    def _padded(self, run: int, first: int, plan: Resampling, chunks: dict[Chunk, np.ndarray]) -> np.ndarray:
        """Native samples with the filter's margin, repeated at the run's ends (never across a gap)."""
        low, high = self._span(run, first)
        size = int(self._index.run_samples[run])
        inside = self._read(run, max(0, low), min(size, high), chunks)
        return np.pad(inside, ((0, 0), (max(0, -low), max(0, high - size))), mode="edge")

    def _read(self, run: int, start: int, stop: int, chunks: dict[Chunk, np.ndarray]) -> np.ndarray:
        """Native samples (channel, time) of a run, each chunk decoded once a batch."""
        path = self._parts[int(self._index.stream[run])]
        array = self._reader(path)
        origin = int(self._index.origin[run])
        start, stop, size = origin + start, origin + stop, array.chunk[1]
        pieces = []
        for number in range(start // size, -(-stop // size)):
            chunk = chunks.get((path, number))
            if chunk is None:
                chunk = chunks[path, number] = array.read_chunk((0, number))
            low = number * size
            pieces.append(chunk[:, max(start, low) - low : min(stop, low + size) - low])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


Scaling = tuple[np.ndarray, np.ndarray, np.ndarray | None]
ChannelMap = tuple[np.ndarray | None, np.ndarray | None, Scaling]
"""Rows to take from a stream, places to put them (None, None: all as they are), and their scaling."""


class _ChannelMaps:
    """For each stream its ``ChannelMap``, shared where streams are alike."""

    def __init__(self, table: pl.DataFrame, channels: Sequence[str]) -> None:
        places = {name: place for place, name in enumerate(channels)}
        known: dict[tuple[Any, ...], int] = {}
        self._maps: list[ChannelMap] = []
        self._which = np.empty(len(table), np.int64)
        present = []
        columns = table.select("channels", "scale", "offset", "missing")
        for row, (names, scale, offset, missing) in enumerate(columns.iter_rows()):
            key = (tuple(names), tuple(scale), tuple(offset), tuple(missing))
            if key not in known:
                known[key] = len(self._maps)
                take = {name: i for i, name in reversed(list(enumerate(names))) if name in places}
                rows = np.array([take[name] for name in channels if name in take], np.int64)
                put = np.array([places[name] for name in channels if name in take], np.int64)
                gone = np.array([np.nan if value is None else value for value in missing], np.float64)[rows]
                scaling = (np.array(scale)[rows], np.array(offset)[rows], None if np.isnan(gone).all() else gone)
                same = len(rows) == len(names) == len(channels) and np.array_equal(rows, np.arange(len(rows)))
                self._maps.append((None, None, scaling) if same else (rows, put, scaling))
                mask = np.zeros(len(channels), bool)
                mask[put] = True
                present.append(mask)
            self._which[row] = known[key]
        self.present: np.ndarray = np.array(present)[self._which]
        self.any_absent = not self.present.all()

    def __getitem__(self, stream: int) -> ChannelMap:
        return self._maps[int(self._which[stream])]


def _streams(
    store: Store, where: pl.Expr | str | None, channels: Sequence[str] | None, *names: str | None
) -> pl.DataFrame:
    """Streams joined with their recordings, in an order that does not depend on how they were written."""
    table = store.streams.drop("commit").join(store.recordings, on="recording_id", how="inner")
    table = table.with_columns(
        rate_hz=pl.col("rate_num") / pl.col("rate_den"), n_channels=pl.col("channels").list.len()
    )
    table = select(with_labels(table, store, where, *names), where)
    if channels is not None:
        table = table.filter(pl.col("channels").list.set_intersection(list(channels)).list.len() > 0)
    return table.sort("recording_id", "stream_index")


def _examples(values: Iterable[Any]) -> str:
    distinct = list(dict.fromkeys(map(str, values)))
    return ", ".join(distinct[:4]) + (f" and {len(distinct) - 4} more" if len(distinct) > 4 else "")


def _common_channels(table: pl.DataFrame) -> tuple[str, ...]:
    sets = list(dict.fromkeys(tuple(names) for names in table["channels"]))
    if len(sets) > 1:
        layouts = _examples(table["layout"])
        raise ValueError(f"streams differ in channels ({layouts}): give channels=[...] or narrow with where=")
    if len(set(sets[0])) < len(sets[0]):
        raise ValueError("channel names repeat in these streams: give channels=[...]; the first of a name counts")
    return sets[0]


def _common_rate(table: pl.DataFrame) -> Fraction:
    rates = [Fraction(n, d) for n, d in table.select("rate_num", "rate_den").unique().iter_rows()]
    if len(rates) > 1:
        raise ValueError(f"streams differ in rate ({_examples(sorted(rates))} Hz): give rate= or narrow with where=")
    return rates[0]


def _one_stream_at_a_time(table: pl.DataFrame) -> None:
    """Streams of one recording may follow each other (a gain that changes), not run side by side."""
    several = table.filter(pl.len().over("recording_id") > 1)
    for _, rows in several.group_by("recording_id"):
        spans = []
        for row in rows.iter_rows(named=True):
            rate_hz = row["rate_num"] / row["rate_den"]
            for onset_s, n in zip(row["segment_onset_s"], row["segment_samples"], strict=True):
                spans.append((onset_s, onset_s + (n - 0.5) / rate_hz))
        spans.sort()
        if any(begin < end for (_, end), (begin, _) in pairwise(spans)):
            raise ValueError(
                "a recording has these channels in several streams at one time; windows over several streams are not "
                "made yet: give channels= of one stream, or narrow with where= (columns stream, rate_hz)"
            )
