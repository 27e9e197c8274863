"""Normalisation, against numpy and scipy on the raw integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import iqr

from harmonize.data import WindowDataset
from harmonize.data.normalize import by_window
from harmonize.ingest.rows import recording_row, stream_row
from harmonize.store import create_store
from harmonize.store.catalog import Batch, commit
from harmonize.store.parts import SignalPart
from montages import physical, quiet, signals, typed
from stores import recording, statistics_of, write_signals


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
