"""Convert: find -> describe -> identify -> plan -> write -> commit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl
from deltalake.exceptions import DeltaError

from harmonize.ingest.find import walk
from harmonize.ingest.identify import Policy
from harmonize.ingest.manifest import run_row
from harmonize.ingest.pending import Pending
from harmonize.ingest.plan import Task
from harmonize.ingest.pool import ProcessPool, rarely_collected
from harmonize.ingest.prepare import Partition, Prepared, prepare
from harmonize.ingest.privacy import ProjectKey, load_key
from harmonize.ingest.recipes import load_recipe
from harmonize.ingest.rerun import nothing_changed, remember, tree_digest
from harmonize.ingest.scan import Progress
from harmonize.ingest.tally import Group, Tally, add_batch, codes
from harmonize.ingest.tasks import run_tasks
from harmonize.store import StoreWriteError, catalog, create_store, open_store
from harmonize.store.catalog import Row
from harmonize.store.locks import CONVERTING, held
from harmonize.store.place import Place, place_of
from harmonize.store.shards import Codec
from harmonize_schemas import Recipe

AHEAD = 32
"""Tasks given to an executor at once, at least."""


@dataclass
class Outcome:
    """What a run did. ``failures`` are rows of the store's table; ``side_files`` counts by suffix; ``tallies`` say it
    by format and site; ``planned`` is how many recordings were to be converted; ``stopped``: the run was asked to stop
    before all were."""

    store: Place
    version: int
    converted: int = 0
    unchanged: int = 0
    failures: list[Row] = field(default_factory=list)
    side_files: Counter[str] = field(default_factory=Counter)
    raw_bytes: int = 0
    seconds: float = 0.0
    vanished: int = 0
    tallies: dict[Group, Tally] = field(default_factory=dict)
    planned: int = 0
    stopped: bool = False


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
    partition: Partition | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    log: Callable[[str, Row], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Convert files and folders into a store, which is made where there is none.

    Sources that are in the store and unchanged are left alone; changed ones replace their recordings.
    What cannot be converted is in ``Outcome.failures`` and the store's table; it stops nothing else. The
    store changes only by commits of whole recordings, every minute (``pending``) and at the end.

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
    stop
        Asked while tasks run; once it says True, the tasks that run are ended and committed, and no other begins.

    Raises
    ------
    FileNotFoundError, StoreError, KeyFileError, ValueError
        For a missing source, a path that is no store or has another key, an unusable key, a wrong recipe.
    StoreWriteError
        When the store cannot be written (a full disk, a read-only target). What was written whole is committed if that
        still can be; what was committed stays, and the same call goes on from there.
    """
    began = time.monotonic()
    paths = [Path(one) for one in ([sources] if isinstance(sources, str | Path) else sources)]
    for path in paths:
        path.stat()
    loaded, recipe_sha256 = load_recipe(recipe, dataset, paths[0], privacy)
    policy, root = Policy(loaded, recipe_sha256, key or load_key()), place_of(into)
    with _writing():
        create_store(root, policy.key.key_id)
    walked = walk(paths, loaded)
    digest, store = tree_digest(policy, walked), open_store(root)
    if not (checksum or prune or partition) and (known := nothing_changed(store, policy, paths, digest)):
        outcome = Outcome(root, store.version, unchanged=known[0], failures=known[1])
        outcome.seconds = time.monotonic() - began
        log("end", _counts(outcome))
        return outcome
    if isinstance(executor, ProcessPool):
        executor.start()  # while this process looks for sources
    with ExitStack() as stack:
        stack.enter_context(rarely_collected())
        with _writing():
            stack.enter_context(held(root, CONVERTING))
        ready = prepare(
            policy, paths, store, executor, workers, progress, walked=walked, checksum=checksum, partition=partition
        )
        del walked  # two objects a file
        found = ready.found
        outcome = Outcome(root, store.version, unchanged=found.unchanged, side_files=found.side_files)
        outcome.planned, outcome.vanished = len(found.drafts), len(found.vanished)
        with _writing(outcome):
            _write(outcome, policy, ready, executor, codec, workers, progress, log, stop)
            if prune and found.vanished and not outcome.stopped:
                gone = [row["recording_id"] for row in found.vanished]
                outcome.version = catalog.remove_recordings(root, gone, "prune")
                log("commit", {"version": outcome.version, "removed": len(gone)})
            _keep_terms(root, policy, outcome.version)
            if partition is None and not outcome.stopped:
                remember(root, policy, paths, digest, (row["source"] for row in outcome.failures))
            outcome.seconds = time.monotonic() - began
            options = {
                "codec": codec, "workers": workers, "privacy": loaded.privacy, "checksum": checksum, "prune": prune,
                "partition": partition, "executor": type(executor).__name__,
            }  # fmt: skip
            row = run_row(loaded.dataset, recipe_sha256, options, outcome.seconds, **_counts(outcome))
            catalog.append_derived(root, "runs", row)
    log("end", _counts(outcome))
    return outcome


