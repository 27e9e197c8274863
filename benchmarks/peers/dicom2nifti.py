"""dicom2nifti, run by ``benchmarks.dicom`` in an environment of its own (``make .venv/dicom2nifti``).

``dicom2nifti.py FOLDER OUT``: the series in FOLDER to the file OUT, uncompressed. Prints milliseconds of the conversion
alone, then megabytes of the process before it and at most.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.pop(0)  # this folder, where a file of the package's name lies

import dicom2nifti


def peak_mb() -> int:
    """The most resident memory since the process began to run its program (Linux)."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


def main() -> None:
    """Run it."""
    before = peak_mb()
    start = time.perf_counter()
    dicom2nifti.dicom_series_to_nifti(sys.argv[1], sys.argv[2], reorient_nifti=False)
    print(round((time.perf_counter() - start) * 1e3), before, peak_mb())


if __name__ == "__main__":
    main()
