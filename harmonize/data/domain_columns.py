"""The columns that every sample carries: who, where, with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from harmonize.data.domains import Codes, device_name, encode, numbers, target_values


@dataclass(frozen=True)
class DomainColumns:
    """Per-row arrays of a table of recordings, ready to be gathered into batches.

    ``codes`` holds dataset, site, device, subject, sex (and target where it is text); ``numbers`` age
    (years, NaN where missing) and target where it is numeric.
    """

    recording_id: np.ndarray
    codes: dict[str, Codes]
    numbers: dict[str, np.ndarray]

    def gather(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of these rows, by name; ``recording_id`` is not among them."""
        out = {name: codes.codes[rows] for name, codes in self.codes.items()}
        return out | {name: values[rows] for name, values in self.numbers.items()}


def domain_columns(rows: pl.DataFrame, target: str | None, domains: Sequence[str] = ()) -> DomainColumns:
    """Encode a table with the columns of ``Store.recordings``, and ``domains`` beyond the usual ones.

    A multi-label target is in ``numbers``, its names in ``codes``. Raises ``ValueError`` for an unknown name.
    """
    for name in domains:
        if name not in rows.columns or rows[name].dtype.is_nested():
            raise ValueError(f"no column {name!r} to encode; there are {rows.columns}")
    codes = {name: encode(rows[name]) for name in ("dataset", "site", "subject", "sex", *domains)}
    codes["device"] = encode(device_name(rows))
    columns = {"age": numbers(rows["age"])}
    if target is not None:
        if target not in rows.columns:
            raise ValueError(f"no column {target!r} to take as target; there are {rows.columns}")
        values, named = target_values(rows[target])
        if values.dtype == np.float32:
            columns["target"] = values
        if named is not None:
            codes["target"] = named
    return DomainColumns(rows["recording_id"].to_numpy(), codes, columns)
