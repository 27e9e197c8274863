"""Windows: coverage, gaps, calibration, selection, codes, workers."""

import os
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import harmonize as hz
from harmonize.data import WindowDataset, reader, window_reader
from harmonize.data.index import index_windows
from stores import noise, recording, stream, write_signals


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=6),
    st.integers(1, 12),
    st.integers(1, 15),
)
def test_every_window_lies_in_one_run_and_all_are_counted(runs, length, step) -> None:
    """Against a plain loop over the segments."""
    at, table, expected = 0, [], []
    for number, (size, gap) in enumerate(runs):
        onset = float(at + gap)
        table.append({"start": 1000 * number, "rate_num": 1, "rate_den": 1, "segment_start": [0, size],
                      "segment_samples": [size, gap], "segment_onset_s": [onset, onset + size + 5]})  # fmt: skip
        for origin, n, t in ((0, size, onset), (size, gap, onset + size + 5)):
            expected += [(1000 * number + origin + k, t + k) for k in range(0, n - length + 1, step)]
    index = index_windows(pl.DataFrame(table), length, step)
    assert len(index) == len(expected)
    run, first = index.locate(np.arange(len(index)))
    found = zip(index.origin[run] + first, index.onset_s[run] + first / index.rate_hz[run], strict=True)
    assert [(int(a), float(b)) for a, b in found] == expected


@pytest.fixture
def store(tmp_path):
    """Three recordings: C3 C4 at site A with a gap, C4 C3 Cz at site B, both at 100 Hz."""
    root = tmp_path / "s.zarr"
    gap = [(0, 250, 0.5), (250, 180, 10.0)]
    one = recording(
        "a", [stream(430, segments=gap)], site="A", subject="s1", sex="female", device_maker="M", device_model="1"
    )
    two = recording("b", [stream(300, missing=-32768)], site="A", subject="s2")
    write_signals(root, [(one, noise((2, 430), seed=1)), (two, noise((2, 300), seed=2))])
    three = recording("c", [stream(500, ("C4", "C3", "Cz"), offset=3.0)], site="B", subject="s3", modality="psg")
    write_signals(root, [(three, noise((3, 500), seed=3))])
    return root


def test_windows_equal_the_reference_reader_and_cross_no_gap(store) -> None:
    opened = hz.open(store)
    ds = WindowDataset(opened, window=1.0, stride=0.7, where="site = 'A'")
    assert ds.channels == ("C3", "C4")
    starts = {"test/a": [], "test/b": []}
    for sample in ds.__getitems__(range(len(ds))):
        name, start = sample["recording_id"], float(sample["start"])
        starts[name].append(start)
        first = round(start * 100) if name == "test/b" else round((start - 0.5) * 100)
        if name == "test/a" and start >= 10:
            first = 250 + round((start - 10) * 100)
        expected = opened[name].signals["eeg"].read(first, first + 100)
        np.testing.assert_array_equal(sample["signal"].numpy(), expected)
    assert starts["test/a"] == pytest.approx([0.5, 1.2, 1.9, 10.0, 10.7])
    assert starts["test/b"] == pytest.approx([0.0, 0.7, 1.4])


def test_batches_equal_single_samples(store) -> None:
    ds = WindowDataset(store, window=0.5, channels=["Cz", "C3"])
    order = np.random.default_rng(0).permutation(len(ds))[:9]
    batch = ds.collate(ds.__getitems__(order))
    for place, number in enumerate(order):
        single = ds[int(number)]
        torch.testing.assert_close(batch["signal"][place], single["signal"], rtol=0, atol=0, equal_nan=True)
        assert batch["recording_id"][place] == single["recording_id"]
    assert torch.equal(ds[-1]["signal"], ds[len(ds) - 1]["signal"])
    with pytest.raises(IndexError):
        ds[len(ds)]


def test_channels_select_order_and_mask(store) -> None:
    ds = WindowDataset(store, window=1.0, channels=["Cz", "C3", "Fp1"])
    opened = hz.open(store)
    for sample in ds.__getitems__(range(len(ds))):
        has_cz = sample["recording_id"] == "test/c"
        assert sample["channel_mask"].tolist() == [has_cz, True, False]
        assert not sample["signal"][2].any()
        view = opened[sample["recording_id"]].signals["eeg"]
        names = [channel.name for channel in view.meta.channels]
        first = round(float(sample["start"]) * 100)
        if sample["recording_id"] != "test/a":
            expected = view.read(first, first + 100)[names.index("C3")]
            np.testing.assert_array_equal(sample["signal"][1].numpy(), expected)


def test_missing_samples_are_nan(tmp_path) -> None:
    values = noise((2, 100))
    values[0, 10] = -32768
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(100, missing=-32768)]), values)])
    signal = WindowDataset(tmp_path / "s.zarr", window=1.0)[0]["signal"].numpy()
    assert np.isnan(signal[0, 10])
    assert np.isnan(signal).sum() == (values == -32768).sum()


def test_codes_name_the_domains(store) -> None:
    ds = WindowDataset(store, window=1.0, channels=["C3"], target="modality")
    for sample in ds.__getitems__(range(len(ds))):
        name = sample["recording_id"][-1]
        assert ds.codes["site"][int(sample["site"])] == {"a": "A", "b": "A", "c": "B"}[name]
        assert ds.codes["subject"][int(sample["subject"])] == {"a": "s1", "b": "s2", "c": "s3"}[name]
        assert ds.codes["device"][int(sample["device"])] == {"a": "M 1"}.get(name)
        assert ds.codes["sex"][int(sample["sex"])] == {"a": "female"}.get(name)
        assert ds.codes["target"][int(sample["target"])] == {"c": "psg"}.get(name, "eeg")
        assert np.isnan(float(sample["age"]))
    numeric = WindowDataset(store, window=1.0, channels=["C3"], target="duration_s")
    assert numeric[0]["target"].dtype == torch.float32


