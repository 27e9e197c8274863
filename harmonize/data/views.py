"""What a batch of windows becomes between reading and training: derived, referenced, normalised, masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from harmonize.data.buffers import Fresh
from harmonize.data.derivations import derivation, derived, electrodes, first_rows
from harmonize.data.normalize import Affine, Normalize, apply, by_catalog, by_window
from harmonize.data.rereference import Reference, average, electrodes_of, reference_names, subtract
from harmonize.data.stream_table import StreamTable

Missing = Literal["nan", "mask"]


def check_options(reference: Reference | None, normalize: Normalize | None, missing: Missing, native: bool) -> None:
    """Raises ``ValueError`` for values that there are not, and for views of native integers."""
    if normalize not in (None, *get_args(Normalize)):
        raise ValueError(f"normalize= is one of {get_args(Normalize)} or None, not {normalize!r}")
    if missing not in get_args(Missing):
        raise ValueError(f"missing= is one of {get_args(Missing)}, not {missing!r}")
    if reference is not None and normalize in ("channel", "recording"):
        raise ValueError(f"the catalog has no statistics of signals against another reference: {_INSTEAD[normalize]}")
    if native and (reference is not None or normalize is not None or missing != "nan"):
        raise ValueError("dtype=None gives native integers: reference=, normalize= and missing='mask' need values")


_INSTEAD = dict.fromkeys(("channel", "recording"), 'use normalize="robust"')


def view(
    table: StreamTable,
    channels: Sequence[str],
    reference: Reference | None = None,
    normalize: Normalize | None = None,
    missing: Missing = "nan",
) -> View | None:
    """What is to be done with the windows of a data set; None: nothing.

    Parameters
    ----------
    table
        The streams, with types and units for a reference and for ``normalize="recording"``, with statistics for
        "channel" and "recording".
    channels
        Names wanted; derivations by their canonical names.
    reference, normalize, missing
        See ``WindowDataset``.

    Raises ``ValueError`` where a stream cannot be seen so.
    """
    if reference is None and normalize is None and missing == "nan" and not any(map(derivation, channels)):
        return None
    made = View(table, channels, reference, normalize, missing)
    return None if made.is_plain else made


class View:
    """The work on batches that ``view`` was asked for; windows are read with the channels ``inputs``."""

    def __init__(
        self,
        table: StreamTable,
        channels: Sequence[str],
        reference: Reference | None,
        normalize: Normalize | None,
        missing: Missing,
    ) -> None:
        if (reference is not None or normalize is not None) and len(set(channels)) < len(channels):
            raise ValueError("channels= names a channel twice, which would count twice")
        self._normalize, self._missing, self._n = normalize, missing, len(channels)
        self._kind_of = table.rows["_kind"].to_numpy()
        used = np.zeros(len(table.kinds), bool)
        used[self._kind_of] = True
        rows = np.array(
            [[at.get(name, -1) for name in channels] for at in map(first_rows, table.kinds["channels"])], np.int64
        )
        self._derived = derived(table.kinds, channels) & used[:, None]
        self._present = (rows >= 0) | self._derived
        against = () if reference is None else reference_names(reference)
        self._electrodes = None if reference is None else electrodes_of(table, channels, against)
        needed = [name for place, name in enumerate(channels) if self._derived[:, place].any()]
        more = dict.fromkeys(name for name in (*electrodes(needed), *against) if name not in channels)
        self.inputs: tuple[str, ...] = (*channels, *more)
        """The channels wanted, and behind them others that these are made of."""
        self._against = [self.inputs.index(name) for name in against]
        self._pairs = [(place, *self._ends(name)) for place, name in enumerate(channels) if name in needed]
        self.affine: Affine | None = None
        """What ``WindowReader`` is to do while it scales: the catalog's normalisation."""
        if normalize in ("channel", "recording"):
            if needed:
                raise ValueError(f"the catalog has no statistics of {needed[0]!r}: {_INSTEAD[normalize]}")
            if normalize == "recording":
                _one_unit(table, rows)
            self.affine = by_catalog(table, rows, together=normalize == "recording")
        self.is_plain = self._electrodes is None and normalize is None and missing == "nan" and not needed
        """Whether there is nothing to do: all derivations are recorded."""

    def _ends(self, name: str) -> tuple[int, int]:
        found = derivation(name)
        assert found is not None
        return self.inputs.index(found.anode), self.inputs.index(found.cathode)

    def __call__(self, values: np.ndarray, streams: np.ndarray, memory: Fresh) -> dict[str, np.ndarray]:
        """``signal`` float32 (window, channel, time) and ``channel_mask`` of windows of these streams; for "mask" also
        ``missing_mask``. ``values`` (window, input, time) are as read, with ``affine``, and are worked on in place."""
        kind = self._kind_of[streams]
        with np.errstate(invalid="ignore", over="ignore"):  # samples that are infinite, in a source of floats
            signal = values if len(self.inputs) == self._n else values[:, : self._n]
            signal = self._derive(values, signal, kind, memory)
            if self._electrodes is not None:
                chosen = self._electrodes[kind]
                against = _mean(values[:, self._against]) if self._against else average(signal, chosen)
                subtract(signal, against, chosen)
            if self._normalize == "robust":
                apply(signal, *by_window(signal))
        columns = {"signal": signal, "channel_mask": self._present[kind]}
        if self._missing == "mask":
            gone = np.isnan(signal, out=memory.empty(signal.shape, np.dtype(bool)))
            if gone.any():
                np.copyto(signal, 0, where=gone)
            columns["missing_mask"] = gone
        return columns

    def _derive(self, values: np.ndarray, signal: np.ndarray, kind: np.ndarray, memory: Fresh) -> np.ndarray:
        """The channels of the view in memory of their own, where there are others in ``values``."""
        if signal is not values:
            signal = memory.empty(signal.shape, signal.dtype)
            signal[...] = values[:, : self._n]
        # Ends of a derivation are electrodes, so that none is written before it is read.
        for place, anode, cathode in self._pairs:
            windows = self._derived[kind, place]
            if windows.all():
                np.subtract(values[:, anode], values[:, cathode], out=signal[:, place])
            else:
                signal[windows, place] = values[windows, anode] - values[windows, cathode]
        return signal


def _mean(values: np.ndarray) -> np.ndarray:
    """Over channels; missing where one of them is."""
    return np.asarray(values.mean(axis=1) if values.shape[1] > 1 else values[:, 0])


def _one_unit(table: StreamTable, rows: np.ndarray) -> None:
    for kind in table.rows["_kind"].unique():
        units = table.kinds["units"][kind]
        if len(found := {units[row] for row in rows[kind].tolist() if row >= 0}) > 1:
            raise ValueError(
                f"normalize='recording' takes channels of one unit, and there are {sorted(map(str, found))}: use "
                "normalize='channel'"
            )
