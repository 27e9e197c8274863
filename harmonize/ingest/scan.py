"""Scan: find, describe and identify what a run would convert; writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import ValidationError

from harmonize.ingest.facts import Facts, Surroundings
from harmonize.ingest.find import Walked, group, walk
from harmonize.ingest.identify import Draft, Known, Policy, draft, first_starts
from harmonize.ingest.pool import WorkerDied
from harmonize.ingest.registry import converters
from harmonize.ingest.rerun import roots_of
from harmonize.ingest.rows import failure_row
from harmonize.ingest.values import resolve
from harmonize.ingest.write import converter_errors, hash_all
from harmonize.store import Store, catalog
from harmonize.store.catalog import Row
from harmonize_converters.contract import ConversionError, Described, FoundFile, SourceFiles

DESCRIBE_CHUNK = 64

T = TypeVar("T")


@dataclass
class Progress:
    """How far a run is; handed to the ``progress`` callback after every step."""

    stage: str = "find"
    sources: int = 0
    sources_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    failures: int = 0


@dataclass
class Scan:
    """What would be converted: drafts, failures visible from headers, and what is in the store already."""

    policy: Policy
    drafts: list[Draft] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    unchanged: int = 0
    vanished: list[Row] = field(default_factory=list)
    """Rows of recordings whose sources are no longer in the folders that they were found in."""
    side_files: Counter[str] = field(default_factory=Counter)
    files: dict[str, FoundFile] = field(default_factory=dict)
    """Source id to the file it stands for: for the user's eyes, never stored."""
    known: list[Known] = field(default_factory=list)
    surroundings: Surroundings | None = None


def scan(
    sources: Iterable[Path],
    policy: Policy,
    store: Store | None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    walked: Walked | None = None,
    checksum: bool = False,
) -> Scan:
    """Everything before writing: what is found, described from headers, and named without identifying it.

    ``walked`` is what ``find.walk`` gave for ``sources``, where it was called already. ``checksum``: a source that is
    in the store counts as changed by its files' SHA-256 and not by their sizes and times.
    """
    result, state = Scan(policy), Progress()
    progress(state)
    recipe, paths = policy.recipe, list(sources)
    found = group(walked or walk(paths, recipe), converters(), recipe)
    state.stage, state.sources = "describe", len(found.sources)
    progress(state)
    result.side_files = found.side_files
    for file, error in found.failures:
        fail(result, file, None, error)
    rows = store.recordings if store else pl.DataFrame(schema=catalog.TABLES["recordings"])
    known = {row["source"]: row for row in rows.iter_rows(named=True) if row["dataset"] == recipe.dataset}
    around = result.surroundings = Surroundings(recipe)
    facts = {source.key: around.facts(source) for source in found.sources}
    before = {source.key: known.get(policy.source_id(source.key)) for source in found.sources}
    same = _same_bytes(store, [one for one in found.sources if before[one.key]], before, executor) if checksum else None
    todo = [one for one in found.sources if _is_new(result, before[one.key], one, facts[one.key], same)]
    seen = {policy.source_id(file.key) for file, _ in found.failures} | {policy.source_id(s.key) for s in found.sources}
    roots = roots_of(policy, paths)
    result.vanished = [row for key, row in known.items() if row["source_root"] in roots and key not in seen]
    chunks = [todo[i : i + DESCRIBE_CHUNK] for i in range(0, len(todo), DESCRIBE_CHUNK)]
    described: list[Known] = []
    for chunk, answers in zip(chunks, _described(executor, chunks), strict=True):
        for source, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, ConversionError):
                fail(result, source.primary, source, answer)
            else:
                at = facts[source.key]
                lookup = partial(around.lookup, source)
                described.append(Known(source, answer, at, resolve(recipe, at, answer.header, lookup)))
        state.sources_done += len(chunk)
        state.failures = len(result.failures)
        progress(state)
    result.known = described
    first = first_starts((one.subject(policy), one.start(policy)) for one in described)
    again = {policy.source_id(one.source.key) for one in described}
    earlier = frozenset(row["subject"] for key, row in known.items() if key not in again and row["subject"])
    for item in described:
        source = item.source
        try:
            one = draft(policy, converters()[source.converter], item, first, earlier)
        except ValidationError as error:  # what a path or header says is not in the schema's words
            fields = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors()}))
            fail(result, source.primary, source, ConversionError("schema_mismatch", f"Fields: {fields}."))
            continue
        result.drafts.append(one)
        result.files[one.recording.source.id] = source.primary
    return result


