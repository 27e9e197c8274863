"""Computed tables without what was forgotten: duplicates, splits and their hashes, what runs remember."""

from __future__ import annotations

import polars as pl

from harmonize.data.splits import digest
from harmonize.store import catalog
from harmonize.store.place import Place


def forget_derived(root: Place, gone: set[str], before: int) -> None:
    """Take recordings out of duplicates and splits. ``before``: the store's version before they went.

    Duplicates that were searched in that version hold for the one after it, if nothing else came between: no pair
    appears because a recording goes. Sides stay as they were; a split's hash becomes that of what is left.
    """
    now = catalog.version_of(root)
    trees, known = catalog.read_derived(root, "trees")
    if len(trees):  # what runs remember lists recordings; the next run makes it anew
        catalog.replace_derived(root, "trees", trees.clear(), now if known is None else known)
    pairs, searched = catalog.read_derived(root, "duplicates")
    if searched is not None:
        left = pairs.filter(~pl.col("recording_a").is_in(gone) & ~pl.col("recording_b").is_in(gone))
        version = now if (searched, now) == (before, before + 1) else searched
        if len(left) < len(pairs) or version != searched:
            catalog.replace_derived(root, "duplicates", left, version)
    rows, version_of_splits = catalog.read_derived(root, "splits")
    runs, version_of_runs = catalog.read_derived(root, "split_runs")
    if version_of_splits is None or version_of_runs is None:
        return
    left = without(rows, gone)
    hashes = {name: digest(left.filter(split=name)) for name in runs["split"]}
    renewed = runs.with_columns(sha256=pl.col("split").replace_strict(hashes, default=None, return_dtype=pl.String))
    # A split that was not whole before keeps its hash, and so its error.
    untouched = {name for name in runs["split"] if gone.isdisjoint(rows.filter(split=name)["recording_id"])}
    renewed = renewed.with_columns(
        sha256=pl.when(pl.col("split").is_in(untouched)).then(runs["sha256"]).otherwise(pl.col("sha256"))
    )
    # The hashes first: killed between the two, the rows still tell which splits are concerned.
    if not renewed.equals(runs):
        catalog.replace_derived(root, "split_runs", renewed, version_of_runs)
    if not left.equals(rows):
        catalog.replace_derived(root, "splits", left, version_of_splits)


def without(rows: pl.DataFrame, gone: set[str]) -> pl.DataFrame:
    """Rows of splits without some recordings; a group that was named after one of them is named after its first
    that is left. Pure."""
    left = rows.filter(~pl.col("recording_id").is_in(gone))
    first = pl.col("recording_id").min().over("split", "group")
    return left.with_columns(group=pl.when(pl.col("group").is_in(gone)).then(first).otherwise(pl.col("group")))
