"""What can be wrong with a store."""

from __future__ import annotations


class StoreError(Exception):
    """A store that cannot be opened, read or written as asked; the message says what would be right."""


class MissingChunkError(StoreError):
    """A chunk that the shard index does not name: missing data is an error, never zeros (DESIGN 5)."""


class CorruptShardError(StoreError):
    """A shard whose index or chunk does not decode."""


class UnreachableError(StoreError):
    """An object store that does not answer, or refuses: nothing is known of what it holds."""
