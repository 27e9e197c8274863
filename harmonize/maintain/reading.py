"""Stored samples and planes in their order, in bounded memory, each chunk decoded once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harmonize.store.sharded import ShardedArray

SLAB_BYTES = 64 * 1024 * 1024


class Planes:
    """Reads planes (n, y, x) of an image (..., y, x), counted in C order of the leading axes.

    Slabs of chunks are held, at most about ``SLAB_BYTES`` (but one plane at least), so that reading planes one after
    the other decodes a chunk once where its planes fit.
    """

    def __init__(self, array: ShardedArray, slab_bytes: int = SLAB_BYTES) -> None:
        self._array = array
        self._lead = array.shape[:-2] or (1,)
        self.n_planes = int(np.prod(self._lead))
        plane_bytes = int(np.prod(array.shape[-2:])) * array.dtype.itemsize
        deep = (array.chunk[:-2] or (1,))[-1]
        self._depth = max(1, min(deep, slab_bytes // max(1, plane_bytes)))
        self._start, self._slab = 0, np.empty((0, *array.shape[-2:]), array.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Planes ``start`` to ``stop``."""
        pieces = []
        while start < stop:
            if not self._start <= start < self._start + len(self._slab):
                self._load(start)
            end = min(stop, self._start + len(self._slab))
            pieces.append(self._slab[start - self._start : end - self._start])
            start = end
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def slabs(self) -> Iterator[np.ndarray]:
        """All planes, slab after slab."""
        at = 0
        while at < self.n_planes:
            self._load(at)
            yield self._slab
            at = self._start + len(self._slab)

    def _load(self, plane: int) -> None:
        """The slab that holds a plane: a run along the last leading axis, from a multiple of the depth."""
        *outer, inner = (int(i) for i in np.unravel_index(plane, self._lead))
        low = inner // self._depth * self._depth
        high = min(low + self._depth, self._lead[-1])
        whole = [(0, size) for size in self._array.shape[-2:]]
        lead = [*((i, i + 1) for i in outer), (low, high)] if len(self._array.shape) > 2 else []
        self._slab = self._array.read([*lead, *whole]).reshape(-1, *self._array.shape[-2:])
        self._start = plane - (inner - low)


class Samples:
    """Reads a part's samples (channel, time) chunk after chunk; the last chunk is held, as short streams share one."""

    def __init__(self, array: ShardedArray) -> None:
        self._array = array
        self._at, self._chunk = -1, np.empty((0, 0), array.dtype)

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Samples ``start`` to ``stop`` of the part, in pieces of at most a chunk. Raises ``IndexError`` outside."""
        if not 0 <= start <= stop <= self._array.shape[1]:
            raise IndexError(f"samples {start} to {stop} are not inside 0 to {self._array.shape[1]}")
        size = self._array.chunk[1]
        while start < stop:
            number = start // size
            if number != self._at:
                self._chunk = self._array.read_chunk((0, number))
                self._at = number
            end = min(stop, (number + 1) * size)
            yield self._chunk[:, start - number * size : end - number * size]
            start = end
