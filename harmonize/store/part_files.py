"""Parts as folders of a store, whether a version names them or not; for verify, vacuum and forget."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harmonize.store.errors import StoreError, UnreachableError
from harmonize.store.place import Place, files_below, folders_in, open_group, remove_tree
from harmonize.store.shards import Codec
from harmonize.store.views import read_documents


def part_folders(root: Place) -> Iterator[str]:
    """Every part of signals and every image below a store, as the catalog would name it."""
    for kind in ("signals", "images"):
        for outer in folders_in(root / kind):
            yield from (f"{kind}/{outer}/{one}" for one in folders_in(root / kind / outer))


def size_of(folder: Place) -> int:
    """Bytes of all files below a folder."""
    return sum(file.size for file in files_below(folder).values())


def remove_part(root: Place, part: str) -> None:
    """Delete a part, and with the last image of a task the group around it. One that is gone is no error."""
    remove_tree(root / part)
    outer = (root / part).parent
    # A layout's group stays: another task may be making a part in it at this moment.
    if part.startswith("images/") and not folders_in(outer):
        remove_tree(outer)


def n_rows(root: Place, part: str) -> int:
    """How many streams a part holds, named or not."""
    return int(json.loads((root / part / "recording" / "zarr.json").read_bytes())["shape"][0])


def documents(root: Place, part: str) -> list[dict[str, Any]] | None:
    """The documents of a part or image, unchecked; None where it is unfinished or cannot be read."""
    try:
        if part.startswith("images/"):
            held: Any = open_group(root / part).attrs["harmonize"]
            return [held["recording"]]
        # All of them: ``read_documents`` reads one alone only where it is asked for one.
        return [json.loads(text) for text in read_documents(root, part, list(range(n_rows(root, part))))]
    except UnreachableError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, StoreError):
        return None


def codec_of(root: Place, part: str) -> Codec:
    """How the samples of a part are compressed. Raises ``StoreError`` for a way of no option."""
    meta = json.loads((root / part / "samples" / "zarr.json").read_bytes())
    inner = meta["codecs"][0]["configuration"]["codecs"]
    blosc = next((one["configuration"]["cname"] for one in inner if one["name"] == "blosc"), "none")
    match blosc:
        case "lz4" | "zstd" | "none":
            return blosc
    raise StoreError(f"{part} is compressed with {blosc!r}, which no option of convert makes")
