"""Windows from a store: each decoded chunk goes straight into the batch, calibrated on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from harmonize.data.batch import Placement
from harmonize.data.channel_maps import ChannelMaps
from harmonize.data.domains import distinct
from harmonize.data.index import WindowIndex
from harmonize.data.normalize import Affine, apply
from harmonize.data.reader import ArrayReader, Chunks, Span
from harmonize.data.resample import resample, resampling
from harmonize.data.stream_table import StreamTable
from harmonize.store.kernels import convert
from harmonize.store.place import Place

Located = tuple[np.ndarray, np.ndarray, Sequence[Chunks]]
"""Windows by run and first sample in it, and for each where its decoded chunks are kept."""


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
        if self._alike:
            self._fill(out, self._digital(run, first, stream, chunks), stream)
            return out
        if self.maps.any_absent:
            out.fill(0)
        low, high = self._bounds(run, first)
        before, behind = np.maximum(-low, 0).tolist(), np.maximum(high - self._index.run_samples[run], 0).tolist()
        for i, pieces in self._digital(run, first, stream, chunks):
            digital = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
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

    def _digital(
        self, run: np.ndarray, first: np.ndarray, stream: np.ndarray, chunks: Sequence[Chunks]
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Native samples (channel, time) of each window by pieces of a chunk, of the channels it has and with the
        filter's margin as far as the run goes: in order of place, so that neighbours find the chunk decoded."""
        path, start, stop = self._spans(run, first)
        # In a folder a chunk is best read when it is used; all together where windows are made together as well.
        if not self._reader.is_local or (self._alike and not self._reader(self._paths[path[0]]).is_mapped):
            self.ahead((run, first, chunks))()
        order = np.lexsort((start, path))
        columns = (order, stream[order], path[order], start[order], stop[order])
        opened = known = -1
        for i, row, part, begin, end in zip(*_lists(*columns), strict=True):
            if part != opened:
                opened, name, array = part, self._reader.key(self._paths[part]), self._reader(self._paths[part])
                size, read, mapped = array.chunk[1], array.read_chunk, array.is_mapped
            if row != known:
                known, rows = row, self.maps[row].rows
            kept, number = chunks[i], begin // size
            at, stop = begin - number * size, end - number * size
            if stop <= size:  # in one chunk, as a rule
                chunk = read((0, number)) if mapped else kept((name, (0, number)), read)
                yield i, [chunk[rows, at:stop]]
            else:
                found = [
                    (read((0, n)) if mapped else kept((name, (0, n)), read), a, b)
                    for n, a, b in _pieces(begin, end, size)
                ]
                yield i, [chunk[rows, a:b] for chunk, a, b in found]

    def _fill(self, out: np.ndarray, digital: Iterator[tuple[int, list[np.ndarray]]], stream: np.ndarray) -> None:
        """Windows of which each has all channels, at the rate wanted, all at once: one call for a batch, in which
        other threads run."""
        targets: list[np.ndarray] = []
        sources: list[np.ndarray] = []
        windows: list[int] = []
        for i, pieces in digital:
            window = out[i]
            if len(pieces) == 1:
                targets.append(window)
            else:
                ends = list(itertools.accumulate(piece.shape[1] for piece in pieces))
                targets.extend(window[:, end - piece.shape[1] : end] for piece, end in zip(pieces, ends, strict=True))
            sources.extend(pieces)
            windows.extend([i] * len(pieces))
        if self._native:
            for target, source in zip(targets, sources, strict=True):
                target[...] = source
            return
        of = stream[windows]
        scale, offset = self.maps.single(of)
        if self._affine is not None:
            shift, factor = (one[of] for one in self._affine)
            scale, offset = scale * factor, ((0 if offset is None else offset) - shift) * factor
        convert(targets, sources, scale, offset)
        if self.maps.any_missing:
            for target, source, one in zip(targets, sources, of.tolist(), strict=True):
                self.maps[one].calibration.mark_missing(source, target)

    def ahead(self, wanted: Located, near: Located | None = None) -> Callable[[], None]:
        """Claim the chunks of windows, given by run, first sample and where they are kept; what is given
        back reads them in few calls or requests, and with them those of ``near`` that lie in the same shards."""
        return self._reader.ahead(self._named(wanted), () if near is None else self._named(near))

    def _named(self, located: Located) -> Iterator[tuple[Span, Chunks]]:
        run, first, chunks = located
        spans = zip(*_lists(*self._spans(run, first)), strict=True)
        return (((self._paths[n], a, b), kept) for (n, a, b), kept in zip(spans, chunks, strict=True))

    def _spans(self, run: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Part, first sample and end in it, of what windows are made of, as far as their runs go."""
        origin = self._index.origin[run]
        low, high = self._bounds(run, first)
        start, stop = origin + np.maximum(low, 0), origin + np.minimum(high, self._index.run_samples[run])
        return self._path_of[self._index.stream[run]], start, stop

    def _bounds(self, run: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First sample and end, in their run, of what windows are made of: with the margin of the filter, so that they
        may reach over the run's ends."""
        before, behind = self._margins[:, self._rate_of[self._index.stream[run]]]
        return first - before, first + self._index.length[run] + behind


def _lists(*columns: np.ndarray) -> list[list[int]]:
    return [column.tolist() for column in columns]


def _pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Samples from ``start`` to ``stop`` by chunks of ``size``: number of the chunk, first sample and end in it."""
    for number in range(start // size, -(-stop // size)):
        low = number * size
        yield number, max(start, low) - low, min(stop, low + size) - low
