"""Open arrays of one process (opened when first read, never carried over a fork or a pickle), and decoded chunks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from harmonize.data.buffers import Fresh
from harmonize.store.place import Place, at_once
from harmonize.store.recent import Recent
from harmonize.store.sharded import Empty, ShardedArray, decode

OPEN_ARRAYS = 256


Chunk = tuple[str, tuple[int, ...]]
"""An array (``ArrayReader.key``), and the index of an inner chunk."""


class Chunks:
    """Decoded chunks that are kept as long as this is: each is read once, by the thread that asks first.

    ``memory`` is where they, and the batches made of them, get theirs; ``lasting`` says that there is more than one.
    """

    def __init__(self, memory: Fresh | None = None, lasting: bool = False) -> None:
        self.lasting = lasting
        self.memory = Fresh() if memory is None else memory
        self._known: dict[Chunk, np.ndarray | None] = {}  # None: on its way
        self._changed = threading.Condition()
        self._waiting = 0

    def __call__(self, chunk: Chunk, read: Callable[[tuple[int, ...], Empty], np.ndarray]) -> np.ndarray:
        """The decoded chunk; ``read`` makes it from its index where it is not here yet."""
        found = self._known.get(chunk)
        while found is None:
            if self.claim(chunk):
                try:
                    found = read(chunk[1], self.memory.empty)
                except BaseException:
                    self.give_up(chunk)
                    raise
                self.put(chunk, found)
            else:
                found = self._wait(chunk)
        return found

    def claim(self, chunk: Chunk) -> bool:
        """Whether nobody has the chunk or reads it yet; who claims one must ``put`` it or ``give_up``."""
        if chunk in self._known:
            return False
        with self._changed:
            if chunk in self._known:
                return False
            self._known[chunk] = None
            return True

    def put(self, chunk: Chunk, decoded: np.ndarray) -> None:
        """A chunk that was claimed."""
        self._known[chunk] = decoded
        self._wake()

    def give_up(self, chunk: Chunk) -> None:
        """Leave a chunk that was claimed to whoever waits for it or asks later."""
        self._known.pop(chunk, None)
        self._wake()

    def _wake(self) -> None:
        if self._waiting:  # raised before the waiting thread looks again, so nobody is missed
            with self._changed:
                self._changed.notify_all()

    def _wait(self, chunk: Chunk) -> np.ndarray | None:
        """The chunk when it is here; None where it was given up."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._known.get(chunk, self) is not None)
            self._waiting -= 1
        return self._known.get(chunk)


class ArrayReader:
    """The sharded arrays below a store, by path, at most ``OPEN_ARRAYS`` of them open."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._pid = os.getpid()
        self._arrays = Recent[str, ShardedArray](OPEN_ARRAYS)

    def __reduce__(self) -> tuple[type[ArrayReader], tuple[Place]]:
        return ArrayReader, (self._root,)

    def _open(self, path: str) -> ShardedArray:
        return ShardedArray(self._root / path)

    def __call__(self, path: str) -> ShardedArray:
        """The array at a path below the store."""
        if self._pid != os.getpid():  # after a fork: leave the parent's maps alone, open our own
            self._arrays, self._pid = Recent(OPEN_ARRAYS), os.getpid()
        return self._arrays(path, self._open)

    def key(self, path: str) -> str:
        """What tells an array from those of other stores."""
        return f"{self._root}/{path}"

    def together(self, paths: Sequence[str]) -> dict[str, ShardedArray]:
        """Several arrays by path, in an object store opened at the same time."""
        return dict(zip(paths, at_once(self._root, self, paths), strict=True))

    def chunk_shape(self, path: str) -> tuple[int, ...]:
        """The shape of the inner chunks of an array, which is not kept open for it."""
        return self._open(path).chunk

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder."""
        return isinstance(self._root, Path)

    def ahead(
        self,
        arrays: Mapping[str, ShardedArray],
        wanted: Iterable[tuple[str, int, Chunks]],
        near: Iterable[tuple[str, int, Chunks]] = (),
    ) -> Callable[[], None]:
        """Claim chunks, by path among ``arrays`` and number, each in its ``Chunks``, and of those ``near`` by the ones
        in the same shards. What is given back reads them: all at once in a folder; in an object store those of a
        shard together, and shards at the same time. It must be called, as others wait for what is claimed."""
        keys = {path: self.key(path) for path in arrays}
        shards: dict[tuple[str, tuple[int, ...]], list[tuple[Chunk, Chunks]]] = {}
        for path, number, into in wanted:
            if into.claim(chunk := (keys[path], (0, number))):
                shards.setdefault((path, arrays[path].shard_of(chunk[1])), []).append((chunk, into))
        for path, number, into in near:
            chunk = keys[path], (0, number)
            ours = shards.get((path, arrays[path].shard_of(chunk[1])))
            if ours is not None and into.claim(chunk):
                ours.append((chunk, into))

        def read(some: Sequence[tuple[str, list[tuple[Chunk, Chunks]]]]) -> None:
            encoded = [one for path, ours in some for one in arrays[path].encoded([index for (_, index), _ in ours])]
            claimed = [one for _, ours in some for one in ours]
            for (chunk, into), decoded in zip(claimed, decode(encoded, claimed[0][1].memory.empty), strict=True):
                into.put(chunk, decoded)

        def read_all() -> None:
            each = [(path, ours) for (path, _), ours in shards.items()]
            try:
                at_once(self._root, read, [each] if self.is_local and each else [[one] for one in each])
            except BaseException:  # also of shards whose turn did not come: whoever waits asks again
                for ours in shards.values():
                    for chunk, into in ours:
                        into.give_up(chunk)
                raise

        return read_all
