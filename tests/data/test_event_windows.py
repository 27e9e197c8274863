"""Windows locked to annotations: which, where, their samples, and streams of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import harmonize as hz
from harmonize.data import WindowDataset, WindowLabel, WindowStream
from harmonize.data.event_index import event_windows
from harmonize.data.index import index_windows
from harmonize.ingest import ProjectKey
from realdata import DATA, needs_data
from stores import channel, event, noise, recording, stream, write_recording

GAP = [(0, 250, 0.5), (250, 180, 10.0)]
NAMES = ("C3", "C4")


def all_of(data: WindowDataset) -> list[dict[str, Any]]:
    return list(data.__getitems__(range(len(data))))


def starts(data: WindowDataset) -> list[tuple[str, float]]:
    return [(s["recording_id"][-1], round(float(s["start"]), 9)) for s in all_of(data)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """a: a gap from 3.0 to 10.0 s; b: 200/3 Hz; events that fit, that do not, and two at one time."""
    root = tmp_path / "s.zarr"
    one = recording("a", [stream(430, segments=GAP)], site="A")
    events = [
        event(0.5, "arousal"), event(1.234, "seizure"), event(1.234, "arousal"), event(2.2, "arousal"), event(2.5, "seizure"),
        event(3.5, "arousal"), event(10.0, "arousal"), event(10.8, "seizure", 4.0), event(10.81, "arousal"), event(99.0, "arousal"),
    ]  # fmt: skip
    write_recording(root, one, [noise((2, 430), seed=1)], events)
    two = recording("b", [stream(700, rate=Fraction(200, 3))], site="B")
    write_recording(
        root, two, [noise((2, 700), seed=2)], [event(3.0, "arousal"), event(9.5, "arousal"), event(9.6, "arousal")]
    )
    return root


def test_each_event_has_its_window_at_the_nearest_sample(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = hz.open(root)
    with caplog.at_level(logging.INFO, "harmonize.data.annotated_windows"):
        data = WindowDataset(opened, window=1.0, where="site = 'A'", events="arousal")
    # By hand: 1.234 s is sample 73.4 after 0.5 s; 2.2 s + 1 s is beyond 3.0 s; 3.5 s lies in the gap; the last window
    # that fits in the second segment begins at 10.8 s.
    assert starts(data) == [("a", 0.5), ("a", 1.23), ("a", 10.0)]
    assert data.events_left_out == 4
    assert "3 windows of events; 4 more" in caplog.text
    for sample, first in zip(all_of(data), (0, 73, 250), strict=True):
        expected = opened["test/a"].signals["eeg"].read(first, first + 100)
        np.testing.assert_array_equal(sample["signal"].numpy(), expected)


def test_an_offset_moves_the_window(root: Path) -> None:
    data = WindowDataset(root, window=1.0, where="site = 'A'", events=["arousal", "seizure"], offset=-0.2)
    # 0.3 and 9.8 s are before their segments; 3.3 s is in the gap; 10.6 and 10.61 s fit; 1.034 s is sample 53.4.
    assert starts(data) == [("a", t) for t in (1.03, 1.03, 2.0, 10.6, 10.61)]
    assert data.events_left_out == 5


def test_conditions_choose_events(root: Path) -> None:
    for events in ("duration_s > 3", pl.col("duration_s") > 3, "label = 'seizure' AND onset_s > 10"):
        assert starts(WindowDataset(root, window=1.0, where="site = 'A'", events=events)) == [("a", 10.8)]


def test_events_of_a_recording_that_was_replaced_do_not_count(root: Path) -> None:
    """Neither as events nor in a condition over several rows."""
    one = recording("a", [stream(430, segments=GAP)], site="A")
    write_recording(root, one, [noise((2, 430))], [event(1.0, "arousal"), event(1.5, "arousal")])
    assert starts(WindowDataset(root, window=1.0, where="site = 'A'", events="arousal")) == [("a", 1.0), ("a", 1.5)]
    first = pl.col("onset_s") == pl.col("onset_s").min().over("recording_id")
    assert starts(WindowDataset(root, window=1.0, rate=100, events=first)) == [("a", 1.0), ("b", 3.0)]


def test_rates_differ_and_are_made_alike(root: Path) -> None:
    data = WindowDataset(root, window=1.2, rate=100, events="arousal")
    # At 200/3 Hz a window is 80 samples: 9.5 s (sample 633.3) does not fit into 700.
    assert starts(data) == [("a", 0.5), ("a", 1.23), ("a", 10.0), ("b", 3.0)]
    short = WindowDataset(root, window=0.9, rate=100, events="arousal", where="site = 'B'")
    assert starts(short) == [("b", 3.0), ("b", 9.495), ("b", 9.6)]


def test_resampling_reads_around_the_window_within_its_segment(tmp_path: Path) -> None:
    """A window in the middle of a segment is not padded at its own edges."""
    t = np.arange(3000) / 100
    wave = np.round(8000 * np.sin(2 * np.pi * 5 * t)).astype(np.int16)[None].repeat(2, axis=0)
    write_recording(tmp_path / "s.zarr", recording("a", [stream(3000)]), [wave], [event(11.03, "arousal")])
    (sample,) = all_of(WindowDataset(tmp_path / "s.zarr", window=3.5, rate=128, events="arousal"))
    times = 11.03 + np.arange(448) / 128
    np.testing.assert_allclose(sample["signal"][0].numpy(), 4000 * np.sin(2 * np.pi * 5 * times), atol=40)


def test_several_streams_of_a_recording_at_different_rates(tmp_path: Path) -> None:
    """Two streams that follow each other, the second at half the rate; written in one recording, read by place."""
    one = stream(300, name="first")
    two = stream(200, rate=50, name="second", segments=[(0, 100, 3.0), (100, 100, 6.0)])
    values = [noise((2, 300), seed=1), noise((2, 200), seed=2)]
    events = [event(t, "arousal") for t in (6.5, 0.25, 2.5, 2.996, 3.98, 5.2, 7.0)]
    write_recording(tmp_path / "s.zarr", recording("a", [one, two]), values, events)
    data = WindowDataset(tmp_path / "s.zarr", window=1.0, rate=50, events="arousal")
    # 2.5 s does not end in its stream; 2.996 s is nearer to 3.0 s, the first sample of the second.
    assert [s for _, s in starts(data)] == pytest.approx([0.25, 3.0, 3.98, 6.5, 7.0])
    assert data.row_sizes().tolist() == [1, 4]
    view = hz.open(tmp_path / "s.zarr")["test/a"].signals["second"]
    for sample, first in zip(all_of(data)[1:], (0, 49, 125, 150), strict=True):
        np.testing.assert_array_equal(sample["signal"].numpy(), view.read(first, first + 50))


def test_events_of_channels_concern_windows_with_these_channels(tmp_path: Path) -> None:
    """Channels count over all streams: 0 and 1 are C3 and C4, 2 is Resp, 3 the trigger, 4 past the end."""
    resp = stream(100, ("Resp", "Status"), rate=10, name="slow")
    status = channel("Status").model_copy(update={"type": "trigger"})
    resp = resp.model_copy(update={"channels": (resp.channels[0], status)})
    events = [event(float(i), "arousal", channel=one) for i, one in enumerate((0, 1, 2, 3, None, 4))]
    root = tmp_path / "s.zarr"
    write_recording(root, recording("a", [stream(1000), resp]), [noise((2, 1000)), noise((2, 100))], events)
    found = {
        tuple(names): [s for _, s in starts(WindowDataset(root, window=1.0, channels=names, events="arousal"))]
        for names in (["C3"], ["C4"], ["C4", "C3"], ["Resp"])
    }
    assert found == {
        ("C3",): [0.0, 3.0, 4.0], ("C4",): [1.0, 3.0, 4.0], ("C4", "C3"): [0.0, 1.0, 3.0, 4.0],
        ("Resp",): [2.0, 3.0, 4.0],
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=4),
    st.lists(st.floats(-5, 150), min_size=1, max_size=12),
    st.integers(1, 12),
    st.sampled_from([Fraction(1), Fraction(256), Fraction(200, 3)]),
    st.floats(-3, 3),
)
def test_windows_against_a_plain_loop(
    sizes: list[tuple[int, int]], onsets: list[float], length: int, rate: Fraction, offset: float
) -> None:
    """Every segment is tried for every event; a sample is the nearest if no other is nearer."""
    at, position, segments = 0.0, 0, []
    for size, gap in sizes:
        at += gap / float(rate)
        segments.append((position, size, at))
        at, position = at + size / float(rate), position + size
    onsets = [one / float(rate) for one in onsets]
    offset /= float(rate)
    table = pl.DataFrame([{
        "start": 7, "rate_num": rate.numerator, "rate_den": rate.denominator,
        "segment_start": [s for s, _, _ in segments], "segment_samples": [n for _, n, _ in segments],
        "segment_onset_s": [t for _, _, t in segments],
    }])  # fmt: skip
    window_s = float(length / rate)
    runs = index_windows(table, window_s, window_s)
    annotations = pl.DataFrame(
        {"recording_id": ["a"] * len(onsets), "onset_s": onsets, "_stream": [None] * len(onsets)},
        schema_overrides={"_stream": pl.Int64},
    )
    expected = []
    for number, onset in enumerate(onsets):
        for start, size, begin in segments:
            nearest = round((onset + offset - begin) * float(rate) + 1e-6)
            if 0 <= nearest <= size - length:
                expected.append((7 + start + nearest, number))
                break
    found = event_windows(runs, pl.Series(["a"]), annotations, offset)
    windows = found.windows
    run, first = windows.locate(np.arange(len(windows)))
    pairs = list(zip((windows.origin[run] + first).tolist(), found.event.tolist(), strict=True))
    assert pairs == sorted(expected)
    assert found.left_out == len(onsets) - len(expected)


def keys(batches: Iterable[dict[str, Any]]) -> list[list[tuple[str, float, int]]]:
    return [list(zip(b["recording_id"], b["start"].tolist(), b["label"].tolist(), strict=True)) for b in batches]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    draws = np.random.default_rng(0)
    for number in range(5):
        onsets = draws.uniform(0, 20, 30).round(3)
        events = [event(float(t), ("arousal", "seizure")[k % 2]) for k, t in enumerate(onsets)]
        one = recording(f"{number}", [stream(2000)])
        write_recording(tmp_path / "s.zarr", one, [noise((2, 2000), seed=number)], events)
    return tmp_path / "s.zarr"


OPTIONS: dict[str, Any] = {
    "events": ["arousal", "seizure"],
    "offset": -0.1,
    "label": WindowLabel(("arousal", "seizure"), rule="event"),
}


def test_a_stream_of_events_is_local_exact_and_resumes(many: Path) -> None:
    data = WindowDataset(many, window=0.5, **OPTIONS)
    whole = data.collate(all_of(data))
    right = keys([whole])[0]
    assert right == sorted(right, key=lambda one: one[:2]), "neighbours lie side by side"
    annotations = hz.open(many).annotations
    for name, start, code in right:
        near = annotations.filter(
            pl.col("recording_id") == name, (pl.col("onset_s") - 0.1 - start).abs() < 0.005 + 1e-9
        )
        assert ("arousal", "seizure")[code] in near["label"].to_list()
    one = WindowStream(many, 0.5, batch_size=8, **OPTIONS)
    epochs = [keys(one) for _ in range(2)]
    assert sorted(chain.from_iterable(epochs[0])) == sorted(right)
    one.set_epoch(1)
    batches = iter(one)
    begun = [next(batches) for _ in range(4)]
    other = WindowStream(many, 0.5, batch_size=8, **OPTIONS)
    other.load_state_dict(one.state_dict())
    assert keys(begun) + keys(other) == epochs[1]
    with pytest.raises(ValueError, match="other windows"):
        WindowStream(many, 0.5, batch_size=8, **OPTIONS | {"offset": -0.2}).load_state_dict(one.state_dict())


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_batches(many: Path, context: str) -> None:
    one = WindowStream(many, 0.5, batch_size=8, **OPTIONS)
    right = keys(one)
    one.set_epoch(0)
    assert keys(DataLoader(one, None, num_workers=2, multiprocessing_context=context)) == right


def test_what_cannot_be_is_refused(root: Path) -> None:
    for events, message in (
        ("stop_it", "no column 'stop_it'"),
        (["arousal", "arousl"], "'arousl' is no annotation label; did you mean 'arousal'"),
        ("wfdb:?? =", "no annotation label"),
        (pl.col("mood") == 1, "no column 'mood'"),
        ("lights_on", "no annotation of the recordings"),
        ("onset_s = 99", "none of the 1 windows"),
    ):
        with pytest.raises(ValueError, match=message):
            WindowDataset(root, window=1.0, rate=100, events=events)
    for options in ({"stride": 1.0}, {"starts": "random"}):
        with pytest.raises(ValueError, match="are of a grid"):
            WindowDataset(root, window=1.0, rate=100, events="arousal", **options)


@needs_data
def test_beats_of_mit_bih_100_are_at_wfdbs_samples(tmp_path: Path) -> None:
    """As many windows as rdann has beats that fit, and rdrecord's digital values in each."""
    for suffix in ("hea", "dat", "atr"):
        shutil.copy(DATA / f"wfdb/100.{suffix}", tmp_path)
    assert hz.convert(tmp_path, tmp_path / "s.zarr", key=ProjectKey(b"a key for tests")).converted == 1
    beats = ["wfdb:N", "wfdb:A", "wfdb:V"]
    data = WindowDataset(
        tmp_path / "s.zarr", window=0.5, events=pl.col("label").is_in(beats) & pl.col("source").str.ends_with(":atr"),
        offset=-0.2, dtype=None, label=WindowLabel(beats, rule="event"),
    )  # fmt: skip
    judge = wfdb.rdann(str(DATA / "wfdb/100"), "atr")
    record = wfdb.rdrecord(str(DATA / "wfdb/100"), physical=False)
    pairs = [
        (at - 72, "NAV".index(symbol))
        for at, symbol in zip(judge.sample.tolist(), judge.symbol, strict=True)
        if symbol in "NAV"
    ]
    fits = [(at, code) for at, code in pairs if 0 <= at <= record.sig_len - 180]
    assert len(data) == len(fits) > 2000
    assert data.events_left_out == len(pairs) - len(fits)
    whole = data.collate(all_of(data))
    for row, (at, code) in enumerate(fits):
        assert round(float(whole["start"][row]) * 360) == at
        assert int(whole["label"][row]) == code
        np.testing.assert_array_equal(whole["signal"][row].numpy(), record.d_signal[at : at + 180].T)
    assert data.codes["label"].names == tuple(beats)
