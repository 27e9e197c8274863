"""Counts by domain, and which of them are too small to report. Pure.

A count of fewer than ``min_cell`` subjects is hidden ("<5"). Where subtracting from a total that is shown
would give it back, the next smallest count is hidden with it ("withheld"). What is hidden is null, so no
output can show it. This guards each table by itself; it is no guard against linking several tables, or
two audits of nearly the same store (Hundepool et al. 2012, Statistical Disclosure Control, chapter 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

MEASURES = ("recordings", "subjects", "hours", "windows")


def count(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Recordings, subjects, hours and windows by ``keys``, sorted; texts that are missing are "unknown".

    ``rows`` has one row a recording with ``person``, ``hours`` and ``windows``.
    """
    named = rows.with_columns(pl.col(key).fill_null("unknown") for key in keys if rows.schema[key] == pl.String)
    measures = [
        pl.len().cast(pl.Int64).alias("recordings"),
        pl.col("person").n_unique().cast(pl.Int64).alias("subjects"),
        pl.col("hours").sum(),
        pl.col("windows").sum(),
    ]
    return (named.group_by(keys).agg(measures).sort(keys)) if keys else named.select(measures)


def hide(frame: pl.DataFrame, min_cell: int, lines: Sequence[Sequence[str]] = ((),)) -> pl.DataFrame:
    """Hide small counts: measures become null, ``hidden`` says "<5" or "withheld".

    ``lines`` name the totals that a reader has: () is that of the whole frame, ("site",) that of each site.
    In every line either nothing is hidden, or two cells or more of ``min_cell`` subjects together. A frame
    that has a column ``hidden`` already starts from that.
    """
    small: pl.Expr = pl.when(pl.col("subjects") < min_cell).then(pl.lit(f"<{min_cell}"))
    if "hidden" in frame.columns:
        small = pl.coalesce(pl.col("hidden"), small)
    frame = frame.with_columns(small.cast(pl.String).alias("hidden"), _all=pl.lit(0))
    closed = pl.col("hidden").is_not_null()
    changed = frame["hidden"].null_count() < len(frame)
    while changed:
        before = frame["hidden"].null_count()
        for line in lines:
            over = list(line) or ["_all"]
            number = closed.sum().over(over)
            persons = pl.when(closed).then("subjects").sum().over(over)
            open_subjects = pl.when(~closed).then("subjects")
            smallest = open_subjects.rank("ordinal").over(over) == 1
            lacking = (number == 1) | ((number > 1) & (persons < min_cell))
            also = pl.when(closed).then("hidden").when(lacking & smallest).then(pl.lit("withheld"))
            frame = frame.with_columns(also.alias("hidden"))
        changed = frame["hidden"].null_count() < before
    masked = [pl.when(~closed).then(name).alias(name) for name in (*MEASURES, "share") if name in frame.columns]
    return frame.with_columns(masked).drop("_all")


def shares(rows: pl.DataFrame, keys: Sequence[str], what: str, min_cell: int) -> pl.DataFrame:
    """By ``keys``, the recordings of which the boolean ``what`` is true, and their share.

    Hidden where those subjects are some but fewer than ``min_cell`` ("<5"), or the others are ("all but <5").
    """

    def subjects(chosen: pl.Expr) -> pl.Expr:
        return pl.col("person").filter(chosen).n_unique().cast(pl.Int64)

    found = rows.group_by(keys).agg(
        of=pl.len().cast(pl.Int64), recordings=pl.col(what).sum().cast(pl.Int64),
        subjects=subjects(pl.col(what)), others=subjects(~pl.col(what)), everyone=subjects(pl.lit(True)),
    )  # fmt: skip
    found = found.with_columns(share=pl.col("recordings") / pl.col("of"))
    tiny = pl.col("everyone") < min_cell
    few_have = pl.col("subjects").is_between(1, min_cell - 1)
    few = tiny | few_have | pl.col("others").is_between(1, min_cell - 1)
    found = found.with_columns(
        *(pl.when(~few).then(name).alias(name) for name in ("recordings", "subjects", "share")),
        of=pl.when(~tiny).then("of"),
        hidden=pl.when(tiny | few_have).then(pl.lit(f"<{min_cell}")).when(few).then(pl.lit(f"all but <{min_cell}")),
    )
    return found.drop("others", "everyone").sort(keys)
