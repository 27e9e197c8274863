"""``python -m benchmarks.streaming``: batches beside what memory allows.

The reference is a numpy memmap gather of the same windows, scaled to float32, in the same run: random windows, a fresh
batch each time. It is shown twice. Dropped at once, a batch's memory is used again while it is in the processor's
cache, which no loader that reads ahead can do; so it also runs holding as many batches as the stream does.
Every batch is looked at by nobody: what is measured is making it. Readers are taken in turns, one process each row.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import CHANNELS, RATE_HZ, eeg_store, site_of
from benchmarks.timing import alternating_s, one_thread, row
from harmonize.data import WindowDataset, WindowStream
from harmonize.data.order import BlockOrder, fit
from harmonize.store import kernels
from harmonize.store.shards import Codec

ROUNDS, BATCH = 5, 64
RECORDINGS, SECONDS, WINDOW_S = 160, 600, 10
"""1 GB of samples."""
CODECS: tuple[tuple[Codec, str], ...] = (("none", "uncompressed"), ("lz4", "default codec"))
MDS = Path(".venv/mds/bin/python")


def drained(batches: Iterable[Any], hold: int = 0) -> None:
    """All batches, the last ``hold`` of them kept."""
    held: deque[Any] = deque(maxlen=hold)
    for batch in batches:
        held.append(batch)


def by_numpy(stream: WindowStream) -> None:
    """All batches of a stream, with numpy in place of the compiled loop."""
    before, kernels.COMPILED = kernels.COMPILED, False
    try:
        drained(stream)
    finally:
        kernels.COMPILED = before


class Gather:
    """Random windows of ``flat`` (recording, channel, time), scaled, batch after batch."""

    def __init__(self, flat: np.ndarray, n: int) -> None:
        self._flat, self._n = flat, n
        self._per_recording = flat.shape[2] // n
        self._order = np.random.default_rng(0).permutation(len(flat) * self._per_recording)

    def batches(self) -> Iterable[list[int]]:
        """Numbers of the windows of each batch."""
        return [self._order[at : at + BATCH].tolist() for at in range(0, len(self._order), BATCH)]

    def __iter__(self) -> Any:
        for batch in self.batches():
            out = np.empty((len(batch), self._flat.shape[1], self._n), np.float32)
            for place, window in enumerate(batch):
                recording, k = divmod(window, self._per_recording)
                part = self._flat[recording, :, k * self._n : (k + 1) * self._n]
                np.multiply(part, np.float32(0.1), out=out[place])
            yield out


def windows(folder: Path) -> list[str]:
    """10 s windows of 20 channels at 256 Hz, int16."""
    stores = {}
    for codec, _ in CODECS:
        stores[codec], samples = eeg_store(folder / f"{codec}.zarr", codec, RECORDINGS, SECONDS)
    samples.tofile(folder / "flat")
    shape = samples.shape
    del samples
    gather = Gather(np.memmap(folder / "flat", "<i2", "r", shape=shape), WINDOW_S * RATE_HZ)
    random = WindowDataset(stores["none"], window=WINDOW_S)
    n = len(random)
    held = {"gather, batches dropped": lambda: drained(gather), "gather, 4 batches held": lambda: drained(gather, 4)}
    works: dict[str, Callable[[], None]] = dict(held)
    works["random"] = lambda: drained(random.__getitems__(batch) for batch in gather.batches())
    for codec, store in stores.items():
        for threads in (0, 1, 2):
            stream = WindowStream(store, WINDOW_S, BATCH, threads=threads, prefetch=2)
            works[f"{codec} {threads}"] = lambda stream=stream: drained(stream)
            works[f"{codec} {threads} numpy"] = lambda stream=stream: by_numpy(stream)
    native = WindowStream(stores["lz4"], WINDOW_S, BATCH, threads=0, dtype=None)
    works["native"] = lambda: drained(native)
    found = alternating_s(works, ROUNDS)
    rows = []

    def add(what: str, ours: str, *references: str) -> None:
        rows.extend(row(what, n, found[ours], reference, found[reference], "windows") for reference in references)

    dropped, kept = held
    add("`WindowDataset`, random, uncompressed, one thread", "random", dropped)
    for codec, name in CODECS:
        add(f"`WindowStream`, shuffled, {name}, no thread beside", f"{codec} 0", dropped)
        add(f"the same, one thread reads ahead, {name}", f"{codec} 1", dropped, kept)
        add(f"the same, two threads, {name}", f"{codec} 2", dropped, kept)
        for threads in (0, 1, 2) if kernels.COMPILED else ():
            what, ours = f"compiled loop, {name}, {threads or 'no'} thread(s) beside", f"{codec} {threads}"
            rows.append(row(what, n, found[ours], "the loop in numpy", found[f"{ours} numpy"], "windows"))
    add("`WindowStream(dtype=None)`: native integers, default codec, no thread beside", "native", dropped)
    theirs = mds_windows_s(folder / "flat", shape)
    for threads in (0, 1):
        what = f"`WindowStream`, shuffled, default codec, {threads or 'no'} thread beside"
        if theirs is None:
            rows.append(f"| {what} | | MosaicML MDS, uncompressed | not run: no {MDS} (`make .venv/mds`) | |")
        else:
            name = "MosaicML MDS, the same windows uncompressed, torchvision a stand-in"
            rows.append(row(what, n, found[f"lz4 {threads}"], name, n / theirs, "windows"))
    return rows


def mds_windows_s(flat: Path, shape: tuple[int, ...]) -> float | None:
    """Windows per second of MosaicML MDS holding the same; None where it is not installed."""
    if not MDS.exists():
        return None
    script = Path(__file__).parent / "peers" / "mds.py"
    numbers = map(str, (*shape, WINDOW_S * RATE_HZ, BATCH, ROUNDS))
    run = subprocess.run([MDS, script, flat, *numbers], check=True, capture_output=True, text=True)
    return float(run.stdout.split()[0])


def records(folder: Path) -> list[str]:
    """Random whole records of 20,000 ECGs (12 channels, 5,000 samples)."""
    store, samples = eeg_store(folder / "ecg.zarr", "none", 20_000, 10, 12, 500)
    flat = folder / "ecg"
    samples.tofile(flat)
    gather = Gather(np.memmap(flat, "<i2", "r", shape=samples.shape), 5000)
    del samples
    data = WindowDataset(store, window=10.0)
    works = {
        "ours": lambda: drained(data.__getitems__(batch) for batch in gather.batches()),
        "theirs": lambda: drained(gather),
    }
    found = alternating_s(works, 3)
    what = "`WindowDataset`, random whole records of 20,000 ECGs (12 x 5,000), uncompressed"
    return [row(what, len(data), found["ours"], "numpy memmap gather of one array", found["theirs"], "records")]


def mixing(folder: Path) -> list[str]:
    """How mixed batches are, beside batches drawn at random: entropy of sites and subjects, and the design effect of
    blocks: predicted, and measured on values that are alike in a block and not between blocks."""
    store, _ = eeg_store(folder / "mixing.zarr", "none", 2_000, 600, 1, 32)
    data = WindowDataset(store, window=WINDOW_S)
    n = len(data)
    per_chunk = 5.12
    window_bytes = CHANNELS * WINDOW_S * RATE_HZ * 2
    rows = [
        "| order | design effect: predicted | measured | site entropy, bits | subject entropy, bits |",
        "|---|---|---|---|---|",
    ]
    site = np.repeat([site_of(i, 2_000) for i in range(2_000)], n // 2_000)
    subject = np.repeat(np.arange(2_000) // 2, n // 2_000)
    uniform = np.random.default_rng(0).permutation(n)[: n // BATCH * BATCH].reshape(-1, BATCH)
    rows.append(f"| drawn at random | 1.00 | 1.00 | {_entropy(site[uniform])} | {_entropy(subject[uniform])} |")
    for memory in (2**30, 2**28, 2**26):
        order = fit(n, BATCH, window_bytes, per_chunk, memory)
        rows.append(_mixed(f"{memory >> 20} MB: blocks of {order.block}", order, site, subject))
    bad = BlockOrder(n, BATCH, block=40, pool=2, lanes=1)
    rows.append(_mixed("for comparison, 2 blocks of 40 at a time", bad, site, subject))
    return rows


def _mixed(name: str, order: BlockOrder, site: np.ndarray, subject: np.ndarray) -> str:
    batches = np.stack([one for one in order.batches(0, 0) if len(one) == BATCH])
    value = np.random.default_rng(1).normal(size=order.n_blocks)
    means = ((value - value.mean()) / value.std())[batches // order.block].mean(axis=1)
    measured = means.var() * BATCH
    entropies = f"{_entropy(site[batches])} | {_entropy(subject[batches])}"
    return f"| {name} | {order.design_effect:.2f} | {measured:.2f} | {entropies} |"


def _entropy(codes: np.ndarray) -> str:
    """Mean entropy of the codes (batch, window) of batches."""
    bits = []
    for batch in codes:
        p = np.bincount(batch) / len(batch)
        bits.append(-(p[p > 0] * np.log2(p[p > 0])).sum())
    return f"{np.mean(bits):.2f}"


def rows() -> list[str]:
    """Table rows of windows and records."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        found = windows(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        found += records(Path(folder))
    return found


def mixing_rows() -> list[str]:
    """The table of ``mixing``."""
    with tempfile.TemporaryDirectory() as folder:
        return mixing(Path(folder))


if __name__ == "__main__":
    print("\n".join([*rows(), *mixing_rows()]))
