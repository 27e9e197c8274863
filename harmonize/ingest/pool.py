"""Where work runs: a process pool that spawns and whose workers do not outlive their parent, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

WATCH_EVERY_S = 1.0
CONNECT_S = 20


class ClusterError(Exception):
    """There is no cluster to work on; the message says why."""


@contextmanager
def process_pool(workers: int) -> Iterator[Executor | None]:
    """A pool of spawned processes for ``convert`` and ``scan``; None for 0: work in this process.

    Nothing of the parent is inherited but what is sent. On an error or an interrupt, work that has not
    begun is dropped.
    """
    if workers == 0:
        yield None
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, which lets running tasks end; and end with the parent: a killed one
    (SIGKILL) cannot tell its workers, and the pool's pipe, which they hold open themselves, never closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

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
