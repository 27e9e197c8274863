"""What a store holds, for whom, and what is wrong with using it: the audit. Pure apart from ``read_tables``."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from harmonize.data.domains import device_name, select, with_labels
from harmonize.data.index import index_windows
from harmonize.report.cells import count, hide, shares
from harmonize.report.confounding import associations
from harmonize.report.quality import signal_quality
from harmonize.store import Store
from harmonize.store.errors import StoreError
from harmonize.store.views import read_document

DOMAIN = ("dataset", "site", "device", "modality", "age_band", "sex")
CELL = ("dataset", "site", "device", "age_band", "sex")
FIELDS = (
    "subject",
    "site",
    "device",
    "age",
    "sex",
    "height_cm",
    "weight_kg",
    "handedness",
    "line_frequency_hz",
    "fold",
)
"""Fields whose missing share is given, besides every label."""
MAX_IMAGES = 2000
"""Documents of so many images are read for shapes and spacings; of more, evenly chosen ones."""


@dataclass(frozen=True)
class Tables:
    """What an audit looks at: the store's own frames, narrowed to the recordings chosen.

    ``recordings`` also has ``device`` (maker and model); ``labels`` is ``Store.label_rows``; ``images`` has
    ``IMAGE_COLUMNS``.
    """

    recordings: pl.DataFrame
    streams: pl.DataFrame
    labels: pl.DataFrame
    failures: pl.DataFrame
    images: pl.DataFrame


@dataclass(frozen=True)
class Audit:
    """The frames of an audit. Counts that are too small are null, with the reason in ``hidden``.

    ``totals`` one row. ``by`` counts by one field, ``across`` by two (keys such as "site, device"). ``labels``
    and ``label_sites`` by label value, and by site too. ``cells``
    by data set, site, device, age band and sex; ``label_cells`` by those and each label value. ``missing`` and
    ``flags``: share of recordings by site. ``associations``: columns of ``confounding.associations``.
    ``channels`` and ``images``: what is recorded, by site; ``quality``: see ``quality.signal_quality``.
    ``failures``: sources by data set, format and code.
    """

    store: str
    version: int
    where: str | None
    window_s: float
    min_cell: int
    totals: pl.DataFrame
    by: dict[str, pl.DataFrame]
    across: dict[str, pl.DataFrame]
    labels: pl.DataFrame
    label_sites: pl.DataFrame
    cells: pl.DataFrame
    label_cells: pl.DataFrame
    missing: pl.DataFrame
    associations: pl.DataFrame
    channels: pl.DataFrame
    images: pl.DataFrame
    quality: pl.DataFrame
    flags: pl.DataFrame
    failures: pl.DataFrame

    def to_json(self) -> str:
        """Everything as one JSON document: frames as lists of rows."""

        def plain(value: Any) -> Any:
            if isinstance(value, pl.DataFrame):
                return value.to_dicts()
            return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value

        document = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        return json.dumps(document, ensure_ascii=False, indent=1)


def read_tables(store: Store, where: str | None = None) -> Tables:
    """The store's tables for the recordings that ``where`` (an SQL condition, labels too) names. Raises
    ``StoreError``. Failures have no recordings, so a condition leaves them out."""
    recordings = store.recordings.with_columns(device_name(store.recordings))
    try:
        chosen = select(with_labels(recordings, store, where), where).select(recordings.columns)
    except pl.exceptions.PolarsError as error:
        raise StoreError(f"cannot use the condition {where!r}: {error}") from error
    named = chosen.select("recording_id")
    failures = store.failures if where is None else store.failures.clear()
    return Tables(
        chosen,
        store.streams.join(named, on="recording_id", how="semi"),
        store.label_rows.join(named, on="recording_id", how="semi"),
        failures,
        _image_rows(store, chosen),
    )


def _image_rows(store: Store, recordings: pl.DataFrame) -> pl.DataFrame:
    table = recordings.filter(pl.col("image").is_not_null()).sort("recording_id").select("recording_id", "image")
    rows = []
    for name, group in table.gather_every(max(1, -(-len(table) // MAX_IMAGES))).iter_rows():
        if (image := read_document(store.path, group, None).image) is not None:
            spacing = " × ".join(f"{mm:.3g}" for mm in image.spacing_mm) if image.spacing_mm else "unknown"
            rows.append(
                (name, " × ".join(map(str, image.shape[::-1])), image.dtype, spacing, image.unit or "as stored")
            )
    return pl.DataFrame(rows, IMAGE_COLUMNS, orient="row")


IMAGE_COLUMNS = dict.fromkeys(("recording_id", "size", "dtype", "spacing_mm", "unit"), pl.String)


def age_band(age: pl.Expr) -> pl.Expr:
    """Decades "0-9" to "80-89", then "90+"; missing stays missing."""
    decade = (age // 10).cast(pl.Int64)
    text = pl.format("{}-{}", decade * 10, decade * 10 + 9)
    return pl.when(age >= 90).then(pl.lit("90+")).when(age >= 0).then(text).alias("age_band")


def _lengths(streams: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Hours (gaps not counted) and whole windows of each recording; of parallel streams, the longest counts."""
    index = index_windows(streams, window_s, window_s)
    windows = np.bincount(index.stream, np.diff(index.ends, prepend=0), len(streams)).astype(np.int64)
    seconds = pl.col("segment_samples").list.sum() * pl.col("rate_den") / pl.col("rate_num")
    table = streams.select("recording_id", hours=seconds / 3600).with_columns(windows=pl.Series(windows))
    return table.group_by("recording_id").agg(pl.col("hours").max(), pl.col("windows").max())


