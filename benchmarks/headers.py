"""``python -m benchmarks.headers [FILES]``: headers a second that ``scan`` reads on one core, and where its time goes.

Makes so many (5,000) small EDF files of 20 channels, then WFDB records of 2 signals, then DICOM slices of 200 elements
in series of 250, in memory (/dev/shm) where there is such a place. ``describe`` is the converter alone; the rest is
finding (DICOM files are grouped by their headers then), naming, checking and planning.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.dicom_series import write_ct
from benchmarks.edf_files import ANNOTATION_BYTES, edf_header
from benchmarks.growth import write_records
from benchmarks.timing import MEMORY
from harmonize.ingest import ProjectKey
from harmonize.ingest.find import find
from harmonize.ingest.identify import Policy
from harmonize.ingest.prepare import preview
from harmonize.ingest.registry import converters
from harmonize.ingest.scan import describe_all
from harmonize_schemas import Recipe

CHANNELS, RATE_HZ = 20, 100
ROUNDS = 3
KEY = ProjectKey(b"benchmark" * 4)


def write_edf(folder: Path, n: int) -> None:
    """Files of a second."""
    body = bytes(2 * CHANNELS * RATE_HZ) + b"+0\x14\x14\0".ljust(ANNOTATION_BYTES, b"\0")
    data = edf_header(CHANNELS, RATE_HZ, 1) + body
    for number in range(n):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"r{number:06d}.edf").write_bytes(data)


def write_dicom(folder: Path, n: int) -> None:
    """Series of 250 slices at most, of a few pixels: the headers are those of whole ones."""
    for series, first in enumerate(range(0, n, 250)):
        write_ct(folder / f"{series:04d}", min(250, n - first), 8, series=series)


def row(name: str, folder: Path, n: int) -> str:
    """A table row of ``n`` headers."""
    policy, known = Policy(Recipe(dataset="headers"), None, KEY), converters()
    times: dict[str, list[float]] = {"find": [], "describe": [], "all": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        sources = find([folder], known).sources
        times["find"].append(time.perf_counter() - began)
        began = time.perf_counter()
        describe_all(sources)
        times["describe"].append(time.perf_counter() - began)
        began = time.perf_counter()
        _, shown = preview([folder], None, policy)
        times["all"].append(time.perf_counter() - began)
        if (shown.recordings, sum(shown.failures.values())) != (len(sources), 0):
            raise RuntimeError(f"{shown.recordings} of {len(sources)} described")
    rates = {what: n / statistics.median(seconds) for what, seconds in times.items()}
    return f"| {n:,} {name} | {rates['all']:,.0f}/s | {rates['find']:,.0f}/s | {rates['describe']:,.0f}/s |"


def rows(n: int = 5_000) -> list[str]:
    """The table."""
    lines = ["| headers | scan, one core | find alone | describe alone |", "|---|---|---|---|"]
    kinds = {
        "EDF files, 20 channels": write_edf,
        "WFDB records, 2 signals": write_records,
        "DICOM slices, 200 elements": write_dicom,
    }
    for name, write in kinds.items():
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            write(Path(folder) / "in", n)
            lines.append(row(name, Path(folder) / "in", n))
    return lines


if __name__ == "__main__":
    print("\n".join(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)))
