"""``python -m benchmarks.convert_bounds``: what bounds ``convert_ecg`` and ``convert_edf``: where the time goes.

One process on one core. Each function of ``STAGES`` is timed without those of the others that it calls; ``the rest`` is
what none of them does.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial, wraps
from importlib import import_module
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any

import numcodecs.blosc

import harmonize as hz
from benchmarks.convert_ecg import COPIES, DATA, KEY
from benchmarks.convert_edf import HOURS, write_eeg
from benchmarks.timing import MEMORY, one_core, replaced
from harmonize.ingest import pending, scan, write
from harmonize.ingest.packed import PackedDraft
from harmonize.store.content import ChannelHashes
from harmonize.store.parts import SignalPart
from harmonize.store.quality import StreamStatistics

ROUNDS = 3
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "find": ((import_module("harmonize.ingest.convert"), "walk"), (scan, "group")),
    "describe": ((scan, "describe_all"),),
    "name": ((scan, "_draft"),),
    "put away, take out": ((scan, "pack"), (PackedDraft, "draft")),
    "SHA-256": ((write, "_file_sha256"),),
    "read": ((write, "_blocks"),),
    "statistics, hashes": (
        (StreamStatistics, "__init__"), (StreamStatistics, "update"), (StreamStatistics, "result"),
        (ChannelHashes, "update"), (ChannelHashes, "hexdigests"),
    ),
    "Blosc": ((numcodecs.blosc, "compress"),),
    "part": ((SignalPart, "__init__"), (SignalPart, "write"), (SignalPart, "close")),
    "rows": ((write, "recording_row"), (write, "stream_row"), (write, "source_rows")),
    "commit": ((pending.Pending, "commit"),),
}  # fmt: skip


class Clock:
    """Seconds by stage, each without the stages inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def _step(self, stage: str, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self._turn()
        self._open.append(stage)
        try:
            return work(*given, **named)
        finally:
            self._turn()
            self._open.pop()

    def timed(self, stage: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A function, or a generator's steps, as part of a stage."""

        @wraps(real)
        def function(*given: Any, **named: Any) -> Any:
            return self._step(stage, real, *given, **named)

        @wraps(real)
        def generator(*given: Any, **named: Any) -> Iterator[Any]:
            items = real(*given, **named)
            while (item := self._step(stage, next, items, self)) is not self:
                yield item

        return generator if isgeneratorfunction(real) else function


def row(what: str, work: Callable[[], None], n: int) -> str:
    """A row for ``work``, which converts ``n`` sources."""
    work()
    clock = Clock()
    with replaced((*place, partial(clock.timed, stage)) for stage, places in STAGES.items() for place in places):
        start = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        whole = time.perf_counter() - start
    if absent := STAGES.keys() - clock.seconds.keys():
        raise RuntimeError(f"nothing was seen of {absent}")
    shares = [clock.seconds[stage] / whole for stage in STAGES]
    columns = [f"{whole / ROUNDS / n * 1e3:,.2f} ms", *(f"{share:.0%}" for share in (*shares, 1 - sum(shares)))]
    return f"| {what} | {' | '.join(columns)} |"


def rows() -> list[str]:
    """The table."""
    found = [f"| what | each | {' | '.join(STAGES)} | the rest |", "|---" * (len(STAGES) + 3) + "|"]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        eeg, ecg = Path(folder) / "eeg", Path(folder) / "ecg"
        eeg.mkdir()
        write_eeg(eeg / "night.edf", HOURS)
        for number in range(COPIES) if DATA.is_dir() else ():
            shutil.copytree(DATA / "records100", ecg / str(number))

        def converted(source: Path, n: int) -> None:
            write._sha256_at.cache_clear()
            with tempfile.TemporaryDirectory(dir=folder) as into:
                if hz.convert(source, Path(into) / "s.zarr", key=KEY).converted != n:
                    raise RuntimeError("not all was converted")

        with one_core():
            if n := sum(1 for _ in ecg.rglob("*.hea")):
                found.append(row(f"{n:,} PTB-XL records of 100 Hz", lambda: converted(ecg, n), n))
            found.append(row(f"an EDF of {HOURS} h, 20 channels, 256 Hz", lambda: converted(eeg, 1), 1))
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
