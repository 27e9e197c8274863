"""Running again: what is unchanged costs nothing, what changed is converted again (issue 5, point 5)."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import harmonize as hz
from converters.edf_bytes import Signal, edf_bytes
from harmonize.cli import app
from harmonize.ingest import Outcome, ProjectKey
from harmonize.ingest.find import walk
from harmonize_converters.edf import EdfConverter
from harmonize_schemas import Recipe

KEY = ProjectKey(b"rerun".ljust(32))
scan_module = importlib.import_module("harmonize.ingest.scan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two EDF files, one that is no EDF, and a table."""
    root = tmp_path / "cohort"
    root.mkdir()
    for name in ("a", "b"):
        (root / f"{name}.edf").write_bytes(edf(5))
    (root / "bad.edf").write_text("no EDF\n" * 50)
    (root / "people.csv").write_text("id,sex\na,male\nb,female\n")
    return root


def edf(level: int) -> bytes:
    return edf_bytes([Signal("EEG C3", np.full(24, level), 8)], n_records=3)


def recipe(**changes: object) -> Recipe:
    fields = {
        "dataset": "cohort",
        "paths": (r"(?P<subject>\w+)\.edf",),
        "tables": {"people": {"file": "people.csv", "key": "id", "match": "{subject}"}},
        "fields": {"sex": {"column": "sex"}},
    }
    return Recipe.model_validate(fields | changes)


def run(folder: Path, **options: object) -> Outcome:
    given: dict[str, object] = {"recipe": recipe(), "key": KEY} | options
    return hz.convert(folder, folder.parent / "s.zarr", **given)  # type: ignore[arg-type]


def first_samples(folder: Path) -> dict[str | None, int]:
    store = hz.open(folder.parent / "s.zarr")
    views = [store[name] for name in store.recordings["recording_id"]]
    return {view.meta.source.id: int(next(iter(view.signals.values())).digital()[0, 0]) for view in views}


def test_nothing_to_do_opens_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(folder)
    assert (first.converted, len(first.failures)) == (2, 1)
    monkeypatch.setattr(scan_module, "group", None)  # what opens files
    again = run(folder)
    assert (again.converted, again.unchanged, again.version) == (0, 2, first.version)
    assert [row["code"] for row in again.failures] == ["format_mismatch"], "what failed is told again"


@pytest.mark.parametrize("change", ["touched", "new", "gone", "table", "failed one mended"])
def test_any_change_below_the_folder_is_seen(folder: Path, change: str) -> None:
    run(folder)
    if change == "touched":
        os.utime(folder / "a.edf", ns=(1, 1))
    elif change == "new":
        (folder / "c.edf").write_bytes(edf(7))
    elif change == "gone":
        (folder / "a.edf").unlink()
    elif change == "table":
        (folder / "people.csv").write_text("id,sex\na,female\nb,female\n")
    else:
        (folder / "bad.edf").write_bytes(edf(9))
    again = run(folder)
    expected = {
        "touched": (1, 1, 0),
        "new": (1, 2, 0),
        "gone": (0, 1, 1),
        "table": (1, 1, 0),
        "failed one mended": (1, 2, 0),
    }
    assert (again.converted, again.unchanged, again.vanished) == expected[change]
    if change == "table":
        assert hz.open(folder.parent / "s.zarr").recordings["sex"].to_list() == ["female", "female"]


def test_another_recipe_or_converter_version_converts_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder)
    changed = recipe(defaults={"site": "north"})
    assert run(folder, recipe=changed).converted == 2
    assert run(folder, recipe=changed).converted == 0
    monkeypatch.setattr(EdfConverter, "version", "later")
    assert run(folder, recipe=changed).converted == 2


def test_another_store_knows_nothing(folder: Path) -> None:
    run(folder)
    other = folder.parent / "other.zarr"
    assert hz.convert(folder, other, recipe=recipe(), key=KEY).converted == 2


def test_failures_that_may_pass_are_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is away")

    with monkeypatch.context() as patch:
        patch.setattr(EdfConverter, "describe", broken)
        assert {row["code"] for row in run(folder).failures} == {"unreadable_file", "format_mismatch"}
    again = run(folder)
    assert (again.converted, len(again.failures)) == (2, 1)


def test_checksums_see_what_size_and_time_hide(folder: Path) -> None:
    run(folder)
    stat = (folder / "a.edf").stat()
    (folder / "a.edf").write_bytes(edf(6))
    os.utime(folder / "a.edf", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(folder).converted == 0, "same size, same time"
    again = run(folder, checksum=True)
    assert (again.converted, again.unchanged) == (1, 1)
    assert sorted(first_samples(folder).values()) == [5, 6]


def test_checksums_know_a_touched_file_again(folder: Path) -> None:
    run(folder)
    os.utime(folder / "a.edf", ns=(1, 1))
    assert (run(folder, checksum=True).converted, run(folder, checksum=True).unchanged) == (0, 2)
    (folder / "people.csv").write_text("id,sex\na,female\nb,female\n")
    assert run(folder, checksum=True).converted == 1, "what lies around it counts all the same"


def test_a_single_file_makes_nothing_vanish(folder: Path) -> None:
    run(folder)
    alone = hz.convert(folder / "a.edf", folder.parent / "s.zarr", recipe=recipe(), key=KEY)
    assert (alone.unchanged, alone.vanished) == (1, 0)


def test_prune_removes_what_vanished_and_older_versions_keep_it(folder: Path) -> None:
    first = run(folder)
    (folder / "a.edf").unlink()
    assert (run(folder).vanished, len(hz.open(folder.parent / "s.zarr"))) == (1, 2)
    again = run(folder, prune=True)
    assert (again.converted, again.unchanged, again.vanished) == (0, 1, 1)
    store = hz.open(folder.parent / "s.zarr")
    assert (len(store), store.version) == (1, again.version)
    assert len(store.streams) == 1
    assert len(hz.open(folder.parent / "s.zarr", version=first.version)) == 2
    assert run(folder, prune=True).vanished == 0


def test_a_folder_that_cannot_be_listed_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    listing = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    ((file, error),) = walk([folder]).failures
    assert (file.key, error.code) == ("cohort/closed", "unreadable_file")


def test_a_run_leaves_a_manifest_and_a_log_that_name_nobody(folder: Path) -> None:
    log = folder.parent / "run.jsonl"
    command = ["convert", str(folder), "--into", str(folder.parent / "s.zarr"), "--workers", "0", "--log", str(log)]
    environment = {"XDG_CONFIG_HOME": str(folder.parent / "config")}
    assert CliRunner().invoke(app, command, env=environment).exit_code == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["planned", "failure", "task", "commit", "end"]
    assert (lines[1]["code"], lines[-1]["converted"], lines[-1]["failed"]) == ("format_mismatch", 2, 1)
    (run_,) = hz.open(folder.parent / "s.zarr").runs.iter_rows(named=True)
    assert (run_["converted"], run_["unchanged"], run_["failed"], run_["version"]) == (2, 0, 1, lines[-1]["version"])
    assert json.loads(run_["options"])["workers"] == 1
    assert json.loads(run_["versions"])["numpy"] == np.__version__
    for secret in (folder.parent.name, "bad.edf", "a.edf"):
        assert secret not in log.read_text() + repr(run_)
