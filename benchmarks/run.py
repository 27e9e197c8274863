"""``make bench``: each number beside a reference in the same run; medians, rates and ratios to README.md.

Machines are noisy: read the ratios.
"""

from __future__ import annotations

import os
import platform
import tempfile
import warnings
from pathlib import Path

import numpy as np
import wfdb
from torch.utils.data import DataLoader

import harmonize as hz
from benchmarks import convert_edf, edf_read, growth, headers, memory, outlook, sizes, wfdb_read
from benchmarks.synthetic import eeg_store
from benchmarks.timing import median_s, row
from harmonize.data import WindowDataset
from harmonize.ingest import ProjectKey

ROUNDS = 5
BATCH = 64
DATA = Path(__file__).parents[2] / "shared" / "data"
KEY = ProjectKey(b"benchmark" * 4)


def windows() -> list[str]:
    """Random 10 s windows (20 channels, 256 Hz, int16) against a memmap gather of the same windows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codec in ("none", "lz4"):
            store, samples = eeg_store(Path(folder) / f"{codec}.zarr", codec, recordings=8, seconds=600)
            flat = np.memmap(Path(folder) / "flat", dtype="<i2", mode="w+", shape=samples.shape)
            flat[:] = samples
            ds = WindowDataset(store, window=10.0)
            n = ds.n_samples
            order = np.random.default_rng(0).permutation(len(ds))
            batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
            per_recording = samples.shape[2] // n
            scale = np.float32(0.1)

            def gather(batches=batches, flat=flat, n=n, per_recording=per_recording, scale=scale) -> None:
                for batch in batches:
                    out = np.empty((len(batch), flat.shape[1], n), np.float32)
                    for place, window in enumerate(batch):
                        recording, k = divmod(int(window), per_recording)
                        np.multiply(flat[recording, :, k * n : (k + 1) * n], scale, out=out[place])

            def ours(batches=batches, ds=ds) -> None:
                for batch in batches:
                    ds.__getitems__(batch)

            np.testing.assert_allclose(ds[7]["signal"], samples[0, :, 7 * n : 8 * n] * scale, rtol=1e-6)
            theirs = median_s(gather, ROUNDS)
            what = f"`WindowDataset`, shuffled batches of {BATCH}, codec {codec}, one process"
            rows.append(row(what, len(ds), median_s(ours, ROUNDS), "numpy memmap gather", theirs, "windows"))
            loader = DataLoader(ds, BATCH, shuffle=True, num_workers=2, collate_fn=ds.collate, persistent_workers=True)
            what = f"the same through `DataLoader(num_workers=2)`, codec {codec}"
            seconds = median_s(lambda loader=loader: [None for _ in loader], ROUNDS)
            rows.append(row(what, len(ds), seconds, "numpy memmap gather", theirs, "windows"))
    return rows


def ptb_xl() -> list[str]:
    """Converting PTB-XL records, all steps included, against a loop over ``wfdb.rdrecord``."""
    folder = DATA / "ptb-xl"
    if not folder.is_dir():
        return [f"| converting PTB-XL | not run: no {folder} | | | |"]
    records = sorted(str(file.with_suffix("")) for file in folder.rglob("*.hea"))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as into:
            outcome = hz.convert(folder, Path(into) / "s.zarr", key=KEY)
            if outcome.converted != len(records) or outcome.failures:
                raise RuntimeError(f"{outcome.converted} of {len(records)} records converted")

    reference = median_s(lambda: [wfdb.rdrecord(name, physical=False) for name in records], 3)
    return [row("`convert` of PTB-XL, one process", len(records), median_s(ours, 3), "loop over `wfdb.rdrecord`",
                reference, "recordings")]  # fmt: skip


def main() -> None:
    """Run everything and write benchmarks/README.md."""
    warnings.simplefilter("error")
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians; ratio above 1: faster than the reference in the same run.",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}.",
        "",
        "| what | ours | reference | reference's rate | ratio |",
        "|---|---|---|---|---|",
        *windows(),
        *edf_read.rows(),
        *wfdb_read.rows(),
        *ptb_xl(),
        *convert_edf.rows(),
        "",
        "How the cost of converting grows (`benchmarks/growth.py`; small WFDB records, one process):",
        "",
        *growth.rows([1_000, 10_000]),
        "",
        "Memory of a process that converts one huge file (`benchmarks/memory.py`):",
        "",
        "| file | before | at most | time |",
        "|---|---|---|---|",
        *memory.rows(2),
        "",
        "Headers that `scan` reads (`benchmarks/headers.py`):",
        "",
        *headers.rows(),
        "",
        "What `scan` says beside what a run then took (`benchmarks/outlook.py`):",
        "",
        *outlook.rows(),
        "",
        "Bytes in the store of a native byte, by codec (`benchmarks/sizes.py`; real data):",
        "",
        *sizes.rows(),
    ]
    text = "\n".join(lines) + "\n"
    Path(__file__).with_name("README.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
