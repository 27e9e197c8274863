"""Views: references, derivations, normalisation and masks, against MNE, scipy and numpy on the raw integers."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch
from scipy.stats import iqr

from harmonize.data import WindowDataset, WindowStream
from harmonize.data.normalize import by_window
from harmonize.data.rereference import average
from harmonize.ingest.rows import recording_row, stream_row
from harmonize.store import create_store
from harmonize.store.catalog import Batch, commit
from harmonize.store.parts import SignalPart
from harmonize_schemas import SignalStream
from stores import noise, recording, statistics_of, stream, write_signals

EEG = ("Fp1", "C3", "C4", "M1", "M2")
MISSING = -32768


def typed(n: int, names: Sequence[str], types: dict[str, str] | None = None, **more: Any) -> SignalStream:
    """A stream whose channels have these types, in the unit of EEG; ``unit`` of all or of one (name, unit)."""
    unit = more.pop("unit", "µV")
    units = unit if isinstance(unit, dict) else dict.fromkeys(names, unit)
    made = stream(n, names, **more)
    channels = tuple(
        one.model_copy(update={"type": (types or {}).get(one.name, "eeg"), "unit": units.get(one.name, "µV")})
        for one in made.channels
    )
    return made.model_copy(update={"channels": channels})


def quiet(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Integers that are never the sentinel."""
    return np.random.default_rng(seed).integers(-3000, 3000, shape).astype(np.int16)


def signals(data: WindowDataset) -> np.ndarray:
    """All windows, (window, channel, time)."""
    whole: torch.Tensor = data.collate(data.__getitems__(range(len(data))))["signal"]
    return whole.numpy()


def judge(values: np.ndarray, names: Sequence[str]) -> mne.io.RawArray:
    return mne.io.RawArray(values * 1e-6, mne.create_info(list(names), 100.0, "eeg"), verbose="error")


def microvolts(raw: mne.io.RawArray) -> np.ndarray:
    found: np.ndarray = raw.get_data() * 1e6
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One recording of five EEG channels and an EOG, 3 s at 100 Hz, 0.5 µV a step, in ``raw.npy``."""
    values = quiet((6, 300))
    np.save(tmp_path / "raw.npy", values)
    one = typed(300, (*EEG, "EOG left"), {"EOG left": "eog"}, missing=MISSING)
    write_signals(tmp_path / "s.zarr", [(recording("a", [one]), values)], measured=True)
    return tmp_path / "s.zarr"


def physical(root: Path) -> np.ndarray:
    found: np.ndarray = np.load(root.parent / "raw.npy") * 0.5
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


def by_hand(tmp_path: Path, **options: Any) -> np.ndarray:
    """Four samples of three channels, 0.5 µV a step, of which two are missing, and a bipolar one."""
    values = np.array([[2, 4, -32768, 6], [4, 8, 10, -32768], [6, 0, 20, -32768], [100, 100, 100, -32768]], np.int16)
    one = recording("a", [typed(4, ("C3", "C4", "Cz", "F3-C3"), rate=4, missing=MISSING)])
    write_signals(tmp_path / "hand.zarr", [(one, values)])
    return signals(WindowDataset(tmp_path / "hand.zarr", window=1.0, **options))[0]


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


# ---- normalisation


@pytest.fixture
def uneven(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Two recordings of channels of other sizes, with missing samples, a flat channel and one that is all missing."""
    root, raw = tmp_path / "u.zarr", {}
    for name, names in (("a", ("C3", "C4", "Cz", "Pz")), ("b", ("C4", "C3"))):
        values = quiet((len(names), 400), ord(name[0]))
        values[1] = values[1] // 7 + 900
        values[0, 30:70] = MISSING
        if name == "a":
            values[2], values[3] = 1234, MISSING
        raw[f"test/{name}"] = np.where(values == MISSING, np.nan, values * 0.5 + 10)
        one = typed(400, names, offset=10.0, missing=MISSING)
        write_signals(root, [(recording(name, [one]), values)], measured=True)
    return root, raw


