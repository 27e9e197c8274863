"""Where the foreground of an image is, from every n-th voxel of it; worked out once and kept, some images at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from harmonize.data.boxes import read_values
from harmonize.data.patch_grid import spatial_sizes
from harmonize.data.patch_places import otsu
from harmonize.data.reader import ArrayReader
from harmonize.store.recent import Recent
from harmonize_schemas import Image

LOOKED_AT = 2**16
"""Voxels of an image that are looked at, at most."""
KEPT = 256
"""Images whose foreground is kept, at most 0.25 MB each."""


class Foreground:
    """The foreground of images, by number: those of every n-th voxel along x, y and z (of the middle time point, the
    mean of channels) whose value is above a threshold: the one given, in the image's unit, or Otsu's. Reads the whole
    image, chunk by chunk."""

    def __init__(
        self, images: Sequence[Image], paths: Sequence[str], reader: ArrayReader, threshold: float | None
    ) -> None:
        self._images, self._paths, self._reader, self.threshold = images, paths, reader, threshold
        self._pid = os.getpid()
        self._kept = Recent[int, tuple[np.ndarray, tuple[range, range, range]]](KEPT)

    def __reduce__(self) -> tuple[type[Foreground], tuple[object, ...]]:
        return Foreground, (self._images, self._paths, self._reader, self.threshold)

    def count(self, number: int) -> int:
        """How many of the voxels looked at are foreground."""
        return len(self._of(number)[0])

    def voxel(self, number: int, place: float) -> np.ndarray:
        """Stored (x, y, z) of one of them, int64: ``place`` in [0, 1) of the way through all."""
        found, looked_at = self._of(number)
        flat = found[int(place * len(found))]
        at = np.unravel_index(int(flat), [len(axis) for axis in looked_at])
        return np.array([axis[i] for axis, i in zip(looked_at, at, strict=True)][::-1], np.int64)

    def _of(self, number: int) -> tuple[np.ndarray, tuple[range, range, range]]:
        if self._pid != os.getpid():  # a lock may have been held at the fork
            self._kept, self._pid = Recent(KEPT), os.getpid()
        return self._kept(number, self._find)

    def _find(self, number: int) -> tuple[np.ndarray, tuple[range, range, range]]:
        image = self._images[number]
        looked_at = every_nth(spatial_sizes(image))
        sizes = dict(zip(image.axes, image.shape, strict=True))
        middle, channels = sizes.get("t", 1) // 2, sizes.get("c", 1)
        wanted = {"t": range(middle, middle + 1), "c": range(channels)} | dict(zip("zyx", looked_at, strict=True))
        region = tuple(wanted[axis] for axis in image.axes)
        shape = [len(axis) for axis in region]
        values, known = np.empty(shape, np.float32), np.empty(shape, bool)
        read_values(self._reader(self._paths[number]), image, [region], [values], [known])
        whole = channels, *(len(axis) for axis in looked_at)
        means, there = values.reshape(whole).mean(axis=0), np.min(known.reshape(whole), axis=0)
        if not there.any():
            return np.zeros(0, np.int32), looked_at
        threshold = otsu(means[there]) if self.threshold is None else self.threshold
        return np.flatnonzero((means > threshold) & there).astype(np.int32), looked_at


def every_nth(sizes: tuple[int, int, int]) -> tuple[range, range, range]:
    """Indices along z, y, x of ``LOOKED_AT`` voxels at most, evenly apart: every 1st, 2nd, 4th, ... along each axis."""
    step = 1
    while True:
        z, y, x = (range(min(step // 2, (n - 1) // 2), n, step) for n in reversed(sizes))
        if len(z) * len(y) * len(x) <= LOOKED_AT:
            return z, y, x
        step *= 2
