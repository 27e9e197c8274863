"""Domain fields as integer codes, and which recordings a condition names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from harmonize.store import Store

UNKNOWN = -1
"""The code of a missing value."""


@dataclass(frozen=True)
class Codes:
    """Integer codes of one field: ``names[code]`` is the value; missing values have the code -1."""

    names: tuple[str, ...]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, code: int) -> str | None:
        """The name of a code; None for -1."""
        return None if code == UNKNOWN else self.names[code]


def encode(values: pl.Series) -> Codes:
    """Codes of a column, in the sorted order of its distinct values, so that they do not depend on rows."""
    text = values.cast(pl.String)
    names = text.drop_nulls().unique().sort()
    codes = text.rank("dense").cast(pl.Int64) - 1  # 0 for the first in sorted order
    return Codes(tuple(names), codes.fill_null(UNKNOWN).to_numpy())


def distinct(table: pl.DataFrame, *columns: str) -> tuple[pl.DataFrame, np.ndarray]:
    """The distinct rows of some columns, and for each row of the table which of them it is: int64 (row,)."""
    rows = table.select(columns).with_row_index("_row").group_by(columns, maintain_order=True).agg("_row")
    kind = np.repeat(np.arange(len(rows)), rows["_row"].list.len().to_numpy())
    which = np.empty(len(table), np.int64)
    which[rows["_row"].explode().to_numpy()] = kind
    return rows.drop("_row"), which


def device_name(recordings: pl.DataFrame) -> pl.Series:
    """Maker and model of the device as one text; missing where neither is known."""
    parts = pl.col("device_maker", "device_model").cast(pl.String)  # may be categories
    known = pl.concat_str(parts, separator=" ", ignore_nulls=True)
    return recordings.select(pl.when(known != "").then(known).alias("device"))["device"]


def select(frame: pl.DataFrame, where: pl.Expr | str | None) -> pl.DataFrame:
    """Rows that a polars expression or an SQL condition ("site = 'A' AND age > 40") names."""
    if where is None:
        return frame
    return frame.filter(pl.sql_expr(where) if isinstance(where, str) else where)


def condition_names(where: pl.Expr | str | None) -> set[str]:
    """The columns that a condition mentions."""
    if where is None:
        return set()
    return set((pl.sql_expr(where) if isinstance(where, str) else where).meta.root_names())


def _many_hot(values: pl.Series) -> tuple[np.ndarray, Codes]:
    names = tuple(values.explode().drop_nulls().unique().sort())
    hot = np.full((len(values), len(names)), np.nan, np.float32)
    place = {name: at for at, name in enumerate(names)}
    for row, found in enumerate(values):
        if found is not None:
            hot[row] = 0
            hot[row, [place[name] for name in found]] = 1
    return hot, Codes(names, np.full(len(values), UNKNOWN, np.int64))


def with_labels(rows: pl.DataFrame, store: Store, where: pl.Expr | str | None, *names: str | None) -> pl.DataFrame:
    """``rows`` with the store's label columns that the condition or ``names`` mention, and no others."""
    wanted = {name for name in names if name} | condition_names(where)
    missing = wanted - set(rows.columns)
    if not missing:
        return rows
    labels = store.labels
    return rows.join(
        labels.select("recording_id", *sorted(missing & set(labels.columns))),
        on="recording_id",
        how="left",
        maintain_order="left",
    )


def numbers(values: pl.Series) -> np.ndarray:
    """A numeric column as float32, NaN where missing."""
    return values.cast(pl.Float32).fill_null(float("nan")).to_numpy()


def target_values(values: pl.Series) -> tuple[np.ndarray, Codes | None]:
    """A target column as numbers: float32 for numbers and truth values (NaN where missing), float32
    (row, name) of zeros and ones for multi-labels (all NaN where missing), else codes; and their names."""
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return numbers(values), None
    if values.dtype == pl.List:
        return _many_hot(values)
    codes = encode(values)
    return codes.codes, codes
