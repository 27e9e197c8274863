"""``make bench``: each number beside a reference in the same run; medians, rates and ratios to README.md.

Each section runs in a process of its own without a main module: what the sections before it imported and left in memory
slows the next, and the processes that one starts import its main module first. Machines are noisy: read the ratios.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

RATES = "| what | ours | reference | reference's rate | ratio |\n|---|---|---|---|---|"
FIRST = (
    "streaming", "scaling", "waiting", "views", "patches", "edf_read", "wfdb_read", "convert_ecg", "convert_edf",
    "object_store",
)  # fmt: skip
"""Modules whose ``rows`` are rates beside a reference."""
OTHERS: tuple[tuple[str, str, str, str], ...] = (
    ("What bounds batches: where the time of one thread goes", "bounds", "rows()", ""),
    ("What bounds conversions: where the time of one process goes", "convert_bounds", "rows()", ""),
    ("How mixed batches of a stream are", "streaming", "mixing_rows()", ""),
    ("Opening a store and indexing its windows", "opening", "rows([100_000, 1_000_000])", ""),
    ("How the cost of converting grows (small WFDB records, one process)", "growth", "rows()", ""),
    (
        "Memory of a process that converts one huge file",
        "memory",
        "rows()",
        "| file | before | at most | time |\n|---|---|---|---|",
    ),
    ("Headers that `scan` reads", "headers", "rows()", ""),
    ("DICOM series beside dcm2niix and dicom2nifti", "dicom", "rows()", ""),
    ("What a second thread gives to decoding DICOM frames", "decoders", "rows()", ""),
    ("What `scan` says beside what a run then took", "outlook", "rows()", ""),
    ("Bytes in the store of a native byte, by codec (real data)", "sizes", "rows()", ""),
    ("Ways to shuffle before compressing: size, rate of decoding (real data)", "codecs", "rows()", ""),
    ("Runs that are killed, clusters and job arrays", "harnesses", "rows()", ""),
)
"""What a section is about, its module, what is called there, and the head of its table where the module has none."""


def main() -> None:
    """Run everything and write benchmarks/README.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians; ratio above 1: faster than the reference in the same run.",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}.",
        "",
        RATES,
        *map(_rows, FIRST),
    ]
    for title, module, call, head in OTHERS:
        lines += ["", f"{title} (`benchmarks/{module}.py`):", "", *filter(None, [head]), _rows(module, call)]
    text = "\n".join(lines) + "\n"
    Path(__file__).with_name("README.md").write_text(text, "utf-8")
    print(text)


def _rows(module: str, call: str = "rows()") -> str:
    """What a function of a module of this package gives, line by line; its warnings are errors."""
    lines = [f"from benchmarks import {module}", "import warnings", "warnings.simplefilter('error')"]
    code = "\n".join([*lines, f"print('\\n'.join({module}.{call}))"])
    ran = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.rstrip("\n")


if __name__ == "__main__":
    main()
