"""Labels of windows from annotations: by hand, against a plain loop, and against MNE."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import mne
import numpy as np
import polars as pl
import pytest
import torch
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import harmonize as hz
from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from harmonize.data import DomainBatchSampler, WindowDataset, WindowLabel, WindowStream
from harmonize.data.index import index_windows
from harmonize.data.window_labels import Rule, WindowLabels, place
from harmonize.ingest import ProjectKey
from realdata import DATA, needs_data
from stores import event, noise, recording, stream, write_recording

STAGES = ("sleep_wake", "sleep_n1", "sleep_n2", "sleep_n3", "sleep_rem")
KEY = ProjectKey(b"a key for tests")


def labels(data: WindowDataset) -> list[Any]:
    whole = data.collate(data.__getitems__(range(len(data))))
    return whole["label"].tolist()  # type: ignore[no-any-return]


def store_of(
    tmp_path: Path, events: Sequence[Any], seconds: int = 60, rate: Fraction | int = 100, **kwargs: Any
) -> Path:
    n = int(seconds * Fraction(rate))
    root = tmp_path / "s.zarr"
    write_recording(root, recording("a", [stream(n, rate=rate, **kwargs)]), [noise((2, n))], events)
    return root


# --- by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [256, 100, Fraction(200, 3), Fraction(1000, 7)])
@pytest.mark.parametrize("start_s", [0.0, 1234.1])
def test_an_epoch_on_the_grid_gets_exactly_its_stage(tmp_path: Path, rate: Fraction | int, start_s: float) -> None:
    """Adjacent epochs do not leak into each other, whatever the rate; the hypnogram need not begin at zero."""
    stages = [0, 1, 2, 2, 3, 4, 0, 1]
    # At 1000/7 Hz 30 s are no whole number of samples: 4286 are 30.002 s, and windows are laid by samples.
    epoch_s = float(round(30 * Fraction(rate)) / Fraction(rate))
    events = [event(start_s + k * epoch_s, STAGES[code], epoch_s) for k, code in enumerate(stages)]
    n = round(8 * epoch_s * Fraction(rate))
    one = stream(n, rate=rate, segments=[(0, n, start_s)])
    write_recording(tmp_path / "s.zarr", recording("a", [one]), [noise((2, n))], events)
    found = {
        rule: labels(WindowDataset(tmp_path / "s.zarr", window=30.0, label=WindowLabel(STAGES, rule, min_share=1.0)))
        for rule in ("majority", "onset", "any")
    }
    assert found["majority"] == found["onset"] == stages
    assert found["any"] == np.eye(5)[stages].tolist()


def test_majority_by_hand(tmp_path: Path) -> None:
    events = [
        event(0, "sleep_n2", 5), event(5, "sleep_n1", 5),  # equal: the first listed
        event(10, "sleep_n2", 4), event(12, "sleep_n2", 2), event(14, "sleep_n1", 5),  # n2 twice at one time
        event(20, "sleep_n1", 4.99),  # less than half
        event(30, "sleep_n1", 3), event(33, "sleep_n2", 5), event(38, "sleep_wake", 2),
        event(40, "sleep_n2"), event(41, "sleep_n1", 0.0),  # instants have no share
    ]  # fmt: skip
    root = store_of(tmp_path, events)
    data = WindowDataset(root, window=10.0, label=WindowLabel(("sleep_n1", "sleep_n2")))
    assert labels(data) == [0, 0, -1, 1, -1, -1]
    assert data.codes["label"].names == ("sleep_n1", "sleep_n2")
    assert data.codes["label"][1] == "sleep_n2"
    sample = data[3]
    assert sample["label"].dtype == torch.int64
    assert sample["label"].shape == ()
    assert labels(WindowDataset(root, window=10.0, label=WindowLabel(("sleep_n2", "sleep_n1")))) == [
        0,
        1,
        -1,
        0,
        -1,
        -1,
    ]
    most = WindowLabel(("sleep_n1", "sleep_n2"), min_share=0.51)
    assert labels(WindowDataset(root, window=10.0, label=most)) == [-1, -1, -1, -1, -1, -1]
    least = WindowLabel(("sleep_n1", "sleep_n2"), min_share=0.4)
    assert labels(WindowDataset(root, window=10.0, label=least)) == [0, 0, 0, 1, -1, -1]


def test_any_by_hand(tmp_path: Path) -> None:
    events = [
        event(9.995, "arousal", 0.01), event(20, "arousal", 10), event(30, "hypopnea"), event(39.99, "hypopnea", 0),
        event(50, "apnea", 0.001),
    ]  # fmt: skip
    data = WindowDataset(store_of(tmp_path, events), 10.0, label=WindowLabel(("arousal", "hypopnea", "apnea"), "any"))
    # 9.995 s counts by the later sample, 10.00 s. An arousal that ends at 30.0 s is not in the window from there on.
    assert labels(data) == [[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert data[1]["label"].dtype == torch.float32
    assert data.codes["label"].names == ("arousal", "hypopnea", "apnea")


def test_onset_by_hand(tmp_path: Path) -> None:
    events = [
        event(0, "sleep_n2", 60), event(5, "sleep_n1", 12), event(20, "sleep_rem"), event(30, "sleep_n1", 5),
        event(30, "sleep_n3", 5), event(39, "sleep_n3", 1), event(45, "sleep_n1", 1),
    ]  # fmt: skip
    rule = WindowLabel(("sleep_n1", "sleep_n2", "sleep_n3", "sleep_rem"), "onset")
    # At 20 s an instant; at 30 s two that begin together; at 40 s one has just ended, and the one around it goes on.
    assert labels(WindowDataset(store_of(tmp_path, events), 10.0, label=rule)) == [1, 0, 3, 0, 1, 1]


def test_classes_of_several_terms_and_texts(tmp_path: Path) -> None:
    events = [
        event(0, "sleep_3", 4), event(4, "sleep_4", 3), event(7, "sleep_2", 3),
        event(10, "event", 10, text="left"), event(20, "event", 10, text="right"), event(20, "event", 10, text="up"),
        event(40, "sleep_2", 10, source="a"), event(40, "sleep_3", 10, source="b"),
    ]  # fmt: skip
    root = store_of(tmp_path, events)
    classes = {"N2": "sleep_2", "N3": ("sleep_3", "sleep_4")}
    data = WindowDataset(root, window=10.0, label=WindowLabel(classes, min_share=0.7))
    assert labels(data) == [1, -1, -1, -1, 0, -1]
    assert data.codes["label"].names == ("N2", "N3")
    for where in ("source = 'b'", pl.col("source") == "b"):
        assert labels(WindowDataset(root, 10.0, label=WindowLabel(classes, where=where))) == [-1, -1, -1, -1, 1, -1]
    texts = WindowLabel(("left", "right"), column="text")
    assert labels(WindowDataset(root, window=10.0, label=texts)) == [-1, 0, 1, -1, -1, -1]


def test_gaps_streams_and_channels(tmp_path: Path) -> None:
    """Annotations over a gap and over two streams count in both; those of a channel only where windows have it."""
    one = stream(2000, segments=[(0, 1000, 0.0), (1000, 1000, 100.0)], name="first")
    two = stream(1000, ("C3", "C4"), rate=50, segments=[(0, 1000, 200.0)], name="second")
    events = [
        event(95, "seizure", 6), event(0, "artifact", 300), event(2, "arousal", 1, channel=0),
        event(202, "arousal", 1, channel=3), event(50, "hypopnea", 1), event(209, "hypopnea", 1, channel=99),
    ]  # fmt: skip
    values = [noise((2, 2000)), noise((2, 1000))]
    write_recording(tmp_path / "s.zarr", recording("a", [one, two]), values, events)
    rule = WindowLabel(("seizure", "artifact", "arousal", "hypopnea"), "any")
    found = {
        names: labels(WindowDataset(tmp_path / "s.zarr", 10.0, channels=list(names), rate=50, label=rule))
        for names in (("C3",), ("C4",), ("C3", "C4"))
    }
    assert found["C3",] == [[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert found["C4",] == [[0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]]
    assert found["C3", "C4"] == [[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]]


def test_recordings_do_not_share_annotations(tmp_path: Path) -> None:
    for name, label in (("a", "sleep_n1"), ("b", "sleep_n2"), ("c", "sleep_n1")):
        events = [event(0, label, 10)] if name != "c" else []
        write_recording(tmp_path / "s.zarr", recording(name, [stream(1000)]), [noise((2, 1000))], events)
    rule = WindowLabel(("sleep_n1", "sleep_n2"))
    assert labels(WindowDataset(tmp_path / "s.zarr", window=10.0, label=rule)) == [0, 1, -1]


# --- against a plain loop ---------------------------------------------------------------------------

SPANS = st.lists(
    st.tuples(st.integers(-5, 70), st.one_of(st.none(), st.integers(0, 40)), st.integers(0, 2)), min_size=1, max_size=10
)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)), min_size=1, max_size=3),
    SPANS,
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.25, 0.5, 0.7, 1.0]),
    st.sampled_from([Fraction(1), Fraction(256), Fraction(200, 3)]),
)
def test_against_a_plain_loop_over_samples(
    sizes: list[tuple[int, int]],
    spans: list[tuple[int, int | None, int]],
    length: int,
    step: int,
    share: float,
    rate: Fraction,
) -> None:
    """Sets of samples, sample by sample. All times are whole samples, so that nothing is to be rounded."""
    at, position, segments = 0, 0, []
    for size, gap in sizes:
        at += gap
        segments.append((position, size, at))
        at, position = at + size, position + size
    second = float(rate)
    table = pl.DataFrame([{
        "start": 3, "rate_num": rate.numerator, "rate_den": rate.denominator,
        "segment_start": [s for s, _, _ in segments], "segment_samples": [n for _, n, _ in segments],
        "segment_onset_s": [t / second for _, _, t in segments],
    }])  # fmt: skip
    index = index_windows(table, float(length / rate), float(step / rate))
    frame = pl.DataFrame({
        "recording_id": ["a"] * len(spans), "onset_s": [at / second for at, _, _ in spans],
        "duration_s": [(n or 0) / second for _, n, _ in spans], "name": [f"l{code}" for _, _, code in spans],
        "_stream": pl.Series([None] * len(spans), dtype=pl.Int64),
    })  # fmt: skip
    windows = np.arange(len(index))
    run, first = index.locate(windows)
    names = ("l0", "l1", "l2")
    placed = place(index, pl.Series(["a"]), frame, {name: code for code, name in enumerate(names)})

    def found(rule: Rule) -> list[Any]:
        return WindowLabels(WindowLabel(names, rule, share), index, placed).read(windows, run, first).tolist()

    majority, anything, onset = [], [], []
    for window in windows:
        begin = round(float(index.onset_s[run[window]]) * second) + int(first[window])
        inside = range(begin, begin + length)
        covered = [{t for at, n, c in spans if c == code for t in range(at, at + (n or 0))} for code in range(3)]
        counts = [len(one.intersection(inside)) for one in covered]
        best = counts.index(max(counts))
        majority.append(best if counts[best] > 0 and counts[best] >= share * length else -1)
        anything.append([
            float(counts[code] > 0 or any(c == code and not n and at in inside for at, n, c in spans))
            for code in range(3)
        ])  # fmt: skip
        force = [(at, -c) for at, n, c in spans if at <= begin < at + (n or 1)]
        onset.append(-max(force)[1] if force else -1)
    assert found("majority") == majority
    assert found("any") == anything
    assert found("onset") == onset


# --- streams, errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_and_streams_carry_labels(tmp_path: Path, context: str) -> None:
    events = [event(0, "sleep_n1", 20), event(20, "sleep_n2", 33)]
    root, rule = store_of(tmp_path, events), WindowLabel(("sleep_n1", "sleep_n2"))
    one = WindowStream(root, 1.0, batch_size=7, starts="random", label=rule)
    loader = DataLoader(one, None, num_workers=2, multiprocessing_context=context)
    seen = 0
    for batch in loader:
        for start, code in zip(batch["start"].tolist(), batch["label"].tolist(), strict=True):
            # The middle of the window, which is covered by half or more.
            if abs(start + 0.5 - 20) > 1e-6 and abs(start + 0.5 - 53) > 1e-6:
                assert code == (0 if start + 0.5 < 20 else 1 if start + 0.5 < 53 else -1)
            seen += 1
    assert seen == 60


def test_what_cannot_be_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for fields, message in (
        ({"labels": ("sleep_n1",), "rule": "most"}, "rule='most' is none of"),
        ({"labels": ("sleep_n1",), "min_share": 0.0}, "is a share"),
        ({"labels": "sleep_n1"}, "takes a list"),
        ({"labels": ()}, "takes a list"),
        ({"labels": {"a": "sleep_1", "b": ("sleep_1", "sleep_2")}}, "listed twice"),
        ({"labels": ("sleep_1",), "column": "subtype"}, "none of 'label', 'text'"),
    ):
        with pytest.raises(ValueError, match=message):
            WindowLabel(**fields)  # type: ignore[arg-type]
    root = store_of(tmp_path, [event(0, "sleep_n1", 20, text="x")])
    for rule, message in (
        (WindowLabel(("sleep_n1", "sleep_n7")), "'sleep_n7' is no annotation label; did you mean"),
        (WindowLabel(("apnea", "seizure")), "no annotation of the recordings .* label of \\['apnea', 'seizure'\\]"),
        (WindowLabel(("y",), column="text"), "text of \\['y'\\]"),
        (WindowLabel(("sleep_n1",), where="mood = 1"), "no column 'mood'"),
        (WindowLabel(("sleep_n1",), rule="event"), "it takes events="),
    ):
        with pytest.raises(ValueError, match=message):
            WindowDataset(root, window=10.0, label=rule)
    with pytest.raises(ValueError, match="'label' would have"):
        WindowDataset(root, window=10.0, domains=["label"], label=WindowLabel(("sleep_n1",)))
    with caplog.at_level(logging.INFO, "harmonize.data.annotated_windows"):
        data = WindowDataset(root, window=10.0, label=WindowLabel(("sleep_n1", "apnea")))
    assert "no annotation has a label of ['apnea']" in caplog.text
    with pytest.raises(ValueError, match="no column 'label'"):
        DomainBatchSampler(data, 2, field="label", alpha=0.5)


def test_nothing_is_added_where_no_label_is_asked_for(tmp_path: Path) -> None:
    data = WindowDataset(store_of(tmp_path, [event(0, "sleep_n1", 20)]), window=10.0)
    assert "label" not in data[0]
    assert "label" not in data.codes


# --- against wfdb ---------------------------------------------------------------------------------


@needs_data
def test_beats_in_windows_of_mit_bih_100_are_wfdbs(tmp_path: Path) -> None:
    for suffix in ("hea", "dat", "atr"):
        shutil.copy(DATA / f"wfdb/100.{suffix}", tmp_path)
    assert hz.convert(tmp_path, tmp_path / "s.zarr", key=KEY).converted == 1
    rule = WindowLabel(("wfdb:V", "wfdb:A", "wfdb:N"), "any", where="source = 'wfdb:atr'")
    data = WindowDataset(tmp_path / "s.zarr", window=7.0, stride=2.5, label=rule)
    judge = wfdb.rdann(str(DATA / "wfdb/100"), "atr")
    symbols = np.array(judge.symbol)
    expected = [
        [float(((symbols == one) & (judge.sample >= at) & (judge.sample < at + 2520)).any()) for one in "VAN"]
        for at in range(0, 650000 - 2520 + 1, 900)
    ]
    assert labels(data) == expected
    assert np.array(expected).mean(axis=0)[:2].all()


# --- against MNE ------------------------------------------------------------------------------------

TEXTS = ("Sleep stage W", "Sleep stage 1", "Sleep stage 2", "Sleep stage 3", "Sleep stage 4", "Sleep stage R")
CLASSES = {"W": "sleep_wake", "N1": "sleep_1", "N2": "sleep_2", "N3": ("sleep_3", "sleep_4"), "R": "sleep_rem"}


def write_night(folder: Path, samples: int, record_s: int, records: int) -> None:
    """A polysomnogram and a hypnogram of epochs of 30 s, two or more of them in one annotation at times."""
    draws = np.random.default_rng(samples)
    values = draws.integers(-1000, 1000, samples * records)
    signals = [Signal("EEG Fpz-Cz", values, samples), annotations(timekeeping(records, record_s))]
    whole = edf_bytes(signals, n_records=records, record_s=str(record_s), reserved="EDF+C")
    (folder / "SC4001E0-PSG.edf").write_bytes(whole)
    at, tals = 0, timekeeping(1)[0]
    while at < records * record_s:
        epochs = int(draws.integers(1, 4))
        text = ("Sleep stage ?", *TEXTS)[draws.integers(7)]
        tals += b"+%d\x15%d\x14%s\x14\0" % (at, 30 * epochs, text.encode())
        at += 30 * epochs
    scored = edf_bytes([annotations([tals], 4000)], n_records=1, record_s="0", reserved="EDF+C")
    (folder / "SC4001EC-Hypnogram.edf").write_bytes(scored)


def judge_stages(psg: Path, hypnogram: Path) -> dict[float, int]:
    """By MNE, the class of each epoch of 30 s that is scored and ends within the recording, by its start."""
    raw = mne.io.read_raw_edf(psg, verbose="error")
    raw.set_annotations(mne.read_annotations(hypnogram), emit_warning=False)
    # An annotation that reaches beyond the end is cut there, as MNE does; its whole epochs count.
    codes = dict(zip(TEXTS, (1, 2, 3, 4, 4, 5), strict=True))
    present = {text: code for text, code in codes.items() if text in set(raw.annotations.description)}
    events, _ = mne.events_from_annotations(raw, present, chunk_duration=30.0, verbose="error")
    last = raw.n_times - 30 * raw.info["sfreq"]
    rate_hz = raw.info["sfreq"]
    return {round(at / rate_hz, 6): int(code) - 1 for at, _, code in events if at <= last}


def compare_with_mne(folder: Path, store: Path) -> int:
    assert hz.convert(folder, store, key=KEY).failures == []
    (psg,), (hypnogram,) = folder.glob("*-PSG.edf"), folder.glob("*-Hypnogram.edf")
    data = WindowDataset(store, 30.0, label=WindowLabel(CLASSES, min_share=1.0))
    assert data.codes["label"].names == ("W", "N1", "N2", "N3", "R")
    whole = data.collate(data.__getitems__(range(len(data))))
    ours = {round(t, 6): code for t, code in zip(whole["start"].tolist(), whole["label"].tolist(), strict=True)}
    assert {start: code for start, code in ours.items() if code != -1} == judge_stages(psg, hypnogram)
    return len(ours)


@pytest.mark.parametrize(("samples", "record_s"), [(256, 1), (100, 1), (200, 3)])
def test_stages_of_a_night_are_mnes(tmp_path: Path, samples: int, record_s: int) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    write_night(folder, samples, record_s, 1200 // record_s)
    assert compare_with_mne(folder, tmp_path / "s.zarr") == 40
