"""Prepare: all of a run before it writes, for ``convert`` and for showing what it would do. Writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from harmonize.ingest.find import Walked
from harmonize.ingest.forgotten import read_forgotten, refuse
from harmonize.ingest.identify import Policy
from harmonize.ingest.outlook import Outlook, outlook
from harmonize.ingest.packed import PackedDraft
from harmonize.ingest.plan import Task, plan
from harmonize.ingest.scan import Progress, Scan, scan
from harmonize.ingest.write import failed
from harmonize.store import Store, open_store
from harmonize.store.place import Place, place_of
from harmonize.store.shards import Codec
from harmonize.store.sizes import layout_sizes
from harmonize.store.store import is_store
from harmonize_converters.contract import ConversionError

LOOK_AT = 50
"""Parts of each layout whose sizes are looked up in a store."""
Partition = tuple[int, int]
"""(i, n), i from 1: the i-th of n parts of the sources."""


@dataclass
class Prepared:
    """The tasks of a run, what was found, and what may not come back (``read_forgotten``)."""

    found: Scan
    tasks: list[Task]
    listed: set[str]


def prepare(
    policy: Policy,
    paths: Sequence[Path],
    store: Store | None,
    executor: Executor | None,
    workers: int,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    walked: Walked | None = None,
    checksum: bool = False,
    partition: Partition | None = None,
) -> Prepared:
    """Find, describe and identify the sources, refuse what may not be converted, and plan the rest."""
    listed = read_forgotten(store.path) if store else set()
    found = scan(paths, policy, store, executor, progress, walked=walked, checksum=checksum)
    drafts = _without_duplicates(found, refuse(policy, listed, found.drafts, found.failures))
    if partition is not None:
        drafts = [one for one in drafts if _is_mine(one.source_id, partition)]
        found.failures = [row for row in found.failures if _is_mine(row["source"], partition)]
        found.vanished = [row for row in found.vanished if _is_mine(row["source"], partition)]
    found.drafts = drafts
    return Prepared(found, plan(drafts, workers), listed)


def preview(
    sources: Sequence[Path],
    into: str | Place | None,
    policy: Policy,
    executor: Executor | None = None,
    *,
    codec: Codec = "lz4",
    workers: int = 1,
    checksum: bool = False,
    partition: Partition | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Prepared, Outlook]:
    """What a conversion of these sources would do, against the store ``into`` where it is there. Writes nothing.

    Raises as ``convert``.
    """
    for source in sources:
        source.stat()
    root = None if into is None else place_of(into)
    store = open_store(root) if root is not None and is_store(root, policy.key.key_id) else None
    ready = prepare(policy, sources, store, executor, workers, progress, checksum=checksum, partition=partition)
    return ready, outlook(ready.found, ready.tasks, codec, layout_sizes(store, LOOK_AT) if store else {})


def _is_mine(source: str, partition: Partition) -> bool:
    """Whether a source is in a part: by a hash of its name, so that all runs agree and parts are alike."""
    part, parts = partition
    return int(hashlib.sha256(source.encode()).hexdigest(), 16) % parts == part - 1


def _without_duplicates(found: Scan, drafts: Sequence[PackedDraft]) -> list[PackedDraft]:
    """Drafts with identities of their own; of several with one identity, all but the first fail."""
    first: dict[str, PackedDraft] = {}
    for one in drafts:
        if first.setdefault(one.recording_id, one) is not one:
            found.failures.append(failed(one, ConversionError("duplicate_source")))
    return list(first.values())
