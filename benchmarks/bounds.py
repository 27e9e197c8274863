"""``python -m benchmarks.bounds``: what bounds the rows of ``streaming`` and ``patches``: where a batch's time goes.

One thread, no thread beside. ``decoding`` is Blosc, ``converting`` the compiled loop (or numpy), ``the rest`` Python:
planning, finding chunks, tensors. Beside the rate at which the loop reads and writes: that of copying memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.patches import BATCH, EDGE, t1_store, volumes
from benchmarks.streaming import BATCH as WINDOWS
from benchmarks.streaming import CODECS, drained
from benchmarks.synthetic import eeg_store
from benchmarks.timing import median_s, one_thread, replaced
from harmonize.data import PatchDataset, WindowDataset, WindowStream, boxes, window_reader
from harmonize.data.batch import BatchDataset
from harmonize.store import kernels

HEAD = [
    "| what | an item | decoding | converting | the rest | converting | copying memory |",
    "|---|---|---|---|---|---|---|",
]
ROUNDS = 3
PLACES: tuple[tuple[Any, str], ...] = (
    (kernels, "decode"),
    (window_reader, "convert"),
    (boxes, "convert"),
)


class Clock:
    """Seconds spent in the functions of ``PLACES``, and bytes that the loop read and wrote."""

    def __init__(self) -> None:
        self.decoding = self.converting = 0.0
        self.bytes = 0

    def decode(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """``kernels.decode``, timed."""

        def timed(*given: Any) -> Any:
            start = time.perf_counter()
            found = real(*given)
            self.decoding += time.perf_counter() - start
            return found

        return timed

    def convert(self, real: Callable[..., None]) -> Callable[..., None]:
        """``kernels.convert``, timed."""

        def timed(targets: list[np.ndarray], sources: list[np.ndarray], *terms: Any) -> None:
            start = time.perf_counter()
            real(targets, sources, *terms)
            self.converting += time.perf_counter() - start
            self.bytes += sum(one.nbytes for one in (*targets, *sources))

        return timed


def row(what: str, work: Callable[[], None], n: int, copying: float) -> str:
    """A row for ``work``, which makes ``n`` items."""
    work()
    clock = Clock()
    with replaced((module, name, getattr(clock, name)) for module, name in PLACES):
        start = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        whole = time.perf_counter() - start
    decoding, converting = clock.decoding / whole, clock.converting / whole
    shares = f"{decoding:.0%} | {converting:.0%} | {1 - decoding - converting:.0%}"
    rate = clock.bytes / clock.converting / 1e9
    return f"| {what} | {whole / ROUNDS / n * 1e6:,.0f} µs | {shares} | {rate:.1f} GB/s | {copying:.1f} GB/s |"


def copying_gb_s() -> float:
    """Bytes read and written in a second by copying more than a processor's cache holds."""
    one = np.ones(2**27, np.uint8)
    other = one.copy()
    return 2 * one.nbytes / median_s(lambda: np.copyto(other, one), 5) / 1e9


def drawn(data: BatchDataset, batches: Sequence[Sequence[int]]) -> None:
    """Batches of a map-style data set."""
    drained(data.__getitems__(batch) for batch in batches)


def in_batches(numbers: np.ndarray, size: int) -> list[list[int]]:
    """Numbers, so many at a time."""
    return [numbers[at : at + size].tolist() for at in range(0, len(numbers), size)]


def rows() -> list[str]:
    """The table."""
    one_thread()
    copying, rng = copying_gb_s(), np.random.default_rng(0)
    found = [*HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for codec, name in CODECS:
            store, _ = eeg_store(Path(folder) / f"{codec}.zarr", codec, 160, 600)
            stream = WindowStream(store, 10, WINDOWS, threads=0)
            found.append(row(f"`WindowStream`, {name}", partial(drained, stream), len(stream.data), copying))
        ecgs, _ = eeg_store(Path(folder) / "ecg.zarr", "none", 4_000, 10, 12, 500)
        for what, place in (("", Path(folder) / "none.zarr"), (", whole records of ECGs", ecgs)):
            data = WindowDataset(place, 10)
            batches = in_batches(rng.permutation(len(data)), WINDOWS)
            name = f"`WindowDataset`{what}, random, uncompressed"
            found.append(row(name, partial(drawn, data, batches), len(data), copying))
    with tempfile.TemporaryDirectory() as folder:
        voxels = volumes()
        for codec, name in CODECS:
            store = t1_store(Path(folder) / f"{codec}.zarr", codec, voxels)
            patches = PatchDataset(store, patch=(EDGE,) * 3, sampling="random", per_image=8)
            batches = in_batches(rng.permutation(len(patches)), BATCH)
            work = partial(drawn, patches, batches)
            found.append(row(f"`PatchDataset`, {EDGE}^3, random, {name}", work, len(patches), copying))
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
