"""`ls --unmapped` and `scan`: channel labels that no vocabulary has, by data set, and how a rule names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import harmonize as hz
from harmonize.cli import app
from harmonize.ingest.privacy import ProjectKey
from harmonize.report.unmapped import unmapped
from ingest.trees import edf, wfdb

KEY = ProjectKey(bytes(32))
run = CliRunner()


@pytest.fixture
def store(tmp_path) -> Path:
    """Two data sets: three recordings with "Leg", one of them twice; one with a lead that nobody knows."""
    edf(tmp_path / "sleep/a.edf", ["EEG C4-A1", "Leg", "Leg"])
    edf(tmp_path / "sleep/b.edf", ["EEG C4-A1", "Leg", "EEG T1"])
    edf(tmp_path / "sleep/c.edf", ["Leg", "EEG C4-A1"])
    wfdb(tmp_path / "hearts/r", ["II", "D9"])
    for name in ("sleep", "hearts"):
        assert hz.convert(tmp_path / name, tmp_path / "s", key=KEY).failures == []
    return tmp_path / "s"


def test_labels_are_counted_by_data_set(store) -> None:
    assert unmapped(hz.open(store)).rows() == [
        ("hearts", "D9", "misc", "mV", 1, 1),
        ("sleep", "Leg", "misc", "uV", 4, 3),
        ("sleep", "EEG T1", "eeg", "uV", 1, 1),
    ]


def test_ls_unmapped_in_text_and_json(store) -> None:
    said = run.invoke(app, ["ls", str(store), "--unmapped"])
    assert said.exit_code == 0
    assert "Leg" in said.output
    assert "EEG T1" in said.output
    assert "C4" not in said.output.partition("A rule")[0]
    assert "channels: {LABEL: {name: C3}}" in " ".join(said.output.split()), "how to name them comes last"
    rows = json.loads(run.invoke(app, ["ls", str(store), "--unmapped", "--json"]).stdout)
    assert [(row["dataset"], row["label"], row["recordings"]) for row in rows] == [
        ("hearts", "D9", 1),
        ("sleep", "Leg", 3),
        ("sleep", "EEG T1", 1),
    ]
    only = json.loads(
        run.invoke(app, ["ls", str(store), "--unmapped", "--json", "--where", "dataset = 'hearts'"]).stdout
    )
    assert [row["label"] for row in only] == ["D9"]


def test_scan_lists_them_before_anything_is_written(store) -> None:
    folder = str(store.parent / "sleep")
    said = " ".join(run.invoke(app, ["scan", folder]).output.split())
    assert "'Leg' (4), 'EEG T1' (1)" in said
    assert "docs/writing-recipes.md" in said
    rows = json.loads(run.invoke(app, ["scan", folder, "--json"]).stdout)["unmapped"]
    assert [(row["label"], row["channels"], row["recordings"]) for row in rows] == [("Leg", 4, 3), ("EEG T1", 1, 1)]


def test_a_rule_names_them(store, tmp_path) -> None:
    recipe = tmp_path / "sleep.yaml"
    rules = {"Leg": {"name": "EMG leg", "type": "emg"}, "EEG T1": {"name": "FT9"}}
    recipe.write_text(yaml.safe_dump({"dataset": "sleep", "channels": rules}))
    assert hz.convert(tmp_path / "sleep", store, recipe=recipe, key=KEY).converted == 3
    opened = hz.open(store)
    assert unmapped(opened)["dataset"].unique().to_list() == ["hearts"]
    names = opened.streams.filter(dtype="int16")["channels"].to_list()
    assert ["C4-M1", "EMG leg", "FT9"] in names
    assert hz.convert(tmp_path / "hearts", store, recipe=hearts(tmp_path), key=KEY).converted == 1
    assert "Every channel label" in run.invoke(app, ["ls", str(store), "--unmapped"]).output
    assert json.loads(run.invoke(app, ["ls", str(store), "--unmapped", "--json"]).stdout) == []


def hearts(folder: Path) -> Path:
    file = folder / "hearts.yaml"
    file.write_text(yaml.safe_dump({"dataset": "hearts", "channels": {"D9": {"name": "V9"}}}))
    return file
