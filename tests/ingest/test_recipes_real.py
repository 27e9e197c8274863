"""ptb-xl, cinc2021 and cpsc2021 by the recipes that ship, against their source tables row by row (issue 3)."""

from __future__ import annotations

import ast
import csv
from datetime import datetime

import polars as pl
import pytest
import wfdb

import harmonize as hz
from harmonize.ingest.privacy import ProjectKey
from realdata import DATA, needs_data

pytestmark = needs_data
KEY = ProjectKey(bytes(32))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> hz.Store:
    """All three in one store."""
    folder = tmp_path_factory.mktemp("three") / "s"
    for name in ("ptb-xl", "cinc2021", "cpsc2021"):
        outcome = hz.convert(DATA / name, folder, recipe=name, key=KEY)
        assert outcome.failures == []
    return hz.open(folder)


def table_of(name: str) -> list[dict[str, str]]:
    with (DATA / "ptb-xl" / name).open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def rows_of(store: hz.Store, dataset: str) -> dict[str, dict]:
    frame = store.recordings.filter(pl.col("dataset") == dataset)
    labels = store.labels
    return {row["recording_id"]: row for row in frame.join(labels, on="recording_id", how="left").iter_rows(named=True)}


def test_ptb_xl_row_by_row(store) -> None:
    found = rows_of(store, "ptb-xl")
    table = table_of("ptbxl_database.csv")
    statements = table_of("scp_statements.csv")
    diagnostic = {row[""]: row["diagnostic_class"] for row in statements if row["diagnostic_class"]}
    assert len(found) == len(table) == 297
    firsts: dict[str, datetime] = {}
    for row in table:
        at = datetime.fromisoformat(row["recording_date"])
        firsts[row["patient_id"]] = min(at, firsts.get(row["patient_id"], at))
    for row in table:
        one = found[f"ptb-xl/{row['filename_hr']}"]
        assert one["subject"] == str(int(float(row["patient_id"])))
        assert one["session"] == row["ecg_id"]
        age = float(row["age"]) if row["age"] else None
        assert (one["age"], one["age_pooled"]) == ((90.0, True) if age and age > 89 else (age, False))
        assert one["sex"] == ["male", "female"][int(row["sex"])]
        assert one["site"] == (str(int(float(row["site"]))) if row["site"] else None)
        assert one["device_model"] == " ".join(row["device"].split())
        assert one["device_maker"] == "Schiller"
        assert one["height_cm"] == (float(row["height"]) if row["height"] else None)
        assert one["weight_kg"] == (float(row["weight"]) if row["weight"] else None)
        assert one["fold"] == row["strat_fold"]
        start = datetime.fromisoformat(row["recording_date"]) - firsts[row["patient_id"]]
        assert one["start_s"] == start.total_seconds()
        codes = ast.literal_eval(row["scp_codes"])
        assert one["scp_codes"] == list(codes)
        classes = list(dict.fromkeys(diagnostic[code] for code in codes if code in diagnostic))
        assert one["superclass"] == (classes or None)
        assert one["heart_axis"] == (row["heart_axis"] or None)
        assert one["validated_by_human"] == (row["validated_by_human"] == "True")
        assert not {"recipe_value_unread", "table_row_missing"} & set(one["flags"])


def test_ptb_xl_reports_and_likelihoods_are_in_the_documents(store) -> None:
    for row in table_of("ptbxl_database.csv"):
        meta = store[f"ptb-xl/{row['filename_hr']}"].meta
        assert meta.text == ({"report": row["report"].strip()} if row["report"].strip() else {})
        assert meta.labels["scp_codes"] == ast.literal_eval(row["scp_codes"])


def test_cinc2021_record_by_record(store) -> None:
    found = rows_of(store, "cinc2021")
    assert len(found) == 50
    site = {"E": "georgia", "H": "ptb-xl", "J": "ningbo"}
    for file in sorted((DATA / "cinc2021").glob("*.hea")):
        comments = dict(line.split(":", 1) for line in wfdb.rdheader(str(file.with_suffix(""))).comments)
        one = found[f"cinc2021/{file.stem}"]
        age = comments["Age"].strip()
        assert one["age"] == (float(age) if age.isdigit() else None)
        assert one["sex"] == comments["Sex"].strip().lower()
        assert one["dx"] == comments["Dx"].strip().split(",")
        assert one["site"] == site[file.stem[0]]
        assert one["subject"] is None


def test_cpsc2021_record_by_record(store) -> None:
    found = rows_of(store, "cpsc2021")
    files = sorted((DATA / "cpsc2021").glob("*.hea"))
    assert len(found) == len(files) == 18
    for file in files:
        record = str(file.with_suffix(""))
        (comment,) = wfdb.rdheader(record).comments
        one = found[f"cpsc2021/{file.stem}"]
        assert [one["subject"], one["session"]] == file.stem.split("_")[1:]
        assert {"none": "non atrial fibrillation"}.get(
            one["af_type"], f"{one['af_type']} atrial fibrillation"
        ) == comment
        annotations = wfdb.rdann(record, "atr")
        events = store.annotations.filter(pl.col("recording_id") == one["recording_id"])
        assert (events["onset_s"] * 200).round().to_list() == annotations.sample.tolist()
        rhythm = [note for note in annotations.aux_note if note.startswith("(")]
        assert events.filter(pl.col("label").str.starts_with("rhythm:"))["text"].to_list() == rhythm


def test_a_table_that_changes_converts_its_rows_again(tmp_path) -> None:
    source = tmp_path / "ptb-xl"
    folder = source / "records500/00000"
    folder.mkdir(parents=True)
    for name in ("00001_hr", "00002_hr"):
        for suffix in (".hea", ".dat"):
            (folder / (name + suffix)).write_bytes((DATA / f"ptb-xl/records500/00000/{name}{suffix}").read_bytes())
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        (source / name).write_bytes((DATA / "ptb-xl" / name).read_bytes())
    assert hz.convert(source, tmp_path / "s", recipe="ptb-xl", key=KEY).converted == 2
    assert hz.convert(source, tmp_path / "s", recipe="ptb-xl", key=KEY).unchanged == 2
    table = source / "ptbxl_database.csv"
    table.write_text(table.read_text("utf-8").replace("\n1,15709.0,56.0,1,", "\n1,15709.0,57.0,1,"), "utf-8")
    again = hz.convert(source, tmp_path / "s", recipe="ptb-xl", key=KEY)
    assert (again.converted, again.unchanged) == (1, 1)
    ages = dict(hz.open(tmp_path / "s").recordings.select("session", "age").iter_rows())
    assert ages == {"1": 57.0, "2": 19.0}
