"""Where the files of a part are written before any commit names them.

In a local folder they are written in place and synced. For an object store they are written to a folder of this
machine; each shard is uploaded and deleted when it is finished, and the rest when the part is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from harmonize.store.errors import UnreachableError
from harmonize.store.object_path import ObjectPath
from harmonize.store.place import Place, at_once, remove_tree

_PREFIX = "harmonize-part-"
_ABANDONED_S = 60.0


class Stage(Protocol):
    """``folder`` is where a part is written, in a folder like the store."""

    folder: Path

    def sealed(self, file: Path) -> None:
        """A file below ``folder`` is finished and will not be read again."""

    def finish(self) -> None:
        """All files are there: a commit may name the part when this returns."""

    def discard(self) -> None:
        """Take away what was written."""


def stage(root: Place, path: str) -> Stage:
    """Where the part ``path`` of a store is written."""
    return _InPlace(root / path) if isinstance(root, Path) else _Upload(root, path)


class _InPlace:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sealed(self, file: Path) -> None:
        pass

    def finish(self) -> None:
        sync_tree(self.folder)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class _Upload:
    def __init__(self, root: ObjectPath, path: str) -> None:
        _remove_abandoned()
        self._root, self._path = root, path
        self._base = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self._base, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # the system lets go of it when this process ends
        self.folder = self._base / path

    def sealed(self, file: Path) -> None:
        self._put(file)
        file.unlink()

    def _put(self, file: Path) -> None:
        (self._root / file.relative_to(self._base).as_posix()).write_bytes(file)

    def finish(self) -> None:
        at_once(self._root, self._put, (file for file in self._base.rglob("*") if file.is_file()))
        self._close()

    def discard(self) -> None:
        self._close()
        with suppress(UnreachableError):  # what lies there is named by no version: vacuum removes it
            remove_tree(self._root / self._path)

    def _close(self) -> None:
        shutil.rmtree(self._base, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_abandoned() -> None:
    """Delete folders of processes that were killed: their locks are free, and they are not of this moment."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except OSError:  # gone meanwhile, or another user's
            continue
        try:
            if time.time() - os.fstat(lock).st_mtime > _ABANDONED_S:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def sync_tree(folder: Path) -> None:
    """Flush a finished part to disk, files first, then folders, before any commit names it."""
    for base, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(os.path.join(base, name))
        _sync(base)
    _sync(str(folder.parent / "zarr.json"))
    _sync(str(folder.parent))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
