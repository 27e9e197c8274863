"""Rows to a frame of a given schema, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import polars as pl


def frame_of(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """As ``pl.DataFrame(rows, schema, orient="row")``, which takes several times as long where columns are lists, as it
    makes a series of each. Columns that a row lacks are null; those outside the schema are left out. Raises what polars
    does for a value of another type."""
    columns = {name: [row.get(name) for row in rows] for name in schema}
    return pl.DataFrame(
        [
            _lists(name, columns[name], dtype) if isinstance(dtype, pl.List) else pl.Series(name, columns[name], dtype)
            for name, dtype in schema.items()
        ]
    )


def _lists(name: str, values: Sequence[Sequence[Any] | None], dtype: pl.List) -> pl.Series:
    """A column of lists, made of all their members at once."""
    number = np.arange(len(values))
    sizes = np.array([len(one or ()) for one in values], np.int64)
    inner: Any = dtype.inner
    members = pl.Series(name, list(chain.from_iterable(one or () for one in values)), inner)
    lists = (
        pl.DataFrame({"row": np.repeat(number, sizes), name: members}).group_by("row", maintain_order=True).agg(name)
    )
    empty = pl.Series("empty", [one is not None and not len(one) for one in values], pl.Boolean())
    whole = pl.DataFrame({"row": number, "empty": empty}).join(lists, on="row", how="left", maintain_order="left")
    return whole.select(pl.when("empty").then(pl.lit([], dtype)).otherwise(name).alias(name))[name]
