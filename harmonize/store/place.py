"""Where a store lies: a local folder or a URL of an object store, and what is done in both.

All that differs between the two is here and in ``object_path``; everything else takes a ``Place``, joins names to it
with ``/``, and asks these functions.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl
import zarr
from deltalake import DeltaTable

from harmonize.store.errors import StoreError
from harmonize.store.object_path import MAX_RETRIES, SCHEMES, ObjectPath, answers, client, delta_options, parse

Place = Path | ObjectPath
REQUESTS = 16
"""So many requests of one kind go to an object store at once."""

T = TypeVar("T")
U = TypeVar("U")


class Entry(NamedTuple):
    """Bytes of a file, and when it last changed, in seconds since the epoch."""

    size: int
    changed: float


def place_of(path: str | Place) -> Place:
    """A path or URL as a place. Raises ``StoreError`` for a URL that is none of a store."""
    if isinstance(path, ObjectPath):
        return path
    if isinstance(path, str) and "://" in path:
        return parse(path)
    if isinstance(path, Path) and str(path).startswith(tuple(f"{scheme}:/" for scheme in SCHEMES)):
        raise StoreError("give a URL as text: pathlib makes one slash of its two")
    return Path(path)


def table_options(place: Place) -> dict[str, str] | None:
    """``storage_options`` for deltalake; no credentials are among them."""
    if isinstance(place, Path):
        return None
    client(place)  # says so where obstore lacks, or where this process was forked
    return delta_options(place)


def open_table(place: Place, version: int | None = None) -> DeltaTable:
    """A Delta table at a version, or its newest."""
    with answers(place):
        return DeltaTable(str(place), version=version, storage_options=table_options(place))


def scan_options(place: Place) -> dict[str, Any] | None:
    """``storage_options`` for polars, whose names and types are others."""
    return None if isinstance(place, Path) else {"max_retries": MAX_RETRIES}


def open_group(place: Place) -> zarr.Group:
    """A Zarr group to read. Raises what zarr does where there is none."""
    if isinstance(place, Path):
        return zarr.open_group(place, mode="r", zarr_format=3)
    with answers(place):
        return zarr.open_group(zarr.storage.ObjectStore(client(place)), path=place.key, mode="r", zarr_format=3)


def create(file: Place, data: bytes) -> None:
    """Make a file that must not be there yet, whole or not at all. Raises ``FileExistsError``."""
    if isinstance(file, ObjectPath):
        file.create(data)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{uuid.uuid4().hex}.partial")
    draft.write_bytes(data)
    try:
        os.link(draft, file)
    finally:
        draft.unlink()


def read_parquet(file: Place, columns: list[str] | None = None) -> pl.DataFrame:
    """A Parquet file. Raises ``FileNotFoundError``, or what polars does for one that is damaged."""
    return pl.read_parquet(file if isinstance(file, Path) else io.BytesIO(file.read_bytes()), columns=columns)


def read_parquets(folder: Place, names: Iterable[str], columns: list[str]) -> list[pl.DataFrame]:
    """Some columns of Parquet files below a folder."""
    return at_once(folder, lambda name: read_parquet(folder / name, columns), names)


def files_below(folder: Place) -> dict[str, Entry]:
    """All files below a folder by their paths from there, sorted; none where there is no such folder."""
    if isinstance(folder, ObjectPath):
        return dict(sorted(_objects_below(folder)))
    found = {}
    for file in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):  # a run that fails takes its files away
            stat = file.stat()
            if file.is_file():
                found[file.relative_to(folder).as_posix()] = Entry(stat.st_size, stat.st_mtime)
    return found


def _objects_below(folder: ObjectPath) -> Iterator[tuple[str, Entry]]:
    import obstore

    with answers(folder):
        for found in obstore.list(client(folder), folder.key):
            for one in found:
                name = one["path"].removeprefix(f"{folder.key}/")
                yield name, Entry(one["size"], one["last_modified"].timestamp())


def folders_in(folder: Place) -> list[str]:
    """Names of the folders in a folder, sorted; none where there is no such folder."""
    if isinstance(folder, ObjectPath):
        return sorted(_last(one) for one in _level(folder)["common_prefixes"])
    return sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.exists() else []


def entries_in(folder: Place) -> set[str]:
    """Names of all that is in a folder."""
    if isinstance(folder, ObjectPath):
        level = _level(folder)
        return {_last(one) for one in (*level["common_prefixes"], *(one["path"] for one in level["objects"]))}
    return {one.name for one in folder.iterdir()} if folder.exists() else set()


def _level(folder: ObjectPath) -> Any:
    import obstore

    with answers(folder):
        return obstore.list_with_delimiter(client(folder), folder.key)


def _last(key: str) -> str:
    """The last name of a key."""
    return key.rstrip("/").rpartition("/")[2]


def last_change(folder: Place) -> float:
    """When anything in a folder last changed, in seconds since the epoch; 0 for one that is gone."""
    if isinstance(folder, ObjectPath):
        return max((one.changed for one in files_below(folder).values()), default=0.0)
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # a run that fails takes its part away
            times.append(path.stat().st_mtime)
    return max(times)


def remove_tree(folder: Place) -> None:
    """Delete a folder and all in it; one that is gone is no error."""
    if isinstance(folder, ObjectPath):
        at_once(folder, lambda name: (folder / name).unlink(missing_ok=True), files_below(folder))
    elif folder.exists():
        shutil.rmtree(folder)


def at_once(place: Place, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """``work`` of each item in order: one after the other in a local folder; for an object store, where each waits for
    an answer, up to ``REQUESTS`` at the same time."""
    if isinstance(place, Path):
        return [work(item) for item in items]
    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(work, items))
