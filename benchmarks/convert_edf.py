"""``python -m benchmarks.convert_edf``: converting EDFs, all steps included, beside reading and Blosc-encoding them.

One core for all (the process is bound to one), files in the page cache; medians of runs taken in turns. A third work
does what no conversion can leave out. What the engine keeps of files between runs (their SHA-256) is dropped before
each. Then two workers beside one, over several files, with the start of the processes; files and store are in memory
(/dev/shm) where there is such a place, so that the disk's caches are not what is measured.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numcodecs.blosc
import numpy as np

import harmonize as hz
from benchmarks.edf_files import edf_header
from benchmarks.timing import MEMORY, alternating_s, one_core, row
from harmonize.ingest import ProjectKey
from harmonize.ingest.pool import process_pool
from harmonize.ingest.write import _sha256_at

CHANNELS, RATE_HZ, HOURS = 20, 256, 8
CHUNK_BYTES = 512 * 1024
KEY = ProjectKey(b"benchmark" * 4)
ROUNDS = 3
NIGHTS, FILES = 4, 16


def write_eeg(path: Path, hours: int) -> int:
    """An EDF+C file of signals that compress as EEG does (a random walk that is drawn back, and noise); its size."""
    rng, n, seconds = np.random.default_rng(0), CHANNELS, hours * 3600
    decay = 0.995 ** np.arange(RATE_HZ)
    level = np.zeros((n, 1))
    with path.open("wb") as file:
        file.write(edf_header(n, RATE_HZ, seconds))
        for second in range(seconds):
            walk = np.cumsum(rng.normal(0, 12, (n, RATE_HZ)), axis=1) * decay[::-1] + level * decay
            level = walk[:, -1:]
            samples = np.round(walk + rng.normal(0, 5, walk.shape)).astype("<i2")
            file.write(samples.tobytes() + (b"+%d\x14\x14\0" % second).ljust(32, b"\0"))
    return path.stat().st_size


def read_and_encode(path: Path) -> int:
    """The file's bytes in pieces of a chunk, each Blosc-encoded as a store's chunks are; bytes out."""
    piece, out = bytearray(CHUNK_BYTES), 0
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(piece):
            out += len(numcodecs.blosc.compress(memoryview(piece)[:n], b"lz4", 5, numcodecs.blosc.BITSHUFFLE, 0, 2))
    return out


def least(path: Path, into: Path) -> None:
    """What no conversion can leave out: the file's SHA-256 too, and a file with what was encoded."""
    piece, digest = bytearray(CHUNK_BYTES), hashlib.sha256()
    with path.open("rb", buffering=0) as file, into.open("wb", buffering=0) as out:
        while n := file.readinto(piece):
            digest.update(memoryview(piece)[:n])
            out.write(numcodecs.blosc.compress(memoryview(piece)[:n], b"lz4", 5, numcodecs.blosc.BITSHUFFLE, 0, 2))


def rows() -> list[str]:
    """Table rows."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        source = Path(folder) / "in"
        source.mkdir()
        night = source / "0.edf"
        size = write_eeg(night, HOURS)
        nights = [night, *(source / f"{number}.edf" for number in range(1, NIGHTS))]
        for other in nights[1:]:
            shutil.copyfile(night, other)

        into = Path(folder) / "s.zarr"

        def convert() -> None:
            _sha256_at.cache_clear()
            outcome = hz.convert(source, into, key=KEY)
            if outcome.converted != NIGHTS:
                raise RuntimeError("the files were not converted")
            shutil.rmtree(into)  # memory that nobody has had yet is slow

        with one_core():
            works: dict[str, Callable[[], object]] = {
                "ours": convert,
                "theirs": lambda: [read_and_encode(one) for one in nights],
                "least": lambda: [least(one, Path(folder) / "out") for one in nights],
            }
            found = alternating_s(works, ROUNDS)
        several = Path(folder) / "several"
        several.mkdir()
        for number in range(FILES):
            (several / f"{number}.edf").hardlink_to(night)

        def by_workers(n: int) -> None:
            with process_pool(n) as executor:
                outcome = hz.convert(several, into, executor=executor, workers=n, key=KEY)
            if outcome.converted != FILES:
                raise RuntimeError("the files were not converted")
            shutil.rmtree(into)

        found |= alternating_s({"two": lambda: by_workers(2), "one": lambda: by_workers(1)}, ROUNDS)
    what = f"`convert` of {NIGHTS} EDFs of {HOURS} h, {CHANNELS} channels, {RATE_HZ} Hz, one core"
    beside = f"`convert` of {FILES} of them, two workers"
    encoding, more = "reading them and Blosc-encoding their bytes", "this, their SHA-256 and writing what was encoded"
    total = NIGHTS * size / 1e6
    return [
        row(what, total, found["ours"], encoding, found["theirs"], "MB"),
        row(what, total, found["ours"], more, found["least"], "MB"),
        row(more, total, found["least"], encoding, found["theirs"], "MB"),
        row(beside, FILES * size / 1e6, found["two"], "one worker", found["one"], "MB"),
    ]


if __name__ == "__main__":
    print("\n".join(rows()))
