"""Timing: medians, and readers taken in turns so that a busy machine slows all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLOCK_BYTES = 384 * 1024
"""Blocks that converters are asked for, as ``harmonize.ingest.write`` does."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where temporary folders are in memory, so that no disk is measured; None: there is no such place."""


def one_thread() -> None:
    """From now on one thread is one thread in this process: neither Blosc nor torch starts others."""
    import numcodecs  # here, as other sections import this module into small processes
    import torch

    numcodecs.blosc.use_threads = False
    torch.set_num_threads(1)


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, as long as this is; Blosc starts no thread."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with blosc_alone():
            yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def blosc_alone() -> Iterator[None]:
    """Blosc starts no thread, as long as this is."""
    import numcodecs  # here, as in one_thread

    before, numcodecs.blosc.use_threads = numcodecs.blosc.use_threads, False
    try:
        yield
    finally:
        numcodecs.blosc.use_threads = before


def alternating_s(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, one round of all after the other; a first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of several runs after one to warm up."""
    return alternating_s({"": work}, rounds)[""]


@contextmanager
def replaced(stand_ins: Iterable[tuple[Any, str, Callable[[Any], Any]]]) -> Iterator[None]:
    """Attributes of objects (owner, name), as long as this is, each by what is made of it."""
    real = [(owner, name, getattr(owner, name), made) for owner, name, made in stand_ins]
    for owner, name, one, made in real:
        setattr(owner, name, made(one))
    try:
        yield
    finally:
        for owner, name, one, _ in real:
            setattr(owner, name, one)


def peak_mb() -> int:
    """The most resident memory of this process in MB, since it began to run its program (Linux; ``ru_maxrss`` counts
    its parent's too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def row(what: str, n: float, ours_s: float, reference: str, theirs_s: float, unit: str) -> str:
    """One table row: rates of both and their ratio."""
    ours, theirs = f"{n / ours_s:,.0f} {unit}/s", f"{n / theirs_s:,.0f} {unit}/s"
    return f"| {what} | {ours} | {reference} | {theirs} | {theirs_s / ours_s:.2f} |"
