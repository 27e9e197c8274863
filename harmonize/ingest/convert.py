"""Convert: find -> describe -> identify -> plan -> write -> commit."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl
from pydantic import ValidationError

from harmonize.ingest.facts import Facts, Surroundings
from harmonize.ingest.find import Walked, group, walk
from harmonize.ingest.identify import Draft, Known, Policy, draft, first_starts
from harmonize.ingest.plan import Task, plan, raw_bytes
from harmonize.ingest.pool import WorkerDied
from harmonize.ingest.privacy import ProjectKey, load_key
from harmonize.ingest.recipes import load_recipe
from harmonize.ingest.registry import converters
from harmonize.ingest.rerun import nothing_changed, remember, roots_of, tree_digest
from harmonize.ingest.rows import failure_row
from harmonize.ingest.values import resolve
from harmonize.ingest.write import converter_errors, failed, hash_all, run_task
from harmonize.store import Store, catalog, create_store, open_store
from harmonize.store.catalog import Batch, Row
from harmonize.store.shards import Codec
from harmonize_converters.contract import ConversionError, Described, FoundFile, SourceFiles
from harmonize_schemas import Recipe

DESCRIBE_CHUNK = 64
COMMIT_EVERY_S = 60.0

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


@dataclass(frozen=True)
class Outcome:
    """What a run did. ``failures`` are rows of the store's table; ``side_files`` counts by suffix."""

    store: Path
    version: int
    converted: int
    unchanged: int
    failures: list[Row]
    side_files: Counter[str]
    raw_bytes: int
    seconds: float
    vanished: int = 0


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
        _fail(result, file, None, error)
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
                _fail(result, source.primary, source, answer)
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
            _fail(result, source.primary, source, ConversionError("schema_mismatch", f"Fields: {fields}."))
            continue
        result.drafts.append(one)
        result.files[one.recording.source.id] = source.primary
    return result


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
        _fail(result, source.primary, source, ConversionError("source_conflict"))
        return False
    reader = f"{converter.name}/{converter.version}"
    if same and known["converter"] == reader and known["recipe_sha256"] == policy.recipe_sha256:
        result.unchanged += 1
        return False
    return True


def _fail(result: Scan, file: FoundFile, source: SourceFiles | None, error: ConversionError) -> None:
    policy = result.policy
    name = policy.source_id(source.key if source else file.key)
    result.files[name] = file
    format_name = source.converter if source else None
    result.failures.append(
        failure_row(name, policy.recipe.dataset, format_name, error.code, error.message, error.where)
    )


def _map(executor: Executor | None, work: Callable[..., T], *items: Sequence[Any]) -> Iterator[T]:
    return executor.map(work, *items) if executor else map(work, *items)


