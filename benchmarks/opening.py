"""``python -m benchmarks.opening [N ...]``: opening a store of N recordings and indexing their windows.

The catalog is made from a few rows, over and over under other names; no samples are read to open and to index. The
reference reads the same columns of the same tables with polars, which is the least that has to be done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from deltalake import write_deltalake

from benchmarks.synthetic import eeg_store

_PROBE = """
import sys, time
from benchmarks.timing import peak_mb
import harmonize as hz
from harmonize.data import WindowDataset, WindowStream
before, start = peak_mb(), time.perf_counter()
data = WindowDataset(hz.open(sys.argv[1]), window=10.0)
seconds = time.perf_counter() - start
print(len(data), seconds, peak_mb() - before)
"""
_REFERENCE = """
import sys, time
import polars as pl
from benchmarks.timing import peak_mb
import harmonize.data
before, start = peak_mb(), time.perf_counter()
tables = [pl.read_delta(f"{sys.argv[1]}/catalog/{name}") for name in ("recordings", "streams")]
print(len(tables[0]), time.perf_counter() - start, peak_mb() - before)
"""


_COMMIT = 5_000
"""Rows of a commit, and so of a file of a table, as ``harmonize.ingest.pending`` has it."""


def grown(root: Path, n: int) -> None:
    """A store whose catalog has ``n`` recordings of ten minutes, 60 windows each, at 100 sites."""
    eeg_store(root, "none", recordings=1, seconds=20)
    for table in ("recordings", "streams"):
        path = str(root / "catalog" / table)
        one = pl.read_delta(path)
        for first in range(0, n, _COMMIT):
            number = pl.col("_n")
            many = one.drop("recording_id").join(
                pl.DataFrame({"_n": range(first, min(n, first + _COMMIT))}), how="cross"
            )
            many = many.with_columns(recording_id=pl.format("synthetic/{}", number.cast(pl.String).str.zfill(9)))
            if table == "recordings":
                many = many.with_columns(
                    site=pl.format("site-{}", number % 100), subject=pl.format("sub-{}", number // 3)
                )
            else:
                many = many.with_columns(
                    start=number * 153600, n_samples=153600, segment_samples=pl.concat_list(153600)
                )
            frame = many.select(one.columns).cast(one.schema)  # type: ignore[arg-type]
            write_deltalake(path, frame.to_arrow(), mode="append" if first else "overwrite")


def rows(counts: list[int]) -> list[str]:
    """Table rows: one for each number of recordings; a fresh process each, the median of three."""
    found = []
    for n in counts:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "s.zarr"
            grown(root, n)
            ours, theirs = (sorted(_probe(code, root) for _ in range(3))[1] for code in (_PROBE, _REFERENCE))
            least = f"{theirs[0]:.2f} s | {theirs[2]:,.0f} MB"
            found.append(f"| {n:,} | {ours[1]:,.0f} | {ours[0]:.2f} s | {ours[2]:,.0f} MB | {least} |")
    return [
        "| recordings | windows | open and index | memory | reading the tables | memory |",
        "|---|---|---|---|---|---|",
        *found,
    ]


def _probe(code: str, root: Path) -> tuple[float, float, float]:
    run = subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True, text=True)
    windows, seconds, memory = map(float, run.stdout.split())
    return seconds, windows, memory


if __name__ == "__main__":
    print("\n".join(rows([int(one) for one in sys.argv[1:]] or [100_000, 1_000_000])))
