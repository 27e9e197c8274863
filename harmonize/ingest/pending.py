"""Batches that wait for their commit; at the commit, what was forgotten since the run began is left out."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltalake.exceptions import DeltaError

from harmonize.ingest.forgotten import read_forgotten, refuse
from harmonize.ingest.identify import Policy
from harmonize.ingest.packed import PackedDraft
from harmonize.ingest.plan import Task
from harmonize.store import StoreWriteError, catalog
from harmonize.store.catalog import Batch, Row
from harmonize.store.locks import COMMITTING, held
from harmonize.store.part_files import remove_part
from harmonize.store.place import Place

COMMIT_EVERY_S = 60.0
COMMIT_RECORDINGS = 5_000
"""Their rows take some 10 kB each until they are committed."""
COMMIT_ROOM = 1024 * 1024
"""Bytes that must be free, so that tables are not begun that cannot be ended."""


@dataclass(frozen=True)
class Done:
    """A task that was written: its rows, and how long it took. Failures seen in headers have no task."""

    task: Task | None
    batch: Batch
    seconds: float = 0.0


@dataclass(frozen=True)
class Commit:
    """A commit that was made: the store's version, what it made visible, and tasks that are to be done again."""

    version: int
    done: list[Done]
    again: list[Task]


class Pending:
    """What was written and no commit names yet. ``listed``: what was forgotten when the run was planned."""

    def __init__(self, root: Place, policy: Policy, listed: set[str], failures: list[Row]) -> None:
        self._root, self._policy, self._listed = root, policy, listed
        self._waiting = [Done(None, Batch(failures=failures))]
        self._rows, self._began, self._version = 0, time.monotonic(), -1

    def add(self, done: Done) -> None:
        """Put a task's rows to those that wait."""
        self._waiting.append(done)
        self._rows += len(done.batch.recordings)

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        return time.monotonic() - self._began > COMMIT_EVERY_S or self._rows >= COMMIT_RECORDINGS

    def commit(self) -> Commit:
        """Make all that waits visible. Raises ``StoreWriteError``.

        A part cannot lose one recording: where a subject was forgotten after its recording was written, all parts of
        that task are removed, and what others had in them is to be done again.
        """
        try:
            # What is forgotten once this lock is held finds these recordings, and removes them.
            with held(self._root, COMMITTING):
                again = self._refuse(read_forgotten(self._root))
                batch = Batch()
                for one in self._waiting:
                    batch.extend(one.batch)
                if batch or self._version < 0:
                    _require_room(self._root)
                    self._version = catalog.commit(self._root, batch)
        except (OSError, DeltaError) as error:
            raise StoreWriteError(error) from error
        done, self._waiting, self._rows, self._began = self._waiting, [], 0, time.monotonic()
        return Commit(self._version, done, again)

    def _refuse(self, listed: set[str]) -> list[Task]:
        if listed == self._listed:
            return []
        again = []
        for at, one in enumerate(self._waiting):
            drafts: Sequence[PackedDraft] = one.task.drafts if one.task else ()
            failures: list[Row] = []
            kept = refuse(self._policy, listed, drafts, failures)
            if len(kept) == len(drafts):
                refuse(self._policy, listed, (), one.batch.failures)
                continue
            for part in {row["part"] for row in one.batch.streams} | {row["image"] for row in one.batch.recordings}:
                if part is not None:
                    remove_part(self._root, part)
            self._waiting[at] = Done(None, Batch(failures=failures))
            if kept:
                again.append(Task(tuple(kept), sum(draft.raw_bytes for draft in kept)))
        return again


def _require_room(root: Place) -> None:
    if isinstance(root, Path) and shutil.disk_usage(root).free < COMMIT_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
