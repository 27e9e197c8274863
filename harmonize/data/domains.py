"""Domain fields as integer codes, and which recordings a condition names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

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
    table = {name: code for code, name in enumerate(names)}
    return Codes(tuple(names), np.array([UNKNOWN if v is None else table[v] for v in text], np.int64))


def device_name(recordings: pl.DataFrame) -> pl.Series:
    """Maker and model of the device as one text; missing where neither is known."""
    known = pl.concat_str("device_maker", "device_model", separator=" ", ignore_nulls=True)
    return recordings.select(pl.when(known != "").then(known).alias("device"))["device"]


def select(frame: pl.DataFrame, where: pl.Expr | str | None) -> pl.DataFrame:
    """Rows that a polars expression or an SQL condition ("site = 'A' AND age > 40") names."""
    if where is None:
        return frame
    return frame.filter(pl.sql_expr(where) if isinstance(where, str) else where)


def numbers(values: pl.Series) -> np.ndarray:
    """A numeric column as float32, NaN where missing."""
    return values.cast(pl.Float32).fill_null(float("nan")).to_numpy()


def target_values(values: pl.Series) -> tuple[np.ndarray, Codes | None]:
    """A target column as numbers: float32 for numbers (NaN where missing), else codes and their names."""
    if values.dtype.is_numeric():
        return numbers(values), None
    codes = encode(values)
    return codes.codes, codes
