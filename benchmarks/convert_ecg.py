"""``python -m benchmarks.convert_ecg``: converting many short records, all steps included, in one process.

PTB-XL's records, copied several times over into memory (/dev/shm) where there is such a place. The reference reads the
same files, hashes them with SHA-256 and Blosc-encodes the samples: what no conversion can leave out.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numcodecs.blosc
import numpy as np

import harmonize as hz
from benchmarks.timing import MEMORY, alternating_s, blosc_alone, row
from harmonize.ingest import ProjectKey

DATA = Path(__file__).parents[2] / "shared" / "data" / "ptb-xl"
KEY = ProjectKey(b"benchmark" * 4)
COPIES, ROUNDS, CHANNELS = 10, 3, 12


def least(headers: Sequence[Path]) -> None:
    """Read, hash and encode each record, one by one."""
    for header in headers:
        text, samples = header.read_bytes(), header.with_suffix(".dat").read_bytes()
        hashlib.sha256(text).hexdigest(), hashlib.sha256(samples).hexdigest()
        by_channel = np.ascontiguousarray(np.frombuffer(samples, "<i2").reshape(-1, CHANNELS).T)
        numcodecs.blosc.compress(by_channel, b"lz4", 5, numcodecs.blosc.BITSHUFFLE, 0, 2)


def rows() -> list[str]:
    """Table rows."""
    if not DATA.is_dir():
        return [f"| converting PTB-XL | not run: no {DATA} | | | |"]
    found = []
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for name, hertz in (("records100", 100), ("records500", 500)):
            source = Path(folder) / name
            for number in range(COPIES):
                shutil.copytree(DATA / name, source / str(number))
            headers = sorted(source.rglob("*.hea"))

            def convert(source: Path = source, n: int = len(headers)) -> None:
                with tempfile.TemporaryDirectory(dir=folder) as into:
                    outcome = hz.convert(source, Path(into) / "s.zarr", key=KEY)
                    if outcome.converted != n or outcome.failures:
                        raise RuntimeError(f"{outcome.converted} of {n} records were converted")

            with blosc_alone():
                s = alternating_s({"ours": convert, "least": lambda headers=headers: least(headers)}, ROUNDS)
            what = f"`convert` of {len(headers):,} PTB-XL records of {hertz} Hz, one process"
            found.append(row(what, len(headers), s["ours"], "reading, SHA-256, Blosc", s["least"], "records"))
            shutil.rmtree(source)
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
