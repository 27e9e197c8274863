"""Converting a tree by a recipe that ships, and what to ask of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import harmonize as hz
from harmonize.ingest.privacy import ProjectKey
from harmonize_schemas import Recording

KEY = ProjectKey(bytes(32))


@dataclass
class Converted:
    """A store of one data set; recordings by name without the data set."""

    store: hz.Store
    side_files: dict[str, int]

    @property
    def metas(self) -> dict[str, Recording]:
        ids = self.store.recordings.sort("recording_id")["recording_id"].to_list()
        return {name.partition("/")[2]: self.store[name].meta for name in ids}

    def people(self) -> dict[str, tuple]:
        """(subject, session, age, sex) of each recording."""
        return {
            name: (m.subject, m.session, m.demographics.age_years, m.demographics.sex) for name, m in self.metas.items()
        }

    def events(self, name: str) -> list[tuple]:
        """(onset, duration, label, text)."""
        rows = self.store.annotations.filter(pl.col("recording_id").str.ends_with(f"/{name}"))
        return rows.sort("onset_s", maintain_order=True).select("onset_s", "duration_s", "label", "text").rows()

    def channels(self, name: str) -> list[tuple[str, str]]:
        return [(c.name, c.type) for stream in self.metas[name].streams for c in stream.channels]


def convert(source: Path, into: Path, recipe: str) -> Converted:
    # Names are kept, also where a recipe makes them pseudonyms, so that they can be written by hand.
    outcome = hz.convert(source, into, recipe=recipe, key=KEY, privacy=None if recipe == "dicom" else "keep")
    assert outcome.failures == []
    return Converted(hz.open(into), dict(outcome.side_files))


def of(name: str) -> pytest.MarkDecorator:
    """The recipe whose tree a test is given, converted."""
    return pytest.mark.parametrize("tree", [name], indirect=True, ids=[name])
