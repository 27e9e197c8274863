"""``python -m benchmarks.waiting``: how long training waits for a stream: for its first batch, and in an epoch whose
steps take as long as one thread takes for a batch."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.streaming import BATCH, ROUNDS, SECONDS, WINDOW_S, drained
from benchmarks.synthetic import eeg_store
from benchmarks.timing import median_s, one_thread
from harmonize.data import WindowStream

RECORDINGS = 640
"""4 GB of samples: an epoch of some seconds."""
MEMORY = 2**27
"""Pools are small beside a corpus, and so they are to be here: else all decoding is at the epoch's beginning."""


def rows() -> list[str]:
    """Table rows."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        return _rows(eeg_store(Path(folder) / "eeg.zarr", "lz4", RECORDINGS, SECONDS)[0])


def _rows(store: Path) -> list[str]:
    first_s = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        next(iter(WindowStream(store, WINDOW_S, BATCH)))
        first_s.append(time.perf_counter() - start)
    plain = WindowStream(store, WINDOW_S, BATCH, threads=0, memory=MEMORY)
    streams = {n: WindowStream(store, WINDOW_S, BATCH, threads=n, memory=MEMORY) for n in (1, 2)}
    for stream in (plain, *streams.values()):
        drained(stream)  # the first epoch asks the system for its memory
    steps: list[float] = []
    waits: dict[int, list[tuple[float, float]]] = {n: [] for n in streams}
    for _ in range(ROUNDS):  # a step is as long as a batch takes at this time, whatever else the machine does
        steps.append(median_s(lambda: drained(plain), 1) / len(plain))
        for threads, stream in streams.items():
            waits[threads].append(_waits(stream, steps[-1]))
    step_s = statistics.median(steps)
    found = [
        f"| opening the store to the first batch of a shuffled stream | {statistics.median(first_s):.2f} s | | | |"
    ]
    for threads, stream in streams.items():
        whole, first = (statistics.median(column) for column in zip(*waits[threads], strict=True))
        found.append(
            f"| a training step of {1e3 * step_s:.1f} ms, as long as one thread takes for a batch: share of time "
            f"that it waits, {threads} thread(s) reading | {whole:.1%}, {first:.1%} of it before the first batch of an "
            f"epoch of {len(stream) * step_s:.1f} s | | | |"
        )
    return found


def _waits(stream: WindowStream, step_s: float) -> tuple[float, float]:
    """Shares of an epoch in which a training step that sleeps (a GPU works) has no batch, and not the first one."""
    waits, start = [], time.perf_counter()
    batches = iter(stream)
    while True:
        asked = time.perf_counter()
        if next(batches, None) is None:
            length = time.perf_counter() - start
            return sum(waits) / length, waits[0] / length
        waits.append(time.perf_counter() - asked)
        time.sleep(step_s)


if __name__ == "__main__":
    print("\n".join(rows()))
