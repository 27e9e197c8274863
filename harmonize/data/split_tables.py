"""Splits of a store: made, stored, grown and read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import polars as pl

from harmonize.data.exact import exact_pairs
from harmonize.data.groups import UnknownSubjects, groups, pair_links, source_links, subject_links
from harmonize.data.splits import (
    Value,
    balanced,
    by_value,
    column_of,
    cuts_of,
    digest,
    official_sides,
    strata_of,
    temporal_sides,
)
from harmonize.store import Store, StoreError, catalog

Method = Literal["random", "kfold", "leave-one-out", "official", "temporal"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?)?)?")


@dataclass(frozen=True)
class Plan:
    """How a split is made; all of it is stored, so that the split can grow.

    ``fractions`` by side (random, temporal); ``k`` folds "0" to "k-1" (kfold); ``by`` a column of recordings,
    "device", or a label: the side of each recording (leave-one-out) or what orders them (temporal); ``sides``
    official folds to sides; ``stratify`` columns and labels to spread evenly (random, kfold); ``cuts`` the
    last value of each side but the last (temporal; taken from ``fractions`` where not given).
    """

    method: Method
    fractions: Mapping[str, float] = field(default_factory=lambda: {"train": 0.8, "val": 0.1, "test": 0.1})
    k: int = 5
    by: str | None = None
    sides: Mapping[str, str] | None = None
    stratify: Sequence[str] = ()
    cuts: Mapping[str, Value] | None = None
    seed: int = 0
    unknown_subjects: UnknownSubjects = "refuse"
    near_duplicates: bool = True

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"no method {self.method!r}; there are {', '.join(get_args(Method))}")
        if self.method in ("leave-one-out", "temporal") and not self.by:
            raise ValueError(f"{self.method} needs by=: a column of recordings or a label")
        if self.method == "kfold" and self.k < 2:
            raise ValueError("kfold needs at least 2 folds")
        if self.by == "start_s":
            raise ValueError(
                "start_s counts from each subject's own first recording, so it orders nothing between subjects: "
                "give a label with a year or date"
            )


def make_split(store: Store, name: str, method: Method, **options: Any) -> pl.DataFrame:
    """Split the recordings of a store by ``Plan(method, ...)`` and store the result under ``name``.

    Recordings of one subject, duplicates and recordings from one file are never on two sides. Temporal:
    a subject whose recordings lie on both sides of a cut is excluded, as all but ``by`` value says nothing
    of another subject's time.

    Returns
    -------
    (split, recording_id, group, side, reason), sorted by recording.

    Raises
    ------
    ValueError
        For a name that is taken or not made of letters, digits, ``._-``; for options that do not fit;
        recordings without subject; duplicates not searched in this version of the store.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"the name of a split is made of letters, digits and . _ -, not {name!r}")
    if name in split_runs(store)["split"]:
        raise ValueError(f"there is a split {name!r} already: grow it, or choose another name")
    return _assign(store, name, Plan(method, **options), None)


def grow_split(store: Store, name: str) -> pl.DataFrame:
    """Give sides to the recordings that came after a split was made; those that have one keep it.

    A new recording that connects two sides is excluded. Returns and raises as ``make_split``.
    """
    return _assign(store, name, Plan(**json.loads(_run(store, name)["parameters"])), load_split(store, name))


def split_runs(store: Store) -> pl.DataFrame:
    """One row a split: method, parameters as JSON, seed, versions of the store, and SHA-256 of its sides."""
    return catalog.read_derived(store.path, "split_runs")[0].sort("split")


def load_split(store: Store, name: str) -> pl.DataFrame:
    """A stored split's rows. Raises ``ValueError`` for an unknown name, ``StoreError`` where the rows are not
    those whose hash was stored."""
    run = _run(store, name)
    rows = catalog.read_derived(store.path, "splits")[0].filter(pl.col("split") == name).sort("recording_id")
    if digest(rows) != run["sha256"]:
        raise StoreError(f"the sides of split {name!r} are not those that were made: their hash differs")
    return rows


