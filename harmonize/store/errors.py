"""What can be wrong with a store."""

from __future__ import annotations

import errno
import os
import re


class StoreError(Exception):
    """A store that cannot be opened, read or written as asked; the message says what would be right."""


class StoreWriteError(StoreError):
    """The store cannot be written: the disk or the quota is full, the file system read-only. What was committed
    stays; ``done`` says how much that is."""

    def __init__(self, error: BaseException, done: str = "") -> None:
        self.reason: str = error.reason if isinstance(error, StoreWriteError) else _reason(error)
        super().__init__(f"the store cannot be written: {self.reason}{done}")


def _reason(error: BaseException) -> str:
    """Why, in plain words. deltalake has no numbers for it but in its text."""
    found = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else None
    number = int(found.group(1)) if number is None and found else number
    words = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "a file would be larger than the system allows",
        errno.EROFS: "the file system is read-only",
    }
    return type(error).__name__ if number is None else words.get(number) or os.strerror(number).lower()


class MissingChunkError(StoreError):
    """A chunk that the shard index does not name: missing data is an error, never zeros (DESIGN 5)."""


class CorruptShardError(StoreError):
    """A shard whose index or chunk does not decode."""


class UnreachableError(StoreError):
    """An object store that does not answer, or refuses: nothing is known of what it holds."""
