"""The marker that says, in the store, that a subject is being forgotten; and the claim that one process has on it.

In a local folder the system locks the marker for the process and lets go of it when that ends. An object store has no
locks: there the process writes the marker anew every ``BEAT_S`` seconds, and one that finds the marker of another
watches it for ``WATCH_S`` seconds; if it stays as it is, the other was killed. No clocks are compared, and each write
is conditional, so that of two only one succeeds.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonize.store import StoreError
from harmonize.store.errors import UnreachableError
from harmonize.store.object_path import ObjectPath
from harmonize.store.place import Place
from harmonize.store.versions import FORGETTING

BEAT_S = 10.0
WATCH_S = 60.0
_BUSY = "another run is forgetting a subject in this store: try again when it ended"


@dataclass
class Claim:
    """``version`` of the store when it was begun; ``prefix`` of the names of the parts it writes; ``resumed``: an
    earlier run did not finish; ``lost``: another run took it over, as this one was not heard of."""

    marker: Place
    version: int
    prefix: str
    resumed: bool
    lost: bool = False

    def check(self) -> None:
        """Raises ``StoreError`` where the claim was lost."""
        if self.lost:
            raise StoreError("another run took over, as nothing was heard of this one: it finishes what this one began")

    def finish(self) -> None:
        """All is done: take the marker away."""
        self.check()
        self.marker.unlink()


@contextmanager
def claimed(root: Place, version: int) -> Iterator[Claim]:
    """Make the marker, or take over that of a run that was killed.

    Raises ``StoreError`` while another process has it. A mistake of use (``ValueError``) leaves no marker.
    """
    marker = root / "catalog" / FORGETTING
    held: AbstractContextManager[Claim]
    held = _locked(marker, version) if isinstance(marker, Path) else _beating(marker, version)
    with held as claim:
        try:
            yield claim
        except ValueError:
            if not claim.resumed:
                claim.finish()
            raise


def _claim(marker: Place, text: bytes, version: int, there: bool) -> Claim:
    """What a marker says; a new claim where it says nothing: it is new, or its run was killed before writing it."""
    try:
        said = json.loads(text)
        return Claim(marker, int(said["version"]), str(said["prefix"]), True)
    except ValueError:
        return Claim(marker, version, uuid.uuid4().hex[:12], there)


@contextmanager
def _locked(marker: Path, version: int) -> Iterator[Claim]:
    there = marker.exists()
    with marker.open("a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = marker.exists() and os.fstat(handle.fileno()).st_ino == marker.stat().st_ino
        except BlockingIOError:
            mine = False
        if not mine:
            raise StoreError(_BUSY)
        handle.seek(0)
        text = handle.read()
        claim = _claim(marker, text, version, there)
        if not claim.resumed or claim.prefix.encode() not in text:
            handle.truncate(0)
            handle.write(_text(claim))
            handle.flush()
            os.fsync(handle.fileno())
        yield claim


@contextmanager
def _beating(marker: ObjectPath, version: int) -> Iterator[Claim]:
    claim, state = _take(marker, version)
    ended = threading.Event()

    def beat(state: Any) -> None:
        while not ended.wait(BEAT_S):
            try:
                state = marker.replace(_text(claim), state)
            except UnreachableError:
                continue
            except (FileExistsError, FileNotFoundError):
                claim.lost = True
                return

    thread = threading.Thread(target=beat, args=(state,), daemon=True, name="forget-marker")
    thread.start()
    try:
        yield claim
    finally:
        ended.set()
        thread.join()


def _take(marker: ObjectPath, version: int) -> tuple[Claim, Any]:
    claim = Claim(marker, version, uuid.uuid4().hex[:12], False)
    try:
        return claim, marker.create(_text(claim))
    except FileExistsError:
        pass
    try:
        found = marker.state()
        time.sleep(WATCH_S)
        claim = _claim(marker, marker.read_bytes(), version, True)
        return claim, marker.replace(_text(claim), found)
    except (FileExistsError, FileNotFoundError):
        raise StoreError(_BUSY) from None


def _text(claim: Claim) -> bytes:
    """The marker, different each time it is written."""
    said = {"version": claim.version, "prefix": claim.prefix, "beat": uuid.uuid4().hex}
    return json.dumps(said).encode()
