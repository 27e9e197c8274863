"""``python -m benchmarks.wfdb_read``: WFDB records a second on one core, beside ``wfdb.rdrecord`` in the same run.

PTB-XL at 500 Hz (12 leads, 10 s, format 16), then long records of 12 signals in each packed format. Before anything is
timed both readers must give the same samples.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from benchmarks.timing import BLOCK_BYTES, alternating_s, row
from harmonize_converters.contract import FoundFile, SourceFiles
from harmonize_converters.wfdb import WfdbConverter

ROUNDS = 7
DATA = Path(__file__).parents[2] / "shared" / "data" / "ptb-xl" / "records500"
LONG_FRAMES = 500_000
CONVERTER = WfdbConverter()


def sources_below(folder: Path) -> list[SourceFiles]:
    """Found and grouped, as ingestion does; not part of what is timed."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            files[key] = FoundFile(path, key, path.stat().st_size, path.stat().st_mtime_ns)
    return CONVERTER.group([file for file in files.values() if file.path.suffix == ".hea"], files)


def samples(source: SourceFiles) -> np.ndarray:
    """The one stream of a source (channel, time)."""
    description = CONVERTER.describe(source).description
    return np.hstack([block.samples for block in CONVERTER.read(source, description, BLOCK_BYTES)])


def rdrecord(name: str) -> np.ndarray:
    return wfdb.rdrecord(name, physical=False).d_signal


def ptb_xl() -> list[str]:
    """Records a second: describing and reading, one record after the other or in two sweeps."""
    if not DATA.is_dir():
        return [f"| reading PTB-XL | not run: no {DATA} | | | |"]
    sources = sources_below(DATA)
    names = [str(source.primary.path.with_suffix("")) for source in sources]
    for source, name in zip(sources, names, strict=True):
        np.testing.assert_array_equal(samples(source), rdrecord(name).T)
    described = [CONVERTER.describe(source).description for source in sources]

    def read() -> None:
        for source, description in zip(sources, described, strict=True):
            for _ in CONVERTER.read(source, description, BLOCK_BYTES):
                pass

    def describe() -> None:
        for source in sources:
            CONVERTER.describe(source)

    def both() -> None:
        for source in sources:
            for _ in CONVERTER.read(source, CONVERTER.describe(source).description, BLOCK_BYTES):
                pass

    def sweeps() -> None:
        describe()
        read()

    reference = "wfdb.rdrecord(physical=False)"
    works: dict[str, Callable[[], object]] = {
        reference: lambda: [rdrecord(name) for name in names],
        "describe and read": both,
        "describe all, then read all": sweeps,
        "read alone": read,
        "describe alone": describe,
    }
    found = alternating_s(works, ROUNDS)
    theirs = found.pop(reference)
    return [
        row(f"{len(sources)} PTB-XL records: {what}", len(sources), seconds, f"`{reference}`", theirs, "records")
        for what, seconds in found.items()
    ]


def long_records() -> list[str]:
    """Samples a second of one large file."""
    rows = []
    rng = np.random.default_rng(0)
    sizes = {
        16: (1, 2),
        24: (1, 3),
        32: (1, 4),
        61: (1, 2),
        80: (1, 1),
        160: (1, 2),
        212: (2, 3),
        310: (3, 4),
        311: (3, 4),
    }
    for number, (unit_samples, unit_bytes) in sizes.items():
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            n = LONG_FRAMES * 12
            (folder / "r.dat").write_bytes(rng.integers(0, 256, n // unit_samples * unit_bytes, np.uint8).tobytes())
            lines = [f"r 12 250 {LONG_FRAMES}", *[f"r.dat {number} 200 12 0 0"] * 12]
            (folder / "r.hea").write_text("\n".join(lines) + "\n")
            (source,) = sources_below(folder)
            name = str(folder / "r")
            # wfdb 4.3.1 takes an unused bit of format 311 for part of the third sample (774 cannot be in 10 bits).
            if number != 311:
                np.testing.assert_array_equal(samples(source), rdrecord(name).T)
            description = CONVERTER.describe(source).description

            def read(source=source, description=description) -> None:
                for _ in CONVERTER.read(source, description, BLOCK_BYTES):
                    pass

            found = alternating_s({"wfdb": lambda name=name: rdrecord(name), "ours": read}, 3)
            what = f"reading WFDB format {number}, 12 signals, {n / 1e6:.0f} M samples"
            megabytes = n * np.dtype(description.streams[0].dtype).itemsize / 1e6
            rows.append(row(what, megabytes, found["ours"], "`wfdb.rdrecord`", found["wfdb"], "MB"))
    return rows


def rows() -> list[str]:
    """Table rows; ratios are to ``wfdb.rdrecord(physical=False)``."""
    return [*ptb_xl(), *long_records()]


if __name__ == "__main__":
    warnings.simplefilter("error")
    print("\n".join(rows()))
