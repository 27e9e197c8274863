"""What killed runs left behind and no version names: parts, files of tables, drafts of log entries."""

from __future__ import annotations

import time
from collections.abc import Collection

from polars.exceptions import PolarsError

from harmonize.store import catalog
from harmonize.store.delta_log import logged_files, tables
from harmonize.store.part_files import documents, part_folders, remove_part
from harmonize.store.place import Place, files_below, last_change, read_parquet
from harmonize.store.vacuum import PAIR, named_parts

_NAMES = ("recording_id", "recording_a", "recording_b")


def remove_leftovers(
    root: Place, subjects: Collection[tuple[str, str]], recordings: Collection[str], prefix: str, grace_s: float
) -> list[str]:
    """Delete leftovers that are of ``subjects`` or ``recordings``, or do not say whose they are, if older than the
    grace period; returns those that are younger. Others' are left to vacuum. Parts whose names begin with ``prefix``
    are what forgetting itself wrote and did not commit: they go."""
    now, waiting = time.time(), []
    live = named_parts(root, catalog.read(root, "recordings").select(*PAIR, "image"))
    for part in sorted(set(part_folders(root)) - live):
        if part.rpartition("/")[2].startswith(prefix):
            remove_part(root, part)
            continue
        found = documents(root, part)
        ours = found is None or any(
            (one["dataset"], one["subject"]) in subjects or one["recording_id"] in recordings for one in found
        )
        if not ours:
            continue
        if now - last_change(root / part) < grace_s:
            waiting.append(part)
        else:
            remove_part(root, part)
    for name, changed in _files(root).items():
        if not _is_of(root / name, {name for _, name in subjects}, set(recordings)):
            continue
        if now - changed < grace_s:
            waiting.append(name)
        else:
            (root / name).unlink(missing_ok=True)
    return waiting


def _files(root: Place) -> dict[str, float]:
    """Files of tables that their logs do not name, and drafts of log entries that were never put in place, with the
    times of their last change."""
    files = {}
    for table in tables(root):
        there, logged = files_below(table), logged_files(table)
        for name, one in there.items():
            in_log = name.startswith("_delta_log/")
            if name.endswith(".tmp") if in_log else name.endswith(".parquet") and name not in logged:
                files[f"catalog/{table.name}/{name}"] = one.changed
    return files


def _is_of(file: Place, subjects: set[str], recordings: set[str]) -> bool:
    """Whether a file holds any of these names, or cannot be read."""
    names = subjects | recordings
    if file.suffix != ".parquet":
        text = file.read_bytes()
        return any(name.encode() in text for name in names)
    try:
        frame = read_parquet(file)
    except (PolarsError, OSError):
        return True
    columns = [name for name in (*_NAMES, "subject") if name in frame.columns]
    return any(not names.isdisjoint(frame[name].drop_nulls()) for name in columns)
