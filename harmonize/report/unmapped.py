"""Channel labels that no vocabulary has, by data set: what a recipe's ``channels`` could name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from harmonize.store import Store
from harmonize.store.views import read_documents
from harmonize_schemas import Recording

HOW = (
    "A rule in the recipe says what a label means:  channels: {LABEL: {name: C3}}  or, for one that has no name in the "
    "vocabulary,  {LABEL: {name: Leg, type: emg}};  see docs/writing-recipes.md."
)
SCHEMA = {
    "dataset": pl.String(),
    "label": pl.String(),
    "type": pl.String(),
    "unit_found": pl.String(),
    "channels": pl.Int64(),
    "recordings": pl.Int64(),
}


def unmapped_of(recordings: Iterable[Recording]) -> pl.DataFrame:
    """Labels as found of ``recordings``, as ``unmapped`` counts them."""
    return _counted(recording.model_dump(mode="json", include={"dataset", "streams"}) for recording in recordings)


def unmapped(store: Store) -> pl.DataFrame:
    """One row a data set and label as found (with its type and the unit found): how many channels and recordings
    have it, the most frequent first. Reads the documents of recordings that are flagged, and no samples."""
    flagged = store.recordings.filter(pl.col("flags").list.contains("channel_unmapped"))
    rows = store.streams.filter(stream_index=0).join(flagged, on="recording_id", how="semi")
    places = rows.group_by("part", maintain_order=True).agg("row").iter_rows()
    return _counted(json.loads(text) for part, at in places for text in read_documents(store.path, part, at))


def _counted(documents: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    channels: Counter[tuple[str, ...]] = Counter()
    recordings: Counter[tuple[str, ...]] = Counter()
    for document in documents:
        found = Counter(
            (document["dataset"], channel["label"], channel["type"], channel["unit_found"])
            for stream in document["streams"]
            for channel in stream["channels"]
            if not channel["mapped"]
        )
        channels.update(found)
        recordings.update(found.keys())
    rows = [(*key, count, recordings[key]) for key, count in channels.items()]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort("dataset", "recordings", "label", descending=[False, True, False])
