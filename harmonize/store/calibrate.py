"""From native integers to values: one place for every reader."""

from __future__ import annotations

import numpy as np

from harmonize.store.kernels import convert
from harmonize_schemas import ValueTable


class Calibration:
    """float32 values (channel, time) = digital * scale + offset; missing samples become NaN.

    ``scale`` and ``offset`` are float64 (channel,). ``missing`` is float64 (channel,) with NaN for
    channels without a missing value, or None. Up to 16 bits the arithmetic is float32, whose rounding
    is below 0.005 of a digital step; wider samples are scaled in float64.
    """

    def __init__(self, scale: np.ndarray, offset: np.ndarray, missing: np.ndarray | None = None) -> None:
        self.scale, self.offset = scale, offset
        self.missing = None if missing is None or np.isnan(missing).all() else missing
        self._marks: dict[np.dtype, tuple[np.ndarray, np.ndarray | None]] = {}
        self._single, self._double = (
            (scale.astype(real)[None], offset.astype(real)[None] if offset.any() else None)
            for real in (np.float32, np.float64)
        )

    def __call__(self, digital: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Values of ``digital`` (channel, time), put into ``out`` where it is given."""
        if out is None:
            out = np.empty(digital.shape, np.float32)
        convert([out], [digital], *(self._single if digital.dtype.itemsize <= 2 else self._double))
        self.mark_missing(digital, out)
        return out

    def mark_missing(self, digital: np.ndarray, out: np.ndarray) -> None:
        """Put NaN into ``out`` where ``digital`` is missing."""
        if self.missing is None:
            return
        if digital.dtype not in self._marks:
            self._marks[digital.dtype] = _marks(self.missing, digital.dtype)
        marks, has_one = self._marks[digital.dtype]
        found = digital == marks
        if has_one is not None:
            found &= has_one
        if found.any():
            out[found] = np.nan


def look_up(table: ValueTable, stored: np.ndarray) -> np.ndarray:
    """The float64 values that a table gives for stored whole numbers, in their shape."""
    index = np.clip(stored.astype(np.int64) - table.first, 0, len(table.values) - 1)
    values: np.ndarray = np.array(table.values, np.float64)[index]
    return values


def _marks(missing: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
    """Missing values (channel, 1) in the samples' own dtype, as another would make numpy convert all samples; and which
    channels have one that the dtype can hold, None for all."""
    with np.errstate(invalid="ignore"):  # NaN to a whole number: of channels that have none
        marks = missing.astype(dtype)
    has_one = marks == missing
    return marks[:, None], None if has_one.all() else has_one[:, None]
