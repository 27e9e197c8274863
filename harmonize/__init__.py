"""harmonize: raw biosignals and medical images into one Zarr store, streamed to PyTorch."""
