"""Windows and their labels from a store's annotations, which are read here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from harmonize.data.annotations import Events, annotations_of, condition_of, require_labels
from harmonize.data.domains import UNKNOWN
from harmonize.data.event_index import event_windows
from harmonize.data.index import WindowIndex, index_windows
from harmonize.data.shuffle import Ints
from harmonize.data.stream_table import StreamTable
from harmonize.data.window_labels import WindowLabel, WindowLabels, place
from harmonize.store import Store

_log = logging.getLogger(__name__)


class LockedWindows(NamedTuple):
    """Windows of events; ``label`` and ``text`` of the event of each; how many events got none."""

    windows: WindowIndex
    events: pl.DataFrame
    left_out: int


def locked_windows(
    store: Store, streams: StreamTable, channels: Sequence[str], events: Events, window_s: float, offset_s: float
) -> LockedWindows:
    """One window an annotation, from ``offset_s`` after its onset on. Raises ``ValueError`` where there is none."""
    found = annotations_of(store, streams, channels, condition_of(events), "label", "text")
    if found.is_empty():
        raise ValueError("no annotation of the recordings and channels chosen meets events=")
    runs = index_windows(streams.rows, window_s, window_s)
    windows, event, left_out = event_windows(runs, streams.rows["recording_id"], found, offset_s)
    if len(windows) == 0:
        raise ValueError(f"none of the {left_out} windows of events, {window_s} s long, fits in its segment")
    _log.info("%d windows of events; %d more reach out of their segments and are left out", len(event), left_out)
    return LockedWindows(windows, found.select("label", "text")[event], left_out)


class EventLabels:
    """The labels of windows by the rule "event"."""

    def __init__(self, codes: Ints) -> None:
        self._codes = codes

    def read(self, windows: Ints, run: Ints, first: Ints) -> Ints:
        """As ``WindowLabels.read``."""
        codes: Ints = self._codes[windows]
        return codes


def window_labels(
    label: WindowLabel,
    store: Store,
    streams: StreamTable,
    channels: Sequence[str],
    index: WindowIndex,
    locked: LockedWindows | None,
) -> WindowLabels | EventLabels:
    """The labels of an index' windows. Raises ``ValueError`` where nothing has one of them."""
    if label.column == "label":
        require_labels(label.codes)
    if label.rule == "event":
        return EventLabels(_event_codes(label, locked))
    condition = pl.col(label.column).is_in(list(label.codes))
    if label.where is not None:
        condition &= condition_of(label.where)
    found = annotations_of(store, streams, channels, condition, label.column).rename({label.column: "name"})
    _require_found(label, found["name"])
    return WindowLabels(label, index, place(index, streams.rows["recording_id"], found, label.codes))


def _event_codes(label: WindowLabel, locked: LockedWindows | None) -> Ints:
    if locked is None or label.where is not None:
        raise ValueError("rule='event' is the label of each window's event: it takes events=, and no where of its own")
    codes = locked.events[label.column].replace_strict(label.codes, default=UNKNOWN, return_dtype=pl.Int64)
    _require_found(label, locked.events[label.column])
    return codes.to_numpy()


def _require_found(label: WindowLabel, found: pl.Series) -> None:
    lacking = sorted(set(label.codes) - set(found.unique()))
    if len(lacking) == len(label.codes):
        raise ValueError(f"no annotation of the recordings and channels chosen has a {label.column} of {lacking}")
    if lacking:
        _log.info("no annotation has a %s of %s", label.column, lacking)
