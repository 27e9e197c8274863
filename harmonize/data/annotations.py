"""Annotations of a store's recordings: which are meant, and of which streams they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from harmonize.data.domains import condition_names
from harmonize.data.stream_table import StreamTable
from harmonize.store import Store
from harmonize.store.catalog import TABLES
from harmonize_schemas.vocabulary import nearest, vocabulary

Events = str | pl.Expr | Sequence[str]
"""A label, several labels, or a polars expression or SQL condition over ``COLUMNS``."""
COLUMNS = tuple(name for name in TABLES["annotations"] if name != "commit")


def condition_of(events: Events) -> pl.Expr:
    """The annotations meant, as an expression. A text that is a term of the vocabulary is a label, any other an SQL
    condition. Raises ``ValueError`` for what is neither, and for unknown labels and columns."""
    if isinstance(events, str) and events not in vocabulary("annotation_labels"):
        try:
            names = condition_names(events)
            condition = pl.sql_expr(events)
        except pl.exceptions.PolarsError:
            raise ValueError(f"{events!r} is no annotation label{_nearest(events)} and no SQL condition") from None
    elif isinstance(events, pl.Expr):
        names, condition = condition_names(events), events
    else:
        labels = [events] if isinstance(events, str) else list(events)
        require_labels(labels)
        names, condition = set(), pl.col("label").is_in(labels)
    if unknown := sorted(names - set(COLUMNS)):
        raise ValueError(f"annotations have no column {unknown[0]!r}; there are {COLUMNS}")
    return condition


def require_labels(labels: Iterable[str]) -> None:
    """Raises ``ValueError`` where one is no term of the vocabulary."""
    for label in labels:
        if label not in vocabulary("annotation_labels"):
            raise ValueError(f"{label!r} is no annotation label{_nearest(label)}")


def _nearest(label: str) -> str:
    return nearest(label, vocabulary("annotation_labels"))


def annotations_of(
    store: Store, streams: StreamTable, channels: Sequence[str], condition: pl.Expr, *columns: str
) -> pl.DataFrame:
    """The annotations that meet a condition and concern windows of these channels, in an order that does not depend on
    how they were written.

    Columns ``recording_id``, ``onset_s``, ``duration_s`` (0 where there is none), ``columns``, and ``_stream``: the row
    of ``streams`` whose windows alone it concerns, null: those of all streams of its recording. An annotation that
    names a channel concerns the windows that have this channel; one of a trigger channel, all.
    """
    wanted = list(dict.fromkeys(["recording_id", "onset_s", "duration_s", "channel", *columns]))
    frame = store.annotations_where(condition, wanted, streams.rows.select("recording_id"))
    frame = frame.with_columns(pl.col("duration_s").fill_null(0.0)).sort(wanted)
    at_channels = frame.filter(pl.col("channel").is_not_null())
    if at_channels.is_empty():
        return frame.with_columns(_stream=pl.lit(None, pl.Int64))
    concerned = _concerned(store, streams, channels, at_channels.select("recording_id", "channel").unique())
    frame = frame.join(concerned, on=["recording_id", "channel"], how="left", maintain_order="left")
    return frame.filter(pl.col("channel").is_null() | pl.col("_concerned"))


def _concerned(store: Store, streams: StreamTable, channels: Sequence[str], named: pl.DataFrame) -> pl.DataFrame:
    """Of the channels ``named`` (recording_id, channel) those that concern windows: with ``_stream``, and
    ``_concerned`` True."""
    places, kinds = store.streams_by_kind(["stream_index"], ["channels", "types"], [])
    places = places.join(named, on="recording_id", how="semi").sort("recording_id", "stream_index")
    count = kinds["channels"].list.len().cast(pl.Int64).gather(places["_kind"])
    types = kinds["types"].gather(places["_kind"])
    before = (pl.col("_count").cum_sum() - pl.col("_count")).over("recording_id")
    places = places.with_columns(_count=count).with_columns(channel=before, _before=before)
    places = places.select("recording_id", "stream_index", "channel", "_before", types=types)
    named = named.sort("recording_id", "channel")
    found = named.join_asof(places, on="channel", by="recording_id", check_sortedness=False)
    found = found.with_columns(_row=pl.col("channel") - pl.col("_before"))
    found = found.with_columns(_type=pl.col("types").list.get(pl.col("_row"), null_on_oob=True))
    is_trigger = pl.col("_type") == "trigger"
    triggers = found.filter(is_trigger).select("recording_id", "channel", _stream=pl.lit(None, pl.Int64))
    rows = streams.rows.select("recording_id", "stream_index", "_kind").with_columns(_stream=pl.int_range(pl.len()))
    others = found.filter(~is_trigger).join(rows, on=["recording_id", "stream_index"])
    others = others.join(_used(streams, channels), on=["_kind", "_row"], how="semi")
    both = pl.concat([triggers, others.select("recording_id", "channel", "_stream")])
    return both.with_columns(_concerned=pl.lit(True))


def _used(streams: StreamTable, channels: Sequence[str]) -> pl.DataFrame:
    """Rows of streams that windows are made of, by kind (_kind, _row): of a name that repeats, the first."""
    long = streams.kinds.select("channels").with_columns(_kind=pl.int_range(pl.len()))
    long = long.with_columns(_row=pl.int_ranges(pl.col("channels").list.len())).explode("channels", "_row")
    first = long.unique(["_kind", "channels"], keep="first", maintain_order=True)
    return first.filter(pl.col("channels").is_in(list(channels))).select("_kind", "_row")
