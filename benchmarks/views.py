"""``python -m benchmarks.views``: what the views of ``WindowDataset`` cost, one thread, uncompressed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import eeg_store
from benchmarks.timing import alternating_s, one_thread, row
from harmonize.data import WindowDataset
from harmonize.data.buffers import Buffers
from harmonize.data.reader import Chunks

BATCH, ROUNDS = 64, 5
CASES: dict[str, dict[str, Any]] = {
    "as recorded": {},
    '`missing="mask"`': {"missing": "mask"},
    '`reference="average"`': {"reference": "average"},
    "`reference=` of two electrodes": {"reference": ("E3", "E4")},
    '`normalize="channel"`': {"normalize": "channel"},  # the store has no statistics: zeros take as long
    '`normalize="robust"`': {"normalize": "robust"},
}


def rows() -> list[str]:
    """Table rows: random batches of windows of 20 channels x 2,560."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        store, _ = eeg_store(Path(folder) / "s.zarr", "none", recordings=40, seconds=600)
        works: dict[str, Callable[[], None]] = {}
        for name, options in CASES.items():
            data = WindowDataset(store, window=10.0, **options)
            works[name] = partial(_read, data, Buffers())
        found = alternating_s(works, ROUNDS)
        plain = found.pop("as recorded")
        return [
            row(f"`WindowDataset` with {name}, one thread", len(data), seconds, "as recorded", plain, "windows")
            for name, seconds in found.items()
        ]


def _read(data: WindowDataset, memory: Buffers) -> None:
    order = np.random.default_rng(0).permutation(len(data))
    for batch in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
        data.read(batch, [Chunks(memory)] * BATCH)


if __name__ == "__main__":
    print("\n".join(rows()))
