"""Statistics of each channel, gathered while its native samples pass by (FIDELITY S11). Pure.

Values are in the channel's unit; shares are of what they name, 0 to 1, and None where there is nothing to take a
share of. Samples are laid in windows of a second (at least ``MIN_WINDOW`` samples) from each segment's start, so that
how the samples come in blocks does not matter.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np

from harmonize.store.kernels import moments
from harmonize_schemas import SignalStream

MIN_WINDOW = 10
SPECTRAL_WINDOWS = 64
"""Line noise is taken from about so many windows of a stream, evenly spaced; from all where it has fewer."""
LINES_HZ = (50.0, 60.0)
STATISTICS = (
    "min", "max", "mean", "std", "missing_share", "outside_share", "rail_share", "flat_share", "line50_share",
    "line60_share",
)  # fmt: skip
"""What ``StreamStatistics.result`` gives of each channel:

- ``min``, ``max``, ``mean``, ``std`` (of the population) of the samples that are not missing, in the unit of values;
- ``missing_share`` of all samples; ``outside_share`` of present samples beyond the declared digital range, and
  ``rail_share`` of those at its ends or beyond, None where no range is declared;
- ``flat_share`` of whole windows without missing samples in which nothing changes;
- ``line50_share`` and ``line60_share`` of the power above 1.5 Hz that lies within 1.5 Hz of the line frequency (Hann
  windows, mean removed), None below a rate of twice 51.5 or 61.5 Hz or where there is no power.
