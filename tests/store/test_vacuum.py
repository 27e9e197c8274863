"""Vacuum: what no kept version names goes; what a version or a running conversion needs stays."""

import json
import os
import shutil
import time

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

import harmonize as hz
from harmonize.ingest import ProjectKey
from harmonize.report.demo_cohort import _edf
from harmonize.store import StoreError, catalog
from harmonize.store.part_files import part_folders
from harmonize.store.vacuum import keep_versions, unnamed, vacuum
from harmonize.store.versions import FORGETTING, list_versions, tag_version
from stores import noise, recording, stream, write_signals

DAY = 24 * 3600.0


def age(root, hours=48.0):
    """As if everything had been written so long ago: files' times and the times in the logs."""
    before = time.time() - hours * 3600
    for path in root.rglob("*"):
        os.utime(path, (before, before))
    for log in root.glob("catalog/*/_delta_log/*.json"):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = int(before * 1000)
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(log, (before, before))


@pytest.fixture
def root(tmp_path):
    """Four versions: a, then b beside it, then a replaced twice; two parts that only old versions name."""
    path = tmp_path / "s.zarr"
    for seed, name in enumerate("abaa"):
        write_signals(path, [(recording(name, [stream(50)]), noise((2, 50), seed=seed))])
    age(path)
    return path


def orphan(root, name="0" * 32):
    layout = next(iter(part_folders(root))).rpartition("/")[0]
    folder = root / layout / name
    shutil.copytree(next(one for one in (root / layout).iterdir() if one.is_dir()), folder)
    (folder / "zarr.json").touch()
    return folder


