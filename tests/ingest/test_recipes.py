"""Recipes: what they refuse and how they say it, and how values come from tables, paths, headers and side files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import harmonize as hz
from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from harmonize.cli import app
from harmonize.ingest.facts import Facts
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import RecipeError, load_recipe, read_recipe, shipped_recipes
from harmonize.ingest.values import resolve
from harmonize_schemas import Recipe

KEY = ProjectKey(bytes(32))


def edf(label: str = "EEG C3", unit: str = "uV", time: str = "22.00.00") -> bytes:
    """Two seconds of one channel."""
    return edf_bytes([Signal(label, np.arange(16), unit=unit)], n_records=2, time=time)


def hypnogram(time: str) -> bytes:
    """Annotations alone: awake for the first 30 s."""
    (first,) = timekeeping(1)
    return edf_bytes(
        [annotations([first + b"+0\x1530\x14Sleep stage W\x14\0"])],
        n_records=1,
        reserved="EDF+C",
        time=time,
        record_s="0",
    )


def told(tmp_path: Path, text: str) -> str:
    """What a recipe file is refused with."""
    (tmp_path / "r.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: d\nprivcy: keep\n", "r.yaml, line 2: privcy: there is no field 'privcy'; did you mean 'privacy'?"),
        ("dataset: d\nfields:\n  age_yeers: {column: a}\n", "r.yaml, line 3: fields.age_yeers: there is no field 'age_yeers'; did you mean 'age_years'?"),
        ("dataset: d\nfields:\n  sex:\n    colum: a\n", "line 4: fields.sex.0.colum: there is no field 'colum'; did you mean 'column'?"),
        ("dataset: d\ntables:\n  t: {file: a.csv, key: k, match: '{path}'}\nfields:\n  sex: {column: x.sex}\n", "line 6: fields.sex.0: 'tt.sex' is no column of a table; did you mean 't'"),
        ("dataset: d\nevent_labels:\n  x: seizur\n", "line 3: event_labels.x: 'seizur' is not a term of the vocabulary 'annotation_labels'; did you mean 'seizure'?"),
        ("dataset: d\npaths:\n  - '(?P<sbject>.*)'\n", "line 2: paths: group 'sbject' is no field and nothing uses it; did you mean 'subject'?"),
        ("dataset: d\npaths:\n  - '(?P<a'\n", "line 3: paths.0: not a regular expression"),
        ("dataset: d\nfields:\n  sex: {column: a, value: b}\n", "line 3: fields.sex.0: give exactly one of column"),
        ("dataset: d\ndataset: e\n", "r.yaml, line 2: 'dataset' is given twice"),
        ("dataset: d\n  x: [\n", "r.yaml, line 2:"),
        ("dataset: d\ntext:\n  report: {header: x}\n", "line 2: text: it is stored only where text_deidentified says"),
        ("dataset: d\nlabels:\n  diagnosis: {header: x}\n", "line 3: labels.diagnosis: it could hold free text"),
        ("dataset: d\ntables:\n  t: {file: a.csv, key: k, match: '{studdy}'}\npaths: ['(?P<study>.)']\n", "line 3: tables.t: {studdy} is no group of paths and no table; did you mean 'study'?"),
    ],
)  # fmt: skip
def test_errors_name_line_field_and_the_nearest_name(tmp_path, text, message) -> None:
    if "x.sex" in text:
        text = text.replace("x.sex", "tt.sex").replace(
            "tables:\n", "tables:\n  u: {file: b.csv, key: k, match: '{path}'}\n"
        )
    assert message in told(tmp_path, text)


def test_words_that_yaml_1_1_takes_for_truth_times_or_dates_stay_words(tmp_path) -> None:
    text = "dataset: d\nfields:\n  site: {path: name, map: {a: NO, b: 1:30, c: 2001-02-03, d: on}}\n"
    (tmp_path / "r.yaml").write_text(text)
    mapping = read_recipe(tmp_path / "r.yaml").fields.site[0].map
    assert mapping == {"a": "NO", "b": "1:30", "c": "2001-02-03", "d": "on"}


def test_a_name_that_does_not_ship_names_the_nearest(tmp_path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'ptbxl'.*did you mean 'ptb-xl'"):
        load_recipe("ptbxl", None, tmp_path)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_that_ships_is_valid_and_says_what_may_be_done_with_it(name) -> None:
    recipe = read_recipe(shipped_recipes()[name])
    assert name == recipe.dataset
    assert None not in (recipe.title, recipe.access, recipe.privacy_statement)


def values(header: dict[str, str], **recipe):
    return resolve(
        Recipe.model_validate({"dataset": "d", "privacy": "keep"} | recipe, strict=False),
        Facts(),
        header,
        lambda *_: None,
    )


@pytest.mark.parametrize(
    ("field", "origin", "text", "value"),
    [
        ("age_years", {}, "63", 63.0),
        ("age_years", {"unit": "months"}, "18", 1.5),
        ("age_years", {"map": {"300": 90}, "otherwise": "keep"}, "300.0", 90.0),
        ("age_years", {}, "old", None),
        ("age_years", {}, "300", None),
        ("age_years", {"missing": ["-1"]}, "-1.0", None),
        ("height_cm", {"unit": "m"}, "1.8", 180.0),
        ("height_cm", {"unit": "in"}, "70", 177.8),
        ("weight_kg", {"unit": "lb"}, "100", 45.359237),
        ("sex", {"map": {"0": "male", "1": "female"}}, "1.0", "female"),
        ("sex", {"map": {"0": "male", "1": "female"}}, "2", None),
        ("sex", {}, "F", "female"),
        ("sex", {}, "w", None),
        ("handedness", {}, "R", "right"),
        ("line_frequency_hz", {}, "60", 60),
        ("line_frequency_hz", {}, "55", None),
        ("site", {"pattern": r"^(\d+)"}, "3.0", "3"),
        ("site", {"pattern": r"^x(\d+)"}, "3.0", None),
        ("modality", {}, "eeg", "eeg"),
        ("modality", {}, "EEG!", None),
    ],
)  # fmt: skip
def test_fields_are_read_in_their_own_unit_and_words(field, origin, text, value) -> None:
    found = values({"x": text}, fields={field: {"header": "x"} | origin})
    assert found.fields.get(field) == (pytest.approx(value) if isinstance(value, float) else value)
    unread = value is None and "missing" not in origin and "pattern" not in origin
    assert found.problems == ([(f"fields.{field}", text)] if unread else [])


@pytest.mark.parametrize(
    ("origin", "text", "label"),
    [
        ({"parse": "dict"}, "{'NORM': 100.0, 'SR': 0}", {"NORM": 100.0, "SR": 0.0}),
        ({"parse": "dict"}, '{"NORM": 50}', {"NORM": 50.0}),
        ({"parse": "dict"}, "NORM", None),
        ({"parse": "dict"}, "{'a': __import__('os')}", None),
        ({"parse": "list"}, "1,2, 3", ("1", "2", "3")),
        ({"parse": "list", "separator": ";"}, "a;b", ("a", "b")),
        ({"parse": "list"}, "['a', 'b']", ("a", "b")),
        ({"parse": "list", "map": {"1": "AF", "2": None}}, "1,2", ("AF",)),
        ({"parse": "number"}, "2.5", 2.5),
        ({"parse": "number"}, "nan", None),
        ({"parse": "bool"}, "1.0", True),
        ({"parse": "bool"}, "No", False),
        ({"parse": "bool"}, "maybe", None),
        ({"map": {"1": "AF"}}, "1", "AF"),
    ],
)  # fmt: skip
def test_labels_are_parsed(origin, text, label) -> None:
    assert values({"x": text}, labels={"l": {"header": "x"} | origin}).labels.get("l") == label


def test_the_first_origin_that_has_a_value_counts() -> None:
    fields = {"site": [{"header": "a"}, {"header": "b"}, {"value": "c"}]}
    assert values({"a": "A", "b": "B"}, fields=fields).fields["site"] == "A"
    assert values({"a": " ", "b": "B"}, fields=fields).fields["site"] == "B"
    assert values({}, fields=fields).fields["site"] == "c"


RECIPE = """
dataset: sleep
privacy: keep
files: {exclude: "**/*-Hypnogram.edf"}
paths: ['(?P<night>SC\\d+)\\w*-PSG\\.edf$']
tables:
  people: {file: people.tsv, key: [id, night], match: ["{night}", "1"]}
  sites: {file: sites.json, key: code, match: "{people.site}"}
