"""EEG against another reference: which channels can be, and the arithmetic. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from harmonize.data.derivations import derivation, first_rows
from harmonize.data.stream_table import StreamTable
from harmonize_converters.channels import canonical_name

AVERAGE = "average"
Reference = str | Sequence[str]


def reference_names(reference: Reference) -> tuple[str, ...]:
    """Canonical names of the electrodes of a reference ("A1" is M1); none for "average".

    Raises ``ValueError`` for no name at all, or a derivation.
    """
    if reference == AVERAGE:
        return ()
    given = (reference,) if isinstance(reference, str) else tuple(reference)
    if not given or any(map(derivation, given)):
        raise ValueError(f'reference= takes "average", or the name of one electrode or several, not {reference!r}')
    found = ((name, canonical_name(name)) for name in given)
    return tuple(dict.fromkeys(known.name if known.mapped else name for name, known in found))


def electrodes_of(table: StreamTable, channels: Sequence[str], against: Sequence[str]) -> np.ndarray:
    """bool (kind, channel): which of ``channels`` kinds of streams hold as single EEG electrodes, which ``against``
    (names of electrodes; none: the average) can be subtracted from. ``table`` has types and units, and the column
    ``reference`` of recordings.

    Raises ``ValueError`` where a stream lacks an electrode of the reference, where units differ or are unknown, where
    it is not known against what a channel was measured, where an average would be of one channel, and where there is
    nothing to do.
    """
    out = np.zeros((len(table.kinds), len(channels)), bool)
    used = set(table.rows["_kind"].unique().to_list())
    kinds = table.kinds.select("channels", "types", "units").iter_rows()
    single = [derivation(name) is None for name in channels]
    for kind, (names, types, units) in enumerate(kinds):
        if kind not in used:
            continue
        at = first_rows(names)
        for place, name in enumerate(channels):
            out[kind, place] = single[place] and name in at and types[at[name]] == "eeg"
        chosen = dict.fromkeys(name for place, name in enumerate(channels) if out[kind, place])
        if chosen and (wrong := _wrong(chosen, against, at, types, units)):
            example = table.rows.filter(table.rows["_kind"] == kind)["recording_id"][0]
            raise ValueError(f"reference= cannot be used: {wrong} (as in {example!r}); narrow with where= or channels=")
    touched = np.asarray(out.any(axis=1))[table.rows["_kind"].to_numpy()]
    if not touched.any():
        raise ValueError("reference= is for single electrodes of EEG, and none is among these channels")
    bipolar = table.rows.filter(pl.Series(touched) & (pl.col("reference") == "bipolar"))
    if len(bipolar):
        raise ValueError(
            f"reference= cannot be used: the channels of {bipolar['recording_id'][0]!r} are a bipolar montage; narrow "
            "with where="
        )
    return out


def _wrong(
    chosen: dict[str, None],
    against: Sequence[str],
    at: dict[str, int],
    types: Sequence[str],
    units: Sequence[str | None],
) -> str | None:
    """Why these channels of one stream cannot be measured against a reference."""
    if lacks := [name for name in against if name not in at]:
        return f"a stream lacks {', '.join(map(repr, lacks))}"
    if others := [name for name in against if types[at[name]] != "eeg"]:
        return f"{others[0]!r} is of type {types[at[others[0]]]}, not eeg"
    # A hyphen where the vocabulary knows no pair: two electrodes, or an electrode and the name of its reference.
    if unsure := [name for name in (*chosen, *against) if "-" in name and not canonical_name(name).mapped]:
        return f"it is not known whether {unsure[0]!r} is a bipolar derivation"
    found = {units[at[name]] for name in (*chosen, *against)}
    if found == {None}:
        return "the unit of its channels is not known"
    if len(found) > 1:
        return f"its channels are in different units, {', '.join(sorted(map(str, found)))}"
    if not against and len(chosen) == 1:
        return f"{next(iter(chosen))!r} is the only EEG channel of a stream, and less its own average is zero"
    return None


def subtract(signal: np.ndarray, against: np.ndarray, chosen: np.ndarray) -> None:
    """``signal`` (window, channel, time) less ``against`` (window, time), in place.

    Only where ``chosen``, bool (window, channel).
    """
    if chosen.all():
        signal -= against[:, None]
    else:
        np.subtract(signal, against[:, None], out=signal, where=chosen[:, :, None])


def average(signal: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float32 (window, time): at each sample the mean over the ``chosen`` (window, channel) that are present there."""
    weight = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    # Not BLAS: its threads would get in each other's way.
    mean: np.ndarray = np.einsum("wct,wc->wt", signal, weight.astype(np.float32))
    # Where a sample is missing (or beside the chosen ones, which costs time and changes nothing): by counting.
    for window in np.flatnonzero(~np.isfinite(mean).all(axis=1)):
        values = signal[window, chosen[window]]
        present = np.isfinite(values)
        total = np.where(present, values, np.float32(0)).sum(axis=0)
        mean[window] = total / np.maximum(present.sum(axis=0), 1)
    return mean
