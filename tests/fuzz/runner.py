"""Runs damaged copies through a converter: each must end in a ``ConversionError`` or in a right result, within a bound
of time and memory."""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from converters.conformance import convert, sources_in
from fuzz.seeds import Files, Target
from harmonize_converters.contract import ConversionError

CASE_S = 5.0
"""No case may take longer."""
START_S = 20.0
"""So long may a process of its own take to start."""
SPAWN = multiprocessing.get_context("spawn")
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


@dataclass(frozen=True)
class End:
    """How one case ended: codes of what was refused ("": converted), and what was wrong with that."""

    seed: int
    codes: Counter[str]
    seconds: float
    fault: str | None


def damaged(target: Target, seed: int) -> Files:
    """The files of one case: a good folder with one file damaged, a pure function of the seed."""
    rng = random.Random(seed)
    files = dict(rng.choice(target.folders))
    name = rng.choice(sorted(files))
    files[name] = target.damage(rng, files[name])
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
    for end in _apart(target, seeds) if target.apart else _cases(target, seeds):
        tally.cases += 1
        tally.converted += end.codes.pop("", 0)
        tally.refused += end.codes
        tally.slowest_s = max(tally.slowest_s, end.seconds)
        if end.fault:
            tally.found.append((damaged(target, end.seed), f"seed {end.seed}: {end.fault}"))
    return tally


def _cases(target: Target, seeds: range) -> Iterator[End]:
    """In this process."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place, _bounded():
        for seed in seeds:
            files = damaged(target, seed)
            codes: Counter[str] = Counter()
            fault = None
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, CASE_S)
            try:
                codes = run_case(target, files, Path(place) / "case")
            except Exception as error:  # noqa: BLE001 - whatever is raised is what fuzzing looks for
                fault = f"{type(error).__name__}: {error}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            yield End(seed, codes, time.monotonic() - start, fault)


def _apart(target: Target, seeds: range) -> Iterator[End]:
    """In a process of its own, another after each case that ends it: native code can crash, and hang out of reach."""
    at = seeds.start
    while at < seeds.stop:
        receiver, sender = SPAWN.Pipe(duplex=False)
        child = SPAWN.Process(target=_send_cases, args=(target, range(at, seeds.stop), sender), daemon=True)
        child.start()
        sender.close()
        fault = None
        try:
            while at < seeds.stop and fault is None:
                if receiver.poll(START_S + CASE_S):
                    yield receiver.recv()
                    at += 1
                else:
                    fault = "does not come to an end"
        except EOFError:
            child.join()
            fault = f"the process ended with {child.exitcode}"
        finally:
            child.kill()
            child.join()
        if fault:
            yield End(at, Counter(), CASE_S, fault)
            at += 1


def _send_cases(target: Target, seeds: range, to: Connection) -> None:
    warnings.simplefilter("error")
    for end in _cases(target, seeds):
        to.send(end)


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