def describe_all(sources: Sequence[SourceFiles]) -> list[Described | ConversionError]:
    """Describe sources from their headers; runs in any process."""
    out: list[Described | ConversionError] = []
    for source in sources:
        try:
            with converter_errors():
                out.append(converters()[source.converter].describe(source))
        except ConversionError as error:
            out.append(error)
    return out


def _described(
    executor: Executor | None, chunks: Sequence[Sequence[SourceFiles]]
) -> Iterator[list[Described | ConversionError]]:
    """Descriptions of each chunk; of one whose process was killed, each source's alone."""
    if executor is None:
        yield from map(describe_all, chunks)
        return
    futures = [executor.submit(describe_all, chunk) for chunk in chunks]
    for chunk, future in zip(chunks, futures, strict=True):
        try:
            yield future.result()
        except WorkerDied:
            if len(chunk) == 1:
                yield [ConversionError("worker_died")]
            else:
                yield [one for (one,) in _described(executor, [[source] for source in chunk])]


def _same_bytes(
    store: Store | None, sources: Sequence[SourceFiles], rows: Mapping[str, Row | None], executor: Executor | None
) -> frozenset[str]:
    """Keys of the sources whose files have the SHA-256 that the store remembers."""
    table = store.sources.filter(pl.col("role") != "events") if store else pl.DataFrame()
    remembered = {
        name: rows["sha256"].to_list() for (name,), rows in table.group_by("recording_id", maintain_order=True)
    }
    chunks = [sources[i : i + DESCRIBE_CHUNK] for i in range(0, len(sources), DESCRIBE_CHUNK)]
    found = chain.from_iterable(_map(executor, hash_all, chunks))
    return frozenset(
        source.key
        for source, hashes in zip(sources, found, strict=True)
        if (row := rows[source.key]) and hashes == remembered.get(row["recording_id"])
    )


def _is_new(
    result: Scan, known: Row | None, source: SourceFiles, facts: Facts, same_bytes: frozenset[str] | None
) -> bool:
    """Whether a source is to be converted: it is not in the store, or it or what reads it has changed.
    ``same_bytes``: the sources whose files have not changed, where that was looked into."""
    if known is None:
        return True
    policy, converter = result.policy, converters()[source.converter]
    state = policy.source_state(source, facts)
    same = known["source_state"] == state
    if same_bytes is not None:  # what lies around it counts all the same
        same = source.key in same_bytes and known["source_state"].partition("-")[2] == state.partition("-")[2]
    if not same and known["source_root"] != policy.source_root(source.primary):
        fail(result, source.primary, source, ConversionError("source_conflict"))
        return False
    reader = f"{converter.name}/{converter.version}"
    if same and known["converter"] == reader and known["recipe_sha256"] == policy.recipe_sha256:
        result.unchanged += 1
        return False
    return True


def fail(result: Scan, file: FoundFile, source: SourceFiles | None, error: ConversionError) -> None:
    policy = result.policy
    name = policy.source_id(source.key if source else file.key)
    result.files[name] = file
    format_name = source.converter if source else None
    result.failures.append(
        failure_row(name, policy.recipe.dataset, format_name, error.code, error.message, error.where)
    )


def _map(executor: Executor | None, work: Callable[..., T], *items: Sequence[Any]) -> Iterator[T]:
    return executor.map(work, *items) if executor else map(work, *items)
