"""Check a store by itself: chunks, hashes, documents against the catalog. Runs in any process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError

from harmonize.ingest.rows import label_rows, recording_row, source_rows, stream_row
from harmonize.maintain.compare import row_differences
from harmonize.maintain.findings import Finding
from harmonize.maintain.reading import Planes, Samples
from harmonize.store import CorruptShardError, MissingChunkError, StoreError
from harmonize.store.catalog import Row
from harmonize.store.content import ChannelHashes, VoxelHash
from harmonize.store.errors import UnreachableError
from harmonize.store.object_path import answers
from harmonize.store.place import Place, open_group
from harmonize.store.quality import STATISTICS
from harmonize.store.sharded import ShardedArray
from harmonize_schemas import Recording

READ_ERRORS = (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, StoreError, BaseZarrError)
"""What damaged metadata or chunks make zarr, json and our readers raise."""
NOT_IN_DOCUMENT = {"source_state", "bytes", "image", "content", "document", "commit", "part", "row", "start", "layout"}
NOT_IN_DOCUMENT |= set(STATISTICS)


@dataclass
class Held:
    """A recording's row of ``recordings``, and those of ``labels`` and ``sources``."""

    row: Row
    labels: list[Row] = field(default_factory=list)
    sources: list[Row] = field(default_factory=list)


def check_part(root: Place, part: str, rows: Sequence[Row], held: Mapping[str, Held]) -> list[Finding]:
    """Check the streams ``rows`` (of the table ``streams``) that lie in a part."""
    try:
        group = open_group(root / part)
        with answers(root):
            sizes, indices, texts = (_array(group, name) for name in ("row_size", "stream", "recording"))
        array = ShardedArray(root / part / "samples")
    except UnreachableError:
        raise
    except READ_ERRORS as error:
        return [Finding("missing_part", row["recording_id"], part, _said(error)) for row in rows]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    samples = Samples(array)
    found: list[Finding] = []
    for row in rows:
        name, where = row["recording_id"], f"{part} row {row['row']}"
        try:
            document = Recording.model_validate_json(str(texts[row["row"]]))
            at = int(starts[row["row"]]), int(sizes[row["row"]]), int(indices[row["row"]])
        except READ_ERRORS as error:
            found.append(Finding("unreadable_document", name, where, _said(error)))
            continue
        found += _place(row, where, document, at)
        if document.recording_id == name:
            found += _catalog(held[name], document, where)
            found += _stream(row, document, where)
        found += _samples(row, samples, array, part)
    return found


def check_image(root: Place, held: Held) -> list[Finding]:
    """Check a recording that is an image."""
    name, path = held.row["recording_id"], held.row["image"]
    try:
        attributes: Any = open_group(root / path).attrs["harmonize"]
        array = ShardedArray(root / path / "0")
    except UnreachableError:
        raise
    except READ_ERRORS as error:
        return [Finding("missing_part", name, path, _said(error))]
    try:
        document = Recording.model_validate_json(json.dumps(attributes["recording"]))
        affine = attributes["affine_ijk_to_ras_mm"]
    except READ_ERRORS as error:
        return [Finding("unreadable_document", name, path, _said(error))]
    image = document.image
    if document.recording_id != name or image is None:
        return [Finding("wrong_place", name, path, f"it holds the document of {document.recording_id}")]
    found = list(_catalog(held, document, path))
    if affine != json.loads(json.dumps(image.affine)):
        found.append(Finding("wrong_row", name, path, "affine_ijk_to_ras_mm is not the document's affine"))
    if (array.shape, array.dtype) != (tuple(image.shape), np.dtype(image.dtype).newbyteorder("<")):
        shape = f"{array.dtype} {array.shape}, not {image.dtype} {tuple(image.shape)}"
        return [*found, Finding("wrong_place", name, path, f"the array is {shape}")]
    hashed = VoxelHash(image.shape, image.dtype)
    try:
        for slab in Planes(array).slabs():
            hashed.update(slab)
    except (MissingChunkError, CorruptShardError) as error:
        return [*found, _chunk(name, path, error)]
    if held.row["content"] not in (None, hashed.hexdigest()):
        found.append(Finding("different_samples", name, path, "its voxels have another SHA-256 than was stored"))
    return found


