"""Work done ahead of who takes its results, in threads and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

P = TypeVar("P")
T = TypeVar("T")


def ahead(plans: Iterator[P], work: Callable[[P], T], threads: int, most: int) -> Iterator[T]:
    """``work`` of each plan, in order, up to ``most`` of them before they are asked for.

    The plans are made in the threads too, one at a time: who takes the results waits for neither. What a plan or its
    work raises is raised in its place.
    """
    making, coming, unplanned = Lock(), deque[Future[Any]](), deque[Future[Any]]()

    def next_one() -> None:
        # The oldest place gets the next plan, whichever thread is here first.
        with making:
            place = unplanned.popleft()
            if not place.set_running_or_notify_cancel():
                return
            try:
                plan = next(plans, _END)
            except BaseException as error:  # noqa: BLE001 - raised where the result is taken
                place.set_exception(error)
                return
        try:
            place.set_result(_END if plan is _END else work(plan))  # type: ignore[arg-type] # plans are P but for _END
        except BaseException as error:  # noqa: BLE001
            place.set_exception(error)

    with ThreadPoolExecutor(threads, "harmonize-ahead") as pool:
        try:
            while True:
                while len(coming) <= most:
                    place = Future[Any]()
                    coming.append(place)
                    unplanned.append(place)
                    pool.submit(next_one)
                result = coming.popleft().result()
                if result is _END:
                    return
                yield result
        finally:
            for place in coming:
                place.cancel()


_END = object()