"""


class StreamStatistics:
    """Gathers the statistics of one stream. ``update`` takes its blocks (channel, time) in order."""

    def __init__(self, stream: SignalStream) -> None:
        channels = stream.channels
        self._stream = stream
        self._window = max(MIN_WINDOW, round(stream.rate_hz))
        self._ends = np.cumsum([segment.n_samples for segment in stream.segments]).tolist()
        self._at = self._windows = 0
        self._rest = np.empty((len(channels), 0), stream.dtype)
        whole = sum(segment.n_samples // self._window for segment in stream.segments)
        self._every = max(1, whole // SPECTRAL_WINDOWS)
        self._basis = _line_basis(float(stream.rate_hz), self._window)
        dtype = np.dtype(stream.dtype)
        self._float, self._wide = dtype.kind == "f", dtype.kind == "f" or dtype.itemsize > 2
        missing = [channel.missing_value for channel in channels]
        self._missing = None if missing == [None] * len(channels) else np.array(
            [np.nan if one is None else one for one in missing], np.float64
        )  # fmt: skip
        self._unmarked = np.array([one is None for one in missing])
        self._low = np.array([-np.inf if c.digital_min is None else c.digital_min for c in channels])
        self._high = np.array([np.inf if c.digital_max is None else c.digital_max for c in channels])
        n = len(channels)
        self._pivot: np.ndarray | None = None
        self._min, self._max = np.full(n, np.inf), np.full(n, -np.inf)
        self._present, self._outside, self._rail, self._flat, self._judged = (np.zeros(n, np.int64) for _ in range(5))
        self._sum, self._squares = np.zeros(n), np.zeros(n)
        self._power, self._line = np.zeros(n), np.zeros((n, len(LINES_HZ)))

    def update(self, samples: np.ndarray) -> None:
        """The next native samples, (channel, time)."""
        done = 0
        while done < samples.shape[1]:
            end = self._ends[bisect_right(self._ends, self._at)]
            stop = min(samples.shape[1], done + end - self._at)
            with np.errstate(over="ignore", invalid="ignore"):  # floats of any size; what overflows is None
                self._take(samples[:, done:stop])
                if self._at + stop - done == end:  # no window crosses a gap
                    self._add(self._rest[:, None])
                    self._rest = self._rest[:, :0]
            self._at += stop - done
            done = stop

    def _take(self, samples: np.ndarray) -> None:
        """Samples of one segment: those that fill the window begun, whole windows, and a rest to keep."""
        if self._rest.shape[1]:
            fill = min(self._window - self._rest.shape[1], samples.shape[1])
            self._rest = np.concatenate([self._rest, samples[:, :fill]], axis=1)
            samples = samples[:, fill:]
            if self._rest.shape[1] < self._window:
                return
            self._add(self._rest[:, None])
        n = samples.shape[1] // self._window
        self._add(samples[:, : n * self._window].reshape(len(samples), n, self._window))
        self._rest = samples[:, n * self._window :].copy()

    def _add(self, windows: np.ndarray) -> None:
        """Windows (channel, window, time); a window shorter than the others is the end of a segment."""
        if windows.size == 0:
            return
        exact = None if self._wide else moments(windows)
        if exact is None:
            low, high = windows.min(axis=(1, 2)).astype(np.float64), windows.max(axis=(1, 2)).astype(np.float64)
        else:
            low, high = exact[:2]
        absent = self._absent(windows, low, high)
        if absent is not None:
            exact = None  # of all samples, also those that are missing
        values = windows.astype(np.float64) if exact is None else windows
        n_present: np.ndarray | int = windows.shape[1] * windows.shape[2]
        clean = None
        if absent is not None:
            values[absent] = np.nan
            clean = np.logical_not(absent.any(axis=2))
            n_present = n_present - absent.sum(axis=(1, 2))
            low, high = (reduction.reduce(values, axis=(1, 2)) for reduction in (np.fmin, np.fmax))
        np.fmin(self._min, low, out=self._min)
        np.fmax(self._max, high, out=self._max)
        self._present += n_present
        self._count_rails(values, (low <= self._low) | (high >= self._high))
        if exact is None:
            self._add_moments(values, absent is not None)
        else:
            self._sum += exact[2]
            self._squares += exact[3]
        if windows.shape[2] == self._window:
            unchanging = _unchanging(windows)
            self._judged += windows.shape[1] if clean is None else clean.sum(axis=1)
            self._flat += (unchanging if clean is None else unchanging & clean).sum(axis=1)
            self._add_spectra(values, clean)
            self._windows += windows.shape[1]

    def _absent(self, windows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
        """Which samples are missing, None where none is. The ends of each channel's range tell for most."""
        absent = None
        if self._float and not (np.isfinite(low) & np.isfinite(high)).all():
            absent = ~np.isfinite(windows)
        if self._missing is not None and not (self._unmarked | (self._missing < low) | (self._missing > high)).all():
            marked = windows == self._missing[:, None, None]
            absent = marked if absent is None else absent | marked
        return absent if absent is not None and absent.any() else None

    def _count_rails(self, values: np.ndarray, reached: np.ndarray) -> None:
        """Only channels that reach the ends of their declared range are looked at again."""
        for channel in np.flatnonzero(reached):
            bottom, top = self._low[channel], self._high[channel]
            self._rail[channel] += np.count_nonzero((values[channel] <= bottom) | (values[channel] >= top))
            self._outside[channel] += np.count_nonzero((values[channel] < bottom) | (values[channel] > top))

    def _add_moments(self, values: np.ndarray, with_nan: bool) -> None:
        """Sums of whole numbers, exact, for up to 16 bits, as ``moments`` has them where all are there; else of
        differences from each channel's first sample."""
        if self._wide:
            if self._pivot is None:
                self._pivot = np.nan_to_num(values[:, 0, 0])
            values = values - self._pivot[:, None, None]
        if with_nan:
            values = np.nan_to_num(values)
        self._sum += np.einsum("cwt->c", values)
        self._squares += np.einsum("cwt,cwt->c", values, values)  # not BLAS: its threads would get in each other's way

    def _add_spectra(self, values: np.ndarray, clean: np.ndarray | None) -> None:
        """Every ``_every``-th window of the stream."""
        first = -self._windows % self._every
        if self._basis is None or first >= values.shape[1]:
            return
        chosen = values[:, first :: self._every].astype(np.float64)
        if clean is not None:
            chosen = np.where(clean[:, first :: self._every, None], chosen, 0.0)
        chosen = chosen.swapaxes(0, 1)
        # The mean goes in float64; what is left is small enough for float32.
        mean = np.einsum("wct->wc", chosen)[..., None] / self._window
        tapered = np.empty(chosen.shape, np.float32)
        np.subtract(chosen, mean, out=tapered, casting="same_kind")
        tapered *= self._basis.taper
        # Parseval: all power but that of the slowest frequencies, one-sided.
        total = np.einsum("wct,wct->wc", tapered, tapered) * np.float32(self._window / 2)
        # One product a window: how BLAS rounds depends on the shape, which must not depend on blocks.
        parts = tapered @ self._basis.waves
        power = np.square(parts).reshape(*total.shape, -1, 2).sum(axis=3)
        above = np.maximum(total - power[..., 0] / 2 - power[..., 1], 0)
        self._power += above.sum(axis=0, dtype=np.float64)
        for index in range(self._basis.n_lines):
            near = power[..., 2 + 3 * index : 5 + 3 * index].sum(axis=2)
            self._line[:, index] += np.minimum(near, above).sum(axis=0, dtype=np.float64)

    def result(self) -> dict[str, list[float | None]]:
        """``STATISTICS`` by name, one number a channel."""
        channels, n = self._stream.channels, self._stream.n_samples
        scale = np.array([channel.scale for channel in channels])
        offset = np.array([channel.offset for channel in channels])
        known = np.isfinite(self._low) & np.isfinite(self._high)
        pivot = np.zeros(len(channels)) if self._pivot is None else self._pivot
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean = self._sum / self._present
            spread = np.sqrt(np.maximum(self._squares / self._present - mean**2, 0.0))
            ends = np.stack([self._min, self._max]) * scale + offset
            columns = {
                "min": ends.min(axis=0),
                "max": ends.max(axis=0),
                "mean": (mean + pivot) * scale + offset,
                "std": spread * np.abs(scale),
                "missing_share": 1 - self._present / n,
                "outside_share": np.where(known, self._outside / self._present, np.nan),
                "rail_share": np.where(known, self._rail / self._present, np.nan),
                "flat_share": self._flat / self._judged,
            }
            for index, name in enumerate(("line50_share", "line60_share")):
                available = self._basis is not None and index < self._basis.n_lines
                columns[name] = self._line[:, index] / self._power if available else np.full(len(channels), np.nan)
        return {
            name: [value if isfinite(value) else None for value in column.tolist()] for name, column in columns.items()
        }


