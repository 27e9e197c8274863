"""Duplicates among real ECGs, judged by wfdb and plain numpy.

PTB-XL comes at 500 Hz (297 records) and, for 100 of them, at 100 Hz. The ten CinC 2021 records named HR are
PTB-XL records, but their partners are not among the 297 (``test_no_partner_of_the_hr_records_is_here``).
"""

import csv
import itertools

import numpy as np
import polars as pl
import pytest
import wfdb
from scipy.signal import resample

import harmonize as hz
from harmonize.data.duplicates import SIMILARITY, find_duplicates, update_duplicates
from harmonize.data.fingerprint import agreement
from harmonize.data.split_check import check_split
from harmonize.data.split_tables import make_split
from harmonize.ingest import ProjectKey
from harmonize_schemas import Recipe
from realdata import DATA, needs_data
from stores import recording, stream, write_signals

pytestmark = needs_data
KEY = ProjectKey(b"t" * 32)
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
TWINS = {
    ("cinc2021/E07509", "cinc2021/E07510"),
    ("ptb-xl/records500/00000/00137_hr", "ptb-xl/records500/00000/00138_hr"),
    ("ptb-xl/records500/00000/00143_hr", "ptb-xl/records500/00000/00144_hr"),
}
"""Records of the data sets themselves that hold the same samples under two names."""


def samples(name):
    """Digital samples (lead, time), read by wfdb."""
    return wfdb.rdrecord(str(DATA / name), physical=False).d_signal.T


@pytest.fixture(scope="module")
def ecgs():
    """Every 500 Hz record by its path below the data, read by wfdb."""
    files = [*(DATA / "ptb-xl/records500").rglob("*.hea"), *(DATA / "cinc2021").glob("*.hea")]
    names = sorted(file.relative_to(DATA).with_suffix("").as_posix() for file in files)
    return {name: samples(name) for name in names}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store") / "s.zarr"
    for dataset in ("ptb-xl", "cinc2021"):
        recipe = Recipe(dataset=dataset, privacy="keep")
        assert hz.convert(DATA / dataset, root, recipe=recipe, key=KEY).failures == []
    update_duplicates(hz.open(root))
    return hz.open(root)


def named(frame):
    return set(frame.select("recording_a", "recording_b").iter_rows())


def test_the_twins_are_what_numpy_says(ecgs, store) -> None:
    """All pairs of the 347 records at 500 Hz whose samples are equal, by comparing bytes."""
    by_bytes = {}
    for name, values in ecgs.items():
        by_bytes.setdefault(values.astype("<i4").tobytes(), []).append(name)
    assert {pair for same in by_bytes.values() for pair in itertools.combinations(same, 2)} == TWINS
    exact = store.duplicates.filter(pl.col("kind") == "exact")
    assert named(exact) == TWINS
    assert exact["channels"].to_list() == [12] * 3
    assert exact["overlap_s"].to_list() == [10.0] * 3


def test_no_partner_of_the_hr_records_is_here(ecgs) -> None:
    """PTB-XL ids 6000 to 6009 are not among those given (1 to 300), and no record correlates with an HR one at any
    lag: a copy would reach 1."""
    with (DATA / "ptb-xl/ptbxl_database.csv").open() as table:
        ids = {int(row["ecg_id"]) for row in csv.DictReader(table)}
    assert max(ids) == 300
    ptb = {name: values for name, values in ecgs.items() if name.startswith("ptb-xl")}
    spectra = np.stack([np.fft.rfft(unit(values), 10_000) for values in ptb.values()])
    best = 0.0
    for name in ecgs:
        if "/HR" in name:
            product = spectra * np.fft.rfft(unit(ecgs[name]), 10_000).conj()
            best = max(best, np.abs(np.fft.irfft(product.mean(axis=1), 10_000)).max())
    assert best < 0.6


def unit(values):
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norm > 0, norm, 1)


def test_every_100_hz_record_is_found_at_500_hz_and_nothing_else(store) -> None:
    near = store.duplicates.filter(pl.col("kind") == "near")
    low = sorted(file.stem for file in (DATA / "ptb-xl/records100").rglob("*_lr.hea"))
    expected = {
        (f"ptb-xl/records100/00000/{name}", f"ptb-xl/records500/00000/{name.replace('_lr', '_hr')}") for name in low
    }
    assert len(expected) == 100
    assert named(near) == expected
    assert near["similarity"].min() > 0.9999
    assert near["lag_s"].abs().max() < 0.003
    assert near["overlap_s"].min() >= 8
    print(f"100 Hz against 500 Hz: {len(near)} of 100 found, lowest similarity {near['similarity'].min():.5f}")


