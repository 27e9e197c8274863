"""Plan: sources to tasks that pool equal layouts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harmonize.ingest.identify import Draft
from harmonize.store.geometry import layout_name

TASK_BYTES = 128 * 1024 * 1024
"""Raw samples of a pooled task, which it holds in memory; a larger recording is streamed in a task of its own."""
SMALL_TASK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Task:
    """Work for one process: drafts whose streams share layouts, or images."""

    drafts: tuple[Draft, ...]
    raw_bytes: int

    @property
    def streamed(self) -> bool:
        """Whether its one recording is too large to hold."""
        return self.raw_bytes > TASK_BYTES


def raw_bytes(draft: Draft) -> int:
    """Bytes of native samples."""
    image = draft.recording.image
    if image is not None:
        return int(np.prod(image.shape)) * np.dtype(image.dtype).itemsize
    return sum(s.n_samples * len(s.channels) * np.dtype(s.dtype).itemsize for s in draft.recording.streams)


def plan(drafts: Sequence[Draft], workers: int) -> list[Task]:
    """Tasks of drafts with the same layouts, each of at most ``TASK_BYTES`` unless one alone is larger.

    With several workers tasks get smaller, down to ``SMALL_TASK_BYTES``, so that all have work. The
    longest tasks come first.
    """
    total = sum(map(raw_bytes, drafts))
    limit = TASK_BYTES
    if workers > 1:
        limit = min(TASK_BYTES, max(SMALL_TASK_BYTES, total // (2 * workers)))
    pools: dict[tuple[str, ...], list[Draft]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.recording.recording_id):
        pools.setdefault(tuple(layout_name(stream) for stream in draft.recording.streams), []).append(draft)
    tasks: list[Task] = []
    for pool in pools.values():
        batch: list[Draft] = []
        size = 0
        for draft in pool:
            more = raw_bytes(draft)
            if batch and size + more > limit:
                tasks.append(Task(tuple(batch), size))
                batch, size = [], 0
            batch.append(draft)
            size += more
        tasks.append(Task(tuple(batch), size))
    return sorted(tasks, key=lambda task: -task.raw_bytes)
