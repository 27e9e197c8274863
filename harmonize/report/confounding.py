"""What goes together with the place or the device: labels, sex, age. Pure.

One recording is taken of each person (the earliest), so that n counts persons and recordings of one person
do not pass for independent. Strength is 0 to 1: bias-corrected Cramér's V between categories, the root of
omega squared for numbers (``effects``). A pair of few persons is named but not judged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from harmonize.report.effects import cramers_v, crosstab, in_words, omega

FACTORS = ("dataset", "site", "device")
MIN_PERSONS = 30
"""Fewer persons than this are not judged."""
MAX_VALUES = 20
"""A label with more values, or with several at once, is taken value by value, the most frequent ones."""
MIN_PRESENT = 10
"""Fewer persons with a value, or without it, than this: the value is not taken."""
SCHEMA = {
    "factor": pl.String, "target": pl.String, "measure": pl.String, "strength": pl.Float64, "means": pl.String,
    "persons": pl.Int64, "levels": pl.Int64,
}  # fmt: skip


def associations(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Pairs of data set, site or device with sex, age and each label, and site with device; strongest first.

    ``rows``: recordings with ``person``, ``device``; ``labels``: ``Store.label_rows``. Columns: ``strength`` (None:
    not judged, and ``means`` says why), ``persons`` where both are known, ``levels`` of the factor among them.
    """
    first = rows.sort("start_s", "recording_id", nulls_last=True).unique("person", keep="first", maintain_order=True)
    found = [_pair(first, "site", "device", first["device"])]
    targets = [("sex", first["sex"]), ("age", first["age"]), *_label_columns(first, labels)]
    found += [_pair(first, factor, name, values) for factor in FACTORS for name, values in targets]
    table = pl.DataFrame([pair for pair in found if pair is not None], SCHEMA, orient="row")
    return table.sort("strength", "persons", "factor", "target", descending=[True, True, False, False], nulls_last=True)


def _pair(first: pl.DataFrame, factor: str, name: str, values: pl.Series) -> tuple[object, ...] | None:
    both = pl.DataFrame({"factor": first[factor], "target": values}).drop_nulls()
    if both["factor"].n_unique() < 2 or both["target"].n_unique() < 2:
        return None
    numeric = values.dtype.is_numeric()
    if len(both) < MIN_PERSONS:
        strength, means = None, f"not judged: fewer than {MIN_PERSONS} persons"
    else:
        if numeric:
            strength = omega(_codes(both["factor"]), both["target"].cast(pl.Float64).to_numpy())
        else:
            counts = both.group_by("factor", "target").len()
            codes = (_codes(counts["factor"]), _codes(counts["target"]))
            strength = cramers_v(crosstab(*codes, counts["len"].to_numpy().astype(np.int64)))
        means = "not judged: too few per value" if strength is None else in_words(strength)
    measure = "ω" if numeric else "V"
    return factor, name, measure, strength, means, len(both), both["factor"].n_unique()


def _codes(values: pl.Series) -> np.ndarray:
    return values.rank("dense").to_numpy().astype(np.int64)


def _label_columns(first: pl.DataFrame, labels: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
    """Each label as a column over the persons: numbers, text, or "yes"/"no" for a value among several."""
    ids = first.select("recording_id")
    for (name,), table in labels.join(ids, on="recording_id").sort("name").group_by("name", maintain_order=True):
        kinds, alone = set(table["kind"]), table.drop("name", "kind")
        if kinds == {"number"} or kinds == {"bool"}:
            column = ids.join(alone, on="recording_id", how="left", maintain_order="left")["number"]
            yield f"label {name}", column if kinds == {"number"} else column.cast(pl.String)
        elif kinds == {"text"} and table["value"].n_unique() <= MAX_VALUES:
            yield f"label {name}", ids.join(alone, on="recording_id", how="left", maintain_order="left")["value"]
        else:
            having = pl.col("recording_id").is_in(table["recording_id"].unique().implode())
            total = table["recording_id"].n_unique()
            counts = table.group_by("value").agg(n=pl.col("recording_id").n_unique()).drop_nulls()
            counts = counts.filter(pl.col("n").is_between(MIN_PRESENT, total - MIN_PRESENT))
            for value in counts.sort("n", "value", descending=[True, False])["value"].head(MAX_VALUES):
                present = table.filter(pl.col("value") == value)["recording_id"].unique()
                said = (
                    pl.when(pl.col("recording_id").is_in(present.implode())).then(pl.lit("yes")).otherwise(pl.lit("no"))
                )
                yield f"label {name}: {value}", ids.select(said=pl.when(having).then(said))["said"]
