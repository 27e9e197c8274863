"""Rows to frames, beside polars' own way, which is the reference."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from harmonize.store.catalog import TABLES
from harmonize.store.frames import frame_of

KINDS: dict[pl.DataType, st.SearchStrategy[Any]] = {
    pl.String(): st.text(max_size=5),
    pl.Float64(): st.floats(),
    pl.Int64(): st.integers(-(2**63), 2**63 - 1),
    pl.Boolean(): st.booleans(),
}


def values_of(dtype: pl.DataType) -> st.SearchStrategy[Any]:
    if isinstance(dtype, pl.List):
        return st.none() | st.lists(values_of(dtype.inner), max_size=3)
    return st.none() | KINDS[dtype]


@pytest.mark.parametrize("table", TABLES)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_rows_are_those_of_polars(table: str, data: st.DataObject) -> None:
    schema = TABLES[table]
    some = data.draw(st.sets(st.sampled_from(sorted(schema))))  # a row may lack columns
    rows = data.draw(st.lists(st.fixed_dictionaries({name: values_of(schema[name]) for name in some}), max_size=6))
    assert_frame_equal(frame_of(rows, schema), pl.DataFrame(rows, schema=schema, orient="row"), check_exact=True)


def test_no_rows_have_their_columns() -> None:
    for schema in TABLES.values():
        assert frame_of([], schema).schema == pl.Schema(schema)


@pytest.mark.parametrize("value", ["text", [1.5, "text"], 7])
def test_a_value_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, pl.exceptions.PolarsError)):
        frame_of([{"a": value}], {"a": pl.List(pl.Int64()) if value != "text" else pl.Int64()})