def _write(
    outcome: Outcome,
    policy: Policy,
    ready: Prepared,
    executor: Executor | None,
    codec: Codec,
    workers: int,
    progress: Callable[[Progress], None],
    log: Callable[[str, Row], None],
    stop: Callable[[], bool],
) -> None:
    """Run the tasks and commit what they wrote; the outcome counts what was committed. Raises ``OSError``."""
    failures, tasks = ready.found.failures, ready.tasks
    log("planned", {"recordings": outcome.planned, "unchanged": outcome.unchanged, "tasks": len(tasks)})
    for row in failures:
        log("failure", row)
    size = sum(task.raw_bytes for task in tasks)
    state = Progress("write", outcome.planned, 0, size, 0, codes(failures))
    progress(state)
    pending = Pending(outcome.store, policy, ready.listed, failures)

    def commit() -> list[Task]:
        made = pending.commit()
        outcome.version = made.version
        for done in made.done:
            outcome.converted += len(done.batch.recordings)
            outcome.failures += done.batch.failures
            outcome.raw_bytes += sum(row["bytes"] for row in done.batch.recordings)
            add_batch(outcome.tallies, done.task, done.batch, done.seconds)
        log("commit", {"version": made.version, "recordings": outcome.converted})
        return made.again

    while True:
        again: list[Task] = []
        try:
            for done in run_tasks(executor, outcome.store, tasks, codec, max(AHEAD, 2 * workers), stop):
                pending.add(done)
                size = done.task.raw_bytes if done.task else 0
                state.sources_done += len(done.task.drafts) if done.task else 0
                state.bytes_done += size
                state.failures.update(codes(done.batch.failures))
                progress(state)
                log("task", {"recordings": len(done.batch.recordings), "bytes": size})
                for row in done.batch.failures:
                    log("failure", row)
                if pending.due:
                    again += commit()
        except OSError:
            with suppress(StoreWriteError):
                commit()
            raise
        again += commit()
        outcome.stopped = stop() and bool(again or state.sources_done < state.sources)
        if not again or outcome.stopped:
            return
        tasks = again


@contextmanager
def _writing(outcome: Outcome | None = None) -> Iterator[None]:
    """What goes wrong with the store while it is written, with how much was done until then."""
    try:
        yield
    except (OSError, DeltaError, StoreWriteError) as error:
        done = ""
        if outcome is not None:
            done = (
                f". {outcome.converted} of {outcome.planned} recordings are committed (version {outcome.version}) and "
                "stay; the same command goes on from there"
            )
        raise StoreWriteError(error, done) from error


def _counts(outcome: Outcome) -> dict[str, int]:
    return {
        "converted": outcome.converted,
        "unchanged": outcome.unchanged,
        "failed": len(outcome.failures),
        "vanished": outcome.vanished,
        "bytes": outcome.raw_bytes,
        "version": outcome.version,
    }


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
