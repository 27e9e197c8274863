"""The log of a Delta table: which files each version is made of, and how old ones end.

deltalake opens one version at a time; listing all of them and removing some needs the log itself. What is read here
is compared with deltalake, version by version, in the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import polars as pl

from harmonize.store.object_path import answers
from harmonize.store.place import Entry, Place, at_once, files_below, folders_in, open_table, read_parquet

_DIGITS = 20
Action = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Snapshot:
    """One version of a table: when and by what it was made (``note``: what harmonize said of it), and its files,
    as paths below the table, with their numbers of rows."""

    version: int
    time_ms: int | None
    operation: str
    note: str | None
    files: dict[str, int]

    @property
    def n_rows(self) -> int:
        return sum(self.files.values())


def tables(root: Place) -> list[Place]:
    """The Delta tables of a store."""
    catalog = root / "catalog"
    return [catalog / name for name in folders_in(catalog) if "_delta_log" in folders_in(catalog / name)]


def snapshots(table: Place) -> list[Snapshot]:
    """The versions that the log still tells of, oldest first."""
    logs = _logs(table)
    live: dict[str, int] = {}
    out: list[Snapshot] = []
    first = 0
    if 0 not in logs:
        first, live = min(_checkpoints(table).items(), default=(0, {}))
        if first not in logs:
            out.append(Snapshot(first, None, "", None, dict(live)))
    versions = [version for version in sorted(logs) if version >= first]
    entries = at_once(table, _actions, [logs[version] for version in versions])
    for version, actions in zip(versions, entries, strict=True):
        if version > first or first == 0:
            live = _apply(live, actions)
        info = next((one["commitInfo"] for one in actions if "commitInfo" in one), {})
        out.append(
            Snapshot(version, info.get("timestamp"), info.get("operation", ""), info.get("harmonize"), dict(live))
        )
    return out


def logged_files(table: Place) -> set[str]:
    """All files that any entry of the log names, live or removed, as paths below the table."""
    names: set[str] = set()
    for actions in at_once(table, _actions, _logs(table).values()):
        names |= {_path(one[kind]) for one in actions for kind in ("add", "remove") if kind in one}
    for file in _checkpoint_files(table):
        frame = read_parquet(file)
        for kind in ("add", "remove"):
            if kind in frame.columns and isinstance(frame.schema[kind], pl.Struct):
                paths = frame[kind].struct.field("path").drop_nulls()
                names |= {unquote(path) for path in paths}
    return names


def data_files(table: Place) -> set[str]:
    """The Parquet files that lie in a table, whether the log names them or not."""
    return set(data_entries(table))


def data_entries(table: Place) -> dict[str, Entry]:
    """``data_files`` with their sizes and times."""
    found = files_below(table).items()
    return {name: one for name, one in found if name.endswith(".parquet") and not name.startswith("_delta_log/")}


def forget_history(table: Place) -> int:
    """Make the newest version of a table the only one: files of others are deleted, then the log's older entries,
    with the minima and maxima that they hold. Returns how many versions ended.

    Killed at any moment, the newest version is whole, and doing it again finishes. An entry that another writer
    adds meanwhile stays.
    """
    opened = open_table(table)
    newest = int(opened.version())
    older = {version for version in _logs(table) if version < newest}
    if not older and not any(version < newest for version in _checkpoints(table)):
        return 0
    with answers(table):
        opened.create_checkpoint()
    live = live_files(table, newest)
    _unlink(table / name for name in logged_files(table) - live)
    _unlink(file for file in _checkpoint_files(table) if int(file.name[:_DIGITS]) < newest)
    _unlink(log for version, log in _logs(table).items() if version < newest)
    return len(older)


def live_files(table: Place, version: int | None = None) -> set[str]:
    """The files of one version, as deltalake sees it, as paths below the table."""
    opened = open_table(table, version)
    with answers(table):
        actions = pl.DataFrame(opened.get_add_actions(flatten=True))
    return {unquote(path) for path in actions["path"]}


def _unlink(files: Iterable[Place]) -> None:
    for file in sorted(files, key=str):
        file.unlink(missing_ok=True)


def _logs(table: Place) -> dict[int, Place]:
    log = table / "_delta_log"
    names = (name for name in files_below(log) if re.fullmatch(rf"\d{{{_DIGITS}}}\.json", name))
    return {int(name[:_DIGITS]): log / name for name in names}


def _checkpoint_files(table: Place) -> list[Place]:
    log = table / "_delta_log"
    return [log / name for name in files_below(log) if ".checkpoint" in name and name.endswith(".parquet")]


def _checkpoints(table: Place) -> dict[int, dict[str, int]]:
    """Version to live files with their rows, of each checkpoint."""
    found: dict[int, dict[str, int]] = {}
    for file in _checkpoint_files(table):
        adds = read_parquet(file)["add"].drop_nulls()
        live = {unquote(one["path"]): _rows(one) for one in adds.to_list() if one["path"]}
        found.setdefault(int(file.name[:_DIGITS]), {}).update(live)
    return found


def _actions(log: Place) -> list[Action]:
    return [json.loads(line) for line in log.read_bytes().decode().splitlines() if line.strip()]


def _apply(live: dict[str, int], actions: list[Action]) -> dict[str, int]:
    removed = {_path(one["remove"]) for one in actions if "remove" in one}
    added = {_path(one["add"]): _rows(one["add"]) for one in actions if "add" in one}
    return {name: rows for name, rows in live.items() if name not in removed} | added


def _path(action: dict[str, Any]) -> str:
    return unquote(str(action["path"]))


def _rows(action: dict[str, Any]) -> int:
    return int(json.loads(str(action["stats"]))["numRecords"]) if action.get("stats") else 0
