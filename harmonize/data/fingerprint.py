"""Fingerprints of signals: the same for a copy at another rate, scale, sign or start. Pure.

A channel becomes a trace at ``RATE_HZ``, band-passed to about 1-15 Hz without delay. Windows of the trace are
laid around its largest local extrema, so that a crop has the same windows, placed between samples, normalised
in mean, norm and sign, and hashed by random hyperplanes (Charikar 2002): copies share keys, others hardly.
What shares keys at one lag is then compared sample by sample (``agreement``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter1d
from scipy.signal import resample_poly

from harmonize.data.resample import HALF_TAPS, low_pass, resampling

RATE_HZ = 100
LOWEST_RATE_HZ = 50
"""Slower streams have too little of the band and are compared exactly only."""
WINDOW = np.arange(-75, 76) * 2
"""Places of a window's samples around its anchor, in trace samples: 3 s at 50 Hz."""
BANDS, BITS = 4, 96
BLOCK = RATE_HZ
"""Samples of a trace that are normalised together when traces are compared: one beat or artefact counts once."""

Read = Callable[[int, int], np.ndarray]
"""From sample to sample of a run: digital values (channel, time) as float64, NaN where missing."""


def _kernel() -> np.ndarray:
    """Difference of two Gaussians with 15 and 120 ms deviation: short, so that a crop's edges stay near."""
    at = np.arange(-40, 41) / RATE_HZ
    narrow, wide = (np.exp(-0.5 * (at / width) ** 2) for width in (0.015, 0.12))
    kernel: np.ndarray = narrow / narrow.sum() - wide / wide.sum()
    return kernel


KERNEL = _kernel()
_RANDOM = np.random.default_rng(20240229)
_PLANES = _RANDOM.standard_normal((len(WINDOW), BANDS * BITS)).astype(np.float32)
_WEIGHTS = _RANDOM.integers(1, 2**63, (BANDS, BITS), dtype=np.uint64)


def n_trace(n_samples: int, rate: Fraction) -> int:
    """Trace samples of a run."""
    return int(n_samples * RATE_HZ / rate)


def edge(rate: Fraction) -> int:
    """Trace samples at either end of a run that the filters leave unknown (0.4 to 0.7 s)."""
    plan = resampling(rate, Fraction(RATE_HZ))
    taps = 0 if plan is None else -(-HALF_TAPS * max(plan.up, plan.down) // plan.down)
    return len(KERNEL) // 2 + taps


def trace(read: Read, n_samples: int, rate: Fraction, first: int, stop: int) -> np.ndarray:
    """Trace (channel, stop - first) of a run of ``n_samples`` at ``rate``; sample k lies k / RATE_HZ seconds after
    the run's first. float32, NaN at the run's edges (see ``edge``) and around missing samples.
    """
    plan = resampling(rate, Fraction(RATE_HZ))
    up, down = (1, 1) if plan is None else (plan.up, plan.down)
    need = edge(rate)
    step = max(0, (first - need) // up)
    values = read(step * down, min(n_samples, -(-(stop + need) // up) * down))
    values = (values - values[:, :1]).astype(np.float32)
    if plan is not None:
        values = resample_poly(values, up, down, axis=1, window=low_pass(up, down))
        taps = need - len(KERNEL) // 2
        values[:, :taps] = values[:, values.shape[1] - taps :] = np.nan
    banded = correlate1d(values, KERNEL, axis=1, mode="constant", cval=np.nan)
    out = np.full((len(values), stop - first), np.nan, np.float32)
    have = banded[:, first - step * up : stop - step * up]
    out[:, : have.shape[1]] = have
    return out


@dataclass(frozen=True)
class Anchors:
    """Hashed windows: ``channel`` (n,), ``at`` (n,) trace samples with fractions, ``keys`` (n, BANDS) uint64."""

    channel: np.ndarray
    at: np.ndarray
    keys: np.ndarray


def radius(n: int) -> int:
    """How far an anchor's extremum must be the largest, in trace samples: 0.4 s, more in runs longer than 160 s
    (up to 4 s), so that long recordings do not fill the index."""
    return int(np.clip(n / 400, 0.4 * RATE_HZ, 4 * RATE_HZ))


def anchors(traces: np.ndarray, reach: int) -> Anchors:
    """Windows of traces (channel, time) around extrema that are the largest within ``reach`` samples."""
    size = np.abs(np.nan_to_num(traces))
    peak = (size == maximum_filter1d(size, 2 * reach + 1, axis=1, mode="constant")) & (size > 0)
    margin = int(WINDOW[-1]) + 3
    peak[:, :margin] = peak[:, max(0, peak.shape[1] - margin) :] = False
    channel, at = np.nonzero(peak)
    before, here, after = (size[channel, at + d].astype(np.float64) for d in (-1, 0, 1))
    bend = before - 2 * here + after
    exact = at + np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
    windows = sample_between(traces, channel[:, None], exact[:, None] + WINDOW)
    known = np.isfinite(windows).all(axis=1)
    channel, at, exact, windows = channel[known], at[known], exact[known], windows[known]
    windows *= np.sign(traces[channel, at])[:, None]
    windows -= windows.mean(axis=1, keepdims=True)
    bits = (windows @ _PLANES > 0).reshape(len(windows), BANDS, BITS)
    keys = (bits * _WEIGHTS).sum(axis=2, dtype=np.uint64)
    return Anchors(channel, exact, keys)


def sample_between(traces: np.ndarray, channel: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Traces at fractional places, by cubic interpolation (Catmull-Rom: the traces are oversampled)."""
    whole = np.floor(at).astype(np.int64)
    f = (at - whole).astype(np.float32)
    a, b, c, d = (traces[channel, whole + k] for k in (-1, 0, 1, 2))
    out: np.ndarray = b + 0.5 * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
    return out


def shifted(traces: np.ndarray, start: float, n: int) -> np.ndarray:
    """``n`` samples of traces from the fractional place ``start`` on; NaN outside."""
    whole = int(np.floor(start))
    padded = np.full((len(traces), n + 4), np.nan, np.float32)  # one more: rounding may reach the next sample
    low, high = max(0, whole - 1), min(traces.shape[1], whole + n + 3)
    if high > low:
        padded[:, low - whole + 1 : high - whole + 1] = traces[:, low:high]
    every = np.arange(len(traces))[:, None]
    return sample_between(padded, every, 1 + start - whole + np.arange(n)[None, :])


def agreement(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How alike two sets of traces (channel, time) of equal length are, block by block.

    Returns sums (channel of a, channel of b) of the blocks' correlation coefficients and how many blocks there
    are. Blocks with missing samples, or in which a channel is constant, say nothing and are left out.
    """
    (a, known_a), (b, known_b) = _blocks(a), _blocks(b)
    sums = a.reshape(len(a), -1) @ b.reshape(len(b), -1).T
    return sums, known_a.astype(np.float32) @ known_b.astype(np.float32).T


def _blocks(traces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = traces.shape[1] // BLOCK
    blocks = traces[:, : n * BLOCK].reshape(len(traces), n, BLOCK)
    blocks = blocks - blocks.mean(axis=2, keepdims=True)
    norm = np.linalg.norm(blocks, axis=2)
    known = np.isfinite(norm) & (norm > 1e-6 * np.abs(traces[np.isfinite(traces)]).max(initial=0))
    unit = np.where(known[:, :, None], blocks / np.where(known, norm, 1)[:, :, None], 0)
    return unit.astype(np.float32), known
