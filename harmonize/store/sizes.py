"""How large a store's parts are, beside the native samples in them."""

from __future__ import annotations

import numpy as np
import polars as pl

from harmonize.store.part_files import size_of
from harmonize.store.store import Store

IMAGES = "images"


def layout_sizes(store: Store, parts: int | None = None) -> dict[str, tuple[int, int]]:
    """Native and stored bytes of each layout, and of all images under "images"; of so many ``parts`` of each where
    that is enough. Documents and indices count as stored."""
    rows = store.streams.select("layout", "part", native=_native())
    images = store.recordings.drop_nulls("image").select(layout=pl.lit(IMAGES), part="image", native="bytes")
    found: dict[str, tuple[int, int]] = {}
    per_part = pl.concat([rows, images]).group_by("layout", "part").sum().sort("layout", "part")
    for (layout,), group in per_part.group_by("layout", maintain_order=True):
        chosen = group.head(parts) if parts else group
        stored = sum(size_of(store.path / part) for part in chosen["part"])
        found[str(layout)] = int(chosen["native"].sum()), stored
    return found


def _native() -> pl.Expr:
    sizes = {name: np.dtype(name).itemsize for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32",
                                                         "float32", "float64")}  # fmt: skip
    return pl.col("n_samples") * pl.col("channels").list.len() * pl.col("dtype").replace_strict(sizes)
