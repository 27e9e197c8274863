"""References and derivations, against MNE and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from harmonize.data import WindowDataset
from harmonize.data.rereference import average
from harmonize_schemas import SignalStream
from montages import EEG, MISSING, by_hand, physical, quiet, signals, typed
from stores import recording, write_signals


def judge(values: np.ndarray, names: Sequence[str]) -> mne.io.RawArray:
    return mne.io.RawArray(values * 1e-6, mne.create_info(list(names), 100.0, "eeg"), verbose="error")


def microvolts(raw: mne.io.RawArray) -> np.ndarray:
    found: np.ndarray = raw.get_data() * 1e6
    return found


# ---- references


@pytest.mark.parametrize("reference", ["average", "Fp1", ("M1", "M2")])
def test_references_equal_mne(root: Path, reference: str | tuple[str, ...]) -> None:
    right = judge(physical(root)[:5], EEG)
    right.set_eeg_reference(reference if reference == "average" else np.ravel(reference).tolist(), verbose="error")
    found = signals(WindowDataset(root, window=1.0, reference=reference))
    np.testing.assert_allclose(np.hstack(list(found[:, :5])), microvolts(right), atol=1e-3)
    np.testing.assert_array_equal(np.hstack(list(found[:, 5])), physical(root)[5].astype(np.float32))


def test_a_reference_need_not_be_among_the_channels_and_has_aliases(root: Path) -> None:
    values = physical(root)
    for names in (("A1", "A2"), ["M2", "M1"], ("M1", "A1", "M2")):
        data = WindowDataset(root, window=3.0, channels=["C4", "Oz", "EOG left"], reference=names)
        sample = data[0]
        assert data.channels == ("C4", "Oz", "EOG left")
        assert sample["channel_mask"].tolist() == [True, False, True]
        expected = np.stack([values[2] - (values[3] + values[4]) / 2, np.zeros(300), values[5]])
        np.testing.assert_allclose(sample["signal"].numpy(), expected, atol=1e-3)
        assert sample["signal"].is_contiguous()


def test_the_average_is_over_the_chosen_channels_alone(root: Path) -> None:
    values = physical(root)
    found = signals(WindowDataset(root, window=3.0, channels=["C4", "C3", "EOG left"], reference="average"))[0]
    half = (values[2] - values[1]) / 2
    np.testing.assert_allclose(found, np.stack([half, -half, values[5]]), atol=1e-3)


def test_missing_samples_have_no_part_in_the_average(tmp_path: Path) -> None:
    nan = np.nan
    expected = [[-1, 0, nan, 0], [0, 2, -2.5, nan], [1, -2, 2.5, nan], [50, 50, 50, nan]]
    np.testing.assert_allclose(by_hand(tmp_path, reference="average"), expected)


def test_a_missing_sample_of_a_named_reference_makes_the_others_missing(tmp_path: Path) -> None:
    nan = np.nan
    expected = [[-0.5, -1, nan, nan], [0.5, 1, nan, nan], [1.5, -3, nan, nan], [50, 50, 50, nan]]
    np.testing.assert_allclose(by_hand(tmp_path, reference=("C3", "C4")), expected)


def test_an_average_in_one_batch_of_many_montages(tmp_path: Path) -> None:
    """Windows of streams with other channels, some with missing samples, against a plain loop."""
    root, raw = tmp_path / "s.zarr", {}
    layouts = {"a": ("C3", "C4", "Cz"), "b": ("Cz", "C4"), "c": ("O1", "C3", "EOG left", "C4")}
    for seed, (name, names) in enumerate(layouts.items()):
        values = quiet((len(names), 200), seed)
        values[0, 150:160] = MISSING
        raw[f"test/{name}"] = dict(zip(names, np.where(values == MISSING, np.nan, values * 0.5), strict=True))
        one = typed(200, names, {"EOG left": "eog"}, missing=MISSING)
        write_signals(root, [(recording(name, [one]), values)])
    wanted = ["EOG left", "C4", "C3", "Cz"]
    data = WindowDataset(root, window=1.0, channels=wanted, reference="average")
    for sample in data.__getitems__(range(len(data))):
        held, at = raw[sample["recording_id"]], slice(round(float(sample["start"]) * 100), None)
        eeg = [name for name in wanted[1:] if name in held]
        mean = np.nanmean([held[name][at][:100] for name in eeg], axis=0)
        for place, name in enumerate(wanted):
            expected = held[name][at][:100] if name in held else np.zeros(100)
            expected = expected - mean if name in eeg else expected
            np.testing.assert_allclose(sample["signal"][place].numpy(), expected, atol=1e-3)
            assert bool(sample["channel_mask"][place]) == (name in held)


def test_infinite_samples_have_no_part_in_an_average() -> None:
    signal = np.array([[[1, np.inf], [3, 4], [np.nan, 8]]], np.float32)
    np.testing.assert_allclose(average(signal, np.ones((1, 3), bool)), [[2, 6]])


@pytest.mark.parametrize("rate", [64, 200])
@pytest.mark.parametrize("reference", ["average", ("M1", "M2")])
def test_a_reference_and_resampling_exchange(tmp_path: Path, rate: int, reference: Any) -> None:
    """Both are linear: the same as resampling what was stored with the reference subtracted."""
    values = quiet((4, 1000)) * 4  # so that means of two and four are whole
    names = ("C3", "C4", "M1", "M2")
    less = values.mean(axis=0) if reference == "average" else values[2:].mean(axis=0)
    done = values - less
    assert (done == done.round()).all()
    for name, held in (("raw", values), ("done", done.astype(np.int16))):
        write_signals(tmp_path / name, [(recording("a", [typed(1000, names)]), held)])
    found = signals(WindowDataset(tmp_path / "raw", window=2.0, rate=rate, reference=reference))
    expected = signals(WindowDataset(tmp_path / "done", window=2.0, rate=rate))
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_what_has_no_other_reference_is_refused(tmp_path: Path, root: Path) -> None:
    def refused(match: str, one: SignalStream, reference: Any, reference_is: str | None = None, **options: Any) -> None:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        made = recording("a", [one])
        found = made.acquisition.model_copy(update={"reference": reference_is})
        write_signals(place, [(made.model_copy(update={"acquisition": found}), quiet((len(one.channels), 200)))])
        with pytest.raises(ValueError, match=match):
            WindowDataset(place, window=1.0, reference=reference, **options)

    two = ("C3", "C4")
    refused(r"a stream lacks 'M1', 'M2' \(as in 'test/a'\)", typed(200, two), ("A1", "A2"))
    refused("'EOG left' is of type eog", typed(200, (*two, "EOG left"), {"EOG left": "eog"}), "EOG left")
    refused("unit of its channels is not known", typed(200, two, unit=None), "average")
    refused("different units, None, µV", typed(200, two, unit={"C4": None}), "average")
    refused("different units", typed(200, (*two, "Cz"), unit={"Cz": "mV"}), "Cz", channels=two)
    refused("'C3' is the only EEG channel", typed(200, two, {"C4": "misc"}), "average")
    refused("'local:A1-A2' is a bipolar derivation", typed(200, (*two, "local:A1-A2")), "average")
    refused("none is among these channels", typed(200, ("Fp1-F7", "ECG"), {"ECG": "ecg"}), "average")
    refused("'test/a' are a bipolar montage", typed(200, two), "average", "bipolar")
    with pytest.raises(ValueError, match="twice"):
        WindowDataset(root, window=1.0, channels=["C3", "C3", "C4"], reference="average")
    for nothing in ((), "", "F3-C3", ["C3", "F3-C3"]):
        with pytest.raises(ValueError, match=r"reference= (takes|cannot)"):
            WindowDataset(root, window=1.0, reference=nothing)


def test_streams_without_eeg_need_no_reference(tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    heart = typed(200, ("ECG",), {"ECG": "ecg"}, name="ecg")
    write_signals(root, [(recording("a", [typed(200, ("C3", "M1"))]), quiet((2, 200), 1))])
    write_signals(root, [(recording("b", [heart]), quiet((1, 200), 2))])
    found = signals(WindowDataset(root, window=2.0, channels=["C3", "ECG"], reference="M1"))
    eeg, ecg = quiet((2, 200), 1) * 0.5, quiet((1, 200), 2) * 0.5
    np.testing.assert_allclose(found, [[eeg[0] - eeg[1], np.zeros(200)], [np.zeros(200), ecg[0]]], atol=1e-3)


# ---- derivations


def test_derivations_equal_mne(tmp_path: Path) -> None:
    names = ("Fp1", "F7", "T7", "P7", "M1")
    values = quiet((5, 300))
    write_signals(tmp_path / "s.zarr", [(recording("a", [typed(300, names)]), values)])
    pairs = (["Fp1", "F7"], ["T7", "P7"], ["T7", "M1"])
    right = mne.set_bipolar_reference(
        judge(values * 0.5, names), *map(list, zip(*pairs, strict=True)), drop_refs=False, verbose="error"
    )
    data = WindowDataset(tmp_path / "s.zarr", window=1.0, channels=["FP1-F7", "T3-T5", "EEG T3-A1", "F7"])
    assert data.channels == ("Fp1-F7", "T7-P7", "T7-M1", "F7")
    found = np.hstack(list(signals(data)))
    np.testing.assert_allclose(found, microvolts(right.pick([*data.channels])), atol=1e-3)
    assert data[0]["channel_mask"].all()


def test_recorded_and_computed_derivations_make_one_batch(tmp_path: Path) -> None:
    """Of four montages; what is recorded counts first, also where its electrodes are there (and say otherwise)."""
    root = tmp_path / "s.zarr"
    layouts = {
        "a": ("F3-C3", "C3-P3"),
        "b": ("P3", "C3", "F3"),
        "c": ("C3-P3", "F3", "C3", "P3"),
        "d": ("F3", "Cz"),  # no derivation at all: not read
        "e": ("Cz", "F3", "C3"),
    }
    raw = {}
    for seed, (name, names) in enumerate(layouts.items()):
        values = quiet((len(names), 200), seed)
        raw[f"test/{name}"] = dict(zip(names, values * np.float32(0.5), strict=True))
        write_signals(root, [(recording(name, [typed(200, names)]), values)])
    data = WindowDataset(root, window=1.0, channels=["C3-P3", "F3-C3"])
    assert data.row_sizes().tolist() == [2, 2, 2, 2]
    seen = set()
    for sample in data.__getitems__(np.random.default_rng(0).permutation(len(data)).tolist()):
        held = raw[sample["recording_id"]]
        start = round(float(sample["start"]) * 100)
        seen.add(sample["recording_id"])
        for place, (name, anode, cathode) in enumerate((("C3-P3", "C3", "P3"), ("F3-C3", "F3", "C3"))):
            there = name in held or {anode, cathode} <= set(held)
            expected = np.zeros(200) if not there else held[name] if name in held else held[anode] - held[cathode]
            np.testing.assert_allclose(sample["signal"][place].numpy(), expected[start : start + 100], atol=1e-4)
            assert bool(sample["channel_mask"][place]) == there
    assert seen == {"test/a", "test/b", "test/c", "test/e"}
    assert data.codes_of("layout").codes.shape == (4,)


def test_electrodes_of_other_types_or_units_make_no_derivation(tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    for name, types, unit in (("a", {"C3": "ieeg"}, "µV"), ("b", {}, {"C3": "mV"}), ("c", {}, None), ("d", {}, "mV")):
        write_signals(root, [(recording(name, [typed(100, ("F3", "C3"), types, unit=unit)]), quiet((2, 100)))])
    data = WindowDataset(root, window=1.0, channels=["F3-C3", "F3"])
    assert [sample["channel_mask"].tolist() for sample in data.__getitems__(range(4))] == [
        [False, True], [False, True], [False, True], [True, True],
    ]  # fmt: skip
    assert len(WindowDataset(root, window=1.0, channels=["F3-C3"])) == 1


def test_a_reference_leaves_derivations_alone(tmp_path: Path) -> None:
    names = ("F3", "C3", "Cz", "P3-O1")
    values = quiet((4, 100))
    write_signals(tmp_path / "s.zarr", [(recording("a", [typed(100, names)]), values)])
    wanted = ["P3-O1", "F3-C3", "F3", "Cz"]
    found = signals(WindowDataset(tmp_path / "s.zarr", window=1.0, channels=wanted, reference="average"))[0]
    f3, c3, cz, bipolar = values * 0.5
    np.testing.assert_allclose(found, [bipolar, f3 - c3, (f3 - cz) / 2, (cz - f3) / 2], atol=1e-3)


def test_shares_are_of_the_electrodes_of_a_derivation(tmp_path: Path) -> None:
    root = tmp_path / "s.zarr"
    for name, seed in (("a", 1), ("b", 2)):
        values = quiet((3, 300), seed)
        values[0 if name == "a" else 2] = 7
        write_signals(root, [(recording(name, [typed(300, ("F3", "C3", "Cz"))]), values)], measured=True)
    data = WindowDataset(root, window=1.0, channels=["F3-C3"], where="flat_share < 0.5")
    assert {sample["recording_id"] for sample in data.__getitems__(range(len(data)))} == {"test/b"}
