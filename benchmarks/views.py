"""``python -m benchmarks.views``: what the views of ``WindowDataset`` cost, one thread, uncompressed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import eeg_store
from harmonize.data import WindowDataset
from harmonize.data.buffers import Buffers
from harmonize.data.reader import Chunks

BATCH = 64
CASES: dict[str, dict[str, Any]] = {
    "as recorded": {},
    'missing="mask"': {"missing": "mask"},
    'reference="average"': {"reference": "average"},
    "reference of two electrodes": {"reference": ("E3", "E4")},
    'normalize="channel"': {"normalize": "channel"},  # the store has no statistics: zeros take as long
    'normalize="robust"': {"normalize": "robust"},
}


def microseconds(root: Path, options: dict[str, Any]) -> float:
    """A window of 20 channels x 2,560 in random batches; the best of three epochs."""
    data = WindowDataset(root, window=10.0, **options)
    order, memory = np.random.default_rng(0).permutation(len(data)), Buffers()
    batches = order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)
    best = float("inf")
    for _ in range(4):  # the first warms up
        start = time.perf_counter()
        for batch in batches:
            data.read(batch, [Chunks(memory)] * BATCH)
        best = min(best, (time.perf_counter() - start) / batches.size)
    return best * 1e6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        store, _ = eeg_store(Path(folder) / "s.zarr", "none", recordings=8, seconds=600)
        for name, options in CASES.items():
            print(f"{microseconds(store, options):6.0f} µs a window  {name}")