def on_side(store: Store, name: str, side: str, *, others: bool = False) -> pl.Expr:
    """A condition for ``where=``: the recordings on one side, or (``others``) on any other side.

    ``WindowDataset(store, where=on_side(store, "cv", "3", others=True))`` trains on all folds but 3. Excluded
    recordings are on no side.
    """
    rows = load_split(store, name)
    if side not in rows["side"]:
        raise ValueError(f"split {name!r} has no side {side!r}; it has {', '.join(rows['side'].unique().drop_nulls())}")
    chosen = rows.filter(pl.col("side") != side if others else pl.col("side") == side)
    return pl.col("recording_id").is_in(chosen["recording_id"].implode())


def _run(store: Store, name: str) -> dict[str, Any]:
    runs = split_runs(store)
    found = runs.filter(pl.col("split") == name)
    if found.is_empty():
        raise ValueError(f"the store has no split {name!r}; it has {', '.join(runs['split']) or 'none'}")
    return found.row(0, named=True)


def _assign(store: Store, name: str, plan: Plan, earlier: pl.DataFrame | None) -> pl.DataFrame:
    recordings = store.recordings
    if recordings.is_empty():
        raise ValueError("the store has no recordings")
    labels = store.label_rows
    tied = _groups(store, plan)
    match plan.method:
        case "random" | "kfold":
            strata = strata_of(recordings, labels, plan.stratify)
            folds = {str(i): 1 / plan.k for i in range(plan.k)}
            fractions = plan.fractions if plan.method == "random" else folds
            rows = balanced(tied, fractions, plan.seed, strata, earlier)
        case "leave-one-out":
            values = column_of(recordings, labels, str(plan.by))
            if values["recording_id"].is_duplicated().any():
                raise ValueError(f"recordings have several values of {plan.by!r}, so it gives no sides")
            wanted = dict(values.with_columns(pl.col("value").cast(pl.String)).iter_rows())
            rows = by_value(tied, wanted, str(plan.by), earlier)
        case "official":
            rows = by_value(tied, official_sides(recordings, plan.sides), "official fold", earlier)
        case "temporal":
            times = _times(column_of(recordings, labels, str(plan.by)), str(plan.by))
            if plan.cuts is None:
                plan = Plan(**asdict(plan) | {"cuts": cuts_of(times, plan.fractions)})
            assert plan.cuts is not None
            wanted = temporal_sides(times, plan.cuts, list(plan.fractions)[-1])
            rows = by_value(tied, wanted, str(plan.by), earlier)
    rows = rows.select(pl.lit(name).alias("split"), pl.all())
    run = {
        "split": name, "method": plan.method, "parameters": json.dumps(asdict(plan), sort_keys=True), "seed": plan.seed,
        "store_version": store.version, "duplicates_version": store.duplicates_version, "sha256": digest(rows),
    }  # fmt: skip
    where = f"split = '{name}'"
    catalog.replace_derived(store.path, "splits", rows, store.version, where)
    catalog.replace_derived(store.path, "split_runs", pl.DataFrame([run]), store.version, where)
    return rows


def _groups(store: Store, plan: Plan) -> pl.DataFrame:
    links = [subject_links(store.recordings, plan.unknown_subjects), source_links(store.sources)]
    links.append(pair_links(exact_pairs(store)))
    if plan.near_duplicates:
        _require_duplicates(store)
        links.append(pair_links(catalog.read_derived(store.path, "duplicates")[0]))
    return groups(store.recordings["recording_id"], links)


def _require_duplicates(store: Store) -> None:
    if store.duplicates_version != store.version:
        was = "never" if store.duplicates_version is None else f"at version {store.duplicates_version}"
        raise ValueError(
            f"duplicates were {was} searched, the store is at version {store.version}: run `harmonize duplicates "
            "STORE` first, or split without near ones (near_duplicates=False)"
        )


def _times(values: pl.DataFrame, by: str) -> dict[str, Value]:
    """Each recording's number or ISO 8601 text, the latest where it has several."""
    if not values["value"].dtype.is_numeric():
        wrong = [text for text in values["value"] if not _DATE.fullmatch(str(text))]
        if wrong:
            raise ValueError(f"{by!r} is no number and no ISO 8601 date everywhere: {len(wrong)} values are neither")
    return dict(values.group_by("recording_id").agg(pl.col("value").max()).iter_rows())