def _unchanging(windows: np.ndarray) -> np.ndarray:
    """Which windows, of (channel, window, time), hold one value only. A few samples of each tell for most."""
    size, first = windows.shape[2], windows[..., 0]
    same = (first == windows[..., size - 1]) & (first == windows[..., size // 3]) & (first == windows[..., size // 2])
    if same.any():
        candidates = windows[same]
        same[same] = (candidates == candidates[:, :1]).all(axis=1)
    return np.asarray(same)


@dataclass(frozen=True)
class _Basis:
    """A Hann taper (time,), and cosines and sines in turn (time, 2 * frequency) of 0 and 1 Hz and of the line
    frequencies and 1 Hz beside them."""

    taper: np.ndarray
    waves: np.ndarray
    n_lines: int


@lru_cache(maxsize=32)
def _line_basis(rate_hz: float, window: int) -> _Basis | None:
    lines = [line for line in LINES_HZ if rate_hz > 2 * (line + 1.5)]
    if not lines:
        return None
    hertz = [0.0, 1.0, *(line + beside for line in lines for beside in (-1.0, 0.0, 1.0))]
    angle = 2 * np.pi * np.outer(np.arange(window) / rate_hz, hertz)
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(window, -1)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return _Basis(taper.astype(np.float32), waves.astype(np.float32), len(lines))