def snapshot(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_by_default_every_version_stays_and_opens(root) -> None:
    before = {v: hz.open(root, version=v).recordings for v in range(5)}
    done = vacuum(root)
    assert (done.parts, done.versions, sum(done.rows.values()), done.kept) == ({}, [], 0, [0, 1, 2, 3, 4])
    for version, recordings in before.items():
        store = hz.open(root, version=version)
        assert store.recordings.equals(recordings)
        for name in recordings["recording_id"]:
            assert store[name].signals["eeg"].digital().shape == (2, 50)
    np.testing.assert_array_equal(hz.open(root, version=1)["test/a"].signals["eeg"].digital(), noise((2, 50), seed=0))


def test_parts_of_a_killed_run_go_after_the_grace_period(root) -> None:
    folder = orphan(root)
    done = vacuum(root)
    assert (done.parts, done.young) == ({}, 1)
    assert folder.exists()
    age(folder)
    os.utime(folder, (0, time.time() - 2 * DAY))
    assert list(vacuum(root).parts) == [folder.relative_to(root).as_posix()]
    assert not folder.exists()
    assert len(list(part_folders(root))) == 4


def test_a_dry_run_says_what_would_go_and_removes_nothing(root) -> None:
    age(orphan(root))
    os.utime(root / orphan_path(root), (0, 0))
    ghost = catalog._frame("streams", [{"recording_id": "test/x", "part": "nowhere", "commit": "never"}])
    write_deltalake(str(root / "catalog/streams"), ghost, mode="append")
    age(root)
    before = snapshot(root)
    said = vacuum(root, keep=1, dry_run=True)
    assert snapshot(root) == before
    assert (said.versions, said.kept) == ([1, 2, 3], [0, 4])
    assert len(said.parts) == 3
    assert said.rows["streams"] == 3, "a's first two and the ghost's"
    assert said.bytes > 0
    done = vacuum(root, keep=1)
    assert (done.parts, done.files, done.rows) == (said.parts, said.files, said.rows)
    assert len(snapshot(root)) < len(before)


def orphan_path(root):
    return next(part for part in part_folders(root) if part.endswith("0" * 32))


def test_keep_ends_old_versions_but_for_tagged_ones(root) -> None:
    tag_version(root, "paper", 1)
    age(root)
    done = vacuum(root, keep=1)
    assert (done.kept, done.versions) == ([0, 1, 2, 4], [3]), "0 is empty, 2 is made of what 1 and 4 keep"
    assert list_versions(root)["version"].to_list() == [0, 1, 2, 4]
    np.testing.assert_array_equal(hz.open(root, version=2)["test/b"].signals["eeg"].digital(), noise((2, 50), seed=1))
    np.testing.assert_array_equal(
        hz.open(root, version="paper")["test/a"].signals["eeg"].digital(), noise((2, 50), seed=0)
    )
    newest = hz.open(root)
    np.testing.assert_array_equal(newest["test/a"].signals["eeg"].digital(), noise((2, 50), seed=3))
    np.testing.assert_array_equal(newest["test/b"].signals["eeg"].digital(), noise((2, 50), seed=1))
    with pytest.raises(StoreError, match="version 3 of the store was removed, by `vacuum --keep`"):
        hz.open(root, version=3)
    assert len(list(part_folders(root))) == 3


def test_versions_within_the_grace_period_stay_whatever_is_kept(root) -> None:
    write_signals(root, [(recording("a", [stream(50)]), noise((2, 50), seed=8))])
    write_signals(root, [(recording("a", [stream(50)]), noise((2, 50), seed=9))])
    assert vacuum(root, keep=1).kept == [0, 5, 6]
    np.testing.assert_array_equal(hz.open(root, version=5)["test/a"].signals["eeg"].digital(), noise((2, 50), seed=8))


def test_a_vacuum_that_was_killed_is_finished_by_the_next(root, monkeypatch) -> None:
    def stop(*_):
        raise InterruptedError

    for name in ("harmonize.store.catalog.drop_rows", "harmonize.store.vacuum.remove_part"):
        with monkeypatch.context() as patch:
            patch.setattr(name, stop)
            with pytest.raises(InterruptedError):
                vacuum(root, keep=1)
        newest = hz.open(root)
        assert newest["test/b"].signals["eeg"].digital().shape == (2, 50)
        assert [v for v in list_versions(root)["version"] if v] == [4], "versions end before their parts go"
    vacuum(root, keep=1)
    assert len(list(part_folders(root))) == 2


def test_a_part_of_a_conversion_that_runs_now_is_not_touched(root, tmp_path, monkeypatch) -> None:
    """Vacuum comes between the parts and their commit."""
    _edf(tmp_path / "in" / "a.edf", np.random.default_rng(0), ["C3", "C4"], 256, 10, "uV")
    path, commit = tmp_path / "t.zarr", catalog.commit
    seen = []

    def late(root, batch):
        seen.append(vacuum(path))
        return commit(root, batch)

    monkeypatch.setattr(catalog, "commit", late)
    hz.convert(tmp_path / "in", path, key=ProjectKey(b"t" * 32))
    assert [(one.parts, one.young > 0) for one in seen] == [({}, True)]
    store = hz.open(path)
    assert store[store.recordings["recording_id"][0]].signals["256hz"].digital().shape == (2, 2560)


def test_it_waits_for_a_forgetting_that_was_not_finished(root) -> None:
    (root / "catalog" / FORGETTING).write_text("{}")
    with pytest.raises(StoreError, match="forget"):
        vacuum(root)


@given(
    st.dictionaries(st.integers(0, 30), st.floats(0, 10), min_size=1), st.sets(st.integers(0, 30)), st.integers(1, 9)
)
def test_the_newest_the_tagged_and_the_young_are_kept_and_no_others(ages, tagged, keep) -> None:
    kept = keep_versions(ages, tagged, keep, 5.0)
    newest = sorted(ages)[-keep:]
    assert kept == [v for v in sorted(ages) if v in newest or v in tagged or ages[v] < 5.0]
    assert keep_versions(ages, tagged, None, 0.0) == sorted(ages)


def test_what_is_named_or_young_is_not_listed_as_old() -> None:
    assert unnamed({"a": 9.0, "b": 9.0, "c": 1.0, "d": 5.0}, ["b"], 5.0) == (["a", "d"], ["c"])


def test_dead_rows_of_one_recording_leave_its_living_ones(root) -> None:
    vacuum(root, keep=1)
    streams = catalog.read(root, "streams")
    assert sorted(streams["recording_id"]) == ["test/a", "test/b"]
    assert set(streams["commit"]) == set(hz.open(root).recordings["commit"])
    assert pl.read_delta(str(root / "catalog/streams")).equals(streams)
