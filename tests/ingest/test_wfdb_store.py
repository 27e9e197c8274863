"""WFDB records of several segments, of several annotators and of events alone, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import harmonize as hz
from converters.wfdb_bytes import END, MultiSegment, Record, Signal, aux, noise, word
from harmonize.cli import app
from harmonize.data import WindowDataset
from harmonize.ingest import ProjectKey
from harmonize.store import Store
from harmonize_schemas import Recipe

KEY = ProjectKey(b"t" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = tmp_path / "in"
    folder.mkdir()
    parts: list[Record | int] = []
    for index, gain in enumerate(("200/mV", "200/mV", "50/mV")):
        signals = [
            Signal(noise(500, seed=10 * index + i), 16, 1, f"s{index}.dat", gain, name=n)
            for i, n in enumerate(("II", "V1"))
        ]
        parts += [Record(signals, f"s{index}"), 250]
    MultiSegment(parts, "whole", layout=("II", "V1")).write(folder)
    (folder / "whole.atr").write_bytes(word(28, 100) + aux(b"(AFIB") + word(61, 0xFF) + word(60, 2) + END)
    (folder / "whole.qrs").write_bytes(word(1, 50) + word(62, 1) + END)
    (folder / "marks.hea").write_text("marks 0 250 1000\n")
    (folder / "marks.qrs").write_bytes(word(1, 50) + word(1, 50) + END)
    outcome = hz.convert([folder], tmp_path / "s.zarr", recipe=Recipe(dataset="test", privacy="keep"), key=KEY)
    assert (outcome.converted, outcome.failures) == (2, [])
    return hz.open(tmp_path / "s.zarr")


def test_s10_streams_of_changing_gain_are_read_with_their_gaps(store: Store) -> None:
    view = store["test/whole"]
    assert list(view.signals) == ["250hz", "250hz_2"]
    first, second = (signal.meta for signal in view.signals.values())
    assert [(s.start, s.n_samples, s.onset_s) for s in first.segments] == [(0, 500, 0.0), (500, 500, 3.0)]
    assert [(s.start, s.n_samples, s.onset_s) for s in second.segments] == [(0, 500, 6.0)]
    digital = noise(500, seed=21)
    np.testing.assert_array_equal(view.signals["250hz_2"].digital()[1], digital)
    np.testing.assert_allclose(view.signals["250hz_2"].read()[1], digital / 50, rtol=1e-6)
    assert view.meta.duration_s == 9.0


def test_s10_windows_follow_a_gain_that_changes(store: Store) -> None:
    ds = WindowDataset(store, window=1.0, channels=["II", "V1"])
    found = {float(sample["start"]): sample["signal"] for sample in (ds[i] for i in range(len(ds)))}
    assert sorted(found) == [0.0, 1.0, 3.0, 4.0, 6.0, 7.0]
    for start, seed, gain in ((1.0, 1, 200), (4.0, 11, 200), (7.0, 21, 50)):
        np.testing.assert_allclose(found[start][1], noise(500, seed=seed)[250:] / gain, rtol=1e-5)


def test_s10_every_annotator_and_field_is_in_the_catalog(store: Store) -> None:
    rows = store.annotations.filter(recording_id="test/whole")
    found = rows.select("onset_s", "label", "source", "channel", "subtype", "number").rows()
    assert found == [(0.2, "wfdb:N", "wfdb:qrs", None, None, None), (0.4, "rhythm:AFIB", "wfdb:atr", None, -1, 2)]


def test_s10_a_recording_of_events_alone_is_kept(store: Store) -> None:
    view = store["test/marks"]
    assert (view.signals, view.image, view.meta.duration_s) == ({}, None, 4.0)
    assert store.annotations.filter(recording_id="test/marks")["onset_s"].to_list() == [0.2, 0.4]
    assert len(store.streams.filter(recording_id="test/marks")) == 0
    assert len(WindowDataset(store, window=1.0)) == 6, "the other record's"
    path = str(store.path)
    for command in (["ls", path], ["show", path, "test/marks"], ["audit", path], ["duplicates", path]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output)
    again = hz.convert([store.path.parent / "in"], store.path, recipe=Recipe(dataset="test", privacy="keep"), key=KEY)
    assert (again.converted, again.failures) == (0, []), "nothing changed"