def prepare(tables: Tables, window_s: float) -> pl.DataFrame:
    """Recordings with ``person``, ``age_band``, ``hours``, ``windows``, and sites told apart between data sets.

    A person is a subject of a data set; a recording whose subject is unknown counts as one.
    """
    rows = tables.recordings
    several = rows["dataset"].n_unique() > 1
    site = pl.concat_str("dataset", "site", separator="/") if several else pl.col("site")
    known = pl.concat_str("dataset", "subject", separator="\n")
    rows = rows.with_columns(
        person=pl.coalesce(known, "recording_id"), age_band=age_band(pl.col("age")), site=site
    ).join(_lengths(tables.streams, window_s), on="recording_id", how="left")
    return rows.with_columns(pl.col("hours", "windows").fill_null(0))


def _name_unknown_sites(rows: pl.DataFrame) -> pl.DataFrame:
    """Unknown sites of several data sets are told apart, too."""
    several = rows["dataset"].n_unique() > 1
    unknown = pl.format("{}/unknown", "dataset") if several else pl.lit("unknown")
    return rows.with_columns(pl.coalesce("site", unknown).alias("site"))


def audit(
    store: Store, window_s: float = 10.0, min_cell: int = 5, where: str | None = None, tables: Tables | None = None
) -> Audit:
    """Audit a store. Counts of fewer than ``min_cell`` subjects are hidden. Raises ``StoreError``."""
    tables = read_tables(store, where) if tables is None else tables
    known = prepare(tables, window_s)
    rows = _name_unknown_sites(known)
    labels = tables.labels.with_columns(value=_label_value())
    labelled = rows.join(labels.select("recording_id", "name", "value"), on="recording_id")
    by_label = ("name", "value")
    streams = _stream_kinds(tables.streams)
    images = rows.join(tables.images, on="recording_id")
    return Audit(
        store=store.path.name, version=store.version, where=where, window_s=window_s, min_cell=min_cell,
        totals=hide(_totals(known, tables), min_cell),
        by={key: hide(count(rows, [key]), min_cell) for key in (*DOMAIN, "format")},
        across={f"{a}, {b}": _two_way(rows, a, b, min_cell) for a, b in ACROSS},
        labels=hide(count(labelled, by_label), min_cell, [["name"]]),
        label_sites=hide(count(labelled, (*by_label, "site")), min_cell, [by_label, ("name", "site")]),
        cells=hide(count(rows, CELL), min_cell, [(), *([key] for key in CELL)]),
        label_cells=hide(count(labelled, (*by_label, *CELL)), min_cell, [by_label]),
        missing=_missing(known, rows["site"], labels, min_cell),
        associations=associations(known, tables.labels),
        channels=hide(count(rows.join(streams, on="recording_id"), KINDS), min_cell, [["site"]]),
        images=hide(count(images, ("site", "modality", "size", "dtype", "spacing_mm", "unit")), min_cell, [["site"]]),
        quality=signal_quality(rows, tables.streams, min_cell),
        flags=_flags(rows, min_cell),
        failures=tables.failures.group_by("dataset", "format", "code").agg(
            sources=pl.len(), message=pl.col("message").first()
        ).sort("sources", "code", descending=[True, False]),
    )  # fmt: skip


