"""What a run would do, from headers alone: recordings, parts, memory, size. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harmonize.ingest.pending import COMMIT_RECORDINGS
from harmonize.ingest.plan import Task
from harmonize.ingest.scan import Scan
from harmonize.ingest.tally import codes
from harmonize.store.shards import Codec
from harmonize.store.sizes import IMAGES

SHARES: dict[Codec, tuple[float, float]] = {"lz4": (0.2, 0.9), "zstd": (0.15, 0.85), "none": (1.0, 1.3)}
"""Bytes in the store of a native byte, documents included: what ``python -m benchmarks.sizes`` prints of signals,
sounds and images. Triggers, and channels that hold next to nothing, take less."""
WORKER_BYTES, RUN_BYTES = 145_000_000, 245_000_000
"""What a worker and the process that commits hold before the first task (``python -m benchmarks.outlook``)."""
OPEN_BYTES, WAITING_BYTES, WRITTEN_BYTES = 50_000, 6_000, 20_000
"""What a recording takes while its task runs, while it waits for it, and until its rows are committed."""
SHARDS_HELD = 3
"""An image is gathered to a shard, which is put together and then cut into chunks."""


@dataclass(frozen=True)
class LayoutOutlook:
    """What would be written of one layout of streams, or of images. ``share``: bytes in the store of a native byte, as
    parts of this layout in the store have it; None where it has none."""

    layout: str
    recordings: int
    bytes: int
    parts: int
    share: float | None


@dataclass(frozen=True)
class Outlook:
    """What a run would do. ``changed`` recordings would replace those of the store, ``vanished`` ones have no source
    any more; ``failures`` count by code what is visible already. ``worker_bytes`` and ``run_bytes``: what a worker and
    the run itself hold at most; ``stored_bytes``: the least and the most that is expected to be written."""

    new: int
    changed: list[str]
    unchanged: int
    vanished: list[str]
    failures: Counter[str]
    layouts: list[LayoutOutlook]
    bytes: int
    tasks: int
    worker_bytes: int
    run_bytes: int
    stored_bytes: tuple[int, int]

    @property
    def recordings(self) -> int:
        return self.new + len(self.changed)

    @property
    def parts(self) -> int:
        return sum(one.parts for one in self.layouts)


def outlook(found: Scan, tasks: Sequence[Task], codec: Codec, sizes: Mapping[str, tuple[int, int]]) -> Outlook:
    """Sum up what was found and planned. ``sizes``: native and stored bytes by layout, of its store."""
    changed = sorted(one.recording_id for one in found.drafts if one.source_id in found.changed)
    layouts = list(_layouts(tasks, {name: stored / native for name, (native, stored) in sizes.items() if native}))
    (low, high), n = SHARES[codec], len(found.drafts)
    return Outlook(
        new=n - len(changed),
        changed=changed,
        unchanged=found.unchanged,
        vanished=sorted(row["recording_id"] for row in found.vanished),
        failures=codes(found.failures),
        layouts=layouts,
        bytes=sum(task.raw_bytes for task in tasks),
        tasks=len(tasks),
        worker_bytes=WORKER_BYTES + max(map(held_bytes, tasks), default=0),
        run_bytes=RUN_BYTES + WAITING_BYTES * n + WRITTEN_BYTES * min(n, COMMIT_RECORDINGS),
        stored_bytes=(
            sum(int(one.bytes * (one.share or low)) for one in layouts),
            sum(int(one.bytes * (one.share or high)) for one in layouts),
        ),
    )


def held_bytes(task: Task) -> int:
    """What a task holds at most (``write``): the samples of pooled recordings until their part is whole, shards of an
    image, next to nothing of a recording that is streamed."""
    shard = max((draft.shard_bytes or 0 for draft in task.drafts), default=0)
    samples = 0 if shard or task.streamed else task.raw_bytes
    return samples + SHARDS_HELD * shard + OPEN_BYTES * len(task.drafts)


def _layouts(tasks: Sequence[Task], shares: Mapping[str, float]) -> Iterator[LayoutOutlook]:
    """One for each layout, the largest first."""
    recordings, size, parts = Counter[str](), Counter[str](), Counter[str]()
    for task in tasks:
        most = Counter[str]()
        for draft in task.drafts:
            times = Counter(draft.layouts)
            recordings.update(times.keys())
            most |= times  # a recording that has a layout twice makes two parts of it
            for layout, n in zip(draft.layouts, draft.stream_bytes, strict=True):
                size[layout] += n
            if draft.shard_bytes is not None:
                recordings[IMAGES] += 1
                parts[IMAGES] += 1
                size[IMAGES] += draft.raw_bytes
        parts.update(most)
    for layout in sorted(parts, key=lambda name: (-size[name], name)):
        yield LayoutOutlook(layout, recordings[layout], size[layout], parts[layout], shares.get(layout))