def test_where_takes_sql_and_polars(store) -> None:
    sql = WindowDataset(store, window=1.0, channels=["C3"], where="site = 'B' AND n_channels = 3")
    expression = WindowDataset(store, window=1.0, channels=["C3"], where=pl.col("site") == "B")
    assert len(sql) == len(expression) == 5


def test_what_cannot_be_batched_is_refused_with_the_way_out(store, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"differ in channels .* give channels="):
        WindowDataset(store)
    with pytest.raises(ValueError, match="no stream"):
        WindowDataset(store, channels=["Oz"])
    with pytest.raises(ValueError, match="as long as a window"):
        WindowDataset(store, window=60.0, channels=["C3"])
    with pytest.raises(ValueError, match="no column"):
        WindowDataset(store, window=1.0, channels=["C3"], target="mood")
    write_signals(store, [(recording("d", [stream(500, rate=250)]), noise((2, 500)))])
    with pytest.raises(ValueError, match=r"differ in rate \(100, 250 Hz\): give rate="):
        WindowDataset(store, window=1.0, channels=["C3"])


def test_repeated_names_take_the_first(tmp_path) -> None:
    values = noise((2, 100))
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(100, ("C3", "C3"))]), values)])
    with pytest.raises(ValueError, match="repeat"):
        WindowDataset(tmp_path / "s.zarr", window=1.0)
    signal = WindowDataset(tmp_path / "s.zarr", window=1.0, channels=["C3"])[0]["signal"]
    np.testing.assert_allclose(signal.numpy(), values[:1] * 0.5)


@pytest.mark.parametrize("rate", [50, 128, Fraction(1000, 7), 200])
def test_resampling_has_no_delay_and_no_edges(tmp_path, rate) -> None:
    """A 5 Hz sine at 100 Hz, read at other rates: the sine itself at those times, from edge to edge."""
    t = np.arange(3000) / 100
    wave = np.round(8000 * np.sin(2 * np.pi * 5 * t)).astype(np.int16)[None].repeat(2, axis=0)
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(3000)]), wave)])
    ds = WindowDataset(tmp_path / "s.zarr", window=3.5, stride=2.0, rate=rate)
    for sample in ds.__getitems__(range(1, len(ds) - 1)):
        times = float(sample["start"]) + np.arange(ds.n_samples) / float(rate)
        expected = 4000 * np.sin(2 * np.pi * 5 * times)
        # The Kaiser(5) filter's passband ripple is about 0.5 %.
        np.testing.assert_allclose(sample["signal"][0].numpy(), expected, atol=4000 * 0.01)


def test_resampling_does_not_read_across_a_gap(tmp_path) -> None:
    values = np.concatenate([np.full((2, 200), 100), np.full((2, 200), -20000)], axis=1).astype(np.int16)
    one = stream(400, segments=[(0, 200, 0.0), (200, 200, 60.0)])
    write_signals(tmp_path / "s.zarr", [(recording("a", [one]), values)])
    for sample in WindowDataset(tmp_path / "s.zarr", window=1.0, rate=50).__getitems__(range(4)):
        level = 50.0 if float(sample["start"]) < 60 else -10000.0
        np.testing.assert_allclose(sample["signal"].numpy(), level, rtol=0.01)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_plain_dataloader_works_in_workers(store, context) -> None:
    ds = WindowDataset(store, window=0.5, channels=["C3", "C4"])
    ds[0]  # the parent has the store open, which a fork must not use
    collates = [None, ds.collate]
    for collate in collates:
        loader = DataLoader(
            ds, batch_size=4, shuffle=True, num_workers=2, multiprocessing_context=context, collate_fn=collate
        )
        seen = [key for b in loader for key in zip(b["recording_id"], b["start"].tolist(), strict=True)]
        assert len(set(seen)) == len(seen) == len(ds)


def test_transform_is_applied_to_each_sample(store) -> None:
    ds = WindowDataset(
        store, window=1.0, channels=["C3"], transform=lambda sample: sample | {"double": 2 * sample["signal"]}
    )
    batch = ds.collate(ds.__getitems__([0, 1]))
    torch.testing.assert_close(batch["double"], 2 * batch["signal"])


def test_windows_of_many_parts_do_not_hold_them_all_open(tmp_path, monkeypatch) -> None:
    """Windows that are made one by one, of 12 parts of which two may be open."""
    for i in range(12):
        write_signals(
            tmp_path / "s.zarr", [(recording(f"{i:02}", [stream(300)]), noise((2, 300), seed=i))], codec="none"
        )
    monkeypatch.setattr(reader, "OPEN_ARRAYS", 2)
    ds, handles = WindowDataset(tmp_path / "s.zarr", window=1.0, rate=50), []
    before, plain = len(os.listdir("/proc/self/fd")), window_reader.resample
    monkeypatch.setattr(
        window_reader, "resample", lambda *given: handles.append(len(os.listdir("/proc/self/fd"))) or plain(*given)
    )
    ds.__getitems__(range(0, len(ds), 3))
    assert len(handles) == 12
    assert max(handles) <= before + 4
