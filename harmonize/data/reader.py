"""Open arrays of one process: opened when first read, never carried over a fork or a pickle."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from harmonize.store.place import Place, at_once
from harmonize.store.recent import Recent
from harmonize.store.sharded import ShardedArray

OPEN_ARRAYS = 256


Chunk = tuple[str, int]
"""The path of ``samples`` below the store, and the number of an inner chunk along time."""


class ArrayReader:
    """The sharded arrays below a store, by path, at most ``OPEN_ARRAYS`` of them open."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._pid = os.getpid()
        self._arrays = Recent(OPEN_ARRAYS, self._open)

    def __reduce__(self) -> tuple[type[ArrayReader], tuple[Place]]:
        return ArrayReader, (self._root,)

    def _open(self, path: str) -> ShardedArray:
        return ShardedArray(self._root / path)

    def __call__(self, path: str) -> ShardedArray:
        """The array at a path below the store."""
        return self._of_this_process()(path)

    def _of_this_process(self) -> Recent[str, ShardedArray]:
        if self._pid != os.getpid():  # after a fork: leave the parent's maps alone, open our own
            self._arrays, self._pid = Recent(OPEN_ARRAYS, self._open), os.getpid()
        return self._arrays

    def read_ahead(self, spans: Iterable[tuple[str, int, int]]) -> dict[Chunk, np.ndarray]:
        """Decoded chunks of ``samples`` that a batch needs, from an object store: those of a shard together, and
        shards at the same time. ``spans`` are (path, first sample, end). From a local folder none: there, a chunk is
        best read at the moment when it is used."""
        if isinstance(self._root, Path):
            return {}
        wanted = list(spans)
        paths = list(dict.fromkeys(path for path, _, _ in wanted))
        arrays = dict(zip(paths, at_once(self._root, self._of_this_process(), paths), strict=True))
        shards: dict[tuple[str, tuple[int, ...]], dict[Chunk, None]] = {}
        for path, start, stop in wanted:
            array = arrays[path]
            for number in range(start // array.chunk[1], -(-stop // array.chunk[1])):
                shards.setdefault((path, array.shard_of((0, number))), {})[path, number] = None

        def read(ours: list[Chunk]) -> list[np.ndarray]:
            return list(arrays[ours[0][0]].read_chunks([(0, number) for _, number in ours]))

        grouped = [list(chunks) for chunks in shards.values()]
        found: dict[Chunk, np.ndarray] = {}
        for ours, decoded in zip(grouped, at_once(self._root, read, grouped), strict=True):
            found.update(zip(ours, decoded, strict=True))
        return found
