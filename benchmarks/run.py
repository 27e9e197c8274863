"""``make bench``: each number beside a reference in the same run; medians, rates and ratios to README.md.

Each section runs in a process of its own: what the sections before it imported and left in memory slows the next, and
the processes that one starts import its main module first. Machines are noisy: read the ratios.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

RATES = "| what | ours | reference | reference's rate | ratio |\n|---|---|---|---|---|"
FIRST = ("streaming", "views", "patches", "edf_read", "wfdb_read", "convert_ecg", "convert_edf", "object_store")
"""Modules whose ``rows`` are rates beside a reference."""
OTHERS: tuple[tuple[str, str, str], ...] = (
    ("How mixed batches of a stream are", "streaming mixing", ""),
    ("Opening a store and indexing its windows", "opening 100000 1000000", ""),
    ("How the cost of converting grows (small WFDB records, one process)", "growth 1000 10000", ""),
    (
        "Memory of a process that converts one huge file",
        "memory 2",
        "| file | before | at most | time |\n|---|---|---|---|",
    ),
    ("Headers that `scan` reads", "headers", ""),
    ("DICOM series beside dcm2niix and dicom2nifti", "dicom", ""),
    ("What `scan` says beside what a run then took", "outlook", ""),
    ("Bytes in the store of a native byte, by codec (real data)", "sizes", ""),
    ("Ways to shuffle before compressing: size, rate of decoding (real data)", "codecs", ""),
)
"""What a section is about, its module and arguments, and the head of its table where the module has none."""


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
    for title, command, head in OTHERS:
        module = command.partition(" ")[0]
        lines += ["", f"{title} (`benchmarks/{module}.py`):", "", *filter(None, [head]), _rows(command)]
    text = "\n".join(lines) + "\n"
    Path(__file__).with_name("README.md").write_text(text, "utf-8")
    print(text)


def _rows(command: str) -> str:
    """What a module of this package prints."""
    module, *arguments = command.split()
    run = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip("\n")


if __name__ == "__main__":
    main()
