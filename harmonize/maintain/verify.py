"""Verify: is what a store holds what was put in, and what its sources say?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from harmonize.ingest.identify import Policy
from harmonize.ingest.scan import scan
from harmonize.maintain.findings import Finding
from harmonize.maintain.verify_source import Case, compare_source
from harmonize.maintain.verify_store import Held, check_document, check_image, check_part
from harmonize.store import Store
from harmonize.store.catalog import Row

Work = Callable[[], list[Finding]]


@dataclass
class Report:
    """What was checked and what is wrong. ``compared`` recordings were read again from their sources, all were
    compared with their hashes but for ``unhashed`` channels and images, which have none. ``changed`` sources are no
    fault of the store; ``unknown`` sources are not in it."""

    version: int
    recordings: int
    compared: int = 0
    unhashed: int = 0
    unknown: int = 0
    findings: list[Finding] = field(default_factory=list)
    changed: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def add(self, found: Iterable[Finding]) -> None:
        """Put each where it belongs."""
        for one in found:
            (self.changed if one.code == "source_changed" else self.findings).append(one)


def verify(
    store: Store,
    sources: Sequence[Path] = (),
    policy: Policy | None = None,
    executor: Executor | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> Report:
    """Read all that a version of a store holds, and compare it.

    Every chunk is decoded and every channel's and image's hash compared with the catalog; every document with the
    rows of ``recordings``, ``streams``, ``labels`` and ``sources``. Recordings whose source is below ``sources`` are
    described and read again and compared sample by sample, with their events.

    Parameters
    ----------
    policy
        Of the data set that the sources are of; needed with them, as it names them.
    executor
        Runs the work, a part or a source a task; None: this process.
    """
    report = Report(store.version, len(store))
    held = _held(store)
    counts = dict(store.streams.group_by("recording_id").len().iter_rows())
    report.add(_missing_rows(held.values(), counts))
    report.unhashed = _unhashed(store)
    work = list(_store_work(store, held))
    for done, found in enumerate(_run(executor, work), 1):
        report.add(found)
        progress("store", done, len(work))
    if sources and policy is not None:
        cases = _cases(store, held, sources, policy, executor, report)
        report.compared = len(cases)
        for done, found in enumerate(_run(executor, [partial(compare_source, one) for one in cases]), 1):
            report.add(found)
            progress("sources", done, len(cases))
    return report


def _held(store: Store) -> dict[str, Held]:
    """The catalog's rows of each recording, but for its streams."""
    held = {row["recording_id"]: Held(row) for row in store.recordings.iter_rows(named=True)}
    for table, rows in (("labels", store.label_rows), ("sources", store.sources)):
        for row in rows.iter_rows(named=True):
            getattr(held[row["recording_id"]], table).append(row)
    return held


def _missing_rows(held: Iterable[Held], counts: dict[str, int]) -> Iterator[Finding]:
    for one in held:
        name, declared = one.row["recording_id"], one.row["n_streams"]
        if counts.get(name, 0) != declared:
            message = f"the catalog has rows for {counts.get(name, 0)} of its {declared} streams"
            yield Finding("missing_rows", name, "catalog/streams", message)


def _unhashed(store: Store) -> int:
    images = store.recordings.filter(pl.col("image").is_not_null() & pl.col("content").is_null())
    return len(images) + len(store.streams.filter(pl.col("content").is_null()))


def _store_work(store: Store, held: dict[str, Held]) -> Iterator[Work]:
    for (part,), rows in store.streams.sort("part", "row").group_by("part", maintain_order=True):
        streams = list(rows.iter_rows(named=True))
        yield partial(
            check_part, store.path, str(part), streams, {r["recording_id"]: held[r["recording_id"]] for r in streams}
        )
    for one in held.values():
        if one.row["image"] is not None:
            yield partial(check_image, store.path, one)
        elif one.row["n_streams"] == 0:
            yield partial(check_document, one)


def _cases(
    store: Store,
    held: dict[str, Held],
    sources: Sequence[Path],
    policy: Policy,
    executor: Executor | None,
    report: Report,
) -> list[Case]:
    """The recordings whose sources are there. Those that cannot be described any more are reported as changed."""
    found = scan(sources, policy, None, executor)
    rows = {one.row["source"]: one for one in held.values() if one.row["dataset"] == policy.recipe.dataset}
    for failure in found.failures:
        if failure["source"] in rows:
            name = rows[failure["source"]].row["recording_id"]
            message = f"the source cannot be converted any more: {failure['code']}"
            report.changed.append(Finding("source_changed", name, failure["source"], message))
    streams: dict[str, list[Row]] = defaultdict(list)
    for row in store.streams.sort("recording_id", "stream_index").iter_rows(named=True):
        streams[row["recording_id"]].append(row)
    events: dict[str, list[Row]] = defaultdict(list)
    for row in store.annotations.drop("commit").iter_rows(named=True):
        events[row["recording_id"]].append(row)
    cases = []
    for packed in found.drafts:
        one = rows.get(packed.source_id)
        if one is None:
            report.unknown += 1
            continue
        name = one.row["recording_id"]
        cases.append(Case(store.path, packed.draft(), one, streams[name], events[name], policy.recipe_sha256))
    return cases


def _call(work: Work) -> list[Finding]:
    return work()


def _run(executor: Executor | None, work: Sequence[Any]) -> Iterator[list[Finding]]:
    return executor.map(_call, work) if executor else map(_call, work)
