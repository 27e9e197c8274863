"""Signals without a unit: by the catalog's statistics, or by each window's own. Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from harmonize.data.stream_table import StreamTable

Normalize = Literal["channel", "recording", "robust"]
Affine = tuple[np.ndarray, np.ndarray]
"""What to subtract, and what to multiply by then: float32 (stream, channel), or (window, channel)."""


def by_catalog(table: StreamTable, rows: np.ndarray, together: bool) -> Affine:
    """Mean and 1 / standard deviation of each recording's channels, or of all ``together``; of a recording in several
    streams, over these.

    ``rows`` int64 (kind, channel): at which row kinds of streams hold channels, -1: not. ``table`` has the statistics.
    Both numbers are zero for a channel that is absent, that never changes, or whose statistics are unknown; together,
    such a channel has no weight.
    """
    kind, recording = table.rows["_kind"].to_numpy(), table.rows["recording_id"].rle_id().to_numpy()
    shift = np.zeros((len(kind), rows.shape[1]), np.float32)
    factor = np.zeros_like(shift)
    n_recordings = int(recording[-1]) + 1
    n, mean, squares = np.zeros((3, n_recordings))
    for place in range(rows.shape[1]):
        one = _moments(table.rows, rows[kind, place], recording, n_recordings)
        if together:
            n, mean, squares = _joined((n, mean, squares), one)
            factor[:, place] = one[0][recording] > 0
        else:
            shift[:, place], factor[:, place] = (part[recording] for part in _affine(*one))
    if together:
        common, scale = (part[recording, None] for part in _affine(n, mean, squares))
        used = factor > 0
        shift, factor = np.where(used, common, np.float32(0)), np.where(used, scale, np.float32(0))
    absent = rows[kind] < 0  # and zero, which it stays
    shift[absent] = factor[absent] = 0
    return shift, factor


Moments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Samples, their mean, and the sum of the squares of their differences from it; float64 (recording,)."""


def _moments(rows: pl.DataFrame, at: np.ndarray, recording: np.ndarray, n_recordings: int) -> Moments:
    """Of one channel of each recording, which streams hold at rows ``at`` (-1: not). No samples where it is flat."""
    index = pl.lit(pl.Series(at, dtype=pl.Int64).replace(-1, None))
    found = rows.select(
        pl.col(f"_{name}").list.get(index, null_on_oob=True) for name in ("min", "max", "mean", "std", "missing_share")
    )
    low, high, mean, std, missing = (found[name].fill_null(np.nan).to_numpy() for name in found.columns)
    known = np.isfinite(mean) & np.isfinite(std)
    n = np.where(known, rows["_n_samples"].to_numpy() * (1 - np.nan_to_num(missing)), 0.0)
    mean, std = np.where(known, mean, 0.0), np.where(known, std, 0.0)
    total = np.bincount(recording, n, n_recordings)
    whole = np.bincount(recording, n * mean, n_recordings) / np.maximum(total, 1)
    squares = np.bincount(recording, n * (std**2 + (mean - whole[recording]) ** 2), n_recordings)
    # By extremes: a standard deviation of zero may come out as a little more.
    lowest, highest = np.full(n_recordings, np.inf), np.full(n_recordings, -np.inf)
    np.fmin.at(lowest, recording, low)
    np.fmax.at(highest, recording, high)
    total[~(highest > lowest)] = 0
    return total, whole, squares


def _joined(a: Moments, b: Moments) -> Moments:
    """Of two sets of samples as one (Chan, Golub and LeVeque 1979)."""
    n = a[0] + b[0]
    share = b[0] / np.maximum(n, 1)
    between = b[1] - a[1]
    return n, a[1] + between * share, np.where(b[0] > 0, a[2] + b[2] + between**2 * a[0] * share, a[2])


def _affine(n: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> Affine:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        factor = (1 / np.sqrt(squares / n)).astype(np.float32)
    factor[~(np.isfinite(factor) & (n > 0))] = 0
    return np.where(factor > 0, mean, 0).astype(np.float32), factor


def by_window(signal: np.ndarray) -> Affine:
    """Median and 1 / interquartile range (75th less 25th percentile, linear between samples) of each window's channels,
    over the samples that are present. Zero where the range is zero, or no sample is present."""
    ordered = np.sort(signal, axis=2)  # NaN come last
    n = np.full(signal.shape[:2], signal.shape[2])
    if np.isnan(ordered[:, :, -1]).any():
        n -= np.isnan(ordered).sum(axis=2)
    low, median, high = (_percentile(ordered, n, share) for share in (0.25, 0.5, 0.75))
    with np.errstate(divide="ignore"):
        factor = 1 / (high - low)
    factor[~np.isfinite(factor)] = 0
    return np.where(factor > 0, median, np.float32(0)), factor


def _percentile(ordered: np.ndarray, n: np.ndarray, share: float) -> np.ndarray:
    at = share * np.maximum(n - 1, 0)
    below = at.astype(np.int64)
    above = np.minimum(below + 1, np.maximum(n - 1, 0))
    a, b = (np.take_along_axis(ordered, place[:, :, None], axis=2)[:, :, 0] for place in (below, above))
    return np.asarray(a + (b - a) * (at - below).astype(np.float32))


def apply(signal: np.ndarray, shift: np.ndarray, factor: np.ndarray) -> None:
    """``signal`` (window, channel, time) less ``shift``, times ``factor`` (window, channel), in place."""
    signal -= shift[:, :, None]
    signal *= factor[:, :, None]
