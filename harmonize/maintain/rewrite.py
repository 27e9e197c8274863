"""Rewrite parts without some subjects: documents word for word, samples as they are and checked by their hashes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from harmonize.store import Store, StoreError, catalog
from harmonize.store.content import ChannelHashes
from harmonize.store.part_files import codec_of, documents, n_rows
from harmonize.store.parts import SignalPart
from harmonize.store.place import Place
from harmonize.store.sharded import ShardedArray
from harmonize.store.views import read_documents
from harmonize_schemas import Recording

BLOCK_BYTES = 4 * 1024 * 1024


@dataclass
class Moved:
    """``streams``: the rows, under the commit ``mark``, of every stream of recordings whose place changed; ``parts``:
    how many parts were found to hold bytes of the subjects beside others'."""

    mark: str
    streams: pl.DataFrame
    parts: int


def rewrite_parts(store: Store, subjects: Iterable[tuple[str, str]], prefix: str) -> Moved:
    """Copy what others have in parts with bytes of ``subjects`` (dataset, subject) into new parts.

    The new parts' names begin with ``prefix``; nothing names them yet. Raises ``StoreError`` where samples to
    be copied are damaged.
    """
    chosen = set(subjects)
    mark = uuid.uuid4().hex
    who = store.recordings.select("recording_id", "dataset", "subject")
    gone = {row[0] for row in who.iter_rows() if row[1:] in chosen}
    changed: dict[tuple[str, int], dict[str, Any]] = {}
    parts = 0
    for (part,), rows in store.streams.sort("part", "row").group_by("part", maintain_order=True):
        others = rows.filter(~pl.col("recording_id").is_in(gone))
        if others.is_empty() or not _holds(store.path, str(part), rows, gone, chosen):
            continue
        parts += 1
        for row, place in zip(others.iter_rows(named=True), _copy(store.path, str(part), others, prefix), strict=True):
            changed[row["recording_id"], row["stream_index"]] = place
    ids = {name for name, _ in changed}
    moved = [
        row | changed.get((row["recording_id"], row["stream_index"]), {}) | {"commit": mark}
        for row in store.streams.filter(pl.col("recording_id").is_in(ids)).iter_rows(named=True)
    ]
    return Moved(mark, pl.DataFrame(moved, schema=catalog.TABLES["streams"], orient="row"), parts)


def _holds(root: Place, part: str, rows: pl.DataFrame, gone: set[str], subjects: set[tuple[str, str]]) -> bool:
    """Whether a part holds bytes of the subjects. Documents are read only where rows of it are of older versions."""
    if not gone.isdisjoint(rows["recording_id"]):
        return True
    if n_rows(root, part) == len(rows):
        return False
    found = documents(root, part)
    if found is None:
        raise StoreError(f"the documents of {part} cannot be read, so it is not known whose they are")
    return any((one["dataset"], one["subject"]) in subjects for one in found)


def _copy(root: Place, part: str, rows: pl.DataFrame, prefix: str) -> list[dict[str, Any]]:
    """Copy streams into a new part; returns where each lies now."""
    texts = dict(zip(rows["row"], read_documents(root, part, rows["row"].to_list()), strict=True))
    places = list(rows.iter_rows(named=True))
    streams = [Recording.model_validate_json(texts[at["row"]]).streams[at["stream_index"]] for at in places]
    new = SignalPart(root, prefix + uuid.uuid4().hex[len(prefix) :], streams, codec_of(root, part))
    array = ShardedArray(root / part / "samples")
    step = max(1, BLOCK_BYTES // (array.shape[0] * array.dtype.itemsize))
    try:
        for row, at in enumerate(places):
            hashes = ChannelHashes(array.shape[0], at["dtype"])
            for start in range(0, at["n_samples"], step):
                stop = min(start + step, at["n_samples"])
                samples = array.read([(0, array.shape[0]), (at["start"] + start, at["start"] + stop)])
                hashes.update(samples)
                new.write(row, start, np.ascontiguousarray(samples))
            if at["content"] is not None and hashes.hexdigests() != list(at["content"]):
                raise StoreError(f"its samples of {at['recording_id']} are not those that were stored")
        new.close([texts[at["row"]] for at in places], [at["stream_index"] for at in places])
    except StoreError as error:
        new.discard()
        raise StoreError(f"{part} cannot be rewritten: {error}. Convert that recording again, then forget") from error
    return [
        {"part": new.path, "row": row, "start": new.starts[row], "layout": new.layout} for row in range(len(places))
    ]
