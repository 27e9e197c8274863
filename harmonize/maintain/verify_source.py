"""Check a recording against its source: described and read again by its converter. Runs in any process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from harmonize.ingest.identify import Draft
from harmonize.ingest.rows import annotation_rows
from harmonize.ingest.write import Loaded, load
from harmonize.maintain.compare import differences, first_difference
from harmonize.maintain.findings import Finding
from harmonize.maintain.reading import Planes, Samples
from harmonize.maintain.verify_store import READ_ERRORS, Held
from harmonize.store import StoreError
from harmonize.store.catalog import TABLES, Row
from harmonize.store.place import Place
from harmonize.store.sharded import ShardedArray
from harmonize.store.views import read_document
from harmonize_converters.contract import Block, ConversionError
from harmonize_schemas import Recording

RELATIVE_FLAGS = {"start_unanchored"}
"""Depends, as ``start_s`` does, on what else was converted in the same run."""


@dataclass(frozen=True)
class Case:
    """A recording of the store and the draft that its source gives now."""

    root: Place
    draft: Draft
    held: Held
    streams: list[Row]
    events: list[Row]
    recipe_sha256: str | None

    @property
    def name(self) -> str:
        return str(self.held.row["recording_id"])

    def finding(self, code: str, where: str, message: str) -> Finding:
        return Finding(code, self.name, where, message)


def compare_source(case: Case) -> list[Finding]:
    """Compare one recording with its source. A source that changed is said to have, and compared no further."""
    where = str(case.held.row["source"])
    try:
        loaded = load(case.draft)
    except ConversionError as error:
        code = "source_fails" if case.draft.state == case.held.row["source_state"] else "source_changed"
        return [case.finding(code, where, f"the source cannot be read: {error.code}")]
    if changed := _changed_files(case, loaded.recording):
        return [case.finding("source_changed", where, changed)]
    reader, words = _other_reader(case, loaded.recording), _other_words(case)
    found = []
    for one in _compare(case, loaded, where):
        # The same bytes read by other rules: a difference is to be expected and is no fault of the store.
        other = reader if one.code == "source_samples" else reader or words
        found.append(one if other is None else case.finding("source_changed", where, f"{other}: {one.message}"))
    return found


def _changed_files(case: Case, now: Recording) -> str | None:
    """What is to be said of files whose bytes are others than those that were converted."""
    stored = sorted((row["role"], row["size"], row["sha256"]) for row in case.held.sources)
    files = sorted((file.role, file.size, file.sha256) for file in now.source.files)
    if stored == files:
        return None
    roles = sorted({one[0] for one in set(stored).symmetric_difference(files)})
    return f"files changed since they were converted: {', '.join(roles)}"


def _other_reader(case: Case, now: Recording) -> str | None:
    """Why the same bytes may give other samples; None where they may not."""
    reader = f"{now.provenance.converter}/{now.provenance.converter_version}"
    if case.held.row["converter"] != reader:
        return f"converted by {case.held.row['converter']}, now {reader}"
    # Only for bare arrays does the recipe say which numbers are samples.
    return _other_words(case) if case.draft.source.arrays is not None else None


def _other_words(case: Case) -> str | None:
    """Why the same bytes may give another document or other events; None where they may not."""
    if case.held.row["recipe_sha256"] != case.recipe_sha256:
        return "converted with another recipe"
    if case.held.row["source_state"] != case.draft.state:
        return "a file's time, or what lies around it, changed"
    return None


def _compare(case: Case, loaded: Loaded, where: str) -> Iterator[Finding]:
    try:
        stored = _stored_document(case)
    except READ_ERRORS:
        return  # the check of the store says what is wrong with it
    for said in differences(_comparable(stored), _comparable(loaded.recording)):
        yield case.finding("source_description", where, said)
    rows = annotation_rows(loaded.recording, loaded.annotations)
    if differ := _events_differ(case.events, rows):
        yield case.finding("source_events", where, differ)
    if _shapes(stored) != _shapes(loaded.recording):
        return
    try:
        yield from _compare_blocks(case, stored, iter(loaded.blocks))
    except ConversionError as error:
        yield case.finding("source_fails", where, f"the source cannot be read: {error.code}")
    except StoreError:
        return  # a missing or corrupt chunk: the check of the store names it


def _stored_document(case: Case) -> Recording:
    row = case.held.row
    if row["image"] is not None:
        return read_document(case.root, row["image"], None)
    if not case.streams:
        return Recording.model_validate_json(row["document"])
    return read_document(case.root, case.streams[0]["part"], case.streams[0]["row"])


def _comparable(recording: Recording) -> Any:
    """A document without what depends on the run, the place of the folder, and versions of libraries."""
    out = json.loads(recording.model_dump_json(exclude={"start_s": True, "provenance": True, "source": {"root"}}))
    out["flags"] = [flag for flag in out["flags"] if flag not in RELATIVE_FLAGS]
    return out


def _events_differ(stored: list[Row], found: list[Row]) -> str | None:
    names = [name for name in TABLES["annotations"] if name != "commit"]
    if len(stored) != len(found):
        return f"{len(stored)} events, now {len(found)}"
    ours, theirs = (sorted(repr([row[name] for name in names]) for row in rows) for rows in (stored, found))
    wrong = sum(a != b for a, b in zip(ours, theirs, strict=True))
    return f"{wrong} of {len(stored)} events differ" if wrong else None


def _shapes(recording: Recording) -> list[tuple[Any, ...]]:
    image = [] if recording.image is None else [(tuple(recording.image.shape), recording.image.dtype)]
    return [(len(s.channels), s.n_samples, s.dtype) for s in recording.streams] + image


def _compare_blocks(case: Case, stored: Recording, blocks: Iterator[Block]) -> Iterator[Finding]:
    """The first sample of each stream that differs; all blocks are read, so that the converter checks its sums."""
    image = stored.image
    planes = Planes(ShardedArray(case.root / case.held.row["image"] / "0")) if image is not None else None
    arrays = [ShardedArray(case.root / row["part"] / "samples") for row in case.streams]
    readers = [Samples(array) for array in arrays]
    wrong: set[int | None] = set()
    for block in blocks:
        if block.stream in wrong or block.samples.size == 0:
            continue
        if block.stream is None:
            assert planes is not None
            ours = planes.read(block.start, block.start + len(block.samples))
        else:
            first = case.streams[block.stream]["start"] + block.start
            pieces = list(readers[block.stream].blocks(first, first + block.samples.shape[1]))
            ours = np.concatenate(pieces, axis=1)
        at = first_difference(ours, block.samples.astype(ours.dtype, copy=False))
        if at is not None:
            wrong.add(block.stream)
            yield case.finding("source_samples", *_named(case, stored, block, at))


def _named(case: Case, stored: Recording, block: Block, at: tuple[int, ...]) -> tuple[str, str]:
    """Where the difference is in the store, and which channel and sample."""
    if block.stream is None:
        plane, y, x = at
        return str(case.held.row["image"]), f"plane {block.start + plane}, y {y}, x {x} is the first that differs"
    row, stream = case.streams[block.stream], stored.streams[block.stream]
    channel, sample = at
    what = f"channel {channel} ({stream.channels[channel].name}), sample {block.start + sample}"
    return f"{row['part']} stream {row['stream']}", f"{what} is the first that differs"