ACROSS = (("site", "device"), ("site", "modality"), ("site", "age_band"), ("site", "sex"), ("age_band", "sex"))
KINDS = ("site", "modality", "channels", "n_channels", "rate_hz", "units", "dtype")


def _totals(rows: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    number = {
        name: rows[name].n_unique() - rows[name].has_nulls() for name in ("dataset", "site", "device", "modality")
    }
    extra = {"images": len(rows) - rows["image"].null_count(), "failures": len(tables.failures)}
    return count(rows, ()).with_columns(pl.lit(value).alias(name) for name, value in (number | extra).items())


def _two_way(rows: pl.DataFrame, a: str, b: str, min_cell: int) -> pl.DataFrame:
    return hide(count(rows, (a, b)), min_cell, [[a], [b]])


def _label_value() -> pl.Expr:
    """The value of a label as text: yes or no for a truth value, "(number)" for a number alone."""
    truth = pl.when(pl.col("kind") == "bool").then(
        pl.when(pl.col("number") == 1).then(pl.lit("yes")).otherwise(pl.lit("no"))
    )
    return pl.coalesce("value", truth, pl.lit("(number)"))


def _missing(rows: pl.DataFrame, sites: pl.Series, labels: pl.DataFrame, min_cell: int) -> pl.DataFrame:
    """Share of recordings of each site that lack a field or a label."""
    rows = rows.with_columns(sites.alias("place"))
    fields_ = [
        rows.select(pl.col("place").alias("site"), "person", field=pl.lit(name), missing=pl.col(name).is_null())
        for name in FIELDS
    ]
    for name in labels["name"].unique().sort():
        having = labels.filter(pl.col("name") == name)["recording_id"].unique()
        lacking = ~pl.col("recording_id").is_in(having.implode())
        labelled = rows.select(pl.col("place").alias("site"), "person", field=pl.lit(f"label {name}"), missing=lacking)
        fields_.append(labelled)
    return shares(pl.concat(fields_), ["site", "field"], "missing", min_cell)


def _flags(rows: pl.DataFrame, min_cell: int) -> pl.DataFrame:
    """Share of recordings of each site that carry a flag; every flag that occurs, at every site."""
    names = rows.select(pl.col("flags").explode()).drop_nulls()["flags"].unique().sort()
    base = rows.select("site", "person", "flags")
    long = [base.with_columns(flag=pl.lit(name), has=pl.col("flags").list.contains(name)) for name in names]
    schema = {"site": pl.String, "person": pl.String, "flag": pl.String, "has": pl.Boolean}
    table = pl.concat([one.select(list(schema)) for one in long]) if long else pl.DataFrame(schema=schema)
    return shares(table, ["site", "flag"], "has", min_cell)


def _stream_kinds(streams: pl.DataFrame) -> pl.DataFrame:
    """Channel set, rate and units of each stream, as text."""
    rate = pl.col("rate_num") / pl.col("rate_den")
    named = pl.col("units").list.eval(pl.element().fill_null("unknown").unique().sort())
    return streams.select(
        "recording_id", "dtype", channels=pl.col("channels").list.join(" "), n_channels=pl.col("channels").list.len(),
        rate_hz=rate, units=named.list.join(", "),
    )  # fmt: skip
