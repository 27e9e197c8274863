"""Parts as folders on disk, whether a version names them or not; for verify, vacuum and forget."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr

from harmonize.store.errors import StoreError
from harmonize.store.shards import Codec
from harmonize.store.views import read_documents


def part_folders(root: Path) -> Iterator[str]:
    """Every part of signals and every image below a store, as the catalog would name it."""
    for kind in ("signals", "images"):
        for outer in sorted((root / kind).iterdir()):
            if outer.is_dir():
                yield from (f"{kind}/{outer.name}/{one.name}" for one in sorted(outer.iterdir()) if one.is_dir())


def files_of(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [file for file in folder.rglob("*") if file.is_file()]


def youngest(folder: Path) -> float:
    """When anything in a folder last changed, in seconds since the epoch; 0 for one that is gone."""
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # a run that fails takes its part away
            times.append(path.stat().st_mtime)
    return max(times)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in files_of(folder))


def remove_part(root: Path, part: str) -> None:
    """Delete a part, and with the last image of a task the group around it. One that is gone is no error."""
    folder = root / part
    if folder.exists():
        shutil.rmtree(folder)
    outer = folder.parent
    # A layout's group stays: another task may be making a part in it at this moment.
    if part.startswith("images/") and outer.exists() and not any(one.is_dir() for one in outer.iterdir()):
        shutil.rmtree(outer)


def n_rows(root: Path, part: str) -> int:
    """How many streams a part holds, named or not."""
    return int(json.loads((root / part / "recording" / "zarr.json").read_bytes())["shape"][0])


def documents(root: Path, part: str) -> list[dict[str, Any]] | None:
    """The documents of a part or image, unchecked; None where it is unfinished or cannot be read."""
    try:
        if part.startswith("images/"):
            held: Any = zarr.open_group(root / part, mode="r").attrs["harmonize"]
            return [held["recording"]]
        # All of them: ``read_documents`` reads one alone only where it is asked for one.
        return [json.loads(text) for text in read_documents(root, part, list(range(n_rows(root, part))))]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, StoreError):
        return None


def codec_of(root: Path, part: str) -> Codec:
    """How the samples of a part are compressed. Raises ``StoreError`` for a way of no option."""
    meta = json.loads((root / part / "samples" / "zarr.json").read_bytes())
    inner = meta["codecs"][0]["configuration"]["codecs"]
    blosc = next((one["configuration"]["cname"] for one in inner if one["name"] == "blosc"), "none")
    match blosc:
        case "lz4" | "zstd" | "none":
            return blosc
    raise StoreError(f"{part} is compressed with {blosc!r}, which no option of convert makes")
