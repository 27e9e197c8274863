"""``python -m benchmarks.memory [GIGABYTES]``: peak resident memory of a process that converts one huge file.

Makes an EDF of so many GB (10) and a NIfTI of 0.4 times as many, converts each in a process of its own, and prints how
much memory that process held at most.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.edf_files import edf_header

CHILD = """
import sys
import harmonize as hz
from benchmarks.timing import peak_mb
from harmonize.ingest import ProjectKey
before = peak_mb()
outcome = hz.convert(sys.argv[1], sys.argv[2], dataset="huge", key=ProjectKey(b"benchmark" * 4))
assert (outcome.converted, outcome.failures) == (1, []), outcome
print(before, peak_mb(), round(outcome.seconds))
"""
CHANNELS, RATE_HZ = 64, 1000


def write_edf(path: Path, size: float) -> None:
    """Random samples that repeat every minute, 64 channels at 1 kHz."""
    minute = np.random.default_rng(0).integers(-900, 900, (60, CHANNELS, RATE_HZ), np.int16).astype("<i2")
    seconds = int(size / minute[0].nbytes)
    with path.open("wb") as file:
        file.write(edf_header(CHANNELS, RATE_HZ, seconds))
        for second in range(seconds):
            file.write(minute[second % 60].tobytes() + (b"+%d\x14\x14\0" % second).ljust(32, b"\0"))


def write_nifti(path: Path, size: float) -> None:
    """A 4-D image of int16, its volumes alike."""
    volume = np.random.default_rng(0).integers(0, 999, (128, 128, 64), np.int16)
    volumes = int(size / volume.nbytes)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((*volume.shape, volumes))
    header.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with path.open("wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        for _ in range(volumes):
            file.write(volume.T.tobytes())


def rows(gigabytes: float = 10) -> list[str]:
    """Table rows: what, its size, memory before and at most, seconds."""
    found = []
    for name, size, write in (("huge.edf", gigabytes, write_edf), ("huge.nii", 0.4 * gigabytes, write_nifti)):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in"
            source.mkdir()
            write(source / name, size * 1e9)
            command = [sys.executable, "-c", CHILD, str(source), str(Path(folder) / "s.zarr")]
            before, most, seconds = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
        found.append(f"| {name}, {size:g} GB | {before} MB | {most} MB | {seconds} s |")
    return found


if __name__ == "__main__":
    print("\n".join(rows(float(sys.argv[1]) if len(sys.argv) > 1 else 10)))
