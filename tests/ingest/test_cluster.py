"""Many processes, one store: a Dask cluster that loses a worker, job arrays, two runs at once (issue 5, points 2, 4)."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harmonize as hz
from crash.harness import Undisturbed, failures_of, recordings_of, write_cohort
from harmonize.ingest import Progress, ProjectKey, pool
from harmonize.ingest.pool import dask_pool
from ingest.dask_cluster import cluster, environment

plan_module = importlib.import_module("harmonize.ingest.plan")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Undisturbed]:
    """Sources, a key file, and what one sequential run makes of them."""
    folder = tmp_path_factory.mktemp("cluster")
    write_cohort(folder / "cohort")
    key = folder / "project.key"
    key.write_text("11" * 32 + "\n")
    key.chmod(0o600)
    hz.convert(folder / "cohort", folder / "whole.zarr", key=ProjectKey(bytes.fromhex("11" * 32)))
    store = hz.open(folder / "whole.zarr")
    return folder / "cohort", key, Undisturbed(recordings_of(store), failures_of(store), 0.0)


def start_convert(cohort: tuple[Path, Path, Undisturbed], root: Path, *options: str) -> subprocess.Popen[bytes]:
    source, key, _ = cohort
    command = [sys.executable, "-m", "harmonize", "convert", str(source), "--into", str(root), "--key", str(key)]
    return subprocess.Popen(
        [*command, "--workers", "0", *options], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def assert_whole(root: Path, expected: Undisturbed) -> None:
    store = hz.open(root)
    assert recordings_of(store) == expected.recordings
    assert failures_of(store) == expected.failures


def test_a_job_array_makes_the_store_of_one_run(cohort: tuple[Path, Path, Undisturbed], tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    jobs = [start_convert(cohort, root, "--partition", f"{part}/3") for part in (1, 2, 3)]
    codes = [job.wait(120) for job in jobs]
    assert set(codes) <= {0, 1}, "0: nothing failed in that part"
    assert 1 in codes
    assert_whole(root, cohort[2])


def test_two_runs_at_once_both_end_with_everything_committed(
    cohort: tuple[Path, Path, Undisturbed], tmp_path: Path
) -> None:
    root = tmp_path / "s.zarr"
    runs = [start_convert(cohort, root) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [1, 1]
    assert_whole(root, cohort[2])


def test_readers_see_whole_versions_while_others_write(cohort: tuple[Path, Path, Undisturbed], tmp_path: Path) -> None:
    root, expected = tmp_path / "s.zarr", cohort[2]
    jobs = [start_convert(cohort, root, "--partition", f"{part}/2") for part in (1, 2)]
    while any(job.poll() is None for job in jobs):
        if (root / "zarr.json").exists():
            assert recordings_of(hz.open(root)).items() <= expected.recordings.items()
    assert_whole(root, expected)


def test_a_dask_cluster_that_loses_a_worker_makes_the_same_store(
    cohort: tuple[Path, Path, Undisturbed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "TASK_BYTES", 10_000)
    monkeypatch.setattr(plan_module, "SMALL_TASK_BYTES", 5_000)
    source, _, expected = cohort
    killed: list[int] = []
    with cluster(tmp_path, 2) as (address, workers), dask_pool(address) as executor:

        def kill_one(progress: Progress) -> None:
            if progress.stage == "write" and progress.sources_done >= 2 and not killed:
                workers[0].send_signal(signal.SIGKILL)
                killed.append(workers[0].pid)

        root = tmp_path / "s.zarr"
        key = ProjectKey(bytes.fromhex("11" * 32))
        hz.convert(source, root, executor=executor, key=key, workers=2, progress=kill_one)
        assert killed
        deadline = time.monotonic() + 20
        while workers[0].poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert workers[0].returncode == -signal.SIGKILL
    assert_whole(root, expected)


def test_a_scheduler_that_is_not_there_is_one_line(
    cohort: tuple[Path, Path, Undisturbed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_S", 1)
    with (
        pytest.raises(pool.ClusterError, match="no Dask scheduler answers at tcp://127"),
        dask_pool("tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(pool.ClusterError, match=r"pip install 'harmonize-biomed\[dask\]'"),
        dask_pool("tcp://127.0.0.1:9"),
    ):
        pass
