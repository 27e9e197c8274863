"""The store: Zarr layout, catalog, writing and reading of parts."""

from harmonize.store.errors import CorruptShardError, MissingChunkError, StoreError, StoreWriteError
from harmonize.store.store import Store, create_store, open_store

__all__ = [
    "CorruptShardError",
    "MissingChunkError",
    "Store",
    "StoreError",
    "StoreWriteError",
    "create_store",
    "open_store",
]