def test_the_threshold_lies_between_copies_and_all_others(ecgs) -> None:
    """The best agreement of different records over all lags, on traces made by scipy's FFT resampling: all records
    of one patient (but the twins), and some of others."""
    with (DATA / "ptb-xl/ptbxl_database.csv").open() as table:
        patient = {row["filename_hr"].rsplit("/", 1)[1]: row["patient_id"] for row in csv.DictReader(table)}
    traces = {name: band(values) for name, values in ecgs.items()}
    ptb = [name for name in ecgs if name.startswith("ptb-xl")]
    who = {name: patient[name.rsplit("/", 1)[1]] for name in ptb}
    same = [pair for pair in itertools.combinations(ptb, 2) if who[pair[0]] == who[pair[1]] and pair not in TWINS]
    picks = np.random.default_rng(0).choice(list(ecgs), (30, 2))
    others = [
        (a, b) for a, b in picks if a != b and who.get(a) != who.get(b, "") and tuple(sorted((a, b))) not in TWINS
    ]
    of_patient = max(best_agreement(traces[a], traces[b]) for a, b in same)
    of_others = max(best_agreement(traces[a], traces[b]) for a, b in others)
    print(f"{len(same)} pairs of one patient: at most {of_patient:.4f}; {len(others)} others: {of_others:.4f}")
    assert of_others < of_patient < 0.97 < SIMILARITY


def band(values):
    """1-15 Hz at 100 Hz by FFT: an independent road to much the same band as the fingerprint's."""
    spectrum = np.fft.rfft(values - values.mean(axis=1, keepdims=True))
    f = np.fft.rfftfreq(values.shape[1], 1 / 500)
    shape = np.exp(-0.5 * (2 * np.pi * f * 0.015) ** 2) - np.exp(-0.5 * (2 * np.pi * f * 0.12) ** 2)
    return resample(np.fft.irfft(spectrum * shape, values.shape[1]), values.shape[1] // 5, axis=1).astype(np.float32)


def best_agreement(a, b):
    """The largest median over leads of the best lead's agreement, over lags of 10 ms that leave at least 5 s."""
    best = 0.0
    for lag in range(-380, 381):
        low, high = max(0, lag), min(a.shape[1], b.shape[1] + lag)
        sums, counts = agreement(a[:, low:high], b[:, low - lag : high - lag])
        leads = np.sort((np.abs(sums) / np.maximum(counts, 1)).max(axis=1))
        best = max(best, float(leads[(len(leads)) // 2]))
    return best


def whole(values):
    return np.clip(np.round(values), -32768, 32767).astype(np.int16)


COPIES = {
    "gain 3.7, offset 500": lambda x: (whole(x * 3.7 + 500), 500, LEADS),
    "inverted": lambda x: (whole(-x), 500, LEADS),
    "360 Hz": lambda x: (whole(resample(x, 3600, axis=1)), 360, LEADS),
    "64 Hz": lambda x: (whole(resample(x, 640, axis=1)), 64, LEADS),
    "steps of 10 µV": lambda x: (whole(x / 10), 500, LEADS),
    "cropped to 6.5 s": lambda x: (x[:, 1333:4583], 500, LEADS),
    "three leads, reordered, 8 s": lambda x: (x[[7, 1, 0], 500:4500], 500, ("V2", "II", "I")),
    "lead II alone, inverted, 250 Hz": lambda x: (whole(resample(-x[[1]], 2500, axis=1)), 250, ("II",)),
    "10 µV of noise": lambda x: (whole(x + np.random.default_rng(0).normal(0, 10, x.shape)), 500, LEADS),
    "300 µV of wander": lambda x: (whole(x + 300 * np.sin(2 * np.pi * np.arange(5000) / 2500)), 500, LEADS),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_real_records_are_found_and_no_others(tmp_path, ecgs, how) -> None:
    names = [name for name in ecgs if name.startswith("ptb-xl") and not {name} & {b for _, b in TWINS}][:40]
    root = tmp_path / "s.zarr"
    items = [(f"{i:03d}", ecgs[name].astype(np.int16)) for i, name in enumerate(names)]
    write_signals(root, [(recording(f"a{i}", [stream(5000, LEADS, 500)]), x) for i, x in items])
    made = [(i, *COPIES[how](x)) for i, x in items]
    write_signals(root, [(recording(f"b{i}", [stream(x.shape[1], leads, rate)]), x) for i, x, rate, leads in made])
    found = find_duplicates(hz.open(root))
    assert named(found) == {(f"test/a{i}", f"test/b{i}") for i, _ in items}
    print(f"{how}: {len(found)} of {len(items)} found, lowest similarity {found['similarity'].min():.4f}")


def test_a_split_of_both_keeps_all_copies_together(store) -> None:
    rows = make_split(store, "both", "random", unknown_subjects="own", stratify=["dataset"])
    side = dict(rows.select("recording_id", "side").iter_rows())
    assert all(side[a] == side[b] for a, b in store.duplicates.select("recording_a", "recording_b").iter_rows())
    proof = check_split(hz.open(store.path), "both")
    assert proof.ok
    assert proof.checked["duplicate"] == 103
