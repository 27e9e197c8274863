"""Versions of a store: listed, named by tags, and whether they can still be opened."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import polars as pl

from harmonize.store import catalog
from harmonize.store.delta_log import Snapshot, data_files, snapshots
from harmonize.store.errors import StoreError
from harmonize.store.place import Place

TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
FORGETTING = "forgetting.json"
"""The file below ``catalog`` that is there while a subject is being forgotten."""
SCHEMA: dict[str, pl.DataType] = {
    "version": pl.Int64(), "time": pl.String(), "operation": pl.String(), "recordings": pl.Int64(),
    "tags": pl.List(pl.String()),
}  # fmt: skip
OPERATIONS = {"WRITE": "create", "CREATE TABLE": "create", "MERGE": "convert"}


def openable(root: Place) -> list[Snapshot]:
    """The versions whose files are all there, oldest first. While a subject is being forgotten, the newest only."""
    table = root / "catalog" / "recordings"
    found = snapshots(table)
    there = data_files(table)
    whole = [one for one in found if there.issuperset(one.files)]
    return whole[-1:] if (root / "catalog" / FORGETTING).exists() else whole


def list_versions(root: Place) -> pl.DataFrame:
    """(version, time, operation, recordings, tags), oldest first; ``time`` is ISO 8601 in UTC."""
    tags = read_tags(root)
    rows = [
        {
            "version": one.version,
            "time": None if one.time_ms is None else datetime.fromtimestamp(one.time_ms / 1000, UTC).isoformat(),
            "operation": one.note or OPERATIONS.get(one.operation, one.operation.lower()),
            "recordings": one.n_rows,
            "tags": sorted(tags.filter(version=one.version)["tag"]),
        }
        for one in openable(root)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def read_tags(root: Place) -> pl.DataFrame:
    """(tag, version, created), sorted. A tag outlives its version, so that opening it can say what became of it."""
    return catalog.read_derived(root, "tags")[0].sort("tag")


def tag_version(root: Place, name: str, version: int) -> None:
    """Name a version. Raises ``ValueError`` for a name that is taken or could be a number, ``StoreError`` for a
    version that cannot be opened."""
    if not TAG.fullmatch(name):
        raise ValueError(f"a tag begins with a letter and is made of letters, digits and . _ -, not {name!r}")
    if name in read_tags(root)["tag"]:
        raise ValueError(f"there is a tag {name!r} already: remove it first, or choose another name")
    require_version(root, version)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    row = pl.DataFrame([{"tag": name, "version": version, "created": now}])
    catalog.replace_derived(root, "tags", row, version, f"tag = '{name}'")


def remove_tag(root: Place, name: str) -> None:
    """Take a name away; the version stays. Raises ``ValueError`` where there is no such tag."""
    tags = read_tags(root)
    if name not in tags["tag"]:
        raise ValueError(f"there is no tag {name!r}; there are {_names(tags['tag'])}")
    catalog.replace_derived(root, "tags", tags.filter(pl.col("tag") != name), catalog.version_of(root))


def resolve(root: Place, version: int | str) -> int:
    """The number of a version, from its number or tag. Raises ``StoreError``."""
    if isinstance(version, int):
        return version
    if version.isdecimal():
        return int(version)
    tags = read_tags(root)
    found = tags.filter(tag=version)["version"].to_list()
    if not found:
        raise StoreError(f"the store has no version {version!r}: its tags are {_names(tags['tag'])}")
    return int(found[0])


def require_version(root: Place, version: int) -> None:
    """Raises ``StoreError`` for a version that cannot be opened; it says why, and which can."""
    there = [one.version for one in openable(root)]
    if version in there:
        return
    if not 0 <= version <= there[-1]:
        raise StoreError(f"the store has no version {version}; the newest is {there[-1]}")
    raise StoreError(
        f"version {version} of the store was removed, by `vacuum --keep` or because a subject was forgotten; "
        f"versions that can be opened: {_ranges(there)}"
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _ranges(numbers: list[int]) -> str:
    """ "1-3, 7" for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
