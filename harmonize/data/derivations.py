"""Bipolar derivations: one electrode minus another, as recorded or computed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from harmonize_converters.channels import canonical_name


class Derivation(NamedTuple):
    """``anode`` minus ``cathode``, all three by their canonical names."""

    name: str
    anode: str
    cathode: str


def derivation(name: str) -> Derivation | None:
    """The derivation that a name means: "FP1-F7" is Fp1-F7, "T3-T5" is T7-P7, "C4-A1" is C4-M1.

    None where it means none: one electrode, an unknown one, or the AASM's "E1-M2", which is stored as the eye E1.
    """
    found = canonical_name(name)
    if found.anode is None or found.cathode is None or found.name != f"{found.anode}-{found.cathode}":
        return None
    return Derivation(found.name, found.anode, found.cathode)


def canonical(names: Iterable[str]) -> tuple[str, ...]:
    """Derivations by their canonical names; other names as they are."""
    return tuple(name if (found := derivation(name)) is None else found.name for name in names)


def electrodes(names: Iterable[str]) -> tuple[str, ...]:
    """Anodes and cathodes of the derivations among names, each once."""
    found = (derivation(name) for name in names)
    return tuple(dict.fromkeys(end for one in found if one is not None for end in (one.anode, one.cathode)))


def first_rows(names: Sequence[str]) -> dict[str, int]:
    """At which row each name is; of a name that repeats, the first counts."""
    return {name: row for row, name in reversed(list(enumerate(names)))}


def derived(kinds: pl.DataFrame, names: Sequence[str]) -> np.ndarray:
    """bool (kind, name): which derivations kinds of streams do not hold as recorded, but both electrodes of, with one
    type and one known unit.

    ``kinds`` has the list columns ``channels``, ``types`` and ``units``; without types, nothing is derived.
    """
    out = np.zeros((len(kinds), len(names)), bool)
    pairs = [(place, found) for place, name in enumerate(names) if (found := derivation(name)) is not None]
    if pairs and "types" in kinds.columns:
        held = kinds.select("channels", "types", "units").iter_rows()
        for row, (channels, types, units) in zip(out, held, strict=True):
            at = first_rows(channels)
            for place, one in pairs:
                if one.name not in at and one.anode in at and one.cathode in at:
                    a, b = at[one.anode], at[one.cathode]
                    row[place] = types[a] == types[b] and units[a] == units[b] and units[a] is not None
    return out
