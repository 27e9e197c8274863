"""Converting into an object store, against conversion into a folder (issue 5, point 7)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableMerger

import harmonize as hz
from harmonize.ingest.pool import dask_pool, process_pool
from harmonize.store import catalog, create_store
from harmonize.store.catalog import Batch
from harmonize.store.errors import UnreachableError
from harmonize.store.object_path import ObjectPath
from harmonize.store.parts import SignalPart
from harmonize.store.place import place_of
from harmonize.store.sharded import ShardedArray
from ingest.dask_cluster import cluster
from maintain.cohort import KEY, contents, convert, recipe, samples_of, subject_of, write_cohort
from object_store.servers import S3, SECRET
from stores import noise, recording, stream

PEOPLE = ("anna", "cora")
FAULTS = {"fail": 0.05, "lost": 0.02, "slow": 0.03, "delay_s": 0.2}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """Four people's files, and what a store in a folder says of them."""
    base = tmp_path_factory.mktemp("cohort")
    folder = write_cohort(base / "ward", PEOPLE)
    return folder, contents(convert(folder, base / "local.zarr"))


@pytest.mark.parametrize("faults", [{}, FAULTS], ids=["quiet", "faults"])
def test_a_store_under_a_url_holds_what_one_in_a_folder_holds(s3: S3, cohort, tmp_path, faults) -> None:
    folder, expected = cohort
    s3.folder += "-faults" if faults else ""
    s3.faults(**faults)
    with process_pool(2 if faults else 0) as executor:
        done = hz.convert(folder, s3.url(), recipe=recipe(), key=KEY, executor=executor, workers=2)
        again = hz.convert(folder, s3.url(), recipe=recipe(), key=KEY, executor=executor, workers=2)
    assert (done.converted, done.failures) == (3 * len(PEOPLE), [])
    assert (again.converted, again.unchanged) == (0, 3 * len(PEOPLE))
    assert contents(hz.open(s3.url())) == expected
    if faults:
        fates = s3.fates()
        assert min(fates["fail"], fates["lost"], fates["slow"]) > 3, "the proxy did what the test is about"
    # The copy is an ordinary store, and zarr alone reads from it what was planted.
    copy = s3.download("corpus.zarr", tmp_path)
    assert contents(hz.open(copy)) == expected
    rows = hz.open(copy).streams.join(hz.open(copy).recordings, on="recording_id").filter(subject=subject_of("cora"))
    row = rows.filter(rate_num=100).row(0, named=True)
    array = zarr.open_group(copy / row["part"], mode="r")["samples"]
    stored = np.asarray(array[:, row["start"] : row["start"] + row["n_samples"]])
    np.testing.assert_array_equal(stored, samples_of("cora"))


def test_no_secret_is_stored_logged_or_pickled(s3: S3, cohort, tmp_path, capfd) -> None:
    import pickle

    events: list[str] = []
    hz.convert(cohort[0], s3.url(), recipe=recipe(), key=KEY, log=lambda name, row: events.append(f"{name} {row}"))
    store = hz.open(s3.url())
    out = capfd.readouterr()
    texts = [pickle.dumps(store), "".join(events).encode(), repr(store).encode(), (out.out + out.err).encode()]
    texts += [s3.get(name) for name in s3.names()]
    assert not [text[:80] for text in texts if SECRET.encode() in text or b"AKIAEXAMPLE" in text]


