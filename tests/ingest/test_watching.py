"""Watching a run, and stopping it (issue 5, point 9)."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import harmonize as hz
from converters.edf_bytes import Signal, edf_bytes
from crash.harness import recordings_of
from harmonize.ingest import Progress, ProjectKey
from harmonize.ingest.plan import Task
from harmonize.ingest.tally import Tally, add_batch, by
from harmonize.report import progress as progress_module
from harmonize.report.progress import Stage, reporter
from harmonize.report.runs import size_text
from harmonize.store.catalog import Batch

KEY = ProjectKey(b"watching".ljust(32))
CHILD = """
import os, time
from harmonize.ingest import tasks
original = tasks.run_task
def slow(root, task, codec):
    print("task", flush=True)
    time.sleep(float(os.environ["SLOW_S"]))
    return original(root, task, codec)
tasks.run_task = slow
from harmonize.ingest import plan
plan.TASK_RECORDINGS = 1
if __name__ == "__main__":
    from harmonize.cli import main
    main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recordings, each a task of the child's."""
    root = tmp_path / "cohort"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.edf").write_bytes(edf_bytes([Signal("EEG C3", np.full(24, number), 8)], n_records=3))
    key = tmp_path / "key"
    key.write_text(KEY.secret.hex())
    key.chmod(0o600)
    return root


def child(folder: Path, seconds: float, workers: int) -> subprocess.Popen[str]:
    """A conversion in a process of its own, once its first task runs."""
    script = folder.parent / "child.py"
    script.write_text(CHILD)
    command = [
        sys.executable,
        str(script),
        "convert",
        str(folder),
        "--into",
        str(folder.parent / "s.zarr"),
    ]
    command += ["--workers", str(workers), "--key", str(folder.parent / "key")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SLOW_S": str(seconds)}
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stdout is not None
    while "task" not in (line := running.stdout.readline()):
        assert line, running.communicate()
    return running


def there(session: int) -> bool:
    """Whether any process of a session is."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_once_stops_after_the_running_tasks_and_keeps_them(folder: Path, workers: int, number: int) -> None:
    running = child(folder, 0.3, workers)
    os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(
        number
    )  # as a terminal, a scheduler
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    store = hz.open(folder.parent / "s.zarr")
    n = len(store)
    assert 1 <= n < 6
    assert f"Stopped after {n} of 6 recordings" in " ".join(out.split())
    assert hz.convert(folder, folder.parent / "s.zarr", key=KEY).converted == 6 - n, "the next run goes on from there"
    whole = hz.convert(folder, folder.parent / "whole.zarr", key=KEY).store
    assert recordings_of(hz.open(folder.parent / "s.zarr")) == recordings_of(hz.open(whole))


@pytest.mark.parametrize("workers", [0, 2])
def test_twice_stops_at_once(folder: Path, workers: int) -> None:
    running = child(folder, 60, workers)
    for _ in range(2):
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.3)
    began = time.monotonic()
    _, err = running.communicate(timeout=120)
    assert time.monotonic() - began < 10, "the tasks of a minute were not waited for"
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert "Interrupted: the store stays as its last commit left it" in " ".join(err.split())
    deadline = time.monotonic() + 5
    while there(running.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not there(running.pid), "no process of its session is left"
    assert hz.convert(folder, folder.parent / "s.zarr", key=KEY).converted == 6


def test_rates_and_what_is_left_are_those_of_bytes() -> None:
    stage = Stage("write", 100.0)
    state = Progress("write", 40, 10, 800_000_000, 200_000_000, Counter())
    assert stage.rates(state, 104.0) == "2 recordings/s, 50.0 MB/s"
    assert stage.left_s(state, 104.0) == 12.0, "4 s for a quarter of the bytes"
    assert stage.left_s(Progress("describe", 40, 10), 102.0) == 6.0
    assert stage.left_s(Progress("write", 40, 0, 8, 0), 102.0) is None
    assert stage.left_s(Progress("write", 40, 40, 8, 8), 102.0) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_failures_are_told_by_code_while_it_runs(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.0)
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=150)
    with reporter(console, quiet=False) as shown:
        shown.update(Progress("write", 4, 0, 8, 0))
        shown.update(Progress("write", 4, 2, 8, 4, Counter({"truncated": 2, "empty_file": 1})))
        shown.stopping()
        shown.update(Progress("write", 4, 3, 8, 6, Counter({"truncated": 2, "empty_file": 1})))
    said = text.getvalue()
    for words in ("write", "3/4", "3 failed (truncated 2, empty_file 1)", "left", "stopping after the tasks that run"):
        assert words in said
    assert ("\x1b[" in said) == terminal


def test_a_tally_is_by_format_and_site() -> None:
    def row(converter: str, site: str | None, size: int, duration_s: float | None, image: str | None = None) -> dict:
        return {"converter": converter, "site": site, "bytes": size, "duration_s": duration_s, "image": image}

    tallies: dict = {}
    rows = [
        row("edf/1", "north", 300, 7200.0),
        row("edf/1", "south", 100, 3600.0),
        row("nifti/2", "north", 0, None, "i"),
    ]
    lost = [{"format": "edf", "source": "x", "code": "truncated"}]
    add_batch(tallies, Task((), 400), Batch(recordings=rows), 8.0)
    add_batch(tallies, None, Batch(failures=lost), 0.0)
    assert by(tallies, 0) == {
        "edf": Tally(2, 3.0, 0, 400, 8.0, Counter({"truncated": 1})),
        "nifti": Tally(1, 0.0, 1, 0, 0.0, Counter()),
    }
    assert by(tallies, 1) == {
        "north": Tally(2, 2.0, 1, 300, 6.0, Counter()),
        "south": Tally(1, 1.0, 0, 100, 2.0, Counter()),
        None: Tally(failures=Counter({"truncated": 1})),
    }


def test_sizes_are_decimal() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 38_040_000, 1.5e12)] == ["0 B", "999 B", "1.0 kB", "38.0 MB", "1.5 TB"]
