"""Runs damaged copies through a converter: each must end in a ``ConversionError`` or in a right result, within a bound
of time and memory."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from converters.conformance import convert, sources_in
from fuzz.mutate import mutate
from fuzz.seeds import Files, Target
from harmonize_converters.contract import ConversionError

CASE_S = 5.0
"""No case may take longer."""
MEMORY_BYTES = 1 << 30
"""By so much may the address space grow."""


@dataclass
class Tally:
    """How cases ended; ``found`` are those that ended as none may, with what was raised."""

    cases: int = 0
    converted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    found: list[tuple[Files, str]] = field(default_factory=list)


def damaged(target: Target, seed: int) -> Files:
    """The files of one case: a good folder with one file damaged, a pure function of the seed."""
    rng = random.Random(seed)
    files = dict(rng.choice(target.folders))
    name = rng.choice(sorted(files))
    files[name] = mutate(rng, files[name])
    return files


def run_case(target: Target, files: Files, folder: Path) -> Counter[str]:
    """Convert what is in ``files``; the codes of what was refused, and "" for each source that was converted.

    Raises whatever is no right end: another exception, a wrong result, an ``internal_error``.
    """
    ends: Counter[str] = Counter()
    folder.mkdir()
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        for source in sources_in(target.converter, folder):
            try:
                outcome = convert(target.converter, source, 4096)
                target.check(source, outcome.arrays)
                ends[""] += 1
            except ConversionError as error:
                if error.code == "internal_error" or str(folder) in str(error):
                    raise AssertionError(f"refused with {error}") from error
                ends[error.code] += 1
    finally:
        shutil.rmtree(folder)
    return ends


def run(target: Target, seeds: range) -> Tally:
    """All cases of a range of seeds."""
    tally = Tally()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place, _bounded():
        for seed in seeds:
            files = damaged(target, seed)
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, CASE_S)
            try:
                ends = run_case(target, files, Path(place) / "case")
            except Exception as error:  # noqa: BLE001 - whatever is raised is what fuzzing looks for
                tally.found.append((files, f"seed {seed}: {type(error).__name__}: {error}"))
                ends = Counter()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            tally.cases += 1
            tally.converted += ends.pop("", 0)
            tally.refused += ends
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - start)
    return tally


@contextmanager
def _bounded() -> Iterator[None]:
    """Limits of address space and time, which raise ``MemoryError`` and ``TimeoutError`` in the case that exceeds them."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {CASE_S} s")

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)
