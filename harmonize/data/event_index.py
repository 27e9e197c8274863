"""Windows that are locked to annotations, as an index. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from harmonize.data.annotation_runs import Runs, sample_at
from harmonize.data.index import WindowIndex
from harmonize.data.shuffle import Ints


class EventWindows(NamedTuple):
    """``event`` (window,) is the row of the annotations that each window is of; and how many got none."""

    windows: WindowIndex
    event: Ints
    left_out: int


def event_windows(
    runs: WindowIndex, recording_id: pl.Series, annotations: pl.DataFrame, offset_s: float
) -> EventWindows:
    """One window an annotation, as long as those of ``runs``: its first sample is the nearest to ``offset_s`` after the
    onset. Windows that do not fit in a run are left out.

    Windows are numbered as they lie in runs. ``recording_id`` is that of each row of the stream table; ``annotations``
    has ``recording_id``, ``onset_s`` and ``_stream`` (see ``annotations_of``). Memory is O(annotations).
    """
    places = Runs(runs, recording_id)
    time_s = annotations["onset_s"] + offset_s
    place = places.begun(annotations["recording_id"], time_s)
    event = np.flatnonzero(place.is_not_null().to_numpy())
    run = places.run[place.gather(event).to_numpy()]
    first = sample_at(runs, run, time_s.gather(event).to_numpy())
    only = annotations["_stream"].fill_null(-1).gather(event).to_numpy()
    fits = (first >= 0) & (first + runs.length[run] <= runs.run_samples[run])
    fits &= (only == -1) | (only == runs.stream[run])
    event, run, first = event[fits], run[fits], first[fits]
    order = np.lexsort((event, first, run))
    used, windows = np.unique(run[order], return_counts=True)
    kept = replace(
        runs,
        stream=runs.stream[used],
        origin=runs.origin[used],
        run_samples=runs.run_samples[used],
        onset_s=runs.onset_s[used],
        rate_hz=runs.rate_hz[used],
        length=runs.length[used],
        step=_spacing(runs.stream[used], runs.run_samples[used], windows),
        ends=np.cumsum(windows),
        first=first[order],
    )
    return EventWindows(kept, event[order], len(annotations) - len(event))


def _spacing(stream: Ints, samples: Ints, windows: Ints) -> Ints:
    """By run, how many samples of its stream come on a window of it."""
    of_stream, at = np.unique(stream, return_inverse=True)
    per = np.bincount(at, samples, len(of_stream)) // np.maximum(np.bincount(at, windows, len(of_stream)), 1)
    return np.maximum(per, 1).astype(np.int64)[at]
