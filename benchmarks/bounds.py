"""``python -m benchmarks.bounds``: what bounds the rows of ``streaming`` and ``patches``: where the time of a batch goes.

One thread, no thread beside. ``decoding`` is Blosc, ``converting`` the compiled loop (or numpy), ``the rest`` is Python:
planning, finding chunks, tensors. Beside the rate at which the loop reads and writes: that of copying memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np

from benchmarks.patches import BATCH, EDGE, t1_store, volumes
from benchmarks.streaming import BATCH as WINDOWS
from benchmarks.streaming import Gather, drained
from benchmarks.synthetic import RATE_HZ, eeg_store
from benchmarks.timing import median_s, one_thread
from harmonize.data import PatchDataset, WindowDataset, WindowStream, boxes, window_reader

HEAD = (
    "| what | an item | decoding | converting | the rest | converting | copying memory |\n|---|---|---|---|---|---|---|"
)
ROUNDS = 3
PLACES: tuple[tuple[Any, str], ...] = (
    (numcodecs.blosc, "decompress"),
    (window_reader, "convert"),
    (boxes, "convert"),
)


class Clock:
    """Seconds spent in the functions of ``PLACES``, and bytes that the loop read and wrote."""

    def __init__(self) -> None:
        self.decoding = self.converting = 0.0
        self.bytes = 0

    def decompress(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """``numcodecs.blosc.decompress``, timed."""

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
    clock, real = Clock(), [getattr(module, name) for module, name in PLACES]
    for (module, name), one in zip(PLACES, real, strict=True):
        setattr(module, name, getattr(clock, name)(one))
    try:
        start = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        whole = time.perf_counter() - start
    finally:
        for (module, name), one in zip(PLACES, real, strict=True):
            setattr(module, name, one)
    decoding, converting = clock.decoding / whole, clock.converting / whole
    shares = f"{decoding:.0%} | {converting:.0%} | {1 - decoding - converting:.0%}"
    rate = clock.bytes / clock.converting / 1e9
    return f"| {what} | {whole / ROUNDS / n * 1e6:,.0f} µs | {shares} | {rate:.1f} GB/s | {copying:.1f} GB/s |"


def copying_gb_s() -> float:
    """Bytes read and written in a second by copying more than a processor's cache holds."""
    one = np.ones(2**27, np.uint8)
    other = one.copy()
    return 2 * one.nbytes / median_s(lambda: np.copyto(other, one), 5) / 1e9


def rows() -> list[str]:
    """The table."""
    one_thread()
    copying = copying_gb_s()
    found = HEAD.splitlines()
    with tempfile.TemporaryDirectory() as folder:
        for codec, name in (("none", "uncompressed"), ("lz4", "default codec")):
            store, samples = eeg_store(Path(folder) / f"{codec}.zarr", codec, 160, 600)  # type: ignore[arg-type]
            stream = WindowStream(store, 10, WINDOWS, threads=0)
            found.append(row(f"`WindowStream`, {name}", lambda s=stream: drained(s), len(stream.data), copying))  # type: ignore[misc]
        data, gather = WindowDataset(Path(folder) / "none.zarr", 10), Gather(samples, 10 * RATE_HZ)
        drawn = gather.batches()
        work = lambda: drained(data.__getitems__(batch) for batch in drawn)  # noqa: E731
        found.append(row("`WindowDataset`, random, uncompressed", work, len(data), copying))
        del samples, gather
        store, _ = eeg_store(Path(folder) / "ecg.zarr", "none", 4_000, 10, 12, 500)
        ecgs = WindowDataset(store, 10.0)
        order = np.random.default_rng(0).permutation(len(ecgs))
        work = lambda: drained(ecgs.__getitems__(order[i : i + 64].tolist()) for i in range(0, len(order), 64))  # noqa: E731
        found.append(row("`WindowDataset`, whole records of ECGs, uncompressed", work, len(ecgs), copying))
    with tempfile.TemporaryDirectory() as folder:
        voxels = volumes()
        for codec, name in (("none", "uncompressed"), ("lz4", "default codec")):
            store = t1_store(Path(folder) / f"{codec}.zarr", codec, voxels)  # type: ignore[arg-type]
            patches = PatchDataset(store, patch=(EDGE,) * 3, sampling="random", per_image=8)
            numbers = np.random.default_rng(0).permutation(len(patches))
            batches = [numbers[i : i + BATCH] for i in range(0, len(numbers), BATCH)]
            work = lambda p=patches, b=batches: drained(p.__getitems__(one) for one in b)  # type: ignore[misc] # noqa: E731
            found.append(row(f"`PatchDataset`, {EDGE}^3, random, {name}", work, len(patches), copying))
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
