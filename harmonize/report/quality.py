"""What the signals are like at each site: statistics of channels, summed up. Pure."""

from __future__ import annotations

import polars as pl

SHARES = ("missing_share", "flat_share", "rail_share", "outside_share")
LINES = ("line50_share", "line60_share")
MEANINGS = {
    "missing_share": "missing",
    "flat_share": "flat",
    "rail_share": "rails",
    "outside_share": "outside",
    "line50_share": "50 Hz",
    "line60_share": "60 Hz",
}


def signal_quality(rows: pl.DataFrame, streams: pl.DataFrame, min_cell: int) -> pl.DataFrame:
    """By site, channel type and unit: ``channels`` and ``subjects``; means of ``SHARES``; medians of ``LINES`` and of
    ``std`` (in ``unit``). Null, with the reason in ``hidden``, for fewer than ``min_cell`` subjects.

    ``rows`` has a row a recording with ``site`` and ``person``; ``streams`` is ``Store.streams``.
    """
    lists = ["types", "units", "std", *SHARES, *LINES]
    channels = (
        streams.filter(pl.col("std").is_not_null())
        .select("recording_id", *lists)
        .explode(lists)
        .filter(pl.col("types") != "trigger")
        .join(rows.select("recording_id", "site", "person"), on="recording_id")
        .rename({"types": "type", "units": "unit"})
        .with_columns(pl.col("unit").fill_null("as found"))
    )
    found = channels.group_by("site", "type", "unit").agg(
        pl.len().cast(pl.Int64).alias("channels"),
        pl.col("person").n_unique().cast(pl.Int64).alias("subjects"),
        *(pl.col(name).mean() for name in SHARES),
        *(pl.col(name).median() for name in (*LINES, "std")),
    )
    small = pl.col("subjects") < min_cell
    measures = ("channels", "subjects", *SHARES, *LINES, "std")
    return found.with_columns(
        *(pl.when(~small).then(name).alias(name) for name in measures),
        hidden=pl.when(small).then(pl.lit(f"<{min_cell}")),
    ).sort("type", "site", "unit")
