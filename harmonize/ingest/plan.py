"""Plan: sources to tasks that pool equal layouts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harmonize.ingest.packed import PackedDraft

TASK_BYTES = 128 * 1024 * 1024
"""Raw samples of a pooled task, which it holds in memory; a larger recording is streamed in a task of its own."""
TASK_RECORDINGS = 2048
"""Recordings of a pooled task: their documents and rows take 20 to 60 kB each until it ends."""
SMALL_TASK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Task:
    """Work for one process: drafts whose streams share layouts, or images."""

    drafts: tuple[PackedDraft, ...]
    raw_bytes: int

    @property
    def streamed(self) -> bool:
        """Whether its one recording is too large to hold."""
        return self.raw_bytes > TASK_BYTES


def plan(drafts: Sequence[PackedDraft], workers: int) -> list[Task]:
    """Tasks of drafts with the same layouts, each of at most ``TASK_BYTES`` (unless one alone is larger) and
    ``TASK_RECORDINGS``.

    With several workers tasks get smaller, down to ``SMALL_TASK_BYTES``, so that all have work. The
    longest tasks come first.
    """
    total = sum(draft.raw_bytes for draft in drafts)
    limit = TASK_BYTES
    if workers > 1:
        limit = min(TASK_BYTES, max(SMALL_TASK_BYTES, total // (2 * workers)))
    pools: dict[tuple[str, ...], list[PackedDraft]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.recording_id):
        pools.setdefault(draft.layouts, []).append(draft)
    tasks: list[Task] = []
    for pool in pools.values():
        batch: list[PackedDraft] = []
        size = 0
        for draft in pool:
            more = draft.raw_bytes
            if batch and (size + more > limit or len(batch) == TASK_RECORDINGS):
                tasks.append(Task(tuple(batch), size))
                batch, size = [], 0
            batch.append(draft)
            size += more
        tasks.append(Task(tuple(batch), size))
    return sorted(tasks, key=lambda task: -task.raw_bytes)
