"""Convert: find -> describe -> identify -> plan -> write -> commit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl
from pydantic import ValidationError

from harmonize.ingest.facts import Facts, Surroundings
from harmonize.ingest.find import find
from harmonize.ingest.forgotten import refuse
from harmonize.ingest.identify import Draft, Known, Policy, draft, first_starts
from harmonize.ingest.plan import Task, plan, raw_bytes
from harmonize.ingest.privacy import ProjectKey, load_key
from harmonize.ingest.recipes import load_recipe
from harmonize.ingest.registry import converters
from harmonize.ingest.rows import failure_row
from harmonize.ingest.values import resolve
from harmonize.ingest.write import converter_errors, run_task
from harmonize.store import Store, catalog, create_store, open_store
from harmonize.store.catalog import Batch, Row
from harmonize.store.parts import Codec
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


@dataclass
class Scan:
    """What would be converted: drafts, failures visible from headers, and what is in the store already."""

    policy: Policy
    drafts: list[Draft] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    unchanged: int = 0
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
) -> Scan:
    """Everything before writing: what is found, described from headers, and named without identifying it."""
    result, state = Scan(policy), Progress()
    progress(state)
    recipe = policy.recipe
    found = find(sources, converters(), recipe)
    state.stage, state.sources = "describe", len(found.sources)
    progress(state)
    result.side_files = found.side_files
    for file, error in found.failures:
        _fail(result, file, None, error)
    rows = store.recordings if store else pl.DataFrame(schema=catalog.TABLES["recordings"])
    known = {row["source"]: row for row in rows.iter_rows(named=True) if row["dataset"] == recipe.dataset}
    around = result.surroundings = Surroundings(recipe)
    facts = {source.key: around.facts(source) for source in found.sources}
    todo = [
        source
        for source in found.sources
        if _is_new(result, known.get(policy.source_id(source.key)), source, facts[source.key])
    ]
    chunks = [todo[i : i + DESCRIBE_CHUNK] for i in range(0, len(todo), DESCRIBE_CHUNK)]
    described: list[Known] = []
    for chunk, answers in zip(chunks, _map(executor, describe_all, chunks), strict=True):
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
    before = frozenset(row["subject"] for key, row in known.items() if key not in again and row["subject"])
    for item in described:
        source = item.source
        try:
            one = draft(policy, converters()[source.converter], item, first, before)
        except ValidationError as error:  # what a path or header says is not in the schema's words
            fields = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors()}))
            _fail(result, source.primary, source, ConversionError("schema_mismatch", f"Fields: {fields}."))
            continue
        result.drafts.append(one)
        result.files[one.recording.source.id] = source.primary
    return result


def _is_new(result: Scan, known: dict[str, Any] | None, source: SourceFiles, facts: Facts) -> bool:
    """Whether a source is to be converted: it is not in the store, or it or what reads it has changed."""
    if known is None:
        return True
    policy, converter = result.policy, converters()[source.converter]
    same = known["source_state"] == policy.source_state(source, facts)
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
    found = scan(paths, policy, open_store(root), executor, progress)
    found.drafts = refuse(policy, root, found.drafts, found.failures, found.files)
    drafts = _without_duplicates(found)
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
    seconds = time.monotonic() - began
    return Outcome(root, version, converted, found.unchanged, failures, found.side_files, state.bytes_done, seconds)


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


def _run(executor: Executor | None, root: Path, tasks: Sequence[Task], codec: Codec) -> Iterator[tuple[Task, Batch]]:
    if executor is None:
        for task in tasks:
            yield task, run_task(root, task, codec)
        return
    futures: dict[Future[Batch], Task] = {executor.submit(run_task, root, task, codec): task for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        for future in futures:
            future.cancel()
        raise
