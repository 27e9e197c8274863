"""Windows from a store: each decoded chunk goes straight into the batch, calibrated on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from harmonize.data.batch import Placement
from harmonize.data.channel_maps import ChannelMap, ChannelMaps
from harmonize.data.index import WindowIndex
from harmonize.data.reader import ArrayReader, Chunks
from harmonize.data.resample import Resampling, resample
from harmonize.store.place import Place


class WindowReader:
    """Reads the windows of an index into one array.

    Parameters
    ----------
    root
        Where the store lies.
    table
        One row a stream: ``part``, and what ``ChannelMaps`` takes.
    index, channels, resampling, n_samples
        The windows; canonical names wanted; how each stream goes to the rate wanted (None: as it is); samples
        of a window then.
    native
        Give native integers instead of values; all streams must then have one dtype and the rate wanted.
    """

    def __init__(
        self,
        root: Place,
        table: pl.DataFrame,
        index: WindowIndex,
        channels: Sequence[str],
        resampling: Sequence[Resampling | None],
        n_samples: int,
        native: bool = False,
    ) -> None:
        self._reader = ArrayReader(root)
        self._index, self._resampling, self._n_samples = index, resampling, n_samples
        self.maps = ChannelMaps(table, channels)
        paths = {path: number for number, path in enumerate(sorted(set(table["part"])))}
        self._paths = [f"{path}/samples" for path in paths]
        self._path_of = np.array([paths[path] for path in table["part"]], np.int64)
        dtypes = {dtype for (dtype,) in table.select("dtype").unique().iter_rows()}
        if native and (len(dtypes) > 1 or any(resampling)):
            raise ValueError(f"native integers need one dtype and no resampling; there are {sorted(dtypes)}")
        sample_bytes = table.select(pl.col("channels").list.len(), "dtype").iter_rows()
        self._sample_bytes = np.array([n * np.dtype(dtype).itemsize for n, dtype in sample_bytes], np.int64)
        self._native = native
        self.dtype = np.dtype(dtypes.pop() if native else np.float32)
        margins = [(0, 0) if plan is None else (plan.margin, plan.margin + plan.down) for plan in resampling]
        self._margins = np.array(margins, np.int64).T

    def placement(self, stream: int) -> Placement:
        """How streams and their windows lie; of chunks, those of the part that holds this stream count."""
        first = np.full(len(self._path_of), np.iinfo(np.int64).max)
        np.minimum.at(first, self._index.stream, self._index.origin)
        rank = np.empty(len(first), np.int64)
        rank[np.lexsort((first, self._path_of))] = np.arange(len(first))
        before, behind = self._margins
        samples = np.zeros(len(first), np.int64)
        samples[self._index.stream] = self._index.length
        chunk = self._reader.chunk_shape(self._paths[int(self._path_of[stream])])[1]
        return Placement(
            rank=rank,
            item_bytes=float(((samples + before + behind) * self._sample_bytes).max()),
            per_chunk=chunk / int(self._index.step[self._index.stream == stream][0]),
        )

    def read(self, run: np.ndarray, first: np.ndarray, chunks: Sequence[Chunks]) -> np.ndarray:
        """Windows by run and first sample in it, as (window, channel, time); ``chunks`` says for each window where its
        decoded chunks are kept. float32 values, zero where a channel is absent; or native integers.

        Raises ``StoreError`` where a chunk is missing or damaged.
        """
        stream = self._index.stream[run]
        shape = (len(run), self.maps.present.shape[1], self._n_samples)
        out = chunks[0].memory.empty(shape, self.dtype)
        if self.maps.any_absent:
            out.fill(0)
        origin, path = self._index.origin[run], self._path_of[stream]
        low, high = self._bounds(run, first)
        start, stop = origin + np.maximum(low, 0), origin + np.minimum(high, self._index.run_samples[run])
        if not self._reader.is_local:
            spans = ((self._paths[n], a, b) for n, a, b in zip(*_lists(path, start, stop), strict=True))
            self._reader.read_ahead(zip(spans, chunks, strict=True))
        # In order of place, so that neighbours find the chunk decoded.
        order = np.lexsort((start, path))
        columns = (order, stream[order], path[order], start[order], stop[order])
        before, behind = start - (origin + low), origin + high - stop
        opened = -1
        for i, row, part, begin, end in zip(*_lists(*columns), strict=True):
            if part != opened:
                opened, name, array = part, self._paths[part], self._reader(self._paths[part])
                size, read = array.chunk[1], array.read_chunk
            one, plan, kept = self.maps[row], self._resampling[row], chunks[i]
            number, at = divmod(begin, size)
            if plan is not None:
                pieces = [kept((name, (0, n)), read)[one.rows, a:b] for n, a, b, _ in _pieces(begin, end, size)]
                inside = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
                # Repeated at the run's ends: nothing is read across a gap.
                padded = np.pad(inside, ((0, 0), (int(before[i]), int(behind[i]))), mode="edge")
                out[i, one.places] = resample(one.calibration(padded), plan, self._n_samples)
            elif at + end - begin <= size:  # in one chunk, as a rule
                self._put(kept((name, (0, number)), read)[one.rows, at : at + end - begin], out[i], one)
            else:
                for n, a, b, done in _pieces(begin, end, size):
                    self._put(kept((name, (0, n)), read)[one.rows, a:b], out[i, :, done : done + b - a], one)
        return out

    def _put(self, digital: np.ndarray, out: np.ndarray, to: ChannelMap) -> None:
        if self._native:
            out[to.places] = digital
        elif isinstance(to.places, slice):
            to.calibration(digital, out[to.places])
        else:
            out[to.places] = to.calibration(digital)

    def _bounds(self, run: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First sample and end, in their run, of what windows are made of: with the margin of the filter, so that they
        may reach over the run's ends."""
        before, behind = self._margins[:, self._index.stream[run]]
        return first - before, first + self._index.length[run] + behind


def _lists(*columns: np.ndarray) -> list[list[int]]:
    return [column.tolist() for column in columns]


def _pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Samples from ``start`` to ``stop`` by chunks of ``size``: number of the chunk, first sample and end in it,
    and how many samples lie before."""
    for number in range(start // size, -(-stop // size)):
        low = number * size
        first = max(start, low)
        yield number, first - low, min(stop, low + size) - low, first - start
