"""A pool whose processes may be killed (issue 5, point 3)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

import harmonize as hz
from converters.edf_bytes import Signal, edf_bytes
from converters.edf_cases import ramp
from harmonize.ingest import ProjectKey
from harmonize.ingest.pool import COLLECT_EVERY, ProcessPool, WorkerDied, process_pool


def square(number: int) -> int:
    return number * number


def deadly(number: int) -> int:
    """Killed, as for memory, at 3."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return number


def wrong(number: int) -> int:
    raise KeyError(number)


@pytest.fixture
def pool() -> Iterator[Executor]:
    with process_pool(2) as executor:
        assert executor is not None
        yield executor


def test_answers_and_errors_come_back(pool: Executor) -> None:
    assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
    with pytest.raises(KeyError, match="5"):
        pool.submit(wrong, 5).result(30)


def test_a_killed_process_costs_its_own_task_alone(pool: Executor) -> None:
    futures = [pool.submit(deadly, number) for number in range(12)]
    for number, future in enumerate(futures):
        if number == 3:
            with pytest.raises(WorkerDied):
                future.result(60)
        else:
            assert future.result(60) == number
    assert pool.submit(square, 7).result(60) == 49, "and the pool goes on"


def test_processes_can_be_started_before_there_is_work() -> None:
    pool = ProcessPool(2)
    pool.start()
    before = {one.pid for one in multiprocessing.active_children()}
    assert len(before) == 2
    assert {pool.submit(os.getpid).result(60) for _ in range(4)} <= before
    pool.shutdown()


UNGUARDED = """
from pathlib import Path
import harmonize as hz
from harmonize.ingest import ProjectKey
from harmonize.ingest.pool import process_pool
with process_pool(2) as pool:
    hz.convert("in", "s.zarr", dataset="d", executor=pool, key=ProjectKey(b"pool".ljust(32)))
"""


def test_a_script_that_starts_itself_again_is_told_so_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(300):  # several chunks of sources
        (tmp_path / "in" / f"{number}.edf").write_bytes(edf_bytes([Signal(samples=ramp(24))], n_records=3))
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1
    assert "CannotStartError" in ran.stderr.splitlines()[-1]
    assert "__main__" in ran.stderr.splitlines()[-1]
    assert ran.stderr.count("Traceback") < 8, "a process each for the pool, for one more try, and the script's own"


def test_a_first_task_that_kills_does_not_break_the_pool() -> None:
    with process_pool(1) as pool:
        assert pool is not None
        with pytest.raises(WorkerDied):
            pool.submit(deadly, 3).result(60)
        assert pool.submit(square, 7).result(60) == 49


def test_cycles_are_looked_for_less_often_only_while_converting(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.edf").write_bytes(edf_bytes([Signal(samples=ramp(24))], n_records=3))
    before, within = gc.get_threshold(), []
    hz.convert(
        tmp_path / "in",
        tmp_path / "s.zarr",
        key=ProjectKey(b"pool".ljust(32)),
        progress=lambda _: within.append(gc.get_threshold()[0]),
    )
    assert set(within) == {COLLECT_EVERY}
    assert gc.get_threshold() == before
    with process_pool(1) as pool:
        assert pool is not None
        assert pool.submit(gc.get_threshold).result(60)[0] == COLLECT_EVERY


def test_dropped_work_is_cancelled() -> None:
    pool = ProcessPool(1)
    futures = [pool.submit(time.sleep, 0.2) for _ in range(20)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures[2:])


class Killing(Executor):
    """Runs in this process; what is given the source named here, to do the work named here, dies."""

    def __init__(self, name: str, work: str) -> None:
        self._name, self._work = name, work

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if fn.__name__ == self._work and self._name in repr(args):
            future.set_exception(WorkerDied())
        else:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("work", ["describe_all", "timed_task"])
def test_the_source_that_kills_is_named_and_all_others_convert(tmp_path: Path, work: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        data = edf_bytes([Signal(samples=ramp(24))], n_records=3)
        (folder / f"n{number}.edf").write_bytes(data)
    killing = Killing("n3.edf", work)
    key = ProjectKey(b"pool".ljust(32))
    outcome = hz.convert(folder, tmp_path / "s.zarr", executor=killing, key=key, privacy="keep")
    assert [(row["source"], row["code"]) for row in outcome.failures] == [("n3.edf", "worker_died")]
    assert sorted(hz.open(tmp_path / "s.zarr").recordings["source"]) == [f"n{n}.edf" for n in (0, 1, 2, 4)]
