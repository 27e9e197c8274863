"""``python -m benchmarks.dicom``: converting each real DICOM series beside dcm2niix on the same series.

Time: a converter's describe and read in this process, and all of ``convert`` into a store, beside a run of dcm2niix
(the program itself, its start included) that writes an uncompressed NIfTI. Peak memory: of a Python process that
converts, above what it held once harmonize was imported; of dcm2niix's process, or the 10 MB of the one that starts it.
The series are small (four slices): what is measured is mostly what a series costs at least.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import dcm2niix

import harmonize as hz
from benchmarks.timing import BLOCK_BYTES, alternating_s
from harmonize.ingest import ProjectKey
from harmonize.ingest.write import _sha256_at
from harmonize_converters.contract import FoundFile
from harmonize_converters.dicom import DicomConverter

SERIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom"
NAMES = (
    *("ge/anatomical/001", "siemens/anatomical/001", "philips/anatomical/001", "hitachi/anatomical/001"),
    *(f"generic/compressed{codec}/001" for codec in ("_j2k", "_jpeg", "_jpegls", "_rle")),
)
KEY = ProjectKey(b"benchmark" * 4)
ROUNDS = 5
CHILD = """
import sys
import harmonize as hz
from benchmarks.timing import peak_mb
from harmonize.ingest import ProjectKey
before = peak_mb()
outcome = hz.convert(sys.argv[1], sys.argv[2], key=ProjectKey(b"benchmark" * 4))
assert outcome.converted == 1, outcome
print(before, peak_mb())
"""
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def files_of(folder: Path) -> list[FoundFile]:
    """As the finder gives them."""
    found = []
    for path in sorted(folder.iterdir()):
        status = path.stat()
        found.append(FoundFile(path, f"{folder.name}/{path.name}", status.st_size, status.st_mtime_ns))
    return found


def read(folder: Path) -> int:
    """Group, describe and read a series; bytes of its voxels."""
    converter = DicomConverter()
    (source,) = converter.group(files_of(folder), {})
    description = converter.describe(source).description
    return sum(block.samples.nbytes for block in converter.read(source, description, BLOCK_BYTES))


def rows(names: tuple[str, ...] = NAMES, rounds: int = ROUNDS) -> list[str]:
    """Table rows: series; ms of our reading, of all of ``convert``, of dcm2niix; ratios; peak memory of both."""
    if not SERIES.is_dir():
        return []
    return [_row(name, rounds) for name in names]


def _row(name: str, rounds: int) -> str:
    folder, stores = SERIES / name, itertools.count()
    with tempfile.TemporaryDirectory() as temporary:

        def convert() -> None:
            _sha256_at.cache_clear()
            outcome = hz.convert(folder, Path(temporary) / f"{next(stores)}.zarr", key=KEY)
            if outcome.converted != 1:
                raise RuntimeError("the series was not converted")

        command = [str(dcm2niix.bin), "-z", "n", "-b", "n", "-f", "out", "-o", temporary, "-w", "1", str(folder)]

        def theirs() -> None:
            subprocess.run(command, check=True, capture_output=True)

        found = alternating_s({"read": lambda: read(folder), "convert": convert, "theirs": theirs}, rounds)
        store = str(Path(temporary) / "memory.zarr")
        before, most = _printed([sys.executable, "-c", CHILD, str(folder), store])
        # ru_maxrss of a child counts what it was before exec: this process's pages; a bare interpreter is small.
        (peak,) = _printed([sys.executable, "-S", "-c", PEAK, *command])
    milliseconds = [f"{found[what] * 1e3:.1f} ms" for what in ("read", "convert", "theirs")]
    ratios = [f"{found['theirs'] / found[what]:.2f}" for what in ("read", "convert")]
    return "| " + " | ".join([name, *milliseconds, *ratios, f"{most - before} MB", f"{peak} MB"]) + " |"


def _printed(command: list[str]) -> list[int]:
    """The numbers that a process prints."""
    return [int(n) for n in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


HEAD = [
    "| series | read | `convert` | dcm2niix | ratio of read | ratio of `convert` | memory above start | dcm2niix's |",
    "|---|---|---|---|---|---|---|---|",
]

if __name__ == "__main__":
    print("\n".join([*HEAD, *rows()]))
