"""Facts: what lies around a source before its headers are read: its path, table rows, side files."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from string import Formatter

from harmonize.ingest.bids import BidsTree
from harmonize.ingest.find import found_file, root_of
from harmonize.ingest.recipes import RecipeError
from harmonize.ingest.tables import Row, TableRows, check_column, read_table
from harmonize_converters.contract import FoundFile, SourceFiles
from harmonize_schemas import ChannelRule, EventSource, Recipe
from harmonize_schemas.recipe import BIDS_TABLES, template_names


@dataclass(frozen=True)
class Facts:
    """What a recipe can draw on for one source. ``rows`` has None where a table has no row for it."""

    path: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Row | None] = field(default_factory=dict)
    sidecar: Mapping[str, object] = field(default_factory=dict)
    events: tuple[tuple[EventSource, FoundFile], ...] = ()
    channels: Mapping[str, ChannelRule] = field(default_factory=dict)

    def state(self) -> list[str]:
        """Texts that change when what lies around the source changes."""
        rows = [f"{name}:{sorted(row.items()) if row else None}" for name, row in self.rows.items()]
        files = [f"{file.key}:{file.size}:{file.mtime_ns}" for _, file in self.events]
        sidecar = [f"{key}={value}" for key, value in self.sidecar.items()]
        channels = [f"{name}:{rule.model_dump_json()}" for name, rule in self.channels.items()]
        return [*rows, *files, *sidecar, *channels]


def path_facts(recipe: Recipe, source: SourceFiles) -> dict[str, str]:
    """Path, name, stem, folder and member of a source, and the groups of the first pattern that matches."""
    key = PurePosixPath(source.key if source.member is None else source.primary.key)
    inner = key.relative_to(key.parts[0])
    stem = inner.name.removesuffix(".gz")
    stem = stem.rpartition(".")[0] or stem
    folder = "" if inner.parent == PurePosixPath(".") else inner.parent.as_posix()
    facts = {
        "path": f"{folder}/{stem}".lstrip("/"),
        "name": inner.name,
        "stem": stem,
        "folder": folder,
    }
    if source.member is not None:
        facts["member"] = source.member
    for pattern in recipe.paths:
        if match := re.search(pattern, inner.as_posix()):
            return facts | {name: value for name, value in match.groupdict().items() if value}
    return facts


class Surroundings:
    """Tables and side files of the sources of one run; each table is read once."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.tables: dict[tuple[str, Path], TableRows] = {}
        self._trees: dict[Path, BidsTree] = {}
        self._found: dict[tuple[Path, str | None], FoundFile | None] = {}

    def facts(self, source: SourceFiles) -> Facts:
        """The facts of one source. Raises ``RecipeError`` for a table that is missing or lacks a column."""
        root = root_of(source.primary)
        path = path_facts(self._recipe, source)
        rows: dict[str, Row | None] = {}
        for name, table in self._recipe.tables.items():
            if table.match:
                filled = (fill(template, path, rows) for template in table.match)
                key = tuple(text for text in filled if text is not None)
                if len(key) < len(table.match):
                    continue
                at = self._table(name, root, path, rows)
                rows[name] = at.row(key) if at is not None else None
        events = [
            (events, file)
            for events in self._recipe.events
            if (file := side_file(root, fill(events.file, path, rows, escape=True)))
        ]
        if self._recipe.layout != "bids":
            return Facts(path, rows, {}, tuple(events), self._recipe.channels)
        tree = self._trees.setdefault(root, BidsTree(root)).facts(source.primary.path)
        channels = {**tree.channels, **self._recipe.channels}
        return Facts({**path, **tree.path}, {**rows, **tree.rows}, tree.sidecar, (*events, *tree.events), channels)

    def lookup(self, source: SourceFiles, name: str, code: str) -> Row | None:
        """The row of a code in a table without ``match``."""
        at = self._table(name, root_of(source.primary), {}, {})
        return at.row((code,)) if at else None

    def _table(
        self, name: str, root: Path, path: Mapping[str, str], rows: Mapping[str, Row | None]
    ) -> TableRows | None:
        table = self._recipe.tables[name]
        pattern = fill(table.file, path, rows, escape=True)
        if (root, pattern) not in self._found:
            self._found[root, pattern] = side_file(root, pattern)
        file = self._found[root, pattern]
        if file is None:
            if pattern is not None and not template_names(table.file):
                raise RecipeError(f"the recipe's table {name!r} is not there: no {table.file} in the folder given")
            return None
        if (name, file.path) not in self.tables:
            frame = read_table(file.path, table)
            for column in self._columns(name):
                check_column(frame.columns, column, name)
            self.tables[name, file.path] = TableRows(frame, table.key, name, table.ignore_case)
        return self.tables[name, file.path]

    def _columns(self, name: str) -> list[str]:
        """Columns of a table that the recipe's origins name."""
        found = []
        for _, origin in self._recipe.origins():
            for text in (origin.column, getattr(origin, "lookup", None)):
                table, column = split_column(self._recipe, text) if text else ("", "")
                if table == name:
                    found.append(column)
        return found


def split_column(recipe: Recipe, text: str) -> tuple[str, str]:
    """ "table.column", or "column" where there is one table, to table and column."""
    table, dot, column = text.partition(".")
    if dot and (table in recipe.tables or table in BIDS_TABLES or len(recipe.tables) != 1):
        return table, column
    return next(iter(recipe.tables), ""), text


def fill(template: str, path: Mapping[str, str], rows: Mapping[str, Row | None], *, escape: bool = False) -> str | None:
    """A template with its names put in ("{study}", "{table.column}"); None where one has no value.

    ``escape``: the template is a glob, and what is put in is not.
    """
    out = []
    for text, name, _, _ in Formatter().parse(template):
        out.append(text)
        if name is None:
            continue
        table, _, column = name.partition(".")
        value = (rows.get(table) or {}).get(column) if column else path.get(name)
        if value is None:
            return None
        out.append(glob.escape(value) if escape else value)
    return "".join(out)


def side_file(root: Path, pattern: str | None) -> FoundFile | None:
    """The first file below a folder that a glob finds; never one outside."""
    if pattern is None or ".." in PurePosixPath(pattern).parts or PurePosixPath(pattern).is_absolute():
        return None
    for path in sorted(root.glob(pattern)):
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return found_file(path, root)
    return None