def test_normalize_by_channel(uneven: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, raw = uneven
    data = WindowDataset(root, window=1.0, channels=["C4", "Cz", "C3", "Pz"], normalize="channel")
    for sample in data.__getitems__(range(len(data))):
        start, found = round(float(sample["start"]) * 100), sample["signal"].numpy()
        rows = {"test/a": (1, None, 0, None), "test/b": (0, None, 1, None)}[sample["recording_id"]]
        for place, row in enumerate(rows):
            if row is not None:
                whole = raw[sample["recording_id"]][row]
                expected = (whole - np.nanmean(whole)) / np.nanstd(whole)
                np.testing.assert_allclose(found[place], expected[start : start + 100], atol=1e-5)
        assert not found[1].any()  # flat in one, absent in the other
        assert np.isnan(found[3]).all() if sample["recording_id"] == "test/a" else not found[3].any()


def test_normalize_by_recording(uneven: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, raw = uneven
    data = WindowDataset(root, window=1.0, channels=["C3", "C4", "Cz"], normalize="recording")
    for sample in data.__getitems__(range(len(data))):
        whole = raw[sample["recording_id"]][[0, 1] if sample["recording_id"] == "test/a" else [1, 0]]
        expected = (whole - np.nanmean(whole)) / np.nanstd(whole)  # the flat channel has no weight
        start = round(float(sample["start"]) * 100)
        np.testing.assert_allclose(sample["signal"][:2].numpy(), expected[:, start : start + 100], atol=1e-5)
        assert not sample["signal"][2].any()


def test_statistics_are_over_all_streams_of_a_recording(tmp_path: Path) -> None:
    """A gain that changes makes two streams; one without C4, which stays absent."""
    root = tmp_path / "s.zarr"
    create_store(root, "key")
    first = typed(200, ("C3", "C4"), name="1", scale=0.5)
    second = typed(300, ("C3",), name="2", scale=2.0, segments=[(0, 300, 5.0)])
    one, held, rows = recording("a", [first, second]), [], []
    for index, part_stream in enumerate((first, second)):
        values = quiet((len(part_stream.channels), part_stream.n_samples), index)
        part = SignalPart(root, f"part{index}", [part_stream], "lz4")
        part.write(0, 0, values)
        part.close([one], [index])
        statistics = statistics_of(part_stream, values)
        rows.append(stream_row(one, index, part.path, part.layout, 0, part.starts[0], statistics=statistics))
        held.append(values * part_stream.channels[0].scale)
    commit(root, Batch(recordings=[recording_row(one, "state", 0, None)], streams=rows))
    whole = np.concatenate([held[0][0], held[1][0]])
    found = signals(WindowDataset(root, window=1.0, channels=["C4", "C3"], normalize="channel"))
    np.testing.assert_allclose(np.hstack(list(found))[1], (whole - whole.mean()) / whole.std(), atol=1e-5)
    c4 = held[0][1]
    np.testing.assert_allclose(np.hstack(list(found))[0][:200], (c4 - c4.mean()) / c4.std(), atol=1e-5)
    assert not found[2:, 0].any()
    every = np.concatenate([whole, c4])
    found = signals(WindowDataset(root, window=1.0, channels=["C4", "C3"], normalize="recording"))
    np.testing.assert_allclose(np.hstack(list(found))[1], (whole - every.mean()) / every.std(), atol=1e-5)
    assert not found[2:, 0].any()


def test_without_statistics_all_is_zero(tmp_path: Path) -> None:
    write_signals(tmp_path / "s.zarr", [(recording("a", [typed(100, ("C3", "C4"))]), quiet((2, 100)))])
    for how in ("channel", "recording"):
        assert not signals(WindowDataset(tmp_path / "s.zarr", window=1.0, normalize=how)).any()


def test_robust_is_by_median_and_interquartile_range(uneven: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, raw = uneven
    data = WindowDataset(root, window=1.0, channels=["C3", "C4", "Cz", "Pz"], normalize="robust")
    for sample in data.__getitems__(range(len(data))):
        start = round(float(sample["start"]) * 100)
        rows = (0, 1) if sample["recording_id"] == "test/a" else (1, 0)
        for place, row in enumerate(rows):
            part = raw[sample["recording_id"]][row, start : start + 100]
            expected = (part - np.nanmedian(part)) / iqr(part, nan_policy="omit")
            np.testing.assert_allclose(sample["signal"][place].numpy(), expected, atol=1e-5)
        assert not sample["signal"][2].any()
        assert sample["signal"][3].isnan().all() == (sample["recording_id"] == "test/a")


def test_robust_with_any_number_of_missing_samples() -> None:
    random = np.random.default_rng(0)
    signal = random.normal(size=(3, 8, 9)).astype(np.float32)
    for channel in range(8):
        signal[:, channel, random.permutation(9)[:channel]] = np.nan
    shift, factor = by_window(signal)
    np.testing.assert_allclose(shift, np.nanmedian(signal, axis=2), atol=1e-6)
    np.testing.assert_allclose(1 / factor, np.subtract(*np.nanpercentile(signal, [75, 25], axis=2)), rtol=1e-4)
    signal[:] = np.nan
    assert [part.tolist() for part in by_window(signal)] == [np.zeros((3, 8)).tolist()] * 2


def test_robust_after_a_reference_and_a_derivation(root: Path) -> None:
    values = physical(root)
    wanted = ["C3-C4", "C3", "C4"]
    found = signals(WindowDataset(root, window=3.0, channels=wanted, reference="M1", normalize="robust"))[0]
    for place, one in enumerate((values[1] - values[2], values[1] - values[3], values[2] - values[3])):
        np.testing.assert_allclose(found[place], (one - np.median(one)) / iqr(one), atol=1e-5)


def test_normalisation_that_would_be_wrong_is_refused(root: Path, tmp_path: Path) -> None:
    for how in ("channel", "recording"):
        with pytest.raises(ValueError, match=r"another reference: use normalize=\"robust\""):
            WindowDataset(root, window=1.0, reference="average", normalize=how)
        with pytest.raises(ValueError, match=r"no statistics of 'C3-C4': use normalize=\"robust\""):
            WindowDataset(root, window=1.0, channels=["C3", "C3-C4"], normalize=how)
    mixed = typed(100, ("C3", "ECG"), {"ECG": "ecg"}, unit={"ECG": "mV"})
    write_signals(tmp_path / "m.zarr", [(recording("a", [mixed]), quiet((2, 100)))], measured=True)
    with pytest.raises(ValueError, match=r"channels of one unit, and there are \['mV', 'µV'\]"):
        WindowDataset(tmp_path / "m.zarr", window=1.0, normalize="recording")
    assert len(WindowDataset(tmp_path / "m.zarr", window=1.0, channels=["C3"], normalize="recording")) == 1
    with pytest.raises(ValueError, match="normalize= is one of"):
        WindowDataset(root, window=1.0, normalize="zscore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing= is one of"):
        WindowDataset(root, window=1.0, missing="zero")  # type: ignore[arg-type]


def test_recorded_derivations_have_statistics(tmp_path: Path) -> None:
    values = quiet((1, 100))
    write_signals(tmp_path / "s.zarr", [(recording("a", [typed(100, ("F3-C3",))]), values)], measured=True)
    for channels in (None, ["f3-c3"]):
        found = signals(WindowDataset(tmp_path / "s.zarr", window=1.0, channels=channels, normalize="channel"))[0]
        np.testing.assert_allclose(found, (values - values.mean()) / values.std(), atol=1e-5)


# ---- masks


@pytest.mark.parametrize(
    "options", [{}, {"normalize": "channel"}, {"normalize": "robust"}, {"rate": 50}, {"rate": 130}]
)
def test_a_mask_says_what_is_nan_without_it(
    uneven: tuple[Path, dict[str, np.ndarray]], options: dict[str, Any]
) -> None:
    root, _ = uneven
    wanted = ["Pz", "C3", "C4", "Oz"]
    plain = WindowDataset(root, window=1.0, channels=wanted, **options)
    masked = WindowDataset(root, window=1.0, channels=wanted, missing="mask", **options)
    assert "missing_mask" not in plain[0]
    for a, b in zip(plain.__getitems__(range(len(plain))), masked.__getitems__(range(len(masked))), strict=True):
        assert b["missing_mask"].dtype == torch.bool
        assert torch.equal(b["missing_mask"], a["signal"].isnan())
        assert torch.equal(b["signal"], a["signal"].nan_to_num(0))
        assert not b["missing_mask"][3].any()
        assert torch.equal(a["channel_mask"], b["channel_mask"])


def test_a_mask_by_hand(tmp_path: Path) -> None:
    values = np.array([[2, -32768, 4, 6], [8, 8, 8, 8]], np.int16)
    write_signals(
        tmp_path / "s.zarr",
        [(recording("a", [typed(4, ("C3", "C4"), rate=4, missing=MISSING)]), values)],
        measured=True,
    )
    data = WindowDataset(tmp_path / "s.zarr", window=1.0, normalize="channel", missing="mask")
    sample = data[0]
    assert sample["missing_mask"].tolist() == [[False, True, False, False], [False] * 4]
    z = 1.5**0.5  # 1, 2 and 3 µV: mean 2, standard deviation sqrt(2 / 3)
    np.testing.assert_allclose(sample["signal"].numpy(), [[-z, 0, 0, z], [0, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("rate", [50, 200])
def test_a_missing_sample_spreads_over_the_filter(tmp_path: Path, rate: int) -> None:
    """16 samples of the slower rate to either side, and no further."""
    values = quiet((1, 600))
    values[0, 300] = MISSING
    write_signals(tmp_path / "s.zarr", [(recording("a", [typed(600, ("C3",), missing=MISSING)]), values)])
    sample = WindowDataset(tmp_path / "s.zarr", window=6.0, rate=rate, missing="mask")[0]
    times = np.flatnonzero(sample["missing_mask"][0].numpy()) / rate
    reach = 16 / min(rate, 100)
    assert (times.min(), times.max()) == pytest.approx((3 - reach, 3 + reach), abs=1.01 / rate)
    assert len(times) == round((times.max() - times.min()) * rate) + 1


# ---- native integers, streams, other types


def test_native_integers_have_no_views(root: Path) -> None:
    for options in ({"reference": "average"}, {"normalize": "robust"}, {"normalize": "channel"}, {"missing": "mask"}):
        with pytest.raises(ValueError, match="dtype=None gives native integers"):
            WindowDataset(root, window=1.0, dtype=None, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no derivation is computed"):
        WindowDataset(root, window=1.0, dtype=None, channels=["C3-C4"])


@pytest.mark.parametrize(
    "options",
    [
        {"channels": ["C3-P3", "C3", "Cz", "P3"], "reference": "average", "normalize": "robust", "missing": "mask"},
        {"channels": ["C3", "Cz"], "reference": ("P3",), "rate": 80},
        {"channels": ["C3", "Cz"], "normalize": "channel", "missing": "mask", "dtype": torch.bfloat16},
        {"normalize": "recording"},
    ],
)
def test_a_stream_gives_what_the_data_set_gives(tmp_path: Path, options: dict[str, Any]) -> None:
    root = tmp_path / "s.zarr"
    items = [
        (
            recording(f"{n}", [typed(500 + 100 * n, ("C3", "P3", "Cz"), missing=MISSING)]),
            noise((3, 500 + 100 * n), seed=n),
        )
        for n in range(4)
    ]
    for _, values in items:
        values[0, 40:44] = MISSING
    write_signals(root, items, measured=True)
    data = WindowDataset(root, window=0.5, **options)
    by_key = {(s["recording_id"], float(s["start"])): s for s in data.__getitems__(range(len(data)))}
    alone = pickle.loads(pickle.dumps(data))[3]  # as in a worker
    torch.testing.assert_close(
        alone["signal"], by_key[alone["recording_id"], float(alone["start"])]["signal"], rtol=0, atol=0, equal_nan=True
    )
    seen = 0
    for _ in range(2):  # the second time with memory that was used before
        for batch in WindowStream(root, window=0.5, batch_size=5, threads=2, **options):
            assert batch["signal"].is_contiguous()
            for i, key in enumerate(zip(batch["recording_id"], batch["start"].tolist(), strict=True)):
                seen += 1
                for name, value in by_key[key].items():
                    if isinstance(value, torch.Tensor):
                        torch.testing.assert_close(batch[name][i], value, rtol=0, atol=0, equal_nan=True)
    assert seen == 2 * len(data)
