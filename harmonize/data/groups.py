"""Which recordings must stay together: connected by subject, duplicate or source file. Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

UnknownSubjects = Literal["refuse", "own"]
BESIDE = ("sidecar", "bval", "bvec", "segment", "events")
"""Roles of source files that hold no data, beside annotation files: they may be equal for many people, as the
protocol is. Every other role is taken to hold data."""


def subject_links(recordings: pl.DataFrame, unknown: UnknownSubjects = "refuse") -> pl.DataFrame:
    """(recording_id, key): recordings of one subject of one dataset have one key.

    Recordings without a subject have no key under "own". Raises ``ValueError`` for them under "refuse".
    """
    missing = recordings.filter(pl.col("subject").is_null())
    if unknown == "refuse" and len(missing):
        sets = ", ".join(missing["dataset"].unique().sort())
        raise ValueError(
            f"{len(missing)} recordings have no subject (data sets: {sets}), so one person could be on two sides: give "
            "the subject in the recipe, leave them out, or take each as a person of its own (unknown_subjects='own', "
            "--unknown-subjects-own)"
        )
    known = recordings.filter(pl.col("subject").is_not_null())
    return known.select("recording_id", key=pl.struct("dataset", "subject").struct.json_encode())


def source_links(sources: pl.DataFrame) -> pl.DataFrame:
    """(recording_id, key): recordings made from one file of data have its SHA-256 as key.

    Takes the columns of ``Store.sources``. A file that holds several recordings (``shared``) links none of
    them: it may hold many subjects, and equal samples are found by content.
    """
    beside = pl.col("role").is_in(BESIDE) | pl.col("role").str.starts_with("annotations")
    rows = sources.filter(~beside & ~pl.col("shared") & (pl.col("size") > 0))
    return rows.select("recording_id", key="sha256").unique()


def pair_links(pairs: pl.DataFrame) -> pl.DataFrame:
    """(recording_id, key): the two of each row of ``recording_a``, ``recording_b`` have one key."""
    key = pl.struct("recording_a", "recording_b").struct.json_encode()
    return pl.concat([pairs.select(recording_id=name, key=key) for name in ("recording_a", "recording_b")])


def groups(recording_ids: pl.Series, links: list[pl.DataFrame]) -> pl.DataFrame:
    """(recording_id, group): what is connected through any keys, named after its first recording, sorted.

    Links of recordings that are not among ``recording_ids`` still connect those that are.
    """
    from scipy.sparse import coo_array  # takes a fifth of a second, which each command would wait for
    from scipy.sparse.csgraph import connected_components

    tagged = [frame.select("recording_id", key=pl.format("{}:{}", pl.lit(i), "key")) for i, frame in enumerate(links)]
    edges = pl.concat([pl.DataFrame(schema={"recording_id": pl.String, "key": pl.String}), *tagged])
    names = pl.concat([recording_ids.rename("recording_id"), edges["recording_id"]]).unique().sort()
    keys = edges["key"].unique().sort()
    row = edges["recording_id"].replace_strict(names, pl.int_range(len(names), eager=True), return_dtype=pl.Int64)
    column = edges["key"].replace_strict(keys, pl.int_range(len(keys), eager=True), return_dtype=pl.Int64)
    n = len(names) + len(keys)
    ends = (row.to_numpy(), column.to_numpy() + len(names))
    _, component = connected_components(coo_array((np.ones(len(edges), np.int8), ends), shape=(n, n)), directed=False)
    frame = pl.DataFrame({"recording_id": names, "component": component[: len(names)]})
    frame = frame.filter(pl.col("recording_id").is_in(recording_ids.implode()))
    return frame.select("recording_id", group=pl.col("recording_id").min().over("component")).sort("recording_id")
