"""Windows from a store: each decoded chunk goes straight into the batch, calibrated on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from harmonize.data.batch import Placement
from harmonize.data.channel_maps import ChannelMaps
from harmonize.data.domains import distinct
from harmonize.data.index import WindowIndex
from harmonize.data.normalize import Affine, apply
from harmonize.data.reader import ArrayReader, Chunks
from harmonize.data.resample import resample, resampling
from harmonize.data.stream_table import StreamTable
from harmonize.store.kernels import convert
from harmonize.store.place import Place
from harmonize.store.sharded import ShardedArray

Located = tuple[np.ndarray, np.ndarray, Sequence[Chunks]]
"""Windows by run and first sample in it, and for each where its decoded chunks are kept."""


class _Pieces(NamedTuple):
    """Windows by the chunks that they lie in, in order of place, so that neighbours find a chunk decoded.

    ``arrays`` by path; of each piece the path, which window it is of, the number of the chunk, its first sample and its
    end in it, and where in the window it goes.
    """

    arrays: dict[str, ShardedArray]
    path: list[str]
    window: list[int]
    number: list[int]
    low: list[int]
    high: list[int]
    at: list[int]

    @property
    def is_mapped(self) -> bool:
        """Whether nothing is to be decoded."""
        return all(array.is_mapped for array in self.arrays.values())

    def chunks(self, kept: Sequence[Chunks]) -> Iterator[tuple[str, int, Chunks]]:
        """For ``ArrayReader.ahead``; ``kept`` says for each window where its chunks are."""
        return zip(self.path, self.number, [kept[i] for i in self.window], strict=True)


class WindowReader:
    """Reads the windows of an index into one array.

    Parameters
    ----------
    root
        Where the store lies.
    table
        The streams.
    index, channels, rate_hz, n_samples
        The windows; canonical names wanted; the rate wanted, and samples of a window at it.
    native
        Give native integers instead of values; all streams must then have one dtype and the rate wanted.
    affine
        What to subtract from values, and to multiply them by then, float32 (stream, channel).
    """

    def __init__(
        self,
        root: Place,
        table: StreamTable,
        index: WindowIndex,
        channels: Sequence[str],
        rate_hz: Fraction,
        n_samples: int,
        native: bool = False,
        affine: Affine | None = None,
    ) -> None:
        self._reader = ArrayReader(root)
        self._index, self._n_samples, self._n_channels = index, n_samples, len(channels)
        rates, self._rate_of = distinct(table.rows, "rate_num", "rate_den")
        self._resampling = [resampling(Fraction(*one), rate_hz) for one in rates.iter_rows()]
        self.maps = ChannelMaps(table, channels)
        parts, self._path_of = distinct(table.rows, "part")
        self._paths = [f"{part}/samples" for part in parts["part"]]
        self._kind_of = table.rows["_kind"].to_numpy()
        used = set(self._kind_of.tolist())
        every = [np.dtype(dtype) for dtype in table.kinds["dtype"]]
        dtypes = sorted({every[kind] for kind in used}, key=str)
        self._sample_bytes = table.kinds["channels"].list.len().to_numpy() * np.array([one.itemsize for one in every])
        if native and (len(dtypes) > 1 or any(self._resampling)):
            raise ValueError(f"native integers need one dtype and no resampling; there are {[*map(str, dtypes)]}")
        self._native, self._affine = native, affine
        self.dtype = dtypes[0] if native else np.dtype(np.float32)
        margins = [(0, 0) if plan is None else (plan.margin, plan.margin + plan.down) for plan in self._resampling]
        self._margins = np.array(margins, np.int64).T
        narrow = all(dtype.itemsize <= 2 for dtype in dtypes)
        self._alike = not self.maps.any_absent and not any(self._resampling) and (native or narrow)

    def placement(self, stream: int) -> Placement:
        """How streams and their windows lie; of chunks, those of the part that holds this stream count."""
        first = np.full(len(self._path_of), np.iinfo(np.int64).max)
        np.minimum.at(first, self._index.stream, self._index.origin)
        rank = np.empty(len(first), np.int64)
        rank[np.lexsort((first, self._path_of))] = np.arange(len(first))
        before, behind = self._margins[:, self._rate_of]
        samples = np.zeros(len(first), np.int64)
        samples[self._index.stream] = self._index.length
        chunk = self._reader.chunk_shape(self._paths[int(self._path_of[stream])])[1]
        return Placement(
            rank=rank,
            item_bytes=float(((samples + before + behind) * self._sample_bytes[self._kind_of]).max()),
            per_chunk=chunk / int(self._index.step[self._index.stream == stream][0]),
            fetch=not self._reader.is_local,
        )

    def read(self, run: np.ndarray, first: np.ndarray, chunks: Sequence[Chunks]) -> np.ndarray:
        """Windows by run and first sample in it, as (window, channel, time); ``chunks`` says for each window where its
        decoded chunks are kept. float32 values, zero where a channel is absent; or native integers.

        Raises ``StoreError`` where a chunk is missing or damaged.
        """
        stream = self._index.stream[run]
        out = chunks[0].memory.empty((len(run), self._n_channels, self._n_samples), self.dtype)
        pieces = self._pieces(run, first)
        sources = self._sources(pieces, stream, chunks)
        if self._alike:
            self._fill(out, pieces, list(sources), stream)
            return out
        if self.maps.any_absent:
            out.fill(0)
        low, high = self._bounds(run, first)
        before, behind = np.maximum(-low, 0).tolist(), np.maximum(high - self._index.run_samples[run], 0).tolist()
        for i, ours in itertools.groupby(zip(pieces.window, sources, strict=True), itemgetter(0)):
            found = [source for _, source in ours]
            digital = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
            one, plan = self.maps[stream[i]], self._resampling[self._rate_of[stream[i]]]
            if plan is not None:
                # Repeated at the run's ends: nothing is read across a gap.
                padded = np.pad(digital, ((0, 0), (before[i], behind[i])), mode="edge")
                out[i, one.places] = resample(one.calibration(padded), plan, self._n_samples)
            elif self._native:
                out[i, one.places] = digital
            elif isinstance(one.places, slice):
                one.calibration(digital, out[i, one.places])
            else:
                out[i, one.places] = one.calibration(digital)
        if self._affine is not None:
            apply(out, *(one[stream] for one in self._affine))
        return out

    def _sources(self, pieces: _Pieces, stream: np.ndarray, chunks: Sequence[Chunks]) -> Iterator[np.ndarray]:
        """Native samples (channel, time) of each piece, of the channels that its stream has."""
        arrays = pieces.arrays
        # In a folder a chunk is best read when it is used; all together where windows are made together as well.
        if not self._reader.is_local or (self._alike and not pieces.is_mapped):
            self._reader.ahead(arrays, pieces.chunks(chunks))()
        opened: str | None = None
        known = -1
        for path, number, i, row, low, high in zip(
            pieces.path, pieces.number, pieces.window, stream[pieces.window].tolist(), pieces.low, pieces.high,
            strict=True,
        ):  # fmt: skip
            if path != opened:
                # Left to the reader from here on, which closes the ones used least where there are many.
                opened, name, array = path, self._reader.key(path), arrays.pop(path)
                read, mapped = array.read_chunk, array.is_mapped
            if row != known:
                known, rows = row, self.maps[row].rows
            chunk = read((0, number)) if mapped else chunks[i]((name, (0, number)), read)
            yield chunk[rows, low:high]

    def _fill(self, out: np.ndarray, pieces: _Pieces, sources: list[np.ndarray], stream: np.ndarray) -> None:
        """Windows of which each has all channels, at the rate wanted, all at once: one call for a batch, in which
        other threads run."""
        size = self._n_samples
        targets = [
            out[i] if high - low == size else out[i, :, at : at + high - low]
            for i, at, low, high in zip(pieces.window, pieces.at, pieces.low, pieces.high, strict=True)
        ]
        if self._native:
            for target, source in zip(targets, sources, strict=True):
                target[...] = source
            return
        of = stream[pieces.window]
        scale, offset = self.maps.single(of)
        if self._affine is not None:
            shift, factor = (one[of] for one in self._affine)
            scale, offset = scale * factor, ((0 if offset is None else offset) - shift) * factor
        convert(targets, sources, scale, offset)
        if self.maps.any_missing:
            for target, source, one in zip(targets, sources, of.tolist(), strict=True):
                self.maps[one].calibration.mark_missing(source, target)

    def ahead(self, wanted: Located, near: Located) -> Callable[[], None]:
        """Claim the chunks of windows, given by run, first sample and where they are kept; what is given
        back reads them in few calls or requests, and with them those of ``near`` that lie in the same shards."""
        run, first, chunks = wanted
        found = self._pieces(run, first)
        parts = self._path_of[self._index.stream[run]]
        run, first, others = near
        same = np.isin(self._path_of[self._index.stream[run]], parts)
        besides = self._pieces(run[same], first[same]).chunks(list(itertools.compress(others, same)))
        return self._reader.ahead(found.arrays, found.chunks(chunks), besides)

    def _pieces(self, run: np.ndarray, first: np.ndarray) -> _Pieces:
        """What windows are made of, with the filter's margin, as far as their runs go."""
        part, origin = self._path_of[self._index.stream[run]], self._index.origin[run]
        low, high = self._bounds(run, first)
        start, stop = origin + np.maximum(low, 0), origin + np.minimum(high, self._index.run_samples[run])
        order = np.lexsort((start, part))
        part, start, stop = part[order], start[order], stop[order]
        path = [self._paths[one] for one in part.tolist()]
        arrays = self._reader.together(list(dict.fromkeys(path)))
        size = np.array([arrays[one].chunk[1] for one in path], np.int64)
        number = start // size
        count = (stop - 1) // size - number + 1
        if (count > 1).any():
            of = np.repeat(np.arange(len(run)), count)
            inside = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
            order, start, stop, size, number = order[of], start[of], stop[of], size[of], number[of] + inside
            path = [path[one] for one in of.tolist()]
        begin = number * size
        low, high = np.maximum(start - begin, 0), np.minimum(stop - begin, size)
        columns = (order, number, low, high, begin + low - start)
        return _Pieces(arrays, path, *(column.tolist() for column in columns))

    def _bounds(self, run: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First sample and end, in their run, of what windows are made of: with the margin of the filter, so that they
        may reach over the run's ends."""
        before, behind = self._margins[:, self._rate_of[self._index.stream[run]]]
        return first - before, first + self._index.length[run] + behind
