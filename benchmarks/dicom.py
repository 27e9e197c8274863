"""``python -m benchmarks.dicom``: converting DICOM series beside dcm2niix and dicom2nifti on the same files.

Time: a converter's group, describe and read in this process, and all of ``convert`` into a store, beside a run of
dcm2niix (the program itself, its start included) and dicom2nifti's conversion (without its start), which write an
uncompressed NIfTI. All make new files, whose removal is counted, and write to memory (/dev/shm) where there is such a
place. Peak memory: of a Python process that converts, above what it held once its library was imported; of dcm2niix's
process, or the 10 MB of the one that starts it. The real series are small (four slices): what is measured is mostly
what a series costs at least. The made-up ones are CTs (``dicom_series``); the last three rows are folders
of many, converted by all cores, their start included.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import dcm2niix
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

import harmonize as hz
from benchmarks.dicom_series import write_ct
from benchmarks.timing import BLOCK_BYTES, MEMORY, alternating_s
from harmonize.ingest import ProjectKey
from harmonize.ingest.pool import process_pool
from harmonize.ingest.write import _sha256_at
from harmonize_converters.contract import FoundFile
from harmonize_converters.dicom import DicomConverter

SERIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom"
NAMES = (
    *("ge/anatomical/001", "siemens/anatomical/001", "philips/anatomical/001", "hitachi/anatomical/001"),
    *(f"generic/compressed{codec}/001" for codec in ("_j2k", "_jpeg", "_jpegls", "_rle")),
)
SIZE = 512
MADE = (
    ("a CT of 2,000 slices", 2000, ExplicitVRLittleEndian),
    ("a CT of 200 slices, JPEG 2000", 200, JPEG2000Lossless),
)
FOLDERS = ((8, 250, SIZE), (24, 250, SIZE), (200, 20, SIZE // 2))
"""Folders that are converted by all cores: CTs, slices of each, edge of a slice."""
CORES = os.cpu_count() or 1
DICOM2NIFTI = Path(".venv/dicom2nifti/bin/python")
HEAD = [
    "| series | read | `convert` | dcm2niix | dicom2nifti | dcm2niix / read | dcm2niix / `convert` |"
    " memory above start | dcm2niix's | dicom2nifti's |",
    "|---|---|---|---|---|---|---|---|---|---|",
]
KEY = ProjectKey(b"benchmark" * 4)
ROUNDS, MADE_ROUNDS = 5, 3
CHILD = """
import sys
import harmonize as hz
from benchmarks.timing import peak_mb
from harmonize.ingest import ProjectKey
before = peak_mb()
outcome = hz.convert(sys.argv[1], sys.argv[2], key=ProjectKey(b"benchmark" * 4))
assert outcome.converted and not outcome.failures, outcome
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
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        found.append(
            FoundFile(path, f"{folder.name}/{path.relative_to(folder).as_posix()}", status.st_size, status.st_mtime_ns)
        )
    return found


def read(folder: Path) -> int:
    """Group, describe and read what is in a folder; bytes of its voxels."""
    converter = DicomConverter()
    total = 0
    for source in converter.group(files_of(folder), {}):
        description = converter.describe(source).description
        total += sum(block.samples.nbytes for block in converter.read(source, description, BLOCK_BYTES))
    return total


def rows(names: tuple[str, ...] = NAMES, rounds: int = ROUNDS) -> list[str]:
    """The table: real series, then those that are made up."""
    lines = [_row(name, SERIES / name, rounds) for name in names if SERIES.is_dir()]
    with tempfile.TemporaryDirectory(dir=MEMORY) as temporary:
        for name, n, syntax in MADE:
            folder = write_ct(Path(temporary) / "in", n, SIZE, syntax)
            lines.append(_row(name, folder, MADE_ROUNDS))
            shutil.rmtree(folder)
        for n, slices, size in FOLDERS:
            folder = Path(temporary) / "in"
            for series in range(n):
                write_ct(folder / f"{series}", slices, size, series=series)
            name = f"{n} CTs of {slices} slices, {size} x {size}, {CORES} processes"
            lines.append(_row(name, folder, MADE_ROUNDS, CORES))
            shutil.rmtree(folder)
    return HEAD + lines


def _row(name: str, folder: Path, rounds: int, processes: int = 0) -> str:
    stores = itertools.count()
    with tempfile.TemporaryDirectory(dir=MEMORY) as temporary:

        def convert() -> None:
            _sha256_at.cache_clear()
            store = Path(temporary) / f"{next(stores)}.zarr"
            with process_pool(processes) as executor:
                outcome = hz.convert(folder, store, key=KEY, executor=executor, workers=max(1, processes))
            if not outcome.converted or outcome.failures:
                raise RuntimeError("the series was not converted")
            shutil.rmtree(store)

        made = Path(temporary) / "theirs"
        command = [str(dcm2niix.bin), "-z", "n", "-b", "n", "-f", "out%s_%i", "-o", str(made), "-w", "1", str(folder)]

        def theirs() -> None:
            made.mkdir()
            subprocess.run(command, check=True, capture_output=True)
            shutil.rmtree(made)

        works = {"read": lambda: read(folder), "convert": convert, "theirs": theirs}
        found = alternating_s(works, rounds)
        before, most = _printed([sys.executable, "-c", CHILD, str(folder), str(Path(temporary) / "memory.zarr")])
        made.mkdir()
        # ru_maxrss of a child counts what it was before exec: this process's pages; a bare interpreter is small.
        (peak,) = _printed([sys.executable, "-S", "-c", PEAK, *command])
        other, others_memory = _dicom2nifti(folder, Path(temporary))
    times = [*(f"{found[what] * 1e3:,.1f} ms" for what in works), other]
    ratios = [f"{found['theirs'] / found[what]:.2f}" for what in ("read", "convert")]
    memory = [f"{most - before} MB", f"{peak} MB", others_memory]
    return "| " + " | ".join([name, *times, *ratios, *memory]) + " |"


def _dicom2nifti(folder: Path, temporary: Path) -> tuple[str, str]:
    """Its time and memory, once; of several series the time of all, one after the other."""
    if not DICOM2NIFTI.exists():
        return f"not run: no {DICOM2NIFTI} (`make .venv/dicom2nifti`)", ""
    script = Path(__file__).parent / "peers" / "dicom2nifti.py"
    series = sorted(path for path in folder.iterdir() if path.is_dir()) or [folder]
    try:
        runs = [_printed([str(DICOM2NIFTI), str(script), str(one), str(temporary / "theirs.nii")]) for one in series]
    except subprocess.CalledProcessError:
        return "refused", ""
    return f"{sum(ms for ms, _, _ in runs):,} ms", f"{max(most - before for _, before, most in runs)} MB"


def _printed(command: list[str]) -> list[int]:
    """The numbers that a process prints."""
    return [int(n) for n in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


if __name__ == "__main__":
    print("\n".join(rows()))
