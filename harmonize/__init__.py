"""harmonize: raw biosignals and medical images into one Zarr store, streamed to PyTorch."""

from harmonize.ingest import convert
from harmonize.store import Store, StoreError
from harmonize.store import open_store as open

__all__ = ["Store", "StoreError", "convert", "open"]
