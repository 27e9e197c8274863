"""Licences, citations, participants.tsv, dataset_description.json, and Croissant with mlcroissant as its judge."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import harmonize as hz
from converters.edf_bytes import Signal, edf_bytes
from harmonize.cli import app
from harmonize.ingest.privacy import ProjectKey
from harmonize.report.terms import participants, terms, write_metadata
from harmonize_schemas import Recipe

KEY = ProjectKey(bytes(32))


def recipe(dataset: str, **more: object) -> Recipe:
    base = {"dataset": dataset, "privacy": "keep", "paths": [r"(?P<subject>[^/]+)/[^/]+$"]}
    return Recipe.model_validate(base | more, strict=False)


@pytest.fixture
def store(tmp_path: Path) -> hz.Store:
    """Two data sets; one states its terms, the other nothing."""
    for name in ("first/a-1", "first/a1", "second/b"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i in range(2):
            samples = np.arange(16) * (i + 1)
            (folder / f"{i}.edf").write_bytes(
                edf_bytes([Signal("EEG C3", samples)], n_records=2, date=f"0{i + 2}.03.04")
            )
    stated = recipe("first", title="The first", version="2.0", url="https://first.example/", licence="CC-BY-4.0",
                    licence_url="https://creativecommons.org/licenses/by/4.0/", citation=["One 2001.", "Two 2002."], access="open",
                    fields={"age_years": {"value": 40}, "sex": {"value": "female"}})  # fmt: skip
    hz.convert(tmp_path / "first", tmp_path / "s", recipe=stated, key=KEY)
    hz.convert(tmp_path / "second", tmp_path / "s", recipe=recipe("second"), key=KEY)
    return hz.open(tmp_path / "s")


def test_terms_count_and_quote_each_data_set(store) -> None:
    first, second = terms(store).to_dicts()
    assert (first["dataset"], first["recordings"], first["subjects"], first["licence"]) == ("first", 4, 2, "CC-BY-4.0")
    assert first["citation"] == ["One 2001.", "Two 2002."]
    assert (second["dataset"], second["recordings"], second["licence"], second["citation"]) == ("second", 2, None, [])


def test_a_run_without_a_recipe_leaves_the_terms_alone(store, tmp_path) -> None:
    hz.convert(tmp_path / "first", tmp_path / "s", "first", key=KEY)
    assert terms(hz.open(tmp_path / "s"))["licence"].to_list() == ["CC-BY-4.0", None]


def test_participants_have_names_that_bids_allows(store) -> None:
    rows = participants(store).rows()
    assert rows == [
        ("sub-firsta1", "first", "a-1", 40.0, "female", None, None, 2),
        ("sub-firsta1n2", "first", "a1", 40.0, "female", None, None, 2),
        ("sub-secondb", "second", "b", None, None, None, None, 2),
    ]


def test_bids_files(store, tmp_path) -> None:
    write_metadata(store, tmp_path / "out", "all")
    lines = (tmp_path / "out/participants.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "participant_id",
        "dataset",
        "subject",
        "age",
        "sex",
        "handedness",
        "site",
        "recordings",
    ]
    assert lines[3].split("\t") == ["sub-secondb", "second", "b", "n/a", "n/a", "n/a", "n/a", "2"]
    sidecar = json.loads((tmp_path / "out/participants.json").read_text())
    assert set(sidecar) == set(lines[0].split("\t"))
    assert sidecar["age"]["Units"] == "years"
    described = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert described["License"] == "first: CC-BY-4.0; second: not stated"
    assert described["SourceDatasets"] == [{"URL": "https://first.example/", "Version": "2.0"}]


def test_croissant_is_valid_and_its_records_are_the_stores(store, tmp_path) -> None:
    write_metadata(store, tmp_path / "out", "all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlcroissant and what it imports warn of themselves
        import mlcroissant

        dataset = mlcroissant.Dataset(tmp_path / "out/croissant.json")
        assert list(dataset.metadata.issues.errors) == []
        records = list(dataset.records("recordings"))
    names = [record["recordings/recording_id"].decode() for record in records]
    assert names == store.recordings["recording_id"].sort().to_list()
    ages = [record["recordings/age"] for record in records]
    assert ages[:4] == [40.0] * 4
    assert dataset.metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    assert dataset.metadata.cite_as == "One 2001.\nTwo 2002."


def test_the_commands(store, tmp_path) -> None:
    cited = CliRunner().invoke(app, ["cite", str(tmp_path / "s")])
    assert cited.exit_code == 1, "a data set states no licence"
    assert "cite: Two 2002." in cited.stdout
    assert "not stated in a recipe" in cited.stdout
    as_json = json.loads(CliRunner().invoke(app, ["cite", str(tmp_path / "s"), "--json"]).stdout)
    assert [row["dataset"] for row in as_json] == ["first", "second"]
    made = CliRunner().invoke(app, ["metadata", str(tmp_path / "s"), "--into", str(tmp_path / "m")])
    assert made.exit_code == 0
    assert {file.name for file in (tmp_path / "m").iterdir()} == {
        "croissant.json", "dataset_description.json", "labels.parquet", "participants.json", "participants.tsv", "recordings.parquet",
    }  # fmt: skip
    assert len(pl.read_parquet(tmp_path / "m/recordings.parquet")) == 6
