"""Kills a converting process and checks what is left: the store opens, shows whole recordings only, and a second run
finishes the work without doing any of it twice."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

import harmonize as hz
from converters import edf_bytes, wfdb_bytes
from crash.child import KEY, STEPS, small_steps
from harmonize.ingest.convert import Outcome
from harmonize.store import Store

SKIPPED = frozenset({"commit", "part", "row", "start", "image"})
"""Where things lie may differ between two runs; what they are may not."""


def write_cohort(folder: Path) -> None:
    """EDF of two layouts, one recording too large to be pooled, hypnograms, WFDB, an image, and two bad files."""
    folder.mkdir()
    rng = np.random.default_rng(0)

    def noise(n: int) -> np.ndarray:
        return rng.integers(-30000, 30000, n)

    for number in range(8):
        names = ["EEG C3", "EEG C4"] if number % 2 else ["ECG II"]
        signals = [edf_bytes.Signal(name, noise(2000), 200) for name in names]
        (folder / f"{number}.edf").write_bytes(edf_bytes.edf_bytes(signals, n_records=10, patient=f"P{number} X X X"))
    large = [edf_bytes.Signal(f"EEG {i}", noise(20_000), 200) for i in range(4)]
    (folder / "large.edf").write_bytes(edf_bytes.edf_bytes(large, n_records=100))
    stages = [edf_bytes.annotations([b"+0\x14\x14\0+0\x1530\x14Sleep stage W\x14\0"])]
    (folder / "stages.edf").write_bytes(edf_bytes.edf_bytes(stages, n_records=1, record_s="0", reserved="EDF+C"))
    (folder / "cut.edf").write_bytes((folder / "0.edf").read_bytes()[:600])
    (folder / "text.edf").write_text("no EDF\n" * 50)
    for number in range(3):
        wfdb_bytes.Record([wfdb_bytes.Signal(noise(500), file=f"w{number}.dat")], name=f"w{number}").write(folder)
    nibabel.save(nibabel.Nifti1Image(noise(4096).astype(np.int16).reshape(16, 16, 16), np.eye(4)), folder / "t1.nii.gz")


def recordings_of(store: Store) -> dict[str, str]:
    """A hash of all that is known of each recording, samples read back, wherever they lie."""
    found: dict[str, str] = {}
    tables = (store.streams, store.annotations, store.label_rows, store.sources)
    for row in store.recordings.iter_rows(named=True):
        name = row["recording_id"]
        digest = hashlib.sha256(repr({k: v for k, v in sorted(row.items()) if k not in SKIPPED}).encode())
        for table in tables:
            rows = table.filter(recording_id=name).drop(SKIPPED & set(table.columns)).to_dicts()
            digest.update(repr(sorted(map(repr, rows))).encode())
        view = store[name]
        for stream, signals in view.signals.items():
            digest.update(stream.encode() + signals.digital().tobytes())
        if view.image is not None:
            digest.update(view.image.digital().tobytes())
        digest.update(view.meta.model_dump_json().encode())
        found[name] = digest.hexdigest()
    return found


def failures_of(store: Store) -> list[str]:
    """What could not be converted, in any order."""
    return sorted(map(repr, store.failures.drop("commit").to_dicts()))


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbed: what it made, and how long it took."""

    recordings: dict[str, str]
    failures: list[str]
    seconds: float


def convert_here(source: Path, root: Path) -> Outcome:
    """The same conversion in this process."""
    with small_steps():
        return hz.convert(source, root, dataset="cohort", key=KEY)


def start(source: Path, root: Path, *step: str) -> subprocess.Popen[bytes]:
    """The converting child, from when it begins to convert."""
    command = [sys.executable, "-m", "crash.child", str(source), str(root), *step]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
    return child


def undisturbed(source: Path, root: Path) -> Undisturbed:
    """What a run that is not killed makes, in a process of its own as those that are."""
    child = start(source, root)
    began = time.monotonic()
    if child.wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    seconds = time.monotonic() - began
    store = hz.open(root)
    return Undisturbed(recordings_of(store), failures_of(store), seconds)


def killed_at_step(source: Path, root: Path, step: str, when: str, count: int) -> bool:
    """Run until a step; whether it was killed there."""
    return start(source, root, step, when, str(count)).wait() == -signal.SIGKILL


def killed_after(source: Path, root: Path, seconds: float) -> bool:
    """Run for so long; whether it was killed before it was done."""
    child = start(source, root)
    time.sleep(seconds)
    child.kill()
    return child.wait() == -signal.SIGKILL


def check(source: Path, root: Path, expected: Undisturbed) -> int:
    """Raises ``AssertionError`` unless what was left is whole and a second run finishes it; returns how many
    recordings were visible after the kill."""
    visible: dict[str, str] = {}
    if (root / "zarr.json").exists():
        visible = recordings_of(hz.open(root))
        assert visible.items() <= expected.recordings.items(), "a recording is not whole"
    outcome = convert_here(source, root)
    assert outcome.converted == len(expected.recordings) - len(visible), "work was done twice or left out"
    assert outcome.unchanged == len(visible)
    store = hz.open(root)
    assert recordings_of(store) == expected.recordings
    assert failures_of(store) == expected.failures
    shutil.rmtree(root)
    return len(visible)


def steps(seed: int) -> list[tuple[str, str, int]]:
    """Each step, killed before and after its first and a later time, in an order by the seed."""
    rng = random.Random(seed)
    found = [(step, when, count) for step in STEPS for when in ("before", "after") for count in (1, rng.randint(2, 6))]
    rng.shuffle(found)
    return found
