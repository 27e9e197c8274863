"""``make bench``: each number beside a reference in the same run; medians, rates and ratios to README.md.

Machines are noisy: read the ratios.
"""

from __future__ import annotations

import os
import platform
import warnings
from pathlib import Path

from benchmarks import (
    codecs,
    convert_ecg,
    convert_edf,
    dicom,
    edf_read,
    growth,
    headers,
    memory,
    object_store,
    opening,
    outlook,
    patches,
    sizes,
    streaming,
    views,
    wfdb_read,
)


def main() -> None:
    """Run everything and write benchmarks/README.md."""
    warnings.simplefilter("error")
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians; ratio above 1: faster than the reference in the same run.",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}.",
        "",
        "| what | ours | reference | reference's rate | ratio |",
        "|---|---|---|---|---|",
        *streaming.rows(),
        *views.rows(),
        *patches.rows(),
        *edf_read.rows(),
        *wfdb_read.rows(),
        *convert_ecg.rows(),
        *convert_edf.rows(),
        *object_store.rows(),
        "",
        "How mixed batches of a stream are (`benchmarks/streaming.py`):",
        "",
        *streaming.mixing_rows(),
        "",
        "Opening a store and indexing its windows (`benchmarks/opening.py`):",
        "",
        *opening.rows([100_000, 1_000_000]),
        "",
        "How the cost of converting grows (`benchmarks/growth.py`; small WFDB records, one process):",
        "",
        *growth.rows([1_000, 10_000]),
        "",
        "Memory of a process that converts one huge file (`benchmarks/memory.py`):",
        "",
        "| file | before | at most | time |",
        "|---|---|---|---|",
        *memory.rows(2),
        "",
        "Headers that `scan` reads (`benchmarks/headers.py`):",
        "",
        *headers.rows(),
        "",
        "DICOM series beside dcm2niix and dicom2nifti (`benchmarks/dicom.py`: what is measured, and where):",
        "",
        *dicom.rows(),
        "",
        "What `scan` says beside what a run then took (`benchmarks/outlook.py`):",
        "",
        *outlook.rows(),
        "",
        "Bytes in the store of a native byte, by codec (`benchmarks/sizes.py`; real data):",
        "",
        *sizes.rows(),
        "",
        "Ways to shuffle before compressing: size, rate of decoding (`benchmarks/codecs.py`; real data):",
        "",
        *codecs.rows(),
    ]
    text = "\n".join(lines) + "\n"
    Path(__file__).with_name("README.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
