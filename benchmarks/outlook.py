"""``python -m benchmarks.outlook``: what ``scan`` says of memory, parts and size, beside what the run then took.

Each conversion runs in a process of its own, with one worker. Signals are random walks, which compress like smooth
ones.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import harmonize as hz
from benchmarks.edf_files import ANNOTATION_BYTES, edf_header
from benchmarks.growth import write_records
from benchmarks.memory import write_nifti
from benchmarks.timing import MEMORY
from harmonize.ingest import ProjectKey
from harmonize.ingest.identify import Policy
from harmonize.ingest.prepare import preview
from harmonize.report.runs import size_text
from harmonize.store.sizes import layout_sizes
from harmonize_schemas import Recipe

KEY = ProjectKey(b"benchmark" * 4)
CHILD = """
import sys
import harmonize as hz
from benchmarks.timing import peak_mb
from harmonize.ingest import ProjectKey
from harmonize.ingest.pool import process_pool
if __name__ == "__main__":
    with process_pool(1) as pool:
        outcome = hz.convert(
            sys.argv[1], sys.argv[2], dataset="outlook", executor=pool, key=ProjectKey(b"benchmark" * 4)
        )
        assert not outcome.failures, outcome
        print(pool.submit(peak_mb).result(), peak_mb())
"""


def write_edf(folder: Path, n: int, seconds: int) -> None:
    """Files of 16 channels at 512 Hz."""
    rng = np.random.default_rng(0)
    for number in range(n):
        steps = rng.integers(-9, 10, (16, 512 * seconds))
        walk = np.cumsum(steps, axis=1).astype("<i2").reshape(16, seconds, 512).transpose(1, 0, 2)
        onsets = [b"+%d\x14\x14\0" % second for second in range(seconds)]
        records = (one.tobytes() + at.ljust(ANNOTATION_BYTES, b"\0") for one, at in zip(walk, onsets, strict=True))
        (folder / f"{number}.edf").write_bytes(edf_header(16, 512, seconds) + b"".join(records))


CASES: dict[str, Callable[[Path], None]] = {
    "64 EDF files of 4 MB": lambda folder: write_edf(folder, 64, 250),
    "1 EDF file of 200 MB": lambda folder: write_edf(folder, 1, 12_500),
    "5,000 WFDB records of 2 kB": lambda folder: write_records(folder, 5_000),
    "a NIfTI of 400 MB": lambda folder: write_nifti(folder / "a.nii", 4e8),
}


def rows() -> list[str]:
    """The table."""
    lines = ["| what | parts | worker | run itself | in the store |", "|---|---|---|---|---|"]
    for name, write in CASES.items():
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            source, root, script = Path(folder) / "in", Path(folder) / "s.zarr", Path(folder) / "child.py"
            source.mkdir()
            write(source)
            script.write_text(CHILD)
            _, said = preview([source], None, Policy(Recipe(dataset="outlook"), None, KEY))
            command = [sys.executable, str(script), str(source), str(root)]
            done = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
            store = hz.open(root)
            parts = store.streams["part"].n_unique() + len(store.recordings["image"].drop_nulls())
            stored = sum(size for _, size in layout_sizes(store).values())
        low, high = map(size_text, said.stored_bytes)
        lines.append(
            f"| {name} | {said.parts} said, {parts} made | {said.worker_bytes / 1e6:.0f} MB said, {done[0]} MB held | "
            f"{said.run_bytes / 1e6:.0f} MB said, {done[1]} MB held | {low} to {high} said, {size_text(stored)} |"
        )
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
