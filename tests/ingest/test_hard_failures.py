"""What disks, file systems and other people do to a run: a clean stop or a named failure, and never a damaged store
(issue 5, point 3)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake.exceptions import DeltaError

import harmonize as hz
from crash import harness
from crash.child import KEY, STEPS
from crash.harness import Undisturbed
from harmonize.ingest import pending
from harmonize.store import StoreWriteError
from harmonize.store.catalog import Row

BY_DELTALAKE = {"table", "merge"}


def undisturbed(source: Path, root: Path) -> Undisturbed:
    """What a run makes of a folder that nothing disturbs."""
    harness.convert_here(source, root)
    store = hz.open(root)
    return Undisturbed(harness.recordings_of(store), harness.failures_of(store), 0.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Undisturbed]:
    """Sources, and what a run makes of them that nothing disturbs."""
    folder = tmp_path_factory.mktemp("hard")
    harness.write_cohort(folder / "cohort")
    return folder / "cohort", undisturbed(folder / "cohort", folder / "whole.zarr")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small file system: called with options of mount, it is mounted, or mounted again, under them."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (subprocess.CalledProcessError, FileNotFoundError):
            pytest.skip("file systems cannot be mounted here; the same errors are injected in the next tests")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("kilobytes", [36, 100, 320, 430, 500, 620])
def test_a_full_disk_stops_the_run_and_more_room_finishes_it(
    cohort: tuple[Path, Undisturbed], disk: Callable[[str], Path], kilobytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "COMMIT_ROOM", 0)  # so that tables come to their ends too
    source, expected = cohort
    root = disk(f"size={kilobytes}k") / "s.zarr"
    with pytest.raises(StoreWriteError, match="the disk is full"):
        harness.convert_here(source, root)
    disk("size=64m")
    visible = harness.check(source, root, expected)
    assert visible < len(expected.recordings)
    assert visible > 0 or kilobytes < 400, "what was committed stays"


@pytest.mark.parametrize(("workers", "kilobytes"), [(0, 1100), (2, 120)])
def test_the_command_says_in_one_line_what_stopped_it_and_how_far_it_came(
    cohort: tuple[Path, Undisturbed], disk: Callable[[str], Path], workers: int, kilobytes: int
) -> None:
    source, expected = cohort
    place = disk(f"size={kilobytes}k")
    key = place.parent / "key"
    key.write_text(KEY.secret.hex())
    key.chmod(0o600)
    command = [sys.executable, "-m", "harmonize", "convert", str(source), "--into", str(place / "s.zarr")]
    command += ["--workers", str(workers), "--key", str(key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 3, done.stderr
    said = " ".join(done.stderr.split())
    assert "Traceback" not in said
    assert "Stopped: the store cannot be written: the disk is full." in said
    assert f"0 of {len(expected.recordings)} recordings are committed" in said
    disk("size=64m")
    assert subprocess.run(command, capture_output=True, check=False, timeout=180).returncode == 1, "the two bad files"
    store = hz.open(place / "s.zarr")
    assert harness.recordings_of(store) == expected.recordings


@pytest.mark.parametrize(
    ("step", "count", "number"),
    [(step, count, errno.ENOSPC) for step in STEPS for count in (1, 4)]
    + [(step, 4, number) for step in ("chunk", "table") for number in (errno.EDQUOT, errno.EROFS, errno.EIO)],
)
def test_an_error_at_any_step_stops_the_run_and_the_next_finishes_it(
    cohort: tuple[Path, Undisturbed],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    count: int,
    number: int,
) -> None:
    """As ``python -m crash`` kills at these steps. The disk stays full: what comes later at that step fails too."""
    source, expected = cohort
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    calls = []

    def full(*arguments: Any, **named: Any) -> Any:
        calls.append(step)
        if len(calls) < count:
            return original(*arguments, **named)
        if step in BY_DELTALAKE:
            raise DeltaError(f"Generic LocalFileSystem error: {os.strerror(number)} (os error {number})")
        raise OSError(number, os.strerror(number))

    words = {
        errno.ENOSPC: "disk is full",
        errno.EDQUOT: "quota is used up",
        errno.EROFS: "read-only",
        errno.EIO: "input/output",
    }
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        if step in ("image", "terms") and count > 1:  # there is one of each
            harness.convert_here(source, tmp_path / "s.zarr")
        else:
            with pytest.raises(StoreWriteError, match=f"the store cannot be written: .*{words[number]}"):
                harness.convert_here(source, tmp_path / "s.zarr")
            assert len(calls) <= count + 2, "it is not tried on and on"
    harness.check(source, tmp_path / "s.zarr", expected)


def test_a_read_only_store_is_told_before_headers_are_read_and_can_be_opened(
    cohort: tuple[Path, Undisturbed], disk: Callable[[str], Path]
) -> None:
    source, expected = cohort
    root = disk("size=64m") / "s.zarr"
    harness.convert_here(source, root)
    disk("ro")
    again = harness.convert_here(source, root)
    assert (again.converted, again.unchanged) == (0, len(expected.recordings)), "nothing is to be done"
    seen: list[str] = []
    with pytest.raises(StoreWriteError, match="the file system is read-only"):
        hz.convert(source, root, dataset="other", key=KEY, progress=lambda state: seen.append(state.stage))
    assert seen == []
    with pytest.raises(StoreWriteError, match="the file system is read-only"):
        hz.convert(source, root.with_name("new.zarr"), key=KEY)
    assert harness.recordings_of(hz.open(root)) == expected.recordings


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("3.edf", "gone", "unreadable_file"),
        ("large.edf", "gone", "unreadable_file"),
        ("3.edf", "cut", "source_changed"),
        ("3.edf", "other bytes", "source_changed"),
        ("w1.dat", "gone", "unreadable_file"),
        ("t1.nii.gz", "cut", "source_changed"),
    ],
)
def test_a_source_that_changes_after_its_header_was_read_is_named(
    cohort: tuple[Path, Undisturbed], tmp_path: Path, name: str, change: str, code: str
) -> None:
    source, root = shutil.copytree(cohort[0], tmp_path / "cohort"), tmp_path / "s.zarr"
    expected = undisturbed(source, tmp_path / "whole.zarr")
    file = source / name
    data, stat = file.read_bytes(), file.stat()

    def disturb() -> None:
        if change == "gone":
            file.unlink()
        else:
            file.write_bytes(data[: len(data) // 2] if change == "cut" else data[:-2] + b"\0\0")

    def log(event: str, _: Row) -> None:
        if event == "planned":
            disturb()

    outcome = hz.convert(source, root, dataset="cohort", key=KEY, log=log)
    codes = sorted(row["code"] for row in outcome.failures)
    assert codes == sorted([code, "truncated", "format_mismatch"]), "two files were bad before"
    assert len(hz.open(root)) == len(expected.recordings) - 1
    assert harness.recordings_of(hz.open(root)).items() <= expected.recordings.items()
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    harness.check(source, root, expected)


def test_a_file_that_cannot_be_read_is_named(
    cohort: tuple[Path, Undisturbed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector; the tests may run as root, whom modes do not keep out."""
    source, expected = cohort
    opened = Path.open

    def bad(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.name == "3.edf":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return opened(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", bad)
        outcome = harness.convert_here(source, tmp_path / "s.zarr")
    assert sorted(row["code"] for row in outcome.failures) == ["format_mismatch", "truncated", "unreadable_file"]
    harness.check(source, tmp_path / "s.zarr", expected)
