"""``python -m benchmarks.growth [SOURCES ...]``: how the cost of a run grows with the number of recordings.

Makes so many small WFDB records (1,000, 10,000 and 100,000), and converts them in one process; then a second run with
nothing to do, opening the store, and its size and files. The records and the store are in memory (/dev/shm) where there
is such a place.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

import harmonize as hz
from benchmarks.timing import MEMORY, peak_mb
from harmonize.ingest import ProjectKey
from harmonize.store import catalog

CHILD = [sys.executable, "-m", "benchmarks.growth", "--row"]
"""A process for each row, so that memory is its own."""
SIZES = (1_000, 10_000, 100_000)
KEY = ProjectKey(b"benchmark" * 4)
T = TypeVar("T")


def write_records(folder: Path, n: int) -> None:
    """Records of 2 signals and 500 samples, a thousand in a folder, no two alike."""
    walk = np.cumsum(np.random.default_rng(0).integers(-9, 10, (1000, 2)), axis=0).astype("<i2")
    for number in range(n):
        place = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        name, samples = f"r{number:06d}", walk[number % 500 : number % 500 + 500] + number // 500
        lines = [f"{name} 2 250 500"]
        for signal, lead in enumerate(("I", "II")):
            total = (int(samples[:, signal].sum()) + 32768) % 65536 - 32768
            lines.append(f"{name}.dat 16 200/mV 16 0 {samples[0, signal]} {total} 0 {lead}")
        (place / f"{name}.hea").write_text("\n".join(lines) + "\n")
        (place / f"{name}.dat").write_bytes(samples.astype("<i2").tobytes())


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what it gave."""
    start = time.perf_counter()
    given = work()
    return time.perf_counter() - start, given


def row(n: int) -> str:
    """One table row."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        source, root = Path(folder) / "in", Path(folder) / "s.zarr"
        write_records(source, n)
        commits: list[float] = []
        commit = catalog.commit

        def counted(place: Path, batch: catalog.Batch) -> int:
            seconds, version = timed(lambda: commit(place, batch))
            commits.append(seconds)
            return version

        catalog.commit = counted
        first, outcome = timed(lambda: hz.convert(source, root, key=KEY))
        if outcome.converted != n:
            raise RuntimeError(f"{outcome.converted} of {n} records converted")
        again, second = timed(lambda: hz.convert(source, root, key=KEY))
        if second.unchanged != n:
            raise RuntimeError(f"{second.unchanged} of {n} records unchanged")
        opened, _ = timed(lambda: len(hz.open(root).streams))
        files = [path for path in root.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
    converted, rerun = f"{first:.1f} s ({n / first:,.0f}/s)", f"{again:.2f} s"
    written = f"{len(commits)}, {sum(commits):.1f} s, the last {commits[-1]:.2f} s"
    stored = f"{len(files):,} | {size:,.0f} MB | {peak_mb():,} MB"
    return f"| {n:,} | {converted} | {written} | {rerun} | {opened:.2f} s | {stored} |"


def rows(sizes: Sequence[int] = SIZES) -> list[str]:
    """The table."""
    return [
        "| recordings | first run | commits | second run, nothing to do | opening, with streams | files | store "
        "| peak memory |",
        "|---|---|---|---|---|---|---|---|",
        *(subprocess.run([*CHILD, str(size)], capture_output=True, check=True, text=True).stdout for size in sizes),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(row(int(sys.argv[2])), end="")
    else:
        print("\n".join(rows([int(size) for size in sys.argv[1:]] or SIZES)))
