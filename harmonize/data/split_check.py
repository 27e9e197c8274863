"""Proof that a stored split does not leak, from the store's tables and not from how the split was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from harmonize.data.exact import exact_pairs
from harmonize.data.groups import source_links
from harmonize.data.split_tables import load_split
from harmonize.store import Store


@dataclass(frozen=True)
class Leak:
    """One thing that lies on two sides: its ``kind`` (subject, duplicate, source), what it is, and where."""

    kind: str
    what: str
    sides: tuple[str, ...]
    recordings: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What was checked of a split, and what leaks. ``checked`` counts subjects, pairs of duplicates and files
    whose sides were compared; ``open`` says what could not be proven."""

    split: str
    sides: Mapping[str, int]
    excluded: int
    checked: Mapping[str, int]
    leaks: tuple[Leak, ...]
    open: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing leaks and nothing is open."""
        return not self.leaks and not self.open


def check_split(store: Store, name: str) -> Proof:
    """Look for each subject, pair of duplicates and source file on two sides of a stored split.

    The evidence is read from the store's tables anew, without the groups the split was made from.
    Duplicates must have been searched in this version of the store.
    """
    rows = load_split(store, name)
    recordings = store.recordings.join(rows.select("recording_id", "side"), on="recording_id", how="left")
    sided = recordings.filter(pl.col("side").is_not_null())
    subjects = sided.filter(pl.col("subject").is_not_null())
    ends = ["recording_a", "recording_b"]
    pairs = pl.concat([store.duplicates.select(ends), exact_pairs(store).select(ends)]).unique()
    pairs = pairs.with_columns(what=pl.format("{} = {}", *ends))
    both = pl.concat([pairs.select("what", recording_id=end) for end in ends])
    files = source_links(store.sources).rename({"key": "what"})
    found = {
        "subject": _across(subjects.select("recording_id", "side", what=pl.format("{}/{}", "dataset", "subject"))),
        "duplicate": _across(both.join(sided, on="recording_id")),
        "source": _across(files.join(sided, on="recording_id")),
    }
    leaks = [Leak(kind, what, sides, ids) for kind, (_, leaking) in found.items() for what, sides, ids in leaking]
    unproven, notes = [], []
    if store.duplicates_version != store.version:
        unproven.append(
            f"duplicates were last searched at version {store.duplicates_version} of the store, not at {store.version}"
        )
    if without := len(sided) - len(subjects):
        notes.append(f"{without} recordings have no subject and were taken as persons of their own")
    if new := len(store.recordings.join(rows, on="recording_id", how="anti")):
        notes.append(f"{new} recordings are not in the split (it can grow)")
    counts = dict(sided.group_by("side").len().sort("side").iter_rows())
    checked = {kind: number for kind, (number, _) in found.items()}
    excluded = len(rows) - rows["side"].count()
    return Proof(name, counts, excluded, checked, tuple(leaks), tuple(unproven), tuple(notes))


def _across(rows: pl.DataFrame) -> tuple[int, list[tuple[str, tuple[str, ...], tuple[str, ...]]]]:
    """How many distinct ``what`` there are, and those on several sides with their sides and recordings."""
    by_what = rows.group_by("what").agg(pl.col("side").unique().sort(), pl.col("recording_id").unique().sort())
    leaking = by_what.filter(pl.col("side").list.len() > 1).sort("what")
    return len(by_what), [(what, tuple(sides), tuple(ids)) for what, sides, ids in leaking.iter_rows()]
