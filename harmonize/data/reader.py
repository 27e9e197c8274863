"""Open arrays of one process: opened when first read, never carried over a fork or a pickle."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from harmonize.store.sharded import ShardedArray

OPEN_ARRAYS = 256


class ArrayReader:
    """The sharded arrays below a store, by path, at most ``OPEN_ARRAYS`` of them open."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pid: int | None = None
        self._arrays: OrderedDict[str, ShardedArray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_root": self._root, "_pid": None, "_arrays": OrderedDict()}

    def __call__(self, path: str) -> ShardedArray:
        """The array at a path below the store."""
        if self._pid != os.getpid():  # after a fork: leave the parent's maps alone, open our own
            self._arrays, self._pid = OrderedDict(), os.getpid()
        if array := self._arrays.get(path):
            self._arrays.move_to_end(path)
            return array
        array = self._arrays[path] = ShardedArray(self._root / path)
        if len(self._arrays) > OPEN_ARRAYS:
            self._arrays.popitem(last=False)
        return array
