"""The log of a Delta table on a local disk: which files each version is made of, and how old ones end.

deltalake opens one version at a time; listing all of them and removing some needs the log itself. What is read here
is compared with deltalake, version by version, in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

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


def snapshots(table: Path) -> list[Snapshot]:
    """The versions that the log still tells of, oldest first."""
    logs = _logs(table)
    live: dict[str, int] = {}
    out: list[Snapshot] = []
    first = 0
    if 0 not in logs:
        first, live = min(_checkpoints(table).items(), default=(0, {}))
        if first not in logs:
            out.append(Snapshot(first, None, "", None, dict(live)))
    for version in sorted(logs):
        if version < first:
            continue
        actions = _actions(logs[version])
        if version > first or first == 0:
            live = _apply(live, actions)
        info = next((one["commitInfo"] for one in actions if "commitInfo" in one), {})
        out.append(
            Snapshot(version, info.get("timestamp"), info.get("operation", ""), info.get("harmonize"), dict(live))
        )
    return out


def logged_files(table: Path) -> set[str]:
    """All files that any entry of the log names, live or removed, as paths below the table."""
    names: set[str] = set()
    for log in _logs(table).values():
        names |= {_path(one[kind]) for one in _actions(log) for kind in ("add", "remove") if kind in one}
    for file in _checkpoint_files(table):
        frame = pl.read_parquet(file)
        for kind in ("add", "remove"):
            if kind in frame.columns and isinstance(frame.schema[kind], pl.Struct):
                paths = frame[kind].struct.field("path").drop_nulls()
                names |= {unquote(path) for path in paths}
    return names


def data_files(table: Path) -> set[str]:
    """The Parquet files that lie in a table, whether the log names them or not."""
    return {file.relative_to(table).as_posix() for file in table.rglob("*.parquet") if "_delta_log" not in file.parts}


def forget_history(table: Path) -> int:
    """Make the newest version of a table the only one: files of others are deleted, then the log's older entries,
    with the minima and maxima that they hold. Returns how many versions ended.

    Killed at any moment, the newest version is whole, and doing it again finishes. An entry that another writer
    adds meanwhile stays.
    """
    opened = DeltaTable(str(table))
    newest = int(opened.version())
    older = {version for version in _logs(table) if version < newest}
    if not older and not any(version < newest for version in _checkpoints(table)):
        return 0
    opened.create_checkpoint()
    live = live_files(table, newest)
    for name in sorted(logged_files(table) - live):
        (table / name).unlink(missing_ok=True)
    _unlink(file for file in _checkpoint_files(table) if int(file.name[:_DIGITS]) < newest)
    _unlink(log for version, log in _logs(table).items() if version < newest)
    return len(older)


def live_files(table: Path, version: int | None = None) -> set[str]:
    """The files of one version, as deltalake sees it, as paths below the table."""
    actions = pl.DataFrame(DeltaTable(str(table), version=version).get_add_actions(flatten=True))
    return {unquote(path) for path in actions["path"]}


def _unlink(files: Iterable[Path]) -> None:
    for file in sorted(files):
        file.unlink(missing_ok=True)


def _logs(table: Path) -> dict[int, Path]:
    files = (table / "_delta_log").glob("*.json")
    return {int(file.stem): file for file in files if len(file.stem) == _DIGITS and file.stem.isdigit()}


def _checkpoint_files(table: Path) -> list[Path]:
    return sorted((table / "_delta_log").glob("*.checkpoint*.parquet"))


def _checkpoints(table: Path) -> dict[int, dict[str, int]]:
    """Version to live files with their rows, of each checkpoint."""
    found: dict[int, dict[str, int]] = {}
    for file in _checkpoint_files(table):
        adds = pl.read_parquet(file)["add"].drop_nulls()
        live = {unquote(one["path"]): _rows(one) for one in adds.to_list() if one["path"]}
        found.setdefault(int(file.name[:_DIGITS]), {}).update(live)
    return found


def _actions(log: Path) -> list[Action]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]


def _apply(live: dict[str, int], actions: list[Action]) -> dict[str, int]:
    removed = {_path(one["remove"]) for one in actions if "remove" in one}
    added = {_path(one["add"]): _rows(one["add"]) for one in actions if "add" in one}
    return {name: rows for name, rows in live.items() if name not in removed} | added


def _path(action: dict[str, Any]) -> str:
    return unquote(str(action["path"]))


def _rows(action: dict[str, Any]) -> int:
    return int(json.loads(str(action["stats"]))["numRecords"]) if action.get("stats") else 0
