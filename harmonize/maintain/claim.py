"""The marker that says, in the store, that a subject is being forgotten; and the claim that one process has on it."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harmonize.store import StoreError
from harmonize.store.versions import FORGETTING


@dataclass(frozen=True)
class Claim:
    """``version`` of the store when it was begun; ``prefix`` of the names of the parts it writes; ``resumed``: an
    earlier run did not finish."""

    marker: Path
    version: int
    prefix: str
    resumed: bool

    def finish(self) -> None:
        """All is done: take the marker away."""
        self.marker.unlink()


@contextmanager
def claimed(root: Path, version: int) -> Iterator[Claim]:
    """Make the marker, or take over that of a run that was killed; the system lets go of it when this process ends.

    Raises ``StoreError`` while another process has it. A mistake of use (``ValueError``) leaves no marker.
    """
    marker = root / "catalog" / FORGETTING
    there = marker.exists()
    with marker.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = marker.exists() and os.fstat(handle.fileno()).st_ino == marker.stat().st_ino
        except BlockingIOError:
            mine = False
        if not mine:
            raise StoreError("another run is forgetting a subject in this store: try again when it ended")
        handle.seek(0)
        try:
            said = json.loads(handle.read())
            claim = Claim(marker, int(said["version"]), str(said["prefix"]), True)
        except ValueError:  # new, or killed before it was written
            claim = Claim(marker, version, uuid.uuid4().hex[:12], there)
            handle.truncate(0)
            json.dump({"version": claim.version, "prefix": claim.prefix}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            yield claim
        except ValueError:
            if not claim.resumed:
                claim.finish()
            raise
