"""Work done ahead of who takes its results, in threads and in order."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Lock, Thread, current_thread
from typing import Any, TypeVar

P = TypeVar("P")
T = TypeVar("T")
_Tried = tuple[Any, BaseException | None]


def ahead(plans: Iterator[P], work: Callable[[P], T], threads: int, most: int) -> Iterator[T]:
    """``work`` of each plan, in order, up to ``most`` of them before they are asked for.

    The plans are made in the threads too, one at a time: who takes the results waits for neither. What a plan or its
    work raises is raised in its place.

    All that passes between threads passes through ``SimpleQueue``, which is written in C: a ``Future`` for each result
    takes its taker longer.

    Raises ``RuntimeError`` in a forked process that goes on with it: its threads are not there.
    """
    making, ended, process = Lock(), Event(), os.getpid()
    free: SimpleQueue[None] = SimpleQueue()  # one for each result that may be begun
    coming: SimpleQueue[SimpleQueue[_Tried]] = SimpleQueue()  # the place of each result, in the order of plans

    def next_one() -> None:
        with making:
            place: SimpleQueue[_Tried] = SimpleQueue()
            coming.put(place)
            plan, error = _tried(next, plans, _END)
        place.put((plan, error) if error is not None or plan is _END else _tried(work, plan))

    def run() -> None:
        while free.get() is None and not ended.is_set():
            next_one()

    # Daemons, and ended at exit: Python waits for other threads before it closes the generators that would end them.
    running: list[Thread] = []

    def end() -> None:
        ended.set()
        for _ in running:
            free.put(None)
        if current_thread() not in running:  # as it is where one of them collects cycles of objects
            for thread in running:
                thread.join()

    atexit.register(end)
    try:
        for n in range(threads):
            thread = Thread(target=run, name=f"harmonize-ahead-{n}", daemon=True)
            thread.start()
            running.append(thread)
        for _ in range(most):
            free.put(None)
        while True:
            if os.getpid() != process:
                raise RuntimeError("begun before a fork, whose child has none of its threads: begin another iteration")
            free.put(None)
            result, error = coming.get().get()
            if error is not None:
                raise error
            if result is _END:
                return
            yield result
    finally:
        end()
        atexit.unregister(end)


def _tried(function: Callable[..., Any], *given: object) -> _Tried:
    try:
        return function(*given), None
    except BaseException as error:  # noqa: BLE001 - raised where the result is taken
        return None, error


_END = object()
