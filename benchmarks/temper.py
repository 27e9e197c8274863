"""``python -m benchmarks.temper [STORE]``: requested and measured shares of sites under tempered sampling.

Without STORE a small one is made from PTB-XL where it is at hand (sites from its own table), else from
made-up signals of two sites. Then the cost of drawing from 1e8 windows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

import harmonize as hz
from benchmarks.run import DATA, KEY
from benchmarks.synthetic import eeg_store
from harmonize.data import DomainBatchSampler, WindowDataset
from harmonize.data.domains import Codes, encode

DRAWS, BATCH = 64_000, 64


def dataset(folder: Path) -> tuple[WindowDataset, Codes]:
    """Windows to draw from, and the site of each of their rows."""
    if len(sys.argv) > 1:
        ds = WindowDataset(sys.argv[1], window=2.0)
    elif (DATA / "ptb-xl" / "records500").is_dir():
        return _ptb_xl(folder)
    else:
        ds = WindowDataset(eeg_store(folder / "s.zarr", "lz4", recordings=9, seconds=60)[0], window=2.0)
    return ds, ds.codes_of("site")


def _ptb_xl(folder: Path) -> tuple[WindowDataset, Codes]:
    """Each record's site, from the data set's own table by the record's file name."""
    recipe = folder / "recipe.yaml"
    recipe.write_text("dataset: ptb-xl\nprivacy: keep\n", "utf-8")
    hz.convert(DATA / "ptb-xl" / "records500", folder / "s.zarr", recipe=recipe, key=KEY)
    ds = WindowDataset(folder / "s.zarr", window=2.0)
    table = pl.read_csv(DATA / "ptb-xl" / "ptbxl_database.csv", columns=["filename_hr", "site"])
    sites = {Path(name).stem: site for name, site in table.iter_rows()}
    files = ds.codes_of("source")
    names = [Path(files[int(code)] or "").stem for code in files.codes]
    return ds, encode(pl.Series([sites.get(name) for name in names]))


def shares(ds: WindowDataset, sites: Codes) -> None:
    """One line a site and alpha: windows, requested and measured share, how many standard errors apart."""
    names = [*sites.names, "unknown"]
    code = sites.codes % len(names)  # -1 becomes the last
    sizes = np.bincount(code, ds.row_sizes(), len(names))
    of_window = np.repeat(code, ds.row_sizes())
    print(f"{len(ds)} windows, {DRAWS} draws in batches of {BATCH}")
    print(f"{'alpha':>5} {'site':>8} {'windows':>8} {'requested':>10} {'measured':>9} {'std. error':>10} {'z':>6}")
    for alpha in (1.0, 0.5, 0.0):
        sampler = DomainBatchSampler(ds, BATCH, field=sites, alpha=alpha, length=DRAWS)
        seen = np.bincount(of_window[np.concatenate(list(sampler))], minlength=len(names)) / DRAWS
        known = sizes > 0
        wanted = np.where(known, np.where(known, sizes, 1) ** alpha, 0)
        wanted = wanted / wanted.sum()
        error = np.sqrt(wanted * (1 - wanted) / DRAWS)
        for i in np.flatnonzero(known):
            z = (seen[i] - wanted[i]) / error[i] if error[i] else 0.0
            print(
                f"{alpha:5.1f} {names[i]:>8} {sizes[i]:8.0f} {wanted[i]:10.4f} {seen[i]:9.4f} {error[i]:10.4f} {z:6.2f}"
            )


def speed(windows: int = 10**8, recordings: int = 10**6) -> None:
    """Time to build and to draw from a million recordings of a hundred windows, of 50 sites."""
    rng = np.random.default_rng(0)
    site = (rng.zipf(1.5, recordings) - 1) % 50
    subject = np.arange(recordings) // 3

    class Rows(WindowDataset):
        def __init__(self) -> None:
            self.sizes = np.full(recordings, windows // recordings)

        def row_sizes(self) -> np.ndarray:
            return self.sizes

    cases = {
        "every window once": {},
        "tempered sites": {"field": site, "alpha": 0.5},
        "tempered sites, subjects balanced": {"field": site, "alpha": 0.5, "balance": subject},
        "8 sites a batch": {"field": site, "alpha": 0.5, "groups_per_batch": 8},
    }
    print(f"\n{windows:.0e} windows of {recordings:.0e} recordings, batches of {BATCH}")
    print(f"{'':>36} {'build s':>8} {'µs/window':>10} {'resume at half s':>17}")
    for name, options in cases.items():
        start = time.perf_counter()
        sampler = DomainBatchSampler(Rows(), BATCH, **options)
        built = time.perf_counter() - start
        batches = iter(sampler)
        next(batches)
        start = time.perf_counter()
        drawn = sum(len(next(batches)) for _ in range(5000))
        each = (time.perf_counter() - start) / drawn
        sampler.load_state_dict(sampler.state_dict(step=len(sampler) // 2))
        start = time.perf_counter()
        next(iter(sampler))
        print(f"{name:>36} {built:8.2f} {each * 1e6:10.2f} {time.perf_counter() - start:17.2f}")


def main() -> None:
    """Both tables."""
    with tempfile.TemporaryDirectory() as folder:
        shares(*dataset(Path(folder)))
    speed()


if __name__ == "__main__":
    main()
