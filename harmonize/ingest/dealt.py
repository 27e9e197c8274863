"""Many small pieces of work, dealt out to processes and shared by this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import Generic, TypeVar

from harmonize.ingest.pool import WorkerDied

ALONE = 4096
"""So few items, or fewer, are not worth the start of a process."""
CHUNK = 256
AHEAD = 256
"""Chunks given to the executor before the first is taken, so that what comes out does not pile up."""

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class _Chunk(Generic[A, B, C]):
    """Items that a process is given at once, and what became of them."""

    def __init__(self, executor: Executor, work: Callable[[A], B], items: Sequence[A], lost: C) -> None:
        self._executor, self._work, self._items, self._lost = executor, partial(_each, work), items, lost
        self._future = executor.submit(self._work, items)
        self._answers: list[B] | None = None

    @property
    def done(self) -> bool:
        return self._answers is not None or self._future.done()

    def taken_back(self) -> bool:
        """Do it in this process; False where another has begun."""
        if self._answers is not None or not self._future.cancel():
            return False
        self._answers = self._work(self._items)
        return True

    def answers(self) -> Sequence[B | C]:
        """What came out."""
        if self._answers is not None:
            return self._answers
        return answered(self._executor, self._work, self._items, self._future, self._lost)

    def wait(self) -> None:
        wait([self._future])


def dealt(executor: Executor | None, work: Callable[[A], B], items: Sequence[A], lost: C) -> Iterator[B | C]:
    """``work`` of each item, in order: in the executor's processes and, while they have not begun with it, in this one.

    ``lost`` stands for an item that killed its process. What ``work`` raises is raised here.
    """
    if executor is None or len(items) <= ALONE:
        yield from map(work, items)
        return
    starts = iter(range(0, len(items), CHUNK))
    given: deque[_Chunk[A, B, C]] = deque()
    while True:
        while len(given) < AHEAD and (at := next(starts, None)) is not None:
            given.append(_Chunk(executor, work, items[at : at + CHUNK], lost))
        if not given:
            return
        while not given[0].done:
            if not any(one.taken_back() for one in given):
                given[0].wait()
        yield from given.popleft().answers()


def answered(
    executor: Executor,
    work: Callable[[Sequence[A]], list[B]],
    items: Sequence[A],
    future: Future[list[B]],
    lost: C,
) -> Sequence[B | C]:
    """What ``future`` makes of ``items`` by ``work``; where its process was killed, each item's alone, and ``lost`` for
    the one that kills again."""
    try:
        return future.result()
    except WorkerDied:
        if len(items) == 1:
            return [lost]
        alone = [([item], executor.submit(work, [item])) for item in items]
        return [answer for one in alone for answer in answered(executor, work, *one, lost)]


def _each(work: Callable[[A], B], items: Sequence[A]) -> list[B]:
    return [work(item) for item in items]
