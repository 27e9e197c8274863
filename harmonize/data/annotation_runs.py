"""Where annotations lie in the runs of an index, in samples: pure."""

from __future__ import annotations

import numpy as np
import polars as pl

from harmonize.data.index import WindowIndex
from harmonize.data.shuffle import Ints

TIE = 1e-6
"""Times count by their nearest sample. What is so near to half way between two (in samples) counts by the later, so
that where one annotation ends and the next begins does not depend on how a sum of seconds is rounded."""


def nearest(position: np.ndarray) -> Ints:
    """The sample nearest to a position in samples."""
    return np.floor(position + (0.5 + TIE)).astype(np.int64)


def sample_at(index: WindowIndex, run: Ints, time_s: np.ndarray) -> Ints:
    """The sample of a run, counted from its first, nearest to a time in seconds from the recording's start."""
    return nearest((time_s - index.onset_s[run]) * index.rate_hz[run])


class Runs:
    """The runs of an index in order of recording and time; ``run`` (place,) are their numbers.

    ``recording_id`` has the recording of each row of the stream table.
    """

    def __init__(self, index: WindowIndex, recording_id: pl.Series) -> None:
        # A run begins for what is nearer to its first sample than to any before.
        begins = pl.Series("_time", index.onset_s - (0.5 + TIE) / index.rate_hz)
        frame = pl.DataFrame([recording_id.gather(index.stream).alias("recording_id"), begins])
        frame = frame.with_columns(_run=pl.int_range(pl.len())).sort("recording_id", "_time", "_run")
        self.run: Ints = frame["_run"].to_numpy()
        self._places = frame.drop("_run").with_columns(_place=pl.int_range(pl.len()))

    def begun(self, recording_id: pl.Series, time_s: pl.Series) -> pl.Series:
        """Place of the run of a recording that began last at each time; null where none had."""
        asked = pl.DataFrame([recording_id.alias("recording_id"), time_s.alias("_time")])
        asked = asked.with_columns(_at=pl.int_range(pl.len())).sort("recording_id", "_time")
        found = asked.join_asof(self._places, on="_time", by="recording_id", check_sortedness=False)
        return found.sort("_at")["_place"]

    def reached(self, recording_id: pl.Series, start_s: pl.Series, stop_s: pl.Series) -> tuple[Ints, Ints]:
        """All pairs of a span of time and a run of its recording that it can meet: (pair,) spans, and runs."""
        first = self._places.group_by("recording_id").agg(pl.col("_place").min())
        first_of = recording_id.to_frame("recording_id").join(
            first, on="recording_id", how="left", maintain_order="left"
        )["_place"]
        low, high = self.begun(recording_id, start_s).fill_null(first_of), self.begun(recording_id, stop_s)
        met = np.flatnonzero(high.is_not_null().to_numpy())
        low_at, high_at = low.gather(met).to_numpy(), high.gather(met).to_numpy()
        count = high_at - low_at + 1
        place = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low_at, count)
        return np.repeat(met, count), self.run[place]
