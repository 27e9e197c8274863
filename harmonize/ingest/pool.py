"""Where work runs: a process pool that spawns and whose workers do not outlive their parent, or a Dask cluster."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

WATCH_EVERY_S = 1.0
CONNECT_S = 20
COLLECT_EVERY = 50_000
"""Objects more than before until cycles are looked for: Python's 700 is for programs that make fewer. Drafts and rows
are many and have no cycles."""


class ClusterError(Exception):
    """There is no cluster to work on; the message says why."""


class WorkerDied(Exception):
    """The process that ran a task was killed, also when it ran nothing else."""


class CannotStartError(Exception):
    """Not one process could be started; the message says why."""

    def __init__(self) -> None:
        super().__init__(
            "worker processes end while they start (see above). A script that uses them must begin its work below "
            "'if __name__ == \"__main__\":', as each process imports the script first"
        )


@dataclass
class _Job:
    answer: Future[Any]
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]


class ProcessPool(Executor):
    """Spawned processes, of which any may be killed (for memory, mostly) at the cost of what it did alone.

    A ``ProcessPoolExecutor`` whose worker dies fails all it was given. Here only ``2 * workers`` tasks are given to
    one; those that it fails are then run one at a time in processes of their own, and the one that kills its process
    again fails with ``WorkerDied``; all others go on in a new pool. Where no process can be started at all, all fail
    with ``CannotStartError``.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.RLock()
        self._waiting: deque[_Job] = deque()
        self._suspects: list[_Job] = []
        self._running = 0
        self._pool: ProcessPoolExecutor | None = None
        self._idle = threading.Condition(self._lock)
        self._killed = self._works = False
        self._broken: CannotStartError | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn`` in a process; the future fails with what it raises, or with ``WorkerDied``."""
        job = _Job(Future(), fn, args, kwargs)
        with self._lock:
            self._waiting.append(job)
            self._fill()
        return job.answer

    def start(self) -> None:
        """Start the processes, which take a second to import what they need, before there is work for them."""
        for _ in range(self._workers):
            self.submit(_nothing)

    def _fill(self) -> None:
        while self._waiting and self._running < 2 * self._workers and not self._suspects:
            job = self._waiting.popleft()
            if not job.answer.set_running_or_notify_cancel():
                continue
            if self._broken:
                job.answer.set_exception(self._broken)
                continue
            self._pool = self._pool or _spawning(self._workers)
            try:
                with _deaf():
                    inner = self._pool.submit(job.work, *job.arguments, **job.named)
            except BrokenProcessPool:  # a moment ago
                self._suspects.append(job)
                continue
            self._running += 1
            inner.add_done_callback(partial(self._ended, job))
        if self._suspects and not self._running:
            self._pool = None
            self._running = 1  # the thread
            threading.Thread(target=self._run_alone, args=(self._suspects,), daemon=True).start()
        if not self._running and not self._waiting:
            self._idle.notify_all()

    def _ended(self, job: _Job, inner: Future[Any]) -> None:
        error = None if inner.cancelled() else inner.exception()
        suspect = isinstance(error, BrokenProcessPool) and not self._killed
        if not suspect:
            _answer(job, inner)
        with self._lock:
            self._running -= 1
            self._works |= not suspect
            if suspect:
                self._suspects.append(job)
            self._fill()

    def _run_alone(self, suspects: list[_Job]) -> None:
        if not self._works and isinstance(_alone(_nothing).exception(), BrokenProcessPool):
            self._broken = CannotStartError()
        for job in suspects:
            if self._broken:
                job.answer.set_exception(self._broken)
            else:
                _answer(job, _alone(job.work, *job.arguments, **job.named))
        with self._lock:
            self._suspects, self._running = [], 0
            self._fill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with ``cancel_futures`` what has not begun is dropped."""
        with self._lock:
            if cancel_futures:
                for job in self._waiting:
                    job.answer.cancel()
                self._waiting.clear()
            if wait:
                self._idle.wait_for(lambda: not self._running and not self._waiting)
            pool = self._pool
        if pool is not None:  # without the lock, which answers of running tasks need
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """Drop what has not begun, and kill the processes; what they ran fails with ``WorkerDied``."""
        self._killed, pool = True, self._pool
        with self._lock:
            for job in self._waiting:
                job.answer.cancel()
            self._waiting.clear()
        if pool is not None:
            # Python 3.14 has ProcessPoolExecutor.kill_workers() for it.
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.kill()
            pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started in here do not hear Ctrl-C, from their first moment (``_start_worker``)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nothing() -> None:
    """What takes a process long is to import this module."""


def _alone(work: Callable[..., Any], *arguments: Any, **named: Any) -> Future[Any]:
    """Work as it ended in a process of its own."""
    with _spawning(1) as pool, _deaf():
        inner = pool.submit(work, *arguments, **named)
        wait([inner])
    return inner


def _answer(job: _Job, inner: Future[Any]) -> None:
    if inner.cancelled():
        job.answer.set_exception(CancelledError())
    elif isinstance(inner.exception(), BrokenProcessPool):
        job.answer.set_exception(WorkerDied())
    elif (error := inner.exception()) is not None:
        job.answer.set_exception(error)
    else:
        job.answer.set_result(inner.result())


def _spawning(workers: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(os.getpid(),))


@contextmanager
def process_pool(workers: int) -> Iterator[Executor | None]:
    """A pool of spawned processes for ``convert`` and ``scan``; None for 0: work in this process.

    Nothing of the parent is inherited but what is sent. On an error, work that has not begun is dropped, and what runs
    is waited for; on an interrupt it is killed.
    """
    if workers == 0:
        yield None
        return
    pool = ProcessPool(workers)
    try:
        yield pool
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        pool.kill()
        raise
    pool.shutdown()


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Cycles of objects are looked for less often (``COLLECT_EVERY``) within."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, which lets running tasks end; and end with the parent: a killed one
    (SIGKILL) cannot tell its workers, and the pool's pipe, which they hold open themselves, never closes."""
    gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


@contextmanager
def dask_pool(address: str) -> Iterator[Executor]:
    """The workers of a Dask cluster ("tcp://scheduler:8786") as an executor. They must be able to import harmonize
    and see sources and store under the same paths; a task whose worker dies is run again on another.

    Raises ``ClusterError`` without the extra ``[dask]``, or where no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ClusterError("Dask is not installed: pip install 'harmonize-biomed[dask]'") from None
    try:
        connected = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Dask scheduler answers at {address}") from error
    with connected as client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        executor.shutdown()
