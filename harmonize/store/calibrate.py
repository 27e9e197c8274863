"""From native integers to values: one function for every reader."""

from __future__ import annotations

import numpy as np


def calibrate(
    digital: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    missing: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """float32 values (channel, time) = digital * scale + offset; ``missing`` samples become NaN.

    ``scale`` and ``offset`` are float64 (channel,). ``missing`` is float64 (channel,) with NaN for
    channels without a missing value, or None. Up to 16 bits the arithmetic is float32, whose rounding
    is below 0.005 of a digital step; wider samples are scaled in float64.
    """
    if out is None:
        out = np.empty(digital.shape, np.float32)
    kind = np.float32 if digital.dtype.itemsize <= 2 else np.float64
    target = out if kind is np.float32 else np.empty(digital.shape, kind)
    np.multiply(digital, scale.astype(kind)[:, None], out=target, casting="unsafe")
    if offset.any():
        target += offset.astype(kind)[:, None]
    if target is not out:
        out[...] = target
    if missing is not None:
        out[digital == missing[:, None]] = np.nan
    return out
