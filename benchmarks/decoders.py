"""``python -m benchmarks.decoders``: what a second thread gives to decoding DICOM frames, by codec.

Two threads of one process read the same series, each all of it, beside one. Near 2: the decoder lets other threads run;
near 1: it holds Python's lock, and only other processes help.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from benchmarks.dicom import SERIES, files_of
from benchmarks.dicom_series import write_ct
from benchmarks.timing import BLOCK_BYTES, MEMORY, alternating_s
from harmonize_converters.contract import Description, SourceFiles
from harmonize_converters.dicom import DicomConverter

SLICES, SIZE, ROUNDS = 16, 512, 5
AGAIN = 20
"""Times that a real series is read at once: it has four slices."""
MADE = {
    "not compressed": ExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
REAL = {"JPEG lossless (a real series)": SERIES / "generic/compressed_jpeg/001"}
HEAD = ["| frames | one thread | two threads | two beside one |", "|---|---|---|---|"]
CONVERTER = DicomConverter()


def _read(source: SourceFiles, description: Description, times: int) -> None:
    for _ in range(times):
        for _block in CONVERTER.read(source, description, BLOCK_BYTES):
            pass


def rows() -> list[str]:
    """The table."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as temporary:
        made = {name: write_ct(Path(temporary) / uid, SLICES, SIZE, uid) for name, uid in MADE.items()}
        real = {name: folder for name, folder in REAL.items() if folder.is_dir()}
        lines = [_row(name, folder, 1) for name, folder in made.items()]
        return HEAD + lines + [_row(name, folder, AGAIN) for name, folder in real.items()]


def _row(name: str, folder: Path, times: int) -> str:
    (source,) = CONVERTER.group(files_of(folder), {})
    description = CONVERTER.describe(source).description
    work = source, description, times
    with ThreadPoolExecutor(2) as threads:
        works = {"one": lambda: _read(*work), "two": lambda: list(threads.map(lambda _: _read(*work), range(2)))}
        s = alternating_s(works, ROUNDS)
    frames = times * len(source.files)
    rates = f"{frames / s['one']:,.0f}/s | {2 * frames / s['two']:,.0f}/s | {2 * s['one'] / s['two']:.2f}"
    return f"| {name} | {rates} |"


if __name__ == "__main__":
    print("\n".join(rows()))