def check_document(held: Held) -> list[Finding]:
    """Check a recording of events alone, whose document is in its row."""
    name = held.row["recording_id"]
    try:
        document = Recording.model_validate_json(held.row["document"])
    except (ValueError, TypeError) as error:
        return [Finding("unreadable_document", name, "catalog/recordings", _said(error))]
    return list(_catalog(held, document, "catalog/recordings"))


def _array(group: zarr.Group, name: str) -> np.ndarray:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{name} is no array")
    values: Any = array[:]
    return np.asarray(values)


def _said(error: BaseException) -> str:
    """An error in one line. Validation errors quote what they read, so only their kind is told."""
    return str(error) if isinstance(error, StoreError) else type(error).__name__


def _place(row: Row, where: str, document: Recording, at: tuple[int, int, int]) -> Iterator[Finding]:
    """Whether the row is of the recording, stream and samples that the part has there."""
    name = row["recording_id"]
    if document.recording_id != name:
        yield Finding("wrong_place", name, where, f"it holds the document of {document.recording_id}")
    start, size, index = at
    pairs = {"start": (row["start"], start), "n_samples": (row["n_samples"], size)}
    pairs["stream_index"] = (row["stream_index"], index)
    for what, (said, held) in pairs.items():
        if said != held:
            yield Finding("wrong_place", name, where, f"{what} is {said} in the catalog and {held} in the part")


def _catalog(held: Held, document: Recording, where: str) -> Iterator[Finding]:
    """Whether ``recordings``, ``labels`` and ``sources`` say what the document does."""
    name = held.row["recording_id"]
    expected = recording_row(document, "", 0, None)
    expected = {key: value for key, value in expected.items() if key not in NOT_IN_DOCUMENT}
    if wrong := row_differences(held.row, expected):
        yield Finding("wrong_row", name, where, f"recordings differs from the document in {', '.join(wrong)}")
    for table, rows, keys in (
        ("labels", label_rows(document), ("name", "kind", "value", "number")),
        ("sources", source_rows(document, shared=False), ("role", "size", "sha256")),
    ):
        if _sorted(getattr(held, table), keys) != _sorted(rows, keys):
            yield Finding("wrong_row", name, where, f"{table} differs from the document")


def _sorted(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    return sorted(repr([row[key] for key in keys]) for row in rows)


def _stream(row: Row, document: Recording, where: str) -> Iterator[Finding]:
    name, index = row["recording_id"], row["stream_index"]
    if not 0 <= index < len(document.streams):
        yield Finding("wrong_row", name, where, f"the document has no stream {index}")
        return
    expected = stream_row(document, index, "", "", 0, 0)
    expected = {key: value for key, value in expected.items() if key not in NOT_IN_DOCUMENT}
    if wrong := row_differences(row, expected):
        yield Finding("wrong_row", name, where, f"streams differs from the document in {', '.join(wrong)}")


def _samples(row: Row, samples: Samples, array: ShardedArray, part: str) -> Iterator[Finding]:
    name, where = row["recording_id"], f"{part} stream {row['stream']}"
    hashes = ChannelHashes(array.shape[0], row["dtype"])
    try:
        for block in samples.blocks(row["start"], row["start"] + row["n_samples"]):
            hashes.update(block)
    except (MissingChunkError, CorruptShardError) as error:
        yield _chunk(name, where, error)
        return
    except IndexError as error:
        yield Finding("wrong_place", name, where, str(error))
        return
    if row["content"] is None:
        return
    pairs = zip(row["channels"], hashes.hexdigests(), row["content"], strict=False)
    if wrong := [f"{i} ({channel})" for i, (channel, one, other) in enumerate(pairs) if one != other]:
        message = f"channels with another SHA-256 than was stored: {', '.join(wrong)}"
        yield Finding("different_samples", name, where, message)


def _chunk(name: str, where: str, error: StoreError) -> Finding:
    code = "missing_chunk" if isinstance(error, MissingChunkError) else "corrupt_chunk"
    return Finding(code, name, where, str(error))