def convert(
    sources: str | Path | Sequence[str | Path],
    into: str | Path,
    dataset: str | None = None,
    recipe: Recipe | str | Path | None = None,
    executor: Executor | None = None,
    *,
    key: ProjectKey | None = None,
    codec: Codec = "lz4",
    workers: int = 1,
    privacy: Literal["pseudonym", "keep"] | None = None,
    checksum: bool = False,
    partition: tuple[int, int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Convert files and folders into a store, which is made where there is none.

    Sources that are in the store and unchanged are left alone; changed ones replace their recordings.
    What cannot be converted is in ``Outcome.failures`` and the store's table; it stops nothing else. The
    store changes only by commits of whole recordings, every ``COMMIT_EVERY_S`` seconds and at the end.

    Parameters
    ----------
    executor
        Runs the work; None: this process. Its processes must be able to import harmonize and see the
        sources and the store. ``workers`` tells how many there are.
    key
        The project key for pseudonyms; None: the default one (see ``harmonize.ingest.privacy``).

    privacy
        Goes over what the recipe says; "keep" is for data that are public already.
    checksum
        Tell changed sources by SHA-256 instead of by size and time: reads every file again.
    partition
        (i, n), i from 1: convert only the i-th of n parts of the sources. n runs, at the same time or one after the
        other, on one machine or many, make the store that one run makes.

    Raises
    ------
    FileNotFoundError, StoreError, KeyFileError, ValueError
        For a missing source, a path that is no store or has another key, an unusable key, a wrong recipe.
    OSError
        When the store cannot be written (a full disk); what was committed before stays.
    """
    began = time.monotonic()
    paths = [Path(one) for one in ([sources] if isinstance(sources, str | Path) else sources)]
    for path in paths:
        path.stat()
    plan_recipe, recipe_sha256 = load_recipe(recipe, dataset, paths[0], privacy)
    policy = Policy(plan_recipe, recipe_sha256, key or load_key())
    root = Path(into)
    create_store(root, policy.key.key_id)
    walked = walk(paths, plan_recipe)
    digest, store = tree_digest(policy, walked), open_store(root)
    if not checksum and partition is None and (known := nothing_changed(store, policy, paths, digest)):
        took = time.monotonic() - began
        return Outcome(root, store.version, 0, known[0], known[1], Counter(), 0, took)
    found = scan(paths, policy, store, executor, progress, walked=walked, checksum=checksum)
    drafts = _without_duplicates(found)
    if partition is not None:
        drafts = [one for one in drafts if _is_mine(one.recording.source.id, partition)]
        found.failures = [row for row in found.failures if _is_mine(row["source"], partition)]
    tasks = plan(drafts, workers)
    state = Progress("write", len(drafts), 0, sum(map(raw_bytes, drafts)), 0, len(found.failures))
    progress(state)
    failures, converted = list(found.failures), 0
    version, pending, committed = None, Batch(failures=list(found.failures)), time.monotonic()
    for task, batch in _run(executor, root, tasks, codec):
        pending.extend(batch)
        failures.extend(batch.failures)
        converted += len(batch.recordings)
        state.sources_done += len(task.drafts)
        state.bytes_done += task.raw_bytes
        state.failures = len(failures)
        progress(state)
        if time.monotonic() - committed > COMMIT_EVERY_S:
            version, pending, committed = catalog.commit(root, pending), Batch(), time.monotonic()
    if pending or version is None:
        version = catalog.commit(root, pending)
    _keep_terms(root, policy, version)
    if partition is None:
        remember(open_store(root), policy, paths, digest, (row["source"] for row in failures))
    seconds = time.monotonic() - began
    return Outcome(
        root, version, converted, found.unchanged, failures, found.side_files, state.bytes_done, seconds,
        len(found.vanished),
    )  # fmt: skip


def _is_mine(source: str, partition: tuple[int, int]) -> bool:
    """Whether a source is in a part: by a hash of its name, so that all runs agree and parts are alike."""
    part, parts = partition
    return int(hashlib.sha256(source.encode()).hexdigest(), 16) % parts == part - 1


def _keep_terms(root: Path, policy: Policy, version: int) -> None:
    """Licence, citation and access of the data set, for ``cite``; a run without a recipe leaves them alone."""
    recipe = policy.recipe
    known, _ = catalog.read_derived(root, "datasets")
    row = {name: getattr(recipe, name) for name in catalog.DERIVED["datasets"]}
    frame = pl.DataFrame([row], schema=catalog.DERIVED["datasets"], orient="row")
    same = known.filter(dataset=recipe.dataset)
    if same.equals(frame) or (policy.recipe_sha256 is None and len(same)):
        return
    catalog.replace_derived(root, "datasets", frame, version, f"dataset = '{recipe.dataset}'")


def _without_duplicates(found: Scan) -> list[Draft]:
    """Drafts with identities of their own; of several with one identity, all but the first fail."""
    drafts: dict[str, Draft] = {}
    for one in found.drafts:
        if drafts.setdefault(one.recording.recording_id, one) is not one:
            _fail(found, one.source.primary, one.source, ConversionError("duplicate_source"))
    return list(drafts.values())


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


def _run(executor: Executor | None, root: Path, tasks: Sequence[Task], codec: Codec) -> Iterator[tuple[Task, Batch]]:
    """The batch of each task as it ends; where a process was killed, each recording of its task is a task alone."""
    if executor is None:
        for task in tasks:
            yield task, run_task(root, task, codec)
        return
    futures: dict[Future[Batch], Task] = {executor.submit(run_task, root, task, codec): task for task in tasks}
    split: list[Task] = []
    try:
        for future in as_completed(futures):
            task = futures[future]
            try:
                yield task, future.result()
            except WorkerDied:
                if len(task.drafts) > 1:
                    split += [Task((one,), raw_bytes(one)) for one in task.drafts]
                else:
                    yield task, Batch(failures=[failed(task.drafts[0], ConversionError("worker_died"))])
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    if split:
        yield from _run(executor, root, split, codec)