fields:
  subject: {column: people.id}
  age_years: {column: people.age}
  site: {column: sites.name}
channels:
  "Weird 1": {name: C3, unit: uV}
events:
  - {file: "{folder}/{night}*-Hypnogram.edf", format: edf}
  - {file: "{folder}/{night}_marks.csv", onset: at, stop: until, label: what, map: {odd: artifact}}
"""


def test_tables_channels_and_side_files_come_together(tmp_path) -> None:
    night = tmp_path / "sleep/nights"
    night.mkdir(parents=True)
    (night / "SC1E0-PSG.edf").write_bytes(edf("Weird 1", unit=""))
    (night / "SC1EC-Hypnogram.edf").write_bytes(hypnogram("22.00.10"))
    (night / "SC1_marks.csv").write_text("at,until,what\n0.5,1.5,odd\n0.25,n/a,\n")
    (tmp_path / "sleep/people.tsv").write_text("id\tnight\tage\tsite\nSC1\t1\t33\ts\nSC1\t2\t99\ts\n")
    (tmp_path / "sleep/sites.json").write_text(json.dumps([{"code": "s", "name": "North"}]))
    (tmp_path / "r.yaml").write_text(RECIPE)
    outcome = hz.convert(tmp_path / "sleep", tmp_path / "s", recipe=tmp_path / "r.yaml", key=KEY)
    assert outcome.failures == []
    store = hz.open(tmp_path / "s")
    (row,) = store.recordings.to_dicts()
    assert (row["subject"], row["age"], row["site"]) == ("SC1", 33.0, "North")
    channel = store[row["recording_id"]].meta.streams[0].channels[0]
    assert (channel.label, channel.name, channel.type, channel.unit) == ("Weird 1", "C3", "eeg", "µV")
    events = store.annotations.select("onset_s", "duration_s", "label", "source").rows()
    assert events == [
        (0.25, None, "event", "events:table"),
        (0.5, 1.0, "artifact", "events:table"),
        (10.0, 30.0, "sleep_wake", "events:edf"),
    ]
    assert [file.role for file in store[row["recording_id"]].meta.source.files] == ["signal", "events", "events"]


def test_a_table_that_is_missing_or_lacks_a_column_stops_the_run(tmp_path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/SC1-PSG.edf").write_bytes(edf())
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"table 'people' is not there: no people\.tsv"):
        hz.convert(tmp_path / "d", tmp_path / "s", recipe=tmp_path / "r.yaml", key=KEY)
    (tmp_path / "d/people.tsv").write_text("id\tnight\tags\tsite\n")
    with pytest.raises(RecipeError, match="table 'people' has no column 'age'; did you mean 'ags'"):
        hz.convert(tmp_path / "d", tmp_path / "s", recipe=tmp_path / "r.yaml", key=KEY)


def test_rows_that_differ_for_one_key_count_as_none(tmp_path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.edf").write_bytes(edf())
    (tmp_path / "d/b.edf").write_bytes(edf())
    (tmp_path / "d/t.csv").write_text("k,age\na,1\na,2\nb,3\nb,3\n")
    recipe = Recipe.model_validate(
        {
            "dataset": "d",
            "tables": {"t": {"file": "t.csv", "key": "k", "match": "{stem}"}},
            "fields": {"age_years": {"column": "age"}},
        },
        strict=False,
    )
    hz.convert(tmp_path / "d", tmp_path / "s", recipe=recipe, key=KEY)
    rows = hz.open(tmp_path / "s").recordings.sort("age", nulls_last=True)
    assert rows["age"].to_list() == [3.0, None]
    assert ["table_row_missing" in flags for flags in rows["flags"]] == [False, True]


def test_the_commands_check_and_draft(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "cfg"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.edf").write_bytes(edf())
    (folder / "b.edf").write_bytes(edf())
    pl.DataFrame(
        {"file": ["a", "b", "c"], "patient_id": [1, 2, 3], "gender": ["0", "1", "7"], "diag": ["x", "y", "z"]}
    ).write_csv(folder / "t.csv")
    drafted = CliRunner().invoke(app, ["recipe", "init", str(folder)])
    assert drafted.exit_code == 0
    assert "t: {file: t.csv, key: file, match: '{stem}'}" in drafted.stdout
    assert "subject: {column: patient_id}" in drafted.stdout
    text = drafted.stdout.replace("map: {'0': null, '1': null, '7': null}", "map: {'0': male}")
    (tmp_path / "r.yaml").write_text(text)
    checked = CliRunner().invoke(app, ["recipe", "check", str(folder), "--recipe", str(tmp_path / "r.yaml"), "--json"])
    assert (checked.exit_code, type(checked.exception)) == (1, SystemExit)  # the code 1 is not in the map
    found = json.loads(checked.stdout)
    by_name = {one["name"]: one for one in found["values"]}
    assert (by_name["fields.subject"]["filled"], by_name["fields.subject"]["missing"]) == (2, 0)
    assert by_name["fields.sex"]["values"] == {"male": 1}
    assert by_name["fields.sex"]["unread"] == {"1": 1}
    assert found["tables"] == [{"name": "t", "rows": 3, "used": 2, "sources_without_row": []}]
    assert not (tmp_path / "s").exists()


def test_privacy_goes_over_the_recipe_and_is_checked_again(tmp_path) -> None:
    loaded, digest = load_recipe("shhs", None, tmp_path, "keep")
    assert (read_recipe(shipped_recipes()["shhs"]).privacy, loaded.privacy) == ("pseudonym", "keep")
    assert digest != load_recipe("shhs", None, tmp_path)[1]
    kept = Recipe.model_validate({"dataset": "d", "privacy": "keep", "labels": {"x": {"header": "y"}}}, strict=False)
    with pytest.raises(RecipeError, match=r"labels\.x: it could hold free text"):
        load_recipe(kept, None, tmp_path, "pseudonym")


@pytest.mark.parametrize("name", shipped_recipes())
def test_only_data_that_anyone_may_have_keep_their_names(name) -> None:
    recipe = read_recipe(shipped_recipes()[name])
    assert recipe.privacy == "pseudonym" or recipe.access == "open"


def test_a_label_may_not_hide_a_column(tmp_path) -> None:
    recipe = Recipe.model_validate(
        {"dataset": "d", "labels": {"sex": {"header": "y", "parse": "number"}}}, strict=False
    )
    with pytest.raises(RecipeError, match=r"labels\.sex: the store has a column of this name"):
        load_recipe(recipe, None, tmp_path)
