"""``python -m benchmarks.edf_read``: samples of a 1 h, 20-channel, 256 Hz EDF, ours beside MNE and pyEDFlib.

Every reader opens the file and gives all samples; ours as native integers in blocks, as conversion takes them (header
and onsets included), MNE as float64 volts, pyEDFlib as int32. One process, file in the page cache, readers taken in
turns of one file and of several; medians and ratios.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mne
import numpy as np
import pyedflib

from benchmarks.edf_files import edf_header
from benchmarks.timing import BLOCK_BYTES, alternating_s, row
from harmonize_converters.contract import FoundFile, SourceFiles
from harmonize_converters.edf import EdfConverter

CHANNELS, RATE_HZ, SECONDS = 20, 256, 3600
ROUNDS = 5
TURNS = (1, 5)
"""Reads of the file in one turn: alone between the other readers, and as over a folder of files."""


def write_edf(path: Path, bdf: bool = False) -> np.ndarray:
    """An EDF+C (or BDF+C) file of random samples; returns them, (channel, time)."""
    width, top = (3, 2**23) if bdf else (2, 2**15)
    samples = np.random.default_rng(0).integers(-top, top, (CHANNELS, SECONDS * RATE_HZ), np.int32)
    with path.open("wb") as file:
        file.write(edf_header(CHANNELS, RATE_HZ, SECONDS, bdf))
        for second in range(SECONDS):
            part = samples[:, second * RATE_HZ : (second + 1) * RATE_HZ]
            raw = part.astype("<i4").view(np.uint8).reshape(CHANNELS, RATE_HZ, 4)[..., :width]
            file.write(np.ascontiguousarray(raw).tobytes() + (b"+%d\x14\x14\0" % second).ljust(16 * width, b"\0"))
    return samples


def ours(path: Path) -> list[np.ndarray]:
    """Describe, and all blocks, each dropped before the next as in conversion (the first is kept to be checked)."""
    status = path.stat()
    file = FoundFile(path, path.name, status.st_size, status.st_mtime_ns)
    converter, source = EdfConverter(), SourceFiles("edf", file.key, (file,), ("signal",))
    description = converter.describe(source).description
    first = None
    for block in converter.read(source, description, BLOCK_BYTES):
        first = block.samples if first is None else first
    return [first] if first is not None else []


def by_mne(path: Path) -> np.ndarray:
    """``mne.io.read_raw_edf(...).get_data()``, or its BDF twin."""
    read = mne.io.read_raw_bdf if path.suffix == ".bdf" else mne.io.read_raw_edf
    return np.asarray(read(path, verbose="error").get_data())


def by_pyedflib(path: Path) -> np.ndarray:
    """Digital samples of all signals but annotations."""
    reader = pyedflib.EdfReader(str(path))
    try:
        return np.array([reader.readSignal(i, digital=True) for i in range(reader.signals_in_file)])
    finally:
        reader.close()


def several(read: Callable[[Path], object], path: Path, times: int) -> None:
    """The file again and again."""
    for _ in range(times):
        read(path)


def measure(path: Path, samples: np.ndarray, native_bytes: int) -> list[str]:
    """Table rows of one file."""
    first = ours(path)[0]
    np.testing.assert_array_equal(first, samples[:, : first.shape[1]])
    np.testing.assert_array_equal(by_pyedflib(path), samples)
    readers: dict[str, Callable[[Path], object]] = {"ours": ours, "MNE `get_data()`": by_mne, "pyEDFlib": by_pyedflib}
    rows = []
    for times in TURNS:
        found = alternating_s({name: partial(several, read, path, times) for name, read in readers.items()}, ROUNDS)
        megabytes, mine = times * samples.size * native_bytes / 1e6, found.pop("ours")
        what = f"reading {path.suffix[1:].upper()}, 1 h, {CHANNELS} channels, {RATE_HZ} Hz, {times} a turn"
        rows += [row(what, megabytes, mine, name, theirs, "MB") for name, theirs in found.items()]
    return rows


def rows() -> list[str]:
    """Table rows: EDF and BDF beside both readers."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MNE's remarks on the made-up file
        for suffix, width in (("edf", 2), ("bdf", 3)):
            path = Path(folder) / f"hour.{suffix}"
            found += measure(path, write_edf(path, suffix == "bdf"), width)
            path.unlink()
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
