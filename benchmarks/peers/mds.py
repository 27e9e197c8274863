"""MosaicML MDS, run by ``benchmarks.streaming`` in an environment of its own (``make .venv/mds``): windows per second.

``mds.py FLAT RECORDINGS CHANNELS SAMPLES WINDOW BATCH ROUNDS``: FLAT is int16 (recording, channel, time). Each window
is a sample of an uncompressed MDS; batches are scaled to float32. Shuffled as MDS does by itself (py1e), one process.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from streaming import MDSWriter, StreamingDataset


def main() -> None:
    flat, (recordings, channels, samples, window, batch, rounds) = sys.argv[1], map(int, sys.argv[2:8])
    data = np.memmap(flat, "<i2", "r", shape=(recordings, channels, samples))
    with tempfile.TemporaryDirectory() as folder:
        with MDSWriter(out=folder, columns={"signal": f"ndarray:int16:{channels},{window}"}) as writer:
            for one in data:
                for start in range(0, samples - window + 1, window):
                    writer.write({"signal": np.ascontiguousarray(one[:, start : start + window])})
        stream = StreamingDataset(local=folder, shuffle=True, batch_size=batch, shuffle_seed=0)
        times = []
        for _ in range(rounds + 1):
            start, n, at = time.perf_counter(), 0, 0
            out = np.empty((batch, channels, window), np.float32)
            for sample in stream:
                np.multiply(sample["signal"], np.float32(0.1), out=out[at])
                n, at = n + 1, at + 1
                if at == batch:
                    torch.from_numpy(out)
                    out, at = np.empty((batch, channels, window), np.float32), 0
            times.append((time.perf_counter() - start) / n)
        print(1 / statistics.median(times[1:]))
        print(Path(folder).exists())


if __name__ == "__main__":
    main()
