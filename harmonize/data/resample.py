"""Rational resampling of a window without delay or edge effects from inside its run."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from scipy.signal import firwin, resample_poly

HALF_TAPS = 16
"""Half length of the anti-aliasing filter, in samples of the slower of the two rates."""


@dataclass(frozen=True)
class Resampling:
    """From ``rate`` to ``target``: read ``margin`` native samples on either side of a window."""

    up: int
    down: int
    margin: int

    @property
    def margin_out(self) -> int:
        """The margin in samples of the target rate (a whole number)."""
        return self.margin * self.up // self.down


@cache
def resampling(rate: Fraction, target: Fraction) -> Resampling | None:
    """How to go from one rate to another; None where they are equal."""
    ratio = target / rate
    if ratio == 1:
        return None
    up, down = ratio.numerator, ratio.denominator
    half = -(-HALF_TAPS * max(up, down) // up)
    return Resampling(up, down, -(-half // down) * down)


@cache
def low_pass(up: int, down: int) -> np.ndarray:
    """Taps of the anti-aliasing filter at ``up`` times the rate (for scipy.signal.resample_poly)."""
    slow = max(up, down)
    taps: np.ndarray = firwin(2 * HALF_TAPS * slow + 1, 1 / slow, window=("kaiser", 5.0)).astype(np.float32)
    return taps


def resample(padded: np.ndarray, plan: Resampling, n_out: int) -> np.ndarray:
    """Window (channel, margin + n + margin) of native samples to (channel, n_out) at the target rate.

    Output sample k lies at time k / target after the window's first sample. Polyphase FIR with a Kaiser
    window (scipy.signal.resample_poly); missing samples (NaN) spread over the filter's length.
    """
    whole = resample_poly(padded, plan.up, plan.down, axis=1, window=low_pass(plan.up, plan.down))
    return np.asarray(whole[:, plan.margin_out : plan.margin_out + n_out], np.float32)
