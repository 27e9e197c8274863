"""Labels: from one row a value to one column a label. Pure."""

from __future__ import annotations

import polars as pl


def widen(rows: pl.DataFrame) -> pl.DataFrame:
    """The table ``labels`` with one row a recording and one column a label, in order of their names.

    Raises ``ValueError`` where one name is text in one recording and a number in another.
    """
    wide = rows.select("recording_id").unique().sort("recording_id")
    for name in rows["name"].unique().sort():
        one = rows.filter(pl.col("name") == name)
        wide = wide.join(_column(one, name), on="recording_id", how="left", maintain_order="left")
    return wide


def _column(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    kinds = {kind if kind not in ("list", "dict") else "list" for kind in rows["kind"]}
    if len(kinds) > 1:
        raise ValueError(f"label {name!r} is {' and '.join(sorted(kinds))} in different recordings")
    kind = kinds.pop()
    if kind == "list":
        return rows.group_by("recording_id", maintain_order=True).agg(pl.col("value").alias(name))
    value = pl.col("value") if kind == "text" else pl.col("number")
    return rows.select("recording_id", (value.cast(pl.Boolean) if kind == "bool" else value).alias(name))
