"""The pages on recipes: the list is current and says true things, and the example of the guide works as written."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

import harmonize as hz
from converters.edf_bytes import Signal, edf_bytes
from docs_pages import DOCS, page_module
from harmonize.cli import app
from harmonize.ingest.recipes import shipped_recipes
from ingest.trees import TREES


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return page_module("recipes")


def test_the_page_of_recipes_is_current(pages) -> None:
    assert (DOCS / "recipes.md").read_text("utf-8") == pages.page(), "run: make docs"


def test_what_the_page_says_was_tested_was(pages) -> None:
    assert set(pages.KNOWN) <= set(shipped_recipes())
    assert {name for name, known in pages.KNOWN.items() if pages.TREE in known.tested} == set(TREES)
    shipped = (Path(__file__).parent / "ingest/test_recipes_shipped.py").read_text("utf-8")
    real = {"ptb-xl", "cinc2021", "cpsc2021"} | set(re.findall(r'real\("([a-z0-9-]+)"', shipped))
    assert {name for name, known in pages.KNOWN.items() if pages.REAL in known.tested} == real


def blocks(language: str) -> list[str]:
    """Fenced blocks of the guide."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / "writing-recipes.md").read_text("utf-8"), re.DOTALL)


def test_the_guide_works_as_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "cfg"))
    (recipe,), (people, events) = blocks("yaml"), blocks("csv")
    Path("study/north").mkdir(parents=True)
    Path("study/people.csv").write_text(people)
    raw = edf_bytes([Signal("Left", np.arange(16), unit="")], n_records=2)
    for name in ("p01_v1", "p01_v2", "p02_v1"):
        Path(f"study/north/{name}.edf").write_bytes(raw)
    Path("study/north/p01_v1_events.csv").write_text(events)
    commands = [line.split()[1:] for block in blocks("bash") for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["recipe", "init"], ["recipe", "check"], ["convert", "study"]]
    drafted = CliRunner().invoke(app, commands[0][:3])
    assert (drafted.exit_code, drafted.stdout.splitlines()[1]) == (0, "dataset: study")
    Path("study.yaml").write_text(recipe)
    for command in commands[1:]:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    store = hz.open("store")
    rows = store.recordings.sort("age").to_dicts()
    assert [(row["age"], row["age_pooled"], row["sex"]) for row in rows] == [
        (34.0, False, "male"),
        (35.0, False, "male"),
        (90.0, True, "female"),
    ]
    metas = [store[row["recording_id"]].meta for row in rows]
    assert [meta.labels for meta in metas] == [{"diagnosis": word} for word in ("healthy", "healthy", "epilepsy")]
    assert rows[0]["subject"] == rows[1]["subject"] != rows[2]["subject"]
    assert all(row["subject"].startswith("sub-") and row["site"].startswith("site-") for row in rows)
    channel = metas[0].streams[0].channels[0]
    assert (channel.name, channel.unit) == ("C3", "µV")
    assert store.annotations.select("onset_s", "duration_s", "label", "text").rows() == [
        (0.5, 1.0, "seizure", None),
        (1.0, 0.0, "event", None),
    ]
