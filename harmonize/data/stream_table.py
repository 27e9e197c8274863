"""The streams that a data set is made of: chosen from the catalog's tables, and alike where they have to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl

from harmonize.data.derivations import derivation, derived, electrodes
from harmonize.data.domains import condition_names, select, with_labels
from harmonize.store import Store
from harmonize.store.catalog import TABLES

_KIND = ("dtype", "channels", "scale", "offset", "missing")
_PLACES = (
    "recording_id", "stream_index", "part", "start", "rate_num", "rate_den", "layout", "segment_start",
    "segment_samples", "segment_onset_s",
)  # fmt: skip
_WHO = ("recording_id", "dataset", "site", "subject", "sex", "age", "device_maker", "device_model")
_STATISTICS = ("n_samples", "min", "max", "mean", "std", "missing_share")
_CODED = {"part", "layout", "dataset", "site", "sex", "device_maker", "device_model"}
"""Texts that many streams have in common. A condition gets its own as they are: it may look into them."""
SHARES = tuple(name for name in TABLES["streams"] if name.endswith("_share"))
"""Shares of bad samples, by channel in the catalog; in a condition, that of the worst channel."""


class StreamTable(NamedTuple):
    """``rows``: one a stream. ``kinds``: dtype, channels, scale, offset and missing, once for all streams that have the
    same; column ``_kind`` of ``rows`` says which (a store of a million recordings has a few). With types and
    units where these are asked for."""

    rows: pl.DataFrame
    kinds: pl.DataFrame


def stream_table(
    store: Store,
    where: pl.Expr | str | None,
    channels: Sequence[str] | None,
    *names: str | None,
    typed: bool = False,
    statistics: bool = False,
) -> StreamTable:
    """Streams joined with their recordings, in an order that does not depend on how they were written.

    Has the columns that reading takes, and those that ``where`` and ``names`` mention: of ``Store.recordings``,
    ``Store.streams``, ``Store.labels``, ``rate_hz``, ``n_channels``, and ``SHARES``, each of which is that of the worst
    channel (of ``channels``, where these are given, and the electrodes of derivations among them). ``typed``: kinds
    have types and units, as they always have where ``channels`` has derivations. ``statistics``: those of each channel
    too, as ``_mean`` and the like. Raises ``ValueError`` for a name that is none of these.
    """
    wanted = {name for name in names if name} | condition_names(where)
    kind = (*_KIND, "types", "units") if typed or any(map(derivation, channels or ())) else _KIND
    more = sorted((wanted | set(_STATISTICS if statistics else ())) & set(TABLES["streams"]) - set(kind))
    who = [*_WHO, *sorted(wanted & set(TABLES["recordings"]) - set(more) - {"commit"})]
    table, kinds = store.streams_by_kind([*_PLACES, *more], kind, who, coded=_CODED - wanted)
    table = table.with_columns(
        (pl.col("rate_num") / pl.col("rate_den")).alias("rate_hz"),
        *(kinds[name].gather(table["_kind"]) for name in sorted(wanted & set(kind))),
        *((pl.col(_STATISTICS).name.prefix("_"),) if statistics else ()),
        n_channels=kinds["channels"].list.len().gather(table["_kind"]),
    )
    for name in sorted(wanted & set(SHARES)):
        table = table.with_columns(_worst(table, kinds, name, channels))
    if channels is not None:
        has = kinds["channels"].list.set_intersection(list(channels)).list.len() > 0
        has |= pl.Series(derived(kinds, channels).any(axis=1))
        table = table.filter(has.gather(table["_kind"]))
    table = with_labels(table, store, where, *names)
    if unknown := sorted(wanted - set(table.columns)):
        columns = {*table.columns, *TABLES["streams"], *TABLES["recordings"], *store.labels.columns}
        raise ValueError(f"no column {unknown[0]!r}; there are {sorted(columns)}")
    table = select(table, where)
    order = table.select("recording_id", "stream_index").with_row_index("_at").sort("recording_id", "stream_index")
    return StreamTable(table[order["_at"]], kinds)


def _worst(table: pl.DataFrame, kinds: pl.DataFrame, name: str, channels: Sequence[str] | None) -> pl.Series:
    """The largest share among the channels of each row; null where none is known."""
    long = table.select(kinds["channels"].gather(table["_kind"]), name).with_row_index("_row").explode("channels", name)
    if channels is not None:
        long = long.filter(pl.col("channels").is_in([*channels, *electrodes(channels)]))
    worst = long.group_by("_row").agg(pl.col(name).max())
    rows = pl.DataFrame({"_row": range(len(table))}, schema={"_row": pl.UInt32})
    return rows.join(worst, on="_row", how="left", maintain_order="left")[name]


def common_channels(table: StreamTable) -> tuple[str, ...]:
    """The channels of all streams. Raises ``ValueError`` where they differ or a name repeats."""
    kinds = table.kinds["channels"].gather(table.rows["_kind"].unique()).to_list()
    sets = set(map(tuple, kinds))
    if len(sets) > 1:
        layouts = _examples(table.rows["layout"])
        raise ValueError(f"streams differ in channels ({layouts}): give channels=[...] or narrow with where=")
    (found,) = sets
    if len(set(found)) < len(found):
        raise ValueError("channel names repeat in these streams: give channels=[...]; the first of a name counts")
    return tuple(found)


def common_rate(table: pl.DataFrame) -> Fraction:
    """The rate of all streams, Hz. Raises ``ValueError`` where they differ."""
    rates = [Fraction(n, d) for n, d in table.select("rate_num", "rate_den").unique().iter_rows()]
    if len(rates) > 1:
        raise ValueError(f"streams differ in rate ({_examples(sorted(rates))} Hz): give rate= or narrow with where=")
    return rates[0]


def one_stream_at_a_time(table: pl.DataFrame) -> None:
    """Streams of one recording may follow each other (a gain that changes), not run side by side. Raises
    ``ValueError``."""
    name = pl.col("recording_id")  # in order
    several = table.filter((name == name.shift(1)).fill_null(False) | (name == name.shift(-1)).fill_null(False))
    for _, rows in several.group_by("recording_id"):
        spans = []
        for row in rows.iter_rows(named=True):
            rate_hz = row["rate_num"] / row["rate_den"]
            for onset_s, n in zip(row["segment_onset_s"], row["segment_samples"], strict=True):
                spans.append((onset_s, onset_s + (n - 0.5) / rate_hz))
        spans.sort()
        if any(begin < end for (_, end), (begin, _) in pairwise(spans)):
            raise ValueError(
                "a recording has these channels in several streams at one time; windows over several streams are not "
                "made yet: give channels= of one stream, or narrow with where= (columns stream, rate_hz)"
            )


def _examples(values: Iterable[Any]) -> str:
    distinct = list(dict.fromkeys(map(str, values)))
    return ", ".join(distinct[:4]) + (f" and {len(distinct) - 4} more" if len(distinct) > 4 else "")
