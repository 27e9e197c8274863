"""Which epoch an iteration is, and where it starts: agreed on by all workers of a ``DataLoader``."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from torch.utils.data import get_worker_info

_LOADERS, _WORKERS = 8, 1024
"""So many iterations, begun last, are told apart, with so many workers each."""


class Position:
    """Every iteration is the next epoch, also where the one before was broken off; ``set`` chooses.

    A ``DataLoader`` with workers copies its data set into each of them, the main process never iterates, and who
    has seen an epoch end is not known here. So the count is in memory that all copies share. The copies of one
    iteration know each other by the seed that the ``DataLoader`` draws for it. Where workers persist, each counts its
    own iterations: all of them begin every one.
    """

    def __init__(self) -> None:
        self._next = torch.zeros(3, dtype=torch.int64)  # times set, epoch, step
        self._begun = torch.full((_LOADERS, 4), -1, dtype=torch.int64)  # seed, times set, epoch, step
        self._took = torch.zeros((_LOADERS, _WORKERS), dtype=torch.bool)
        for shared in (self._next, self._begun, self._took):
            shared.share_memory_()  # type: ignore[no-untyped-call]
        self._lock = multiprocessing.get_context("spawn").Lock()  # which a fork inherits, too
        self._mine: tuple[tuple[int, int], int] | None = None  # of this copy: what it took last, and its epoch

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:  # on the way into a worker
            return self.__dict__ | {"_mine": None}
        return {"at": self.peek()}  # a copy for itself: a lock cannot be had elsewhere

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "at" in state:
            self.__init__()  # type: ignore[misc]
            self.set(*state["at"])
        else:
            self.__dict__.update(state)

    def set(self, epoch: int, step: int = 0) -> None:
        """The next iteration is this epoch, from this step on."""
        with self._lock:
            self._next[:] = torch.tensor([int(self._next[0]) + 1, epoch, step])

    def follow(self, epoch: int) -> None:
        """This copy is at an epoch that it was told of: what it takes next, and what others begin, comes after it."""
        with self._lock:
            if self._mine is not None:
                self._mine = self._mine[0], epoch
            self._next[1] = max(int(self._next[1]), epoch + 1)

    def peek(self) -> tuple[int, int]:
        """Epoch and step of the next iteration."""
        return int(self._next[1]), int(self._next[2])

    def take(self) -> tuple[int, int]:
        """Begin an iteration: its epoch, and the step to start from."""
        worker = get_worker_info()
        seed, number = (0, 0) if worker is None else (worker.seed - worker.id, worker.id)
        with self._lock:
            name = (seed, int(self._next[0]))
            if self._mine is not None and self._mine[0] == name:
                epoch, step = self._mine[1] + 1, 0
                self._next[1] = max(int(self._next[1]), epoch + 1)
            else:
                epoch, step = self._join(name, number)
            self._mine = name, epoch
        return epoch, step

    def _join(self, name: tuple[int, int], number: int) -> tuple[int, int]:
        """An iteration that others of its name may have begun; a worker that took it before is another one's."""
        rows = self._begun.tolist()
        for row, (*known, epoch, step) in enumerate(rows):
            if tuple(known) == name and not self._took[row, number]:
                self._took[row, number] = True
                return epoch, step
        epoch, step = self.peek()
        self._begun[1:], self._took[1:] = self._begun[:-1].clone(), self._took[:-1].clone()
        self._begun[0] = torch.tensor([*name, epoch, step])
        self._took[0] = False
        self._took[0, number] = True
        self._next[1], self._next[2] = epoch + 1, 0
        return epoch, step
