"""An audit as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import polars as pl

from harmonize.report.audit import Audit
from harmonize.report.audit_text import ONE_WAY, TITLES, findings, number, pair, quality_share
from harmonize.report.confounding import MAX_VALUES, MIN_PERSONS, MIN_PRESENT
from harmonize.report.html import Cell, dots, grid, page, paragraph, pyramid, table
from harmonize.report.quality import LINES, MEANINGS, SHARES

MEASURES = ("recordings", "subjects", "hours", "windows")
MAX_ROWS, MAX_COLUMNS, MAX_DOTS = 25, 8, 24
LABELS_OPEN, LABEL_ROWS = 4, 12
CLAY = "180,85,45"
Rows = list[dict[str, Any]]


def audit_page(audit: Audit) -> str:
    """The page as text. Hidden counts are null in the frames, so they cannot be in it."""
    sections = (_head, _counts, _who, _labels, _confounding, _missing, _signals, _quality, _reading)
    return page(f"Audit of {audit.store}", (piece for section in sections for piece in section(audit)))


def _head(audit: Audit) -> Iterator[str]:
    total = audit.totals.row(0, named=True)
    yield f"<h1>Audit of {escape(audit.store)}</h1>"
    chosen = f", recordings where {audit.where}" if audit.where else ""
    yield paragraph(f"Store version {audit.version}{chosen}. Windows of {audit.window_s:g} s.", "soft")
    names = {
        "recordings": "recordings", "subjects": "subjects", "hours": "hours of signal", "windows": "windows",
        "images": "images", "dataset": "data sets", "site": "known sites", "device": "known devices",
        "failures": "sources not converted",
    }  # fmt: skip
    cells = "".join(f"<div><b>{escape(number(total, key))}</b><span>{name}</span></div>" for key, name in names.items())
    yield f'<div class="totals">{cells}</div>'
    yield "<h3>What to know first</h3>"
    yield '<ul class="findings">' + "".join(f"<li>{escape(one)}</li>" for one in findings(audit)) + "</ul>"


def _counts(audit: Audit) -> Iterator[str]:
    yield "<h2>What is in it</h2>"
    yield paragraph(
        "The bar is the share of recordings. Hours leave gaps out; of parallel streams the longest counts.", "soft"
    )
    for key in ("dataset", "site", "device", "modality", "format"):
        yield f"<h3>{TITLES[key]}</h3>{_count_table(audit.by[key], [key])}"
    yield from _cross(audit, "site", "device", "Recordings by site and device")
    yield from _cross(audit, "site", "modality", "Recordings by site and modality")


def _count_table(frame: pl.DataFrame, keys: list[str], limit: int = MAX_ROWS) -> str:
    ordered = frame.sort("recordings", *keys, descending=[True, *(False for _ in keys)], nulls_last=True)
    rows: Rows = ordered.head(limit).to_dicts()
    names = MEASURES if len(keys) == 1 else ("recordings", "subjects", "hours")
    measures = [name for name in names if name in frame.columns]
    most = max((row["recordings"] or 0 for row in rows), default=0) or 1
    head = [*(TITLES.get(key, key.replace("_", " ")).lower() for key in keys), *(f"{name} #" for name in measures)]
    cells = [[*(_text(row[key]) for key in keys), *(number(row, name) for name in measures)] for row in rows]
    more = paragraph(f"and {len(ordered) - limit:,} more", "soft") if len(ordered) > limit else ""
    bars = [(row["recordings"] or 0) / most for row in rows] if len(keys) == 1 else None
    return table(head, cells, bars) + more


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 90 else text[:89] + "…"


def _order(audit: Audit, key: str, limit: int) -> list[str]:
    """Values by their recordings, most first; ages by age."""
    frame = audit.by[key]
    if key != "age_band":
        frame = frame.sort("recordings", key, descending=[True, False], nulls_last=True)
    return frame[key].head(limit).to_list()


def _cross(audit: Audit, a: str, b: str, title: str) -> Iterator[str]:
    """Counts by two fields, shaded by the share of the row."""
    frame = audit.across[f"{a}, {b}"]
    rows, columns = _order(audit, a, MAX_ROWS), _order(audit, b, MAX_COLUMNS if b != "age_band" else 12)
    if len(rows) < 2 or len(columns) < 2:
        return
    yield f"<h3>{title}</h3>{_grid(frame, a, b, rows, columns, _sizes(audit, a))}"
    left = frame[b].n_unique() - len(columns)
    more = f" {left} more columns of few recordings are in the JSON." if left else ""
    yield paragraph(f"Shading: share of the row.{more}", "soft")


def _who(audit: Audit) -> Iterator[str]:
    yield "<h2>Who is in it</h2>"
    frame = audit.across["age_band, sex"]
    by = {(row["age_band"], row["sex"]): row for row in frame.iter_rows(named=True)}
    bands = [band for band in _order(audit, "age_band", 12) if band != "unknown"]
    most = frame["subjects"].max()
    if bands and isinstance(most, int):

        def side(sex: str) -> list[Cell]:
            rows = [by.get((band, sex)) for band in bands]
            return [
                ("", 0.0) if row is None else (number(row, "subjects"), (row["subjects"] or 0) / most) for row in rows
            ]

        yield f"<figure>{pyramid(bands, side('female'), side('male'), ('female', 'male'))}"
        yield "<figcaption>Subjects by age in years and sex, where both are known. A subject recorded at two ages "
        yield "counts at both.</figcaption></figure>"
    yield '<div class="columns">'
    for key in ("age_band", "sex"):
        yield f"<div><h3>{TITLES[key]}</h3>{_plain_counts(audit.by[key], key)}</div>"
    yield "</div>"
    yield from _cross(audit, "site", "age_band", "Recordings by site and age")
    yield from _cross(audit, "site", "sex", "Recordings by site and sex")


def _plain_counts(frame: pl.DataFrame, key: str) -> str:
    names = ("recordings", "subjects", "hours")
    rows = [[row[key], *(number(row, name) for name in names)] for row in frame.iter_rows(named=True)]
    return table([TITLES[key].lower(), *(f"{name} #" for name in names)], rows)


def _labels(audit: Audit) -> Iterator[str]:
    if audit.labels.is_empty():
        return
    yield "<h2>Labels</h2>"
    yield paragraph(
        "A recording with several values of a label counts for each of them. Labels without a value count as "
        "“(number)”. The most frequent values are shown; all are in the JSON.", "soft",
    )  # fmt: skip
    sites = _order(audit, "site", len(audit.by["site"]))
    order = audit.labels.group_by("name").agg(pl.col("recordings").max()).drop_nulls()
    order = order.sort("recordings", "name", descending=[True, False])
    for place, name in enumerate(order["name"]):
        frame = audit.labels.filter(pl.col("name") == name)
        values = "1 value" if len(frame) == 1 else f"{len(frame):,} values"
        yield f"<details{' open' if place < LABELS_OPEN else ''}><summary>{escape(name)}: {values}</summary>"
        yield _count_table(frame.drop("name"), ["value"], LABEL_ROWS)
        shown = frame.sort("recordings", "value", descending=[True, False], nulls_last=True)["value"].head(LABEL_ROWS)
        by_site = audit.label_sites.filter((pl.col("name") == name) & pl.col("value").is_in(shown.implode()))
        has = set(by_site["site"])
        here = [site for site in sites if site in has][:MAX_COLUMNS]
        if len(here) > 1:
            yield _grid(by_site, "value", "site", shown.to_list(), here, _sizes(audit, "site"), down=True)
            yield paragraph("Recordings by value and site. Shading: share of the site.", "soft")
        yield "</details>"
    if small := sorted(set(audit.labels["name"]) - set(order["name"])):
        yield paragraph(f"Labels all of whose values are too small to report: {', '.join(small)}.")


def _sizes(audit: Audit, key: str) -> dict[str, int]:
    """Recordings of each value, where they are shown."""
    return dict(audit.by[key].drop_nulls("recordings").select(key, "recordings").iter_rows())


def _grid(
    frame: pl.DataFrame, a: str, b: str, rows: list[str], columns: list[str], sizes: dict[str, int], down: bool = False
) -> str:
    """Recordings by two fields; shading is the share of the row's ``sizes``, or the column's."""
    cells: dict[tuple[str, str], Cell] = {}
    for row in frame.iter_rows(named=True):
        whole = sizes.get(row[b] if down else row[a])
        known = row["recordings"] is not None
        cells[row[a], row[b]] = (
            number(row, "recordings"),
            (row["recordings"] / whole if whole else 0.0) if known else None,
        )
    return grid(TITLES.get(a, a).lower(), rows, columns, cells)


def _confounding(audit: Audit) -> Iterator[str]:
    yield "<h2>What goes together</h2>"
    yield paragraph(
        "If a label, sex or age differs between sites or devices, a model can learn the place instead of the patient, "
        "and a split that mixes places will not show it. Strength is 0 when one tells nothing about the other, and 1 "
        "when one gives the other away. One recording per person; pairs of fewer than "
        f"{MIN_PERSONS} persons are not judged."
    )
    judged = audit.associations.drop_nulls("strength")
    shown: Rows = judged.head(MAX_DOTS).to_dicts()
    if shown:
        steps = {"0": 0.0, "weak": 0.1, "moderate": 0.3, "strong": 0.5, "nearly one": 0.9}
        notes = [f"{row['measure']} = {row['strength']:.2f}, n = {row['persons']:,}" for row in shown]
        yield f"<figure>{dots([pair(row) for row in shown], [row['strength'] for row in shown], notes, steps)}"
        yield "<figcaption>V: Cramér’s V, corrected for bias (Bergsma 2013), between categories. ω: the root of omega "
        yield "squared, for numbers. Steps after Cohen (1988).</figcaption></figure>"
    else:
        yield paragraph("No pair could be judged: there is one site and one device, or there are too few persons.")
    rest: Rows = audit.associations.to_dicts()[len(shown) :]
    if rest:
        cells = [[pair(row), _strength(row), f"{row['persons']:,}", row["means"]] for row in rest]
        yield f"<details><summary>{len(rest)} more pairs</summary>"
        yield table(["pair", "strength #", "persons #", "means"], cells) + "</details>"


def _strength(row: dict[str, Any]) -> str:
    return "–" if row["strength"] is None else f"{row['measure']} {row['strength']:.2f}"


def _missing(audit: Audit) -> Iterator[str]:
    yield "<h2>What is missing</h2>"
    yield from _share_grid(audit.missing, "field", "field", "Every field is known everywhere.", CLAY)
    if whole := _everywhere(audit.missing, "field"):
        yield paragraph(f"Known in no recording: {', '.join(whole)}.")


def _everywhere(frame: pl.DataFrame, key: str) -> list[str]:
    """What has a share of 1 at every site, none of them hidden."""
    whole = (pl.col("share") == 1).fill_null(False).all()
    return frame.group_by(key).agg(whole).filter("share")[key].sort().to_list()


def _share_grid(frame: pl.DataFrame, key: str, corner: str, none: str, hue: str) -> Iterator[str]:
    """Shares by site; what is nowhere, and what is missing everywhere, is left to a sentence."""
    some = frame.filter((pl.col("share") > 0) | pl.col("hidden").is_not_null())[key].unique()
    everywhere = _everywhere(frame, key)
    names = [name for name in some.sort() if name not in everywhere]
    sizes = frame.group_by("site").agg(pl.col("of").max()).sort("of", "site", descending=[True, False], nulls_last=True)
    sites = sizes["site"].head(MAX_COLUMNS).to_list()
    if not names:
        yield paragraph(none)
        return
    cells = {(row[key], row["site"]): (number(row, "share"), row["share"]) for row in frame.iter_rows(named=True)}
    yield grid(corner, names, sites, cells, hue)
    left = len(sizes) - len(sites)
    yield paragraph(
        "Share of the site’s recordings." + (f" {left} smaller sites are in the JSON." if left else ""), "soft"
    )


def _signals(audit: Audit) -> Iterator[str]:
    if len(audit.channels):
        yield "<h2>What is recorded</h2><h3>Channel sets, rates and units</h3>"
        yield _count_table(audit.channels, ["site", "modality", "channels", "rate_hz", "units", "dtype"])
    if len(audit.images):
        yield "<h3>Images</h3>"
        yield _count_table(audit.images.drop("hours", "windows"), ["site", "modality", "size", "spacing_mm", "unit"])


def _quality(audit: Audit) -> Iterator[str]:
    yield "<h2>Quality</h2>"
    if len(audit.quality):
        yield "<h3>Signals by channel type and site</h3>"
        yield table(
            ["type", "site", "channels #", *(f"{MEANINGS[name]} #" for name in (*SHARES, *LINES)), "std #"],
            [
                [row["type"], row["site"], row["hidden"] or f"{row['channels']:,}"]
                + [quality_share(row, name) for name in (*SHARES, *LINES)]
                + ["–" if row["std"] is None else f"{row['std']:.3g} {row['unit']}"]
                for row in audit.quality.head(MAX_ROWS).iter_rows(named=True)
            ],
        )
        yield paragraph(
            "Missing: share of samples. Flat: seconds in which nothing changes. Rails: samples at the ends of the "
            "declared digital range or beyond; outside: beyond. 50 Hz, 60 Hz: share of the power above 1.5 Hz around "
            "the line frequency. Means over channels; medians for line noise and standard deviation.",
            "soft",
        )
    yield "<h3>Flags by site</h3>"
    yield from _share_grid(audit.flags, "flag", "flag", "No recording carries a flag.", CLAY)
    if len(audit.failures):
        yield "<h3>Sources that could not be converted</h3>"
        rows = [
            [row["dataset"], row["format"] or "–", row["code"], row["message"], f"{row['sources']:,}"]
            for row in audit.failures.head(MAX_ROWS).iter_rows(named=True)
        ]
        yield table(["data set", "format", "code", "what it means", "sources #"], rows)


def _reading(audit: Audit) -> Iterator[str]:
    yield "<h2>Too small to report, and how to read this page</h2>"
    frames = {TITLES[key]: audit.by[key] for key in ONE_WAY} | audit.across
    frames |= {"label values": audit.labels, "data set × site × device × age × sex": audit.cells}
    frames |= {"the same × label value": audit.label_cells}
    rows = []
    for name, frame in frames.items():
        small = int((frame["hidden"] == f"<{audit.min_cell}").sum())
        withheld = int((frame["hidden"] == "withheld").sum())
        rows.append([name.replace("_", " "), f"{len(frame):,}", f"{small:,}", f"{withheld:,}"])
    yield table(["counts by", "cells #", f"fewer than {audit.min_cell} #", "of others withheld #"], rows)
    yield paragraph(
        f"“<{audit.min_cell}”: fewer than {audit.min_cell} subjects. “withheld”: not small, but subtracting from a "
        "total would give a small count away. Each table is guarded by itself: whoever links several tables, or "
        "compares audits of two versions, may still learn a small count."
    )
    yield paragraph(
        "A subject belongs to one data set; a recording without a known subject counts as one. Ages above 89 are "
        f"pooled. A label with several values, or more than {MAX_VALUES}, is compared value by value where at least "
        f"{MIN_PRESENT} persons have it and as many have the label without it. Failures are files, not persons, and "
        "are shown in full."
    )
