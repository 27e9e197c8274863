"""Convert: find -> describe -> identify -> plan -> write -> commit."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from harmonize.ingest.find import walk
from harmonize.ingest.forgotten import refuse
from harmonize.ingest.identify import Draft, Policy
from harmonize.ingest.manifest import run_row
from harmonize.ingest.plan import Task, plan, raw_bytes
from harmonize.ingest.pool import WorkerDied
from harmonize.ingest.privacy import ProjectKey, load_key
from harmonize.ingest.recipes import load_recipe
from harmonize.ingest.rerun import nothing_changed, remember, tree_digest
from harmonize.ingest.scan import Progress, Scan, fail, scan
from harmonize.ingest.write import failed, run_task
from harmonize.store import catalog, create_store, open_store
from harmonize.store.catalog import Batch, Row
from harmonize.store.place import Place, place_of
from harmonize.store.shards import Codec
from harmonize_converters.contract import ConversionError
from harmonize_schemas import Recipe

COMMIT_EVERY_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a run did. ``failures`` are rows of the store's table; ``side_files`` counts by suffix."""

    store: Place
    version: int
    converted: int
    unchanged: int
    failures: list[Row]
    side_files: Counter[str]
    raw_bytes: int
    seconds: float
    vanished: int = 0


def convert(
    sources: str | Path | Sequence[str | Path],
    into: str | Place,
    dataset: str | None = None,
    recipe: Recipe | str | Path | None = None,
    executor: Executor | None = None,
    *,
    key: ProjectKey | None = None,
    codec: Codec = "lz4",
    workers: int = 1,
    privacy: Literal["pseudonym", "keep"] | None = None,
    checksum: bool = False,
    prune: bool = False,
    partition: tuple[int, int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    log: Callable[[str, Row], None] = lambda *_: None,
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
    prune
        Remove the recordings whose sources are no longer in the folders given, in a commit of its own.
    partition
        (i, n), i from 1: convert only the i-th of n parts of the sources. n runs, at the same time or one after the
        other, on one machine or many, make the store that one run makes.
    progress, log
        Called with how far the run is, and with each event (its name and fields, free of identifying text).

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
    root = place_of(into)
    create_store(root, policy.key.key_id)
    walked = walk(paths, plan_recipe)
    digest, store = tree_digest(policy, walked), open_store(root)
    if not (checksum or prune or partition) and (known := nothing_changed(store, policy, paths, digest)):
        took = time.monotonic() - began
        outcome = Outcome(root, store.version, 0, known[0], known[1], Counter(), 0, took)
        log("end", _counts(outcome))
        return outcome
    found = scan(paths, policy, store, executor, progress, walked=walked, checksum=checksum)
    found.drafts = refuse(policy, root, found.drafts, found.failures, found.files)
    drafts = _without_duplicates(found)
    if partition is not None:
        drafts = [one for one in drafts if _is_mine(one.recording.source.id, partition)]
        found.failures = [row for row in found.failures if _is_mine(row["source"], partition)]
        found.vanished = [row for row in found.vanished if _is_mine(row["source"], partition)]
    tasks = plan(drafts, workers)
    log("planned", {"recordings": len(drafts), "unchanged": found.unchanged, "tasks": len(tasks)})
    for row in found.failures:
        log("failure", row)
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
        log("task", {"recordings": len(batch.recordings), "bytes": task.raw_bytes})
        for row in batch.failures:
            log("failure", row)
        if time.monotonic() - committed > COMMIT_EVERY_S:
            version, pending, committed = catalog.commit(root, pending), Batch(), time.monotonic()
            log("commit", {"version": version, "recordings": converted})
    if pending or version is None:
        version = catalog.commit(root, pending)
        log("commit", {"version": version, "recordings": converted})
    if prune and found.vanished:
        version = catalog.remove_recordings(root, [row["recording_id"] for row in found.vanished], "prune")
        log("commit", {"version": version, "removed": len(found.vanished)})
    _keep_terms(root, policy, version)
    if partition is None:
        remember(open_store(root), policy, paths, digest, (row["source"] for row in failures))
    seconds = time.monotonic() - began
    outcome = Outcome(
        root, version, converted, found.unchanged, failures, found.side_files, state.bytes_done, seconds,
        len(found.vanished),
    )  # fmt: skip
    options = {
        "codec": codec, "workers": workers, "privacy": plan_recipe.privacy, "checksum": checksum, "prune": prune,
        "partition": partition, "executor": type(executor).__name__,
    }  # fmt: skip
    counts = _counts(outcome)
    catalog.append_derived(root, "runs", run_row(plan_recipe.dataset, recipe_sha256, options, seconds, **counts))
    log("end", counts)
    return outcome


def _counts(outcome: Outcome) -> dict[str, int]:
    return {
        "converted": outcome.converted,
        "unchanged": outcome.unchanged,
        "failed": len(outcome.failures),
        "vanished": outcome.vanished,
        "bytes": outcome.raw_bytes,
        "version": outcome.version,
    }


def _is_mine(source: str, partition: tuple[int, int]) -> bool:
    """Whether a source is in a part: by a hash of its name, so that all runs agree and parts are alike."""
    part, parts = partition
    return int(hashlib.sha256(source.encode()).hexdigest(), 16) % parts == part - 1


def _keep_terms(root: Place, policy: Policy, version: int) -> None:
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
            fail(found, one.source.primary, one.source, ConversionError("duplicate_source"))
    return list(drafts.values())


def _run(executor: Executor | None, root: Place, tasks: Sequence[Task], codec: Codec) -> Iterator[tuple[Task, Batch]]:
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
