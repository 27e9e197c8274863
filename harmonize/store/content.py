"""Hashes of native samples: equal hashes are equal data, whatever file, name or order they came in.

XXH3 of 128 bits: it tells data apart and damage, at six times the rate of SHA-256, which would take a sixth of a
conversion (``benchmarks.convert_edf``). It does not withstand someone who forges samples; a source's SHA-256 does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xxhash import xxh3_128


class ChannelHashes:
    """XXH3-128 of each channel: its dtype, then its samples' little-endian bytes in order of time.

    ``update`` takes blocks (channel, time) one after the other; where they are cut does not matter.
    """

    def __init__(self, n_channels: int, dtype: str) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._hashes = [xxh3_128(f"{dtype}\n".encode()) for _ in range(n_channels)]

    def update(self, samples: np.ndarray) -> None:
        """Add native samples (channel, time)."""
        rows = np.ascontiguousarray(samples, self._dtype)
        for one, row in zip(self._hashes, rows, strict=True):
            one.update(row.data)

    def hexdigests(self) -> list[str]:
        """One hash a channel, hex."""
        return [one.hexdigest() for one in self._hashes]


class VoxelHash:
    """XXH3-128 of an image: its dtype and shape as stored (t, c, z, y, x), then its voxels' little-endian bytes."""

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._hash = xxh3_128(f"{dtype} {'x'.join(map(str, shape))}\n".encode())

    def update(self, planes: np.ndarray) -> None:
        """Add the next planes (n, y, x)."""
        self._hash.update(np.ascontiguousarray(planes, self._dtype).data)

    def hexdigest(self) -> str:
        """The hash, hex."""
        return self._hash.hexdigest()
