"""Where patches start: on a grid, at random, or around foreground. Pure: a start follows from the patch's number, and
for random ones from seed and epoch."""

from __future__ import annotations

import numpy as np

from harmonize.data.shuffle import Ints, Words, key, uniform

OTSU_BINS = 256


def grid_starts(size: int, patch: int, stride: int) -> np.ndarray:
    """Starts of patches that cover an axis; the last is moved back to end with it."""
    if size <= patch:
        return np.zeros(1, np.int64)
    starts = np.arange(0, size - patch + 1, stride)
    return starts if starts[-1] == size - patch else np.append(starts, size - patch)


def random_starts(made: Words, sizes: Ints, patch: Ints) -> Ints:
    """Starts (n, axis), every one that keeps the patch inside equally likely; 0 along an axis that is no longer.

    ``made`` holds a key (n,) for each patch, ``sizes`` is (n, axis), ``patch`` (axis,).
    """
    room = np.maximum(sizes - patch, 0) + 1
    starts: Ints = np.floor(uniform(made[:, None], np.arange(sizes.shape[1])) * room).astype(np.int64)
    return starts


def patch_keys(seed: int, epoch: int, numbers: Ints) -> Words:
    """A key (n,) for each patch of an epoch."""
    return key(seed, epoch, numbers)


def around(centres: np.ndarray, sizes: Ints, patch: Ints) -> Ints:
    """Starts (n, axis) of patches whose voxel ``patch // 2`` is nearest to ``centres`` (n, axis), moved inside."""
    starts = np.floor(centres + 0.5).astype(np.int64) - patch // 2
    inside: Ints = np.clip(starts, 0, np.maximum(sizes - patch, 0))
    return inside


def otsu(values: np.ndarray) -> float:
    """The threshold that splits values into the two classes which differ most (Otsu 1979), from 256 bins between
    their 0.5th and 99.5th percentiles; values above it are foreground. NaN where all are equal."""
    low, high = np.percentile(values, (0.5, 99.5))
    if not low < high:
        low, high = values.min(), values.max()
    if not low < high:
        return float("nan")
    counts, edges = np.histogram(np.clip(values, low, high), OTSU_BINS, (low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * below / total - mass) ** 2 / (below * (total - below) / total)
    return float(edges[1 + int(np.nanargmax(between[:-1]))])
