"""Which rows of a stream go to which channels of a batch, and their calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harmonize.data.derivations import first_rows
from harmonize.data.stream_table import StreamTable
from harmonize.store.calibrate import Calibration

Rows = slice | np.ndarray


@dataclass(frozen=True)
class ChannelMap:
    """``rows`` of a stream go to ``places`` among the channels wanted; ``calibration`` is that of these rows."""

    rows: Rows
    places: Rows
    calibration: Calibration


class ChannelMaps:
    """For each stream of a table its ``ChannelMap``, shared where streams are alike."""

    def __init__(self, table: StreamTable, channels: Sequence[str]) -> None:
        self._which = table.rows["_kind"].to_numpy()
        kinds = table.kinds.select("channels", "scale", "offset", "missing")
        made = [_channel_map(channels, *one) for one in kinds.iter_rows()]
        self._maps = [one for one, _ in made]
        self._present = np.array([mask for _, mask in made])
        used = np.unique(self._which)
        self.any_absent = not self._present[used].all()
        self.any_missing = any(self._maps[one].calibration.missing is not None for one in used)
        scale, offset, _ = self._terms.astype(np.float32).transpose(1, 0, 2)
        self._single = scale, offset if offset[used].any() else None

    def __getitem__(self, stream: int) -> ChannelMap:
        return self._maps[int(self._which[stream])]

    def present(self, streams: np.ndarray) -> np.ndarray:
        """bool (stream, channel): which channels streams have."""
        found: np.ndarray = self._present[self._which[streams]]
        return found

    def terms(self, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``scale``, ``offset`` (1 and 0 where a channel is absent) and ``missing`` (NaN: none) of streams, float64
        (stream, channel)."""
        scale, offset, missing = self._terms[self._which[streams]].transpose(1, 0, 2)
        return scale, offset, missing

    def single(self, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """``scale`` and ``offset`` (None: zero for all) of streams, float32 (stream, channel)."""
        scale, offset = self._single
        kinds = self._which[streams]
        return scale[kinds], None if offset is None else offset[kinds]

    @cached_property
    def _terms(self) -> np.ndarray:
        """float64 (kind, term, channel)."""
        table = np.tile(np.array([[1.0], [0.0], [np.nan]]), (len(self._maps), 1, self._present.shape[1]))
        for row, one in zip(table, self._maps, strict=True):
            row[0, one.places], row[1, one.places] = one.calibration.scale, one.calibration.offset
            if one.calibration.missing is not None:
                row[2, one.places] = one.calibration.missing
        return table


def _channel_map(
    channels: Sequence[str],
    names: Sequence[str],
    scale: Sequence[float],
    offset: Sequence[float],
    missing: Sequence[float | None],
) -> tuple[ChannelMap, np.ndarray]:
    """The map of one stream, and which channels it has. Of a name that repeats, the first counts."""
    row_of = first_rows(names)
    found = [(row_of[name], place) for place, name in enumerate(channels) if name in row_of]
    rows, places = np.array(found, np.int64).reshape(-1, 2).T
    gone = np.array([np.nan if value is None else value for value in missing], np.float64)
    calibration = Calibration(np.array(scale, np.float64)[rows], np.array(offset, np.float64)[rows], gone[rows])
    mask = np.zeros(len(channels), bool)
    mask[places] = True
    return ChannelMap(_as_slice(rows), _as_slice(places), calibration), mask


def _as_slice(numbers: np.ndarray) -> Rows:
    """Numbers that follow each other as a slice, which takes a view and no copy."""
    first = int(numbers[0]) if len(numbers) else 0
    return slice(first, first + len(numbers)) if (np.diff(numbers) == 1).all() else numbers
