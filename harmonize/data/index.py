"""Which windows there are: pure arithmetic over streams and segments, O(segments) memory."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import polars as pl

from harmonize.data.domains import distinct


@dataclass(frozen=True)
class WindowIndex:
    """Windows of ``length`` native samples every ``step``, laid in segments; none crosses a gap.

    ``stream`` (n_runs,) is the row of the stream table, ``origin`` (n_runs,) the first sample of the run
    in the part, ``onset_s`` (n_runs,) its time, ``ends`` (n_runs,) the running count of windows.
    ``length`` and ``step`` are per run, as rates may differ. ``first`` (n_windows,) is given where windows are not laid
    every ``step``: the first sample of each in its run, ascending; ``step`` then is about how far apart they are.
    """

    stream: np.ndarray
    origin: np.ndarray
    run_samples: np.ndarray
    onset_s: np.ndarray
    rate_hz: np.ndarray
    length: np.ndarray
    step: np.ndarray
    ends: np.ndarray
    first: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run of each window and its first sample within the run."""
        run = np.searchsorted(self.ends, windows, side="right")
        if self.first is not None:
            return run, self.first[windows]
        before = self.ends[run] - windows_per_run(self.run_samples[run], self.length[run], self.step[run])
        return run, (windows - before) * self.step[run]

    def jittered(self, run: np.ndarray, first: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """First samples in place of those of the grid, by draws from [0, 1).

        All starts that keep a window inside its run are cut into as many even stretches as the run has windows, and
        each window starts somewhere in its own: no start is likelier than another, and none is a stride or more from
        the grid's.
        """
        starts = self.run_samples[run] - self.length[run] + 1
        windows = windows_per_run(self.run_samples[run], self.length[run], self.step[run])
        number = first // self.step[run]
        drawn = np.floor((number + draw) * starts / windows).astype(np.int64)
        # A draw just below 1 may be rounded up.
        inside: np.ndarray = np.minimum(drawn, ((number + 1) * starts - 1) // windows)
        return inside


def windows_per_run(samples: np.ndarray, length: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How many windows of ``length`` every ``step`` samples fit into runs of ``samples``."""
    return np.where(samples >= length, (samples - length) // step + 1, 0)


def samples_of(seconds: float, rate: Fraction) -> int:
    """Seconds as a whole number of samples, rounded to the nearest; at least one."""
    return max(1, round(Fraction(seconds).limit_denominator(10**6) * rate))


def index_windows(streams: pl.DataFrame, window_s: float, stride_s: float) -> WindowIndex:
    """Index the windows of a stream table (columns of ``Store.streams``)."""
    runs = streams.with_row_index("_stream").select(
        "_stream", "start", "rate_num", "rate_den", "segment_start", "segment_samples", "segment_onset_s"
    )
    runs = runs.explode("segment_start", "segment_samples", "segment_onset_s")
    found, rate_of = distinct(runs, "rate_num", "rate_den")
    rates = [Fraction(*one) for one in found.iter_rows()]
    lengths = [(samples_of(window_s, rate), samples_of(stride_s, rate)) for rate in rates]
    sizes = np.array(lengths, np.int64).reshape(-1, 2)[rate_of]
    samples = runs["segment_samples"].to_numpy().astype(np.int64)
    count = windows_per_run(samples, sizes[:, 0], sizes[:, 1])
    return WindowIndex(
        stream=runs["_stream"].to_numpy().astype(np.int64),
        origin=(runs["start"] + runs["segment_start"]).to_numpy().astype(np.int64),
        run_samples=samples,
        onset_s=runs["segment_onset_s"].to_numpy().astype(np.float64),
        rate_hz=np.array([float(rate) for rate in rates], np.float64)[rate_of],
        length=sizes[:, 0],
        step=sizes[:, 1],
        ends=np.cumsum(count),
    )
