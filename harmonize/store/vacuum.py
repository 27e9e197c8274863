"""Vacuum: remove what no kept version names, and nothing that a running conversion may still name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from harmonize.store import catalog
from harmonize.store.delta_log import Snapshot, data_entries, live_files, tables
from harmonize.store.errors import StoreError
from harmonize.store.part_files import part_folders, remove_part, size_of
from harmonize.store.place import Place, at_once, last_change, read_parquets
from harmonize.store.versions import FORGETTING, openable, read_tags

GRACE_S = 24 * 3600.0
"""What changed within this time may be of a conversion that runs now."""
COMMITTED = ("streams", "annotations", "labels", "sources")
PAIR = ["recording_id", "commit"]


@dataclass
class Vacuumed:
    """What was removed (or would be): parts and files of tables with their bytes, rows of tables, versions.
    ``young`` counts parts and files that no version names but that are within the grace period."""

    kept: list[int]
    versions: list[int] = field(default_factory=list)
    parts: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    young: int = 0

    @property
    def bytes(self) -> int:
        return sum(self.parts.values()) + sum(self.files.values())


def keep_versions(ages_s: Mapping[int, float], tagged: Iterable[int], keep: int | None, grace_s: float) -> list[int]:
    """The versions that stay: all, or the ``keep`` newest, all tagged ones and all within the grace period. Pure."""
    versions = sorted(ages_s)
    newest = versions if keep is None else versions[-keep:]
    young = [version for version in versions if ages_s[version] < grace_s]
    return sorted({*newest, *young, *set(tagged).intersection(versions)})


def unnamed(ages_s: Mapping[str, float], named: Iterable[str], grace_s: float) -> tuple[list[str], list[str]]:
    """Of what lies on disk, what nothing names: older than the grace period, and younger. Pure."""
    rest = {path: age for path, age in ages_s.items() if path not in set(named)}
    return sorted(p for p, age in rest.items() if age >= grace_s), sorted(p for p, age in rest.items() if age < grace_s)


def named_rows(root: Place, versions: Iterable[Snapshot]) -> pl.DataFrame:
    """(recording_id, commit, image) of all recordings in these versions of the store."""
    table = root / "catalog" / "recordings"
    files = sorted({name for one in versions for name in one.files})
    frames = read_parquets(table, files, [*PAIR, "image"])
    empty = pl.DataFrame(schema={**dict.fromkeys(PAIR, pl.String), "image": pl.String})
    return pl.concat([empty, *frames]).unique()


def named_parts(root: Place, named: pl.DataFrame) -> set[str]:
    """The parts and images that recordings of ``named_rows`` lie in."""
    streams = catalog.read(root, "streams").join(named, on=PAIR, how="semi")
    return {*streams["part"], *named["image"].drop_nulls()}


def vacuum(root: Place, keep: int | None = None, grace_s: float = GRACE_S, dry_run: bool = False) -> Vacuumed:
    """Remove parts, files and rows of tables that no kept version names.

    Kept are the ``keep`` newest versions (None: all) and all that have a tag. Nothing that changed within
    ``grace_s`` seconds is removed, as a conversion may be about to name it. Versions end before their parts go;
    killed at any moment, all kept versions are whole, and doing it again finishes.

    Raises ``StoreError`` while a subject is being forgotten, ``ValueError`` for ``keep`` below 1.
    """
    if keep is not None and keep < 1:
        raise ValueError(f"at least one version is kept, not {keep}")
    if (root / "catalog" / FORGETTING).exists():
        raise StoreError("forgetting a subject was not finished: run `harmonize forget` again first")
    now = time.time()
    found = list(part_folders(root))
    changed = at_once(root, lambda part: last_change(root / part), found)
    parts = {part: now - at for part, at in zip(found, changed, strict=True)}
    # Read after the parts: what is committed from here on was young then.
    versions = openable(root)
    ages = {one.version: now - (one.time_ms or 0) / 1000 for one in versions}
    kept = keep_versions(ages, read_tags(root)["version"], keep, grace_s)
    chosen = [one for one in versions if one.version in kept]
    kept_files = {name for one in chosen for name in one.files}
    # A version all of whose files stay has all its rows in kept versions, and so its parts: it stays too.
    ending = [one.version for one in versions if not kept_files.issuperset(one.files)]
    named = named_rows(root, chosen)
    old, young = unnamed(parts, named_parts(root, named), grace_s)
    done = Vacuumed([v for v in ages if v not in ending], ending, young=len(young))
    done.parts = {part: size_of(root / part) for part in old}
    files = _dead_files(root, kept_files, now, grace_s, done)
    dead = _dead_rows(root, named, now - grace_s)
    done.rows = {table: len(rows) for table, rows in dead.items()}
    if dry_run:
        return done
    for name in files:
        (root / name).unlink(missing_ok=True)
    for table, rows in dead.items():
        catalog.drop_rows(root, table, rows.unique())
    for part in old:
        remove_part(root, part)
    return done


def _dead_files(root: Place, kept: set[str], now: float, grace_s: float, done: Vacuumed) -> list[str]:
    """Files of tables that no kept version is made of. Of all tables but ``recordings`` only the newest version is
    ever read."""
    for table in tables(root):
        live = live_files(table) | (kept if table.name == "recordings" else set())
        there = data_entries(table)
        old, young = unnamed({name: now - one.changed for name, one in there.items()}, live, grace_s)
        done.young += len(young)
        done.files |= {f"catalog/{table.name}/{name}": there[name].size for name in old}
    return list(done.files)


def _dead_rows(root: Place, named: pl.DataFrame, before: float) -> dict[str, pl.DataFrame]:
    """(recording_id, commit) of rows that no kept version names, in files that are older than the grace period."""
    dead = {}
    for table in COMMITTED:
        folder = root / "catalog" / table
        live = live_files(folder)
        there = data_entries(folder)
        old = [name for name in sorted(live) if there[name].changed <= before]
        rows = pl.concat([pl.DataFrame(schema=dict.fromkeys(PAIR, pl.String)), *read_parquets(folder, old, PAIR)])
        dead[table] = rows.join(named, on=PAIR, how="anti")
    return dead
