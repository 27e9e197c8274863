"""``python -m crash.child SOURCE STORE [STEP WHEN COUNT]``: converts in small tasks with a commit each, and kills itself
with SIGKILL before or after the COUNT-th time it comes to a step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

from deltalake.table import TableMerger

import harmonize as hz
from harmonize.ingest import ProjectKey, pending, plan, write
from harmonize.store import catalog, parts, shards, staging

convert = import_module("harmonize.ingest.convert")  # the package has the function under this name
KEY = ProjectKey(b"crash".ljust(32))
STEPS: dict[str, tuple[Any, str]] = {
    "chunk": (shards.ShardFile, "append"),
    "shard": (shards.ShardFile, "close"),
    "part": (parts.SignalPart, "close"),
    "image": (parts.ImagePart, "close"),
    "sync": (staging, "_sync"),
    "task": (write, "_write_signals"),
    "commit": (catalog, "commit"),
    "table": (catalog, "write_deltalake"),
    "failures": (catalog, "_update_failures"),
    "merge": (TableMerger, "execute"),
    "terms": (convert, "_keep_terms"),
}
"""Where a run can be killed: the functions that end each step between writing, syncing and committing."""


@contextmanager
def small_steps() -> Iterator[None]:
    """Many tasks, some streamed, and a commit after each."""
    with (
        mock.patch.object(plan, "TASK_BYTES", 60_000),
        mock.patch.object(plan, "SMALL_TASK_BYTES", 20_000),
        mock.patch.object(pending, "COMMIT_EVERY_S", -1.0),
        mock.patch.object(write, "BLOCK_BYTES", 10_000),
    ):
        yield


def kill_at(step: str, when: str, count: int) -> None:
    """Arm one step."""
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def armed(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "before" and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if when == "after" and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, armed)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        kill_at(sys.argv[3], sys.argv[4], int(sys.argv[5]))
    print("begin", flush=True)  # imports are over
    with small_steps():
        hz.convert(sys.argv[1], sys.argv[2], dataset="cohort", key=KEY)
