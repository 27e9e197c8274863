"""Scan: find, describe and identify what a run would convert; writes nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import ValidationError

from harmonize.ingest.dealt import answered
from harmonize.ingest.facts import Surroundings
from harmonize.ingest.find import Walked, group, walk
from harmonize.ingest.identify import Known, Policy, draft
from harmonize.ingest.packed import PackedDraft, anchor, pack
from harmonize.ingest.registry import converters
from harmonize.ingest.rerun import roots_of
from harmonize.ingest.rows import failure_row
from harmonize.ingest.tally import codes
from harmonize.ingest.values import resolve
from harmonize.ingest.write import converter_errors, hash_all
from harmonize.store import Store, catalog
from harmonize.store.catalog import Row
from harmonize_converters.contract import ConversionError, Described, FoundFile, SourceFiles

DESCRIBE_CHUNK, DESCRIBE_FILES = 64, 256
"""Sources that a process is given at once, fewer where they are of many files: a series can have thousands."""
AHEAD = 64
"""Chunks given to the executor before their answers are taken, so that answers do not pile up."""
KNOWN = ["source", "source_root", "source_state", "converter", "recipe_sha256", "recording_id", "subject"]

T = TypeVar("T")


@dataclass
class Progress:
    """How far a run is; handed to the ``progress`` callback after every step. ``failures`` counts by code."""

    stage: str = "find"
    sources: int = 0
    sources_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class Scan:
    """What would be converted: drafts, failures visible from headers, and what is in the store already."""

    policy: Policy
    drafts: list[PackedDraft] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    unchanged: int = 0
    changed: set[str] = field(default_factory=set)
    """Names of the sources that are in the store and are converted again."""
    vanished: list[Row] = field(default_factory=list)
    """``KNOWN`` of recordings whose sources are no longer in the folders that they were found in."""
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
    detailed: bool = False,
) -> Scan:
    """Everything before writing: what is found, described from headers, and named without identifying it.

    ``walked`` is what ``find.walk`` gave for ``sources``, where it was called already. ``checksum``: a source that is
    in the store counts as changed by its files' SHA-256 and not by their sizes and times. ``detailed``: also keep
    ``Scan.files`` and ``Scan.known``, which take ten times the memory of all else.
    """
    result, state = Scan(policy), Progress()
    progress(state)
    recipe, paths = policy.recipe, list(sources)
    found = group(walked or walk(paths, recipe), converters(), recipe, executor)
    state.stage, state.sources = "describe", len(found.sources)
    progress(state)
    result.side_files = found.side_files
    for file, error in found.failures:
        fail(result, file, None, error)
    rows = store.recordings if store else pl.DataFrame(schema=catalog.TABLES["recordings"])
    rows = rows.filter(dataset=recipe.dataset).select(KNOWN)
    known = {row["source"]: row for row in rows.iter_rows(named=True)}
    around = result.surroundings = Surroundings(recipe)
    names = {source.key: policy.source_id(source.key) for source in found.sources}
    before = {key: known[name] for key, name in names.items() if name in known}
    there = [one for one in found.sources if one.key in before]
    same = _same_bytes(store, there, before, executor) if checksum else None
    todo = [one for one in found.sources if _is_new(result, before.get(one.key), one, around, same)]
    seen = {policy.source_id(file.key) for file, _ in found.failures} | set(names.values())
    roots = roots_of(policy, paths)
    result.vanished = [row for key, row in known.items() if row["source_root"] in roots and key not in seen]
    state.sources_done = len(found.sources) - len(todo)
    again: set[str] = set()
    counted = 0
    for chunk, answers in _described(executor, todo):
        for source, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, ConversionError):
                fail(result, source.primary, source, answer)
            else:
                again.update({names[source.key]} & known.keys())
                _draft(result, source, answer, around, detailed)
        state.sources_done += len(chunk)
        state.failures.update(codes(result.failures[counted:]))
        counted = len(result.failures)
        progress(state)
    result.changed = {one.source_id for one in result.drafts if one.source_id in known}
    earlier = frozenset(row["subject"] for key, row in known.items() if key not in again and row["subject"])
    anchor(result.drafts, earlier)
    if detailed:
        result.files |= {names[source.key]: source.primary for source in todo}
    return result


def _draft(result: Scan, source: SourceFiles, described: Described, around: Surroundings, detailed: bool) -> None:
    """Name what was described, and put it away."""
    source = replace(source, peeked=())
    policy, facts = result.policy, around.facts(source)
    values = resolve(policy.recipe, facts, described.header, partial(around.lookup, source))
    known = Known(source, described, facts, values)
    if detailed:
        result.known.append(known)
    try:
        one = draft(policy, converters()[source.converter], known)
    except ValidationError as error:  # what a path or header says is not in the schema's words
        fields = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors()}))
        fail(result, source.primary, source, ConversionError("schema_mismatch", f"Fields: {fields}."))
    except ConversionError as error:
        fail(result, source.primary, source, error)
    else:
        result.drafts.append(pack(one, known.start(policy)))


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


def _chunks(sources: Sequence[SourceFiles]) -> Iterator[Sequence[SourceFiles]]:
    """Sources in order, some at a time."""
    first = files = 0
    for number, source in enumerate(sources):
        files += len(source.files)
        if files >= DESCRIBE_FILES or number + 1 - first == DESCRIBE_CHUNK:
            yield sources[first : number + 1]
            first, files = number + 1, 0
    if first < len(sources):
        yield sources[first:]


def _described(
    executor: Executor | None, sources: Sequence[SourceFiles]
) -> Iterator[tuple[Sequence[SourceFiles], Sequence[Described | ConversionError]]]:
    """Sources in chunks, in order, with their descriptions."""
    chunks = _chunks(sources)
    if executor is None:
        yield from ((chunk, describe_all(chunk)) for chunk in chunks)
        return
    waiting: deque[tuple[Sequence[SourceFiles], Future[list[Described | ConversionError]]]] = deque()
    lost = ConversionError("worker_died")
    for chunk in chunks:
        waiting.append((chunk, executor.submit(describe_all, chunk)))
        if len(waiting) == AHEAD:
            first, future = waiting.popleft()
            yield first, answered(executor, describe_all, first, future, lost)
    for first, future in waiting:
        yield first, answered(executor, describe_all, first, future, lost)


def _same_bytes(
    store: Store | None, sources: Sequence[SourceFiles], rows: Mapping[str, Row], executor: Executor | None
) -> frozenset[str]:
    """Keys of the sources whose files have the SHA-256 that the store remembers."""
    table = store.sources.filter(pl.col("role") != "events") if store else pl.DataFrame()
    remembered = {
        name: rows["sha256"].to_list() for (name,), rows in table.group_by("recording_id", maintain_order=True)
    }
    found = chain.from_iterable(_map(executor, hash_all, list(_chunks(sources))))
    return frozenset(
        source.key
        for source, hashes in zip(sources, found, strict=True)
        if hashes == remembered.get(rows[source.key]["recording_id"])
    )


def _is_new(
    result: Scan, known: Row | None, source: SourceFiles, around: Surroundings, same_bytes: frozenset[str] | None
) -> bool:
    """Whether a source is to be converted: it is not in the store, or it or what reads it has changed.
    ``same_bytes``: the sources whose files have not changed, where that was looked into."""
    if known is None:
        return True
    policy, converter = result.policy, converters()[source.converter]
    state = policy.source_state(source, around.facts(source))
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