def test_two_runs_at_once_make_one_store(s3: S3, cohort) -> None:
    """Neither finds a store; both make it, and all that either converts is there."""
    folder, expected = cohort
    runs = [_convert_elsewhere(folder, s3.url(), f"partition=({part}, 2)") for part in (1, 2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    assert contents(hz.open(s3.url())) == expected


def test_of_two_commits_of_one_version_one_is_refused(s3: S3) -> None:
    """Both opened the table at version 0 and want to write version 1."""
    root = place_of(s3.url())
    catalog.create_tables(root)
    merges = []
    for name in "ab":
        frame = catalog._frame("recordings", [{"recording_id": "same", "commit": name}])
        merge = catalog.table_at(root, "recordings").merge(
            frame, predicate="old.recording_id = new.recording_id", source_alias="new", target_alias="old"
        )
        merges.append(merge.when_matched_update_all().when_not_matched_insert_all())
    s3.faults(slow=1.0, delay_s=0.5, only=r"PUT .*/_delta_log/\d{20}\.json")  # both have looked before either writes

    def execute(merge: TableMerger) -> str:
        try:
            merge.execute()
        except CommitFailedError:
            return "refused"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        fates = list(pool.map(execute, merges))
    assert sorted(fates) == ["done", "refused"]
    assert catalog.read(root, "recordings")["commit"].to_list() == ["ab"[fates.index("done")]]
    assert catalog.version_of(root) == 1
    commits = [one for one in s3.asked() if one["fate"] == "slow"]
    assert Counter(one["status"] for one in commits) == {200: 1, 412: 1}, "it is the store that decides"
    assert all(one["If-None-Match"] == "*" for one in commits)


@pytest.mark.parametrize(
    ("status", "says"), [(503, r"does not answer as it should \(status 503\)"), (403, "refuses what was asked")]
)
@pytest.mark.parametrize("only", [r"PUT .*/_delta_log/\d{20}\.json", "PUT .*/part-", "GET .*/recordings/_delta_log/0"])
def test_a_commit_that_cannot_be_made_says_why(s3: S3, monkeypatch, status: int, says: str, only: str) -> None:
    monkeypatch.setattr("harmonize.store.object_path.MAX_RETRIES", 1)
    root = place_of(s3.url())
    catalog.create_tables(root)
    s3.faults(fail=1.0, status=status, only=only)
    with pytest.raises(UnreachableError, match=says) as caught:
        catalog.commit(root, Batch(recordings=[{"recording_id": "a"}]))
    assert len(str(caught.value)) < 100, "in words of ours"
    s3.faults()
    assert catalog.version_of(root) == 0


def test_commits_of_many_at_once_all_count(s3: S3) -> None:
    root = place_of(s3.url())
    catalog.create_tables(root)
    s3.faults(**FAULTS)
    batches = [Batch(recordings=[{"recording_id": f"r{i}"}]) for i in range(5)]
    with ThreadPoolExecutor(5) as pool:
        versions = sorted(pool.map(lambda batch: catalog.commit(root, batch), batches))
    assert len(set(versions)) == 5
    assert sorted(catalog.read(root, "recordings")["recording_id"]) == [f"r{i}" for i in range(5)]


def test_a_run_killed_while_it_uploads_leaves_nothing_visible(s3: S3, cohort, tmp_path, monkeypatch) -> None:
    folder, expected = cohort
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed = _convert_elsewhere(folder, s3.url(), "kill_at=3")
    assert killed.wait(120) == -signal.SIGKILL
    assert len(hz.open(s3.url())) == 0
    left = list(tmp_path.glob("harmonize-part-*"))
    assert left, "the run was killed in the middle of a part"
    for folder_left in left:
        os.utime(folder_left, (0, 0))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert hz.convert(folder, s3.url(), recipe=recipe(), key=KEY).converted == 3 * len(PEOPLE)
    assert hz.convert(folder, s3.url(), recipe=recipe(), key=KEY).converted == 0
    assert contents(hz.open(s3.url())) == expected
    assert not list(tmp_path.glob("harmonize-part-*")), "nothing stays on this machine, of the killed run neither"


def uploading(s3: S3) -> bool:
    return any(one["method"] == "PUT" and "/c/" in one["path"] for one in s3.asked())


def wait_for(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pool_whose_processes_are_killed_while_they_upload_makes_the_same_store(s3: S3, cohort) -> None:
    """They are run again, each source alone; what they had uploaded is seen by nobody."""
    s3.faults(slow=1.0, delay_s=0.2, only="PUT .*/c/")
    with process_pool(2) as executor, ThreadPoolExecutor(1) as beside:
        run = beside.submit(hz.convert, cohort[0], s3.url(), recipe=recipe(), key=KEY, executor=executor, workers=2)
        wait_for(lambda: uploading(s3))
        workers = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
        for one in workers:
            one.kill()
        done = run.result(120)
    assert len(workers) == 2
    assert (done.converted, done.failures) == (3 * len(PEOPLE), [])
    assert contents(hz.open(s3.url())) == cohort[1]


def test_a_dask_cluster_that_loses_a_worker_makes_the_same_store(s3: S3, cohort, tmp_path, monkeypatch) -> None:
    for name in ("TASK_BYTES", "SMALL_TASK_BYTES"):
        monkeypatch.setattr(f"harmonize.ingest.plan.{name}", 10_000)
    s3.faults(slow=1.0, delay_s=0.1, only="PUT .*/c/")
    with cluster(tmp_path, 2) as (address, workers), dask_pool(address) as executor, ThreadPoolExecutor(1) as beside:
        run = beside.submit(hz.convert, cohort[0], s3.url(), recipe=recipe(), key=KEY, executor=executor, workers=2)
        wait_for(lambda: uploading(s3))
        workers[0].send_signal(signal.SIGKILL)
        done = run.result(120)
    assert (done.converted, done.failures) == (3 * len(PEOPLE), [])
    assert contents(hz.open(s3.url())) == cohort[1]


def test_a_long_recording_is_uploaded_shard_by_shard(s3: S3, tmp_path, monkeypatch) -> None:
    """Never more than a shard and some metadata lie on this machine; a large shard goes up in several pieces."""
    shard = 12 * 1024 * 1024
    monkeypatch.setattr("harmonize.store.geometry.SHARD_BYTES", shard)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = noise((2, 8_000_000))
    root = place_of(s3.url())
    create_store(root, "key")
    s3.faults(**FAULTS, only="(PUT|POST) .*/samples/")
    part = SignalPart(root, "part", [stream(values.shape[1])], "none")
    held = []
    for start in range(0, values.shape[1], 500_000):
        part.write(0, start, values[:, start : start + 500_000])
        held.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
    part.close([recording("long", [stream(values.shape[1])])], [0])
    assert shard // 2 < max(held) < shard + 100_000
    assert list(tmp_path.iterdir()) == []
    folder = f"corpus.zarr/{part.path}/samples/c/0"
    assert s3.names(folder) == [f"{folder}/{i}" for i in range(3)]
    pieces = [one for one in s3.asked() if one["method"] == "PUT" and f"{folder}/0?partNumber" in one["path"]]
    assert len({re.search(r"partNumber=(\d+)", one["path"])[1] for one in pieces}) == 3, "of 5 MB each"
    np.testing.assert_array_equal(ShardedArray(root / part.path / "samples").read([(0, 2), (0, 8_000_000)]), values)
    other = SignalPart(root, "other", [stream(values.shape[1])], "none")
    other.write(0, 0, values[:, : shard // 4])  # one shard, and no more
    assert s3.names(f"corpus.zarr/{other.path}/samples/c/0/0")
    other.discard()
    assert s3.names(f"corpus.zarr/{other.path}/") == []


def test_a_store_that_stops_answering_is_an_error_and_half_a_part_is_not_seen(s3: S3, cohort, monkeypatch) -> None:
    folder, _ = cohort
    hz.convert(folder / "anna", s3.url(), recipe=recipe(), key=KEY)
    before = contents(hz.open(s3.url()))
    monkeypatch.setattr("harmonize.store.object_path.MAX_RETRIES", 2)
    monkeypatch.setattr("harmonize.store.object_path._clients", {})
    s3.faults(fail=1.0, only="PUT .*/(samples|0)/c/")
    with pytest.raises(UnreachableError, match=r"s3://bucket does not answer as it should \(status 503\)") as caught:
        hz.convert(folder, s3.url(), recipe=recipe(), key=KEY)
    assert SECRET not in str(caught.value)
    assert s3.fates()["fail"] == 3, "asked once and twice again"
    s3.faults()
    assert contents(hz.open(s3.url())) == before
    s3.faults(fail=1.0)
    with pytest.raises(UnreachableError, match="status 503"):
        hz.open(s3.url())


def _convert_elsewhere(folder: Path, url: str, how: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, __file__, str(folder), url, how], env=environment)


if __name__ == "__main__":  # a conversion in a process of its own, which may kill itself at its n-th upload of a part
    source, url, how = sys.argv[1:]
    options = eval(f"dict({how})")
    if kill_at := options.pop("kill_at", None):
        put, done = ObjectPath.write_bytes, []

        def put_or_die(self: ObjectPath, data: bytes | Path) -> None:
            done.append(self)
            if len(done) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            put(self, data)

        ObjectPath.write_bytes = put_or_die  # type: ignore[method-assign]  # this process is to die in it
    hz.convert(source, url, recipe=recipe(), key=KEY, **options)
