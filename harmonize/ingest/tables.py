"""Tables beside the recordings: read as text, joined to sources by key."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from harmonize.ingest.recipes import RecipeError
from harmonize_schemas import Table, nearest

Row = Mapping[str, str | None]


def plain(text: str) -> str:
    """A key as it is compared: "15709.0", as pandas writes whole numbers beside missing ones, is "15709"."""
    stripped = text.strip()
    return stripped.partition(".")[0] if re.fullmatch(r"-?\d+\.0+", stripped) else stripped


class TableRows:
    """The rows of one table by key. ``used`` counts how often each row was asked for."""

    def __init__(self, frame: pl.DataFrame, key: tuple[str, ...], name: str, ignore_case: bool = False) -> None:
        for column in key:
            check_column(frame.columns, column, name)
        self.frame = frame
        self.used: Counter[int] = Counter()
        self._ignore_case = ignore_case
        self._index: dict[tuple[str, ...], int] = {}
        self._differing: set[tuple[str, ...]] = set()
        for number, values in enumerate(frame.select(key).iter_rows()):
            found = self._compared(value or "" for value in values)
            first = self._index.setdefault(found, number)
            if first != number and frame.row(first) != frame.row(number):
                self._differing.add(found)

    def row(self, key: tuple[str, ...]) -> Row | None:
        """The row of a key; None where there is none, or several that differ."""
        found = self._compared(key)
        number = self._index.get(found)
        if number is None or found in self._differing:
            return None
        self.used[number] += 1
        return self.frame.row(number, named=True)

    def _compared(self, key: Iterable[str]) -> tuple[str, ...]:
        texts = map(plain, key)
        return tuple(text.casefold() for text in texts) if self._ignore_case else tuple(texts)


def check_column(columns: list[str], column: str, table: str) -> None:
    """Raises ``RecipeError`` for a column that a table lacks."""
    if column not in columns:
        raise RecipeError(f"table {table!r} has no column {column!r}{nearest(column, columns)}")


def read_table(file: Path, table: Table) -> pl.DataFrame:
    """A CSV, TSV, Parquet or JSON table, every column as text. Raises ``RecipeError``."""
    try:
        frame = _read(file, table)
    except (pl.exceptions.PolarsError, UnicodeError, ValueError, OSError) as error:
        raise RecipeError(f"the table {file.name} cannot be read: {type(error).__name__}") from None
    return frame.rename(dict(zip(frame.columns, table.header, strict=False))) if table.header else frame


def _read(file: Path, table: Table) -> pl.DataFrame:
    suffix = file.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _as_text(pl.read_parquet(file))
    text = file.read_text(table.encoding).lstrip("\N{ZERO WIDTH NO-BREAK SPACE}")
    if suffix == ".json":
        return _as_text(pl.DataFrame(json.loads(text)))
    separator = table.separator or ("\t" if suffix == ".tsv" else ",")
    return pl.read_csv(
        io.StringIO(text), infer_schema=False, separator=separator, has_header=not table.header,
        quote_char=None if suffix == ".tsv" else '"',
    )  # fmt: skip


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns as text; lists and objects as JSON."""
    texts = [
        series.map_elements(lambda item: json.dumps(_plain_json(item), ensure_ascii=False), pl.String)
        if series.dtype.is_nested()
        else series.cast(pl.String)
        for series in frame
    ]
    return pl.DataFrame(texts)


def _plain_json(item: object) -> object:
    return item.to_list() if isinstance(item, pl.Series) else item
