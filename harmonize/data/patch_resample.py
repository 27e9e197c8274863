"""Values between voxels, axis by axis: which stored voxels a stretch needs, with what weights. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from harmonize.data.patch_grid import GridAxis

Interpolation = Literal["linear", "nearest"]
BLOCK = 32


class Taps(NamedTuple):
    """Stored voxels ``wanted`` of an axis, and float32 weights (voxels of the patch, voxels wanted), whose rows sum
    to 1; None: the voxels themselves."""

    wanted: range
    weights: np.ndarray | None


def taps(axis: GridAxis, start: int, count: int, size: int, interpolation: Interpolation) -> Taps:
    """What ``count`` voxels of a grid's axis from ``start`` on are made of, in ascending order of stored index, where
    ``size`` voxels are stored.

    Linear: weights are a triangle as wide as the larger of the two steps, stored or asked for. Finer grids get linear
    interpolation; coarser ones a mean over what lies between their voxels, so that nothing aliases (as Pillow's
    BILINEAR and torch's ``interpolate(antialias=True)`` do). Beyond the last voxel's centre its value holds.
    """
    if axis.exact:
        low, high = sorted(round(axis.index(voxel)) for voxel in (start, start + count - 1))
        return Taps(range(low, high + 1), None)
    at = axis.positions(start, count)
    if interpolation == "nearest":
        nearest = np.clip(np.floor(at + 0.5).astype(np.int64), 0, size - 1)
        wanted = range(int(nearest[0]), int(nearest[-1]) + 1)
        return Taps(wanted, (nearest[:, None] == np.array(wanted)).astype(np.float32))
    width = max(1.0, abs(axis.step))
    wanted = range(max(0, int(np.floor(at[0] - width)) + 1), min(size, int(np.ceil(at[-1] + width))))
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.array(wanted)) / width)
    return Taps(wanted, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def interpolate(
    values: np.ndarray, known: np.ndarray, weights: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """``values`` float32, zero where not ``known``, weighted along the last axes (one matrix, or None, for each).

    Only known voxels count. A voxel is known where at least half of its weight is.
    """
    if known.all():
        resampled = _along_axes(values, weights)
        return resampled, np.ones(resampled.shape, bool)
    share = _along_axes(known.astype(np.float32), weights)
    there = share >= 0.5 - 1e-6
    resampled = np.zeros(share.shape, np.float32)
    np.divide(_along_axes(values, weights), share, out=resampled, where=there)
    return resampled, there


def _along_axes(values: np.ndarray, weights: Sequence[np.ndarray | None]) -> np.ndarray:
    """``BLOCK`` voxels of the patch at a time, from the few voxels that have weight for them, plane by plane: about
    half the time of whole matrices, and products so small that BLAS starts no threads, which wait for each other for
    tens of milliseconds where cores are busy."""
    n = values.ndim
    for axis, matrix in zip(range(n - len(weights), n), weights, strict=True):
        if matrix is None:
            continue
        last = axis == n - 1
        made = np.empty((*values.shape[:axis], len(matrix), *values.shape[axis + 1 :]), np.float32)
        source, out = (values, made) if last else (np.moveaxis(values, axis, -2), np.moveaxis(made, axis, -2))
        for start in range(0, len(matrix), BLOCK):
            rows = matrix[start : start + BLOCK]
            used = np.flatnonzero(rows.any(axis=0))
            columns = slice(int(used[0]), int(used[-1]) + 1)
            if last:
                np.matmul(source[..., columns], rows[:, columns].T, out=out[..., start : start + BLOCK])
            else:
                np.matmul(rows[:, columns], source[..., columns, :], out=out[..., start : start + BLOCK, :])
        values = made
    return values
