"""What a run would do, shown from headers: scan and ``convert --dry-run`` (issue 5, points 1 and 6)."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

import harmonize as hz
from converters.edf_bytes import Signal, edf_bytes
from harmonize.cli import app
from harmonize.ingest import plan
from harmonize.ingest.identify import Policy
from harmonize.ingest.outlook import OPEN_BYTES, held_bytes
from harmonize.ingest.packed import PackedDraft
from harmonize.ingest.privacy import load_key
from harmonize.store.sizes import layout_sizes
from harmonize_schemas import Recipe

RUN = CliRunner()
prepare_module = importlib.import_module("harmonize.ingest.prepare")


pytestmark = pytest.mark.usefixtures("own_key")


def edf(level: int, rates: tuple[int, ...] = (8,)) -> bytes:
    """Three seconds of a channel of each rate."""
    signals = [Signal(f"EEG C{n + 3}", np.full(3 * rate, level), rate) for n, rate in enumerate(rates)]
    return edf_bytes(signals, n_records=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two EDF files of one layout, one of two, an image of int16, and a file that is no EDF."""
    root = tmp_path / "cohort"
    root.mkdir()
    (root / "a.edf").write_bytes(edf(5))
    (root / "b.edf").write_bytes(edf(6))
    (root / "two.edf").write_bytes(edf(7, (8, 4)))
    (root / "bad.edf").write_text("no EDF\n" * 50)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), root / "t1.nii.gz")
    return root


def everything(root: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """Each path below a folder with its inode, its time of change and its bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        found[str(path)] = stat.st_ino, stat.st_mtime_ns, path.read_bytes() if path.is_file() else None
    return found


def said(*arguments: str | Path) -> dict:
    result = RUN.invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def test_the_plan_is_what_is_in_the_headers(folder: Path) -> None:
    shown = said("scan", folder)["plan"]
    assert (shown["new"], shown["changed"], shown["unchanged"], shown["failures"]) == (4, [], 0, {"format_mismatch": 1})
    layouts = {
        one["layout"].removesuffix(one["layout"][-9:]): one for one in shown["layouts"] if one["layout"] != "images"
    }
    # a and b share a task and so a part; "two" has streams of two rates, and is a task of its own.
    assert {name: (one["recordings"], one["parts"], one["bytes"]) for name, one in layouts.items()} == {
        "eeg-1ch-8hz-int16": (3, 2, 3 * 3 * 8 * 2),
        "eeg-1ch-4hz-int16": (1, 1, 3 * 4 * 2),
    }
    (images,) = (one for one in shown["layouts"] if one["layout"] == "images")
    assert (images["recordings"], images["parts"], images["bytes"]) == (1, 1, 4 * 5 * 6 * 2)
    assert (shown["bytes"], shown["tasks"]) == (144 + 24 + 240, 3)
    assert shown["stored_bytes"] == [28 + 4 + 48, 129 + 21 + 216], "0.2 to 0.9 of each, rounded down"


def test_the_parts_are_those_that_the_writer_makes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that has a layout twice makes two parts of it; small tasks, more parts."""
    for number in range(7):
        (folder / f"more{number}.edf").write_bytes(edf(number, (8, 8)))
    monkeypatch.setattr(plan, "TASK_RECORDINGS", 2)
    root = tmp_path / "s.zarr"
    shown = said("scan", folder)["plan"]
    hz.convert(folder, root)
    store = hz.open(root)
    made = {layout: rows["part"].n_unique() for (layout,), rows in store.streams.group_by("layout")}
    made["images"] = 1
    assert {one["layout"]: one["parts"] for one in shown["layouts"]} == made
    assert sum(one["bytes"] for one in shown["layouts"]) == store.recordings["bytes"].sum()


@pytest.mark.parametrize("store_there", [False, True])
def test_a_dry_run_touches_nothing(folder: Path, tmp_path: Path, store_there: bool) -> None:
    root = tmp_path / "s.zarr"
    if store_there:
        assert RUN.invoke(app, ["convert", str(folder), "--into", str(root), "--workers", "0"]).exit_code == 1
        (folder / "b.edf").write_bytes(edf(9))
    before = everything(tmp_path)
    for command in (
        ["convert", "--dry-run", "--workers", "0"],
        ["convert", "--dry-run", "--prune", "--checksum", "--workers", "2"],
        ["scan"],
    ):
        result = RUN.invoke(app, [*command, str(folder), "--into", str(root)])
        assert result.exit_code == 1, result.output
        assert everything(tmp_path) == before
    assert root.exists() == (tmp_path / "config").exists() == store_there


def test_a_dry_run_says_what_the_run_does(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    command = ["convert", folder, "--into", root, "--workers", "0"]
    said(*command)
    (folder / "a.edf").unlink()
    (folder / "b.edf").write_bytes(edf(9))
    (folder / "new.edf").write_bytes(edf(1))
    shown = said(*command, "--dry-run")
    key = load_key()
    policy = Policy(Recipe(dataset="cohort"), None, key)
    names = {name: policy.recording_id(f"cohort/{name}.edf") for name in "ab"}
    assert (shown["new"], shown["changed"], shown["unchanged"], shown["vanished"]) == (1, [names["b"]], 2, [names["a"]])
    done = said(*command)
    assert (done["converted"], done["unchanged"], done["vanished"]) == (2, 2, 1)
    assert done["planned"] == shown["new"] + len(shown["changed"])
    printed = RUN.invoke(app, [*map(str, command), "--dry-run", "--prune"]).output
    assert "0 of them are new, 0 would replace what the store has; 4 are unchanged" in printed
    assert "1 of the store have no source any more and would be removed" in printed


def test_the_size_is_told_from_the_stores_own_parts(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    said("convert", folder, "--into", root, "--workers", "0")
    sizes = layout_sizes(hz.open(root))
    native, stored = sizes["images"]
    image = Path(hz.open(root).recordings["image"].drop_nulls()[0])
    assert (native, stored) == (240, sum(file.stat().st_size for file in (root / image).rglob("*") if file.is_file()))
    os.utime(folder / "t1.nii.gz", ns=(1, 1))
    shown = said("convert", folder, "--into", root, "--workers", "0", "--dry-run")
    assert shown["stored_bytes"] == [stored, stored], "the image alone, as large as it was"


def test_a_store_under_another_key_or_a_folder_that_is_no_store_is_refused(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    said("convert", folder, "--into", root, "--workers", "0")
    (tmp_path / "config/harmonize/project.key").unlink()
    for target, words in ((root, "project key"), (folder, "not a store and not empty")):
        result = RUN.invoke(app, ["convert", str(folder), "--into", str(target), "--dry-run", "--workers", "0"])
        assert words in str(result.exception)
    assert not (tmp_path / "config/harmonize/project.key").exists()


def test_a_task_holds_pooled_samples_or_shards_and_nothing_of_a_streamed_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "TASK_BYTES", 1000)
    one = PackedDraft("r", "d", "s", None, None, "edf", ("l",), (600,), None, 600, None, b"")
    image = replace(one, layouts=(), stream_bytes=(), shard_bytes=200)
    assert held_bytes(plan.Task((one,), 600)) == 600 + OPEN_BYTES
    assert held_bytes(plan.Task((one, one), 1200)) == 2 * OPEN_BYTES, "streamed"
    assert held_bytes(plan.Task((image,), 600)) == 3 * 200 + OPEN_BYTES
