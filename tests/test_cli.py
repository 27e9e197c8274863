"""The command line as a user meets it: output, JSON, exit codes."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import harmonize as hz
from harmonize.cli import app
from harmonize.report.demo_cohort import _ecg, _edf
from harmonize.store import kernels
from harmonize_schemas import Recording

run = CliRunner()


pytestmark = pytest.mark.usefixtures("own_key")


@pytest.fixture
def folder(tmp_path):
    _edf(tmp_path / "cohort" / "eeg.edf", np.random.default_rng(0), ["C3", "C4", "odd one"], 256, 10, "uV")
    _ecg(tmp_path / "cohort" / "ecg", np.random.default_rng(0), 1000.0)
    return tmp_path / "cohort"


def converted(folder, *options):
    store = folder.parent / "s.zarr"
    return store, run.invoke(app, ["convert", str(folder), "--into", str(store), "--workers", "0", *options])


def test_convert_finds_every_format_and_says_what_it_did(folder) -> None:
    store, result = converted(folder)
    assert result.exit_code == 0, result.output
    assert "2 recordings converted, 0 unchanged, 0 failed" in result.output
    assert sorted(hz.open(store).recordings["format"]) == ["EDF+C", "WFDB"]
    assert "2 unchanged" in converted(folder)[1].output


def test_convert_json_and_exit_code_1_when_a_source_fails(folder) -> None:
    (folder / "bad.edf").write_text("no")
    _, result = converted(folder, "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["converted"] == 2
    assert [row["code"] for row in said["failures"]] == ["format_mismatch"]


def test_scan_shows_the_plan_and_writes_nothing(folder) -> None:
    before = sorted(folder.parent.rglob("*"))
    result = run.invoke(app, ["scan", str(folder)])
    assert result.exit_code == 0
    assert "2 recordings" in result.output
    assert "12 ecg @ 500 Hz" in result.output
    assert "'EEG odd one' (1)" in result.output, "names in no vocabulary are listed"
    assert [p for p in sorted(folder.parent.rglob("*")) if "config" not in p.parts] == before
    documents = json.loads(run.invoke(app, ["scan", str(folder), "--json"]).stdout)["recordings"]
    assert len([Recording.model_validate_json(json.dumps(one)) for one in documents]) == 2


def test_ls_and_show(folder) -> None:
    store, _ = converted(folder)
    rows = json.loads(run.invoke(app, ["ls", str(store), "--json", "--where", "modality = 'eeg'"]).stdout)
    assert [row["modality"] for row in rows] == ["eeg"]
    name = rows[0]["recording_id"]
    shown = run.invoke(app, ["show", str(store), name]).output
    for word in (name, "3 eeg", "@ 256 Hz", "C3", "µV", "channel_unmapped"):
        assert word in shown
    document = json.loads(run.invoke(app, ["show", str(store), name, "--json"]).stdout)
    assert document["recording_id"] == name
    assert run.invoke(app, ["show", str(store), "no/such"]).exit_code == 2
    piped = run.invoke(app, ["ls", str(store)]).stdout.splitlines()
    assert piped[0].split("\t")[:2] == ["recording_id", "modality"]
    assert name in [line.split("\t")[0] for line in piped], "off a terminal, nothing is shortened"
    assert "0 rows" in run.invoke(app, ["ls", str(store), "--failures"]).output


def test_the_version_is_that_of_the_package(monkeypatch) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    monkeypatch.setattr(kernels, "COMPILED", True)
    assert run.invoke(app, ["--version"]).stdout == f"harmonize {project['version']}\n"
    monkeypatch.setattr(kernels, "COMPILED", False)
    assert "not compiled" in run.invoke(app, ["--version"]).stdout


def test_schema_prints_and_writes(tmp_path) -> None:
    printed = json.loads(run.invoke(app, ["schema", "recording"]).stdout)
    assert printed["title"] == "Recording"
    assert printed["additionalProperties"] is False
    assert run.invoke(app, ["schema", "poem"]).exit_code == 2
    assert run.invoke(app, ["schema", "--write", str(tmp_path)]).exit_code == 0
    assert (tmp_path / "recipe.schema.json").is_file()


def _process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harmonize", *arguments], capture_output=True, text=True, check=False)


def test_mistakes_of_use_are_one_line_and_exit_code_2(folder, tmp_path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("dataset: d\nprivcy: keep\n")
    cases = {
        ("ls", str(tmp_path / "none.zarr")): "there is no store",
        ("convert", str(tmp_path / "nothing"), "--into", str(tmp_path / "s.zarr")): "there is no",
        ("convert", str(folder), "--into", str(tmp_path / "s.zarr"), "--recipe", str(recipe)): "privcy",
        ("convert", str(folder), "--into", str(tmp_path / "s.zarr"), "--key", str(tmp_path / "k")): "no key file",
        ("convert", str(folder), "--into", str(folder)): "not empty",
    }
    for arguments, words in cases.items():
        done = _process(*arguments)
        assert done.returncode == 2, done.stderr
        assert words in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_worker_processes_do_not_import_the_command_line() -> None:
    """They import the main module of the process that starts them, before they begin."""
    (entry,) = entry_points(group="console_scripts", name="harmonize")
    program = f"import {entry.module}, sys; print({{'typer', 'rich', 'harmonize.cli'}} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
