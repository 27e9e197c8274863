"""An audit on the terminal, and its findings in sentences."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmonize.report.audit import Audit
from harmonize.report.confounding import MIN_PERSONS
from harmonize.report.quality import LINES, MEANINGS, SHARES

NOTABLE = 0.3
"""Associations from this strength on are named among the findings."""
ROWS = 12
ONE_WAY = ("dataset", "site", "device", "modality", "age_band", "sex")
TITLES = {
    "dataset": "Data sets", "site": "Sites", "device": "Devices", "modality": "Modalities", "age_band": "Ages",
    "sex": "Sex", "format": "Formats",
}  # fmt: skip


def number(row: dict[str, Any], name: str) -> str:
    """A count as text; what is hidden as "<5" or "withheld"."""
    value = row[name]
    if value is None:
        return str(row.get("hidden") or "-")
    if name == "share":
        return f"{value:.0%}" if value in (0, 1) or 0.005 <= value < 0.995 else f"{value:.1%}"
    if name == "hours":
        return f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"
    return f"{value:,}"


def pair(row: dict[str, Any]) -> str:
    """ "site and age"."""
    return f"{row['factor']} and {row['target']}".replace("dataset", "data set")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def findings(audit: Audit) -> list[str]:
    """What a user should know before training on this store, most important first."""
    said = []
    strong = audit.associations.filter(pl.col("strength") >= NOTABLE)
    for row in strong.head(6).iter_rows(named=True):
        said.append(
            f"{_sentence(pair(row))} go together: {row['measure']} = {row['strength']:.2f} in {row['persons']:,} "
            f"persons, {row['means']}."
        )
    if len(strong) > 6:
        said.append(f"{len(strong) - 6} more pairs are associated with a strength of {NOTABLE} or more.")
    few = audit.associations.filter(pl.col("strength").is_null())
    if len(few):
        said.append(f"{len(few)} pairs have too few persons to be judged.")
    lacking = audit.missing.filter((pl.col("field") == "subject") & (pl.col("share") > 0))
    if len(lacking):
        places = ", ".join(f"{row['site']} ({number(row, 'share')})" for row in lacking.iter_rows(named=True))
        said.append(
            f"Recordings without a known subject: {places}. Each counts as one person here, and a split by subject "
            "cannot keep them apart."
        )
    if n := int(audit.failures["sources"].sum()):
        said.append(f"{n:,} sources could not be converted ({len(audit.failures)} kinds of failure).")
    hidden = int(audit.cells["hidden"].is_not_null().sum())
    if hidden:
        said.append(
            f"{hidden:,} of {len(audit.cells):,} cells of data set × site × device × age × sex are too small to report."
        )
    return said


def print_audit(console: Console, audit: Audit) -> None:
    """The audit as text: totals, findings, counts, associations, missing fields, flags, failures."""
    total = audit.totals.row(0, named=True)
    counts = ", ".join(f"{number(total, name)} {name}" for name in ("recordings", "subjects", "hours", "images"))
    console.print(
        f"[bold]{escape(audit.store)}[/] version {audit.version}: {counts}, {number(total, 'windows')} windows of "
        f"{audit.window_s:g} s; failures: {total['failures']:,}",
        highlight=False,
    )
    for sentence in findings(audit):
        console.print(f"• {escape(sentence)}", highlight=False)
    for field in ONE_WAY:
        console.print(_counts(audit.by[field], field))
    if len(audit.associations):
        console.print(_associations(audit.associations))
    for frame, column, title in ((audit.missing, "field", "Missing"), (audit.flags, "flag", "Flags")):
        if len(frame):
            console.print(_grid(frame, column, title))
    if len(audit.quality):
        console.print(_quality(audit.quality))
    if len(audit.failures):
        table = Table("data set", "format", "code", "sources", title="Not converted", title_justify="left")
        for row in audit.failures.head(ROWS).iter_rows(named=True):
            table.add_row(row["dataset"], row["format"] or "-", row["code"], f"{row['sources']:,}")
        console.print(table)
    console.print(
        f"<{audit.min_cell}: fewer subjects than --min-cell; withheld: would give such a count away. "
        f"V: Cramér's V, bias-corrected; ω: root of omega squared; both 0 (none) to 1, from {MIN_PERSONS} persons on.",
        highlight=False,
    )


def _counts(frame: pl.DataFrame, key: str) -> Table:
    names = ("recordings", "subjects", "hours", "windows")
    table = Table(TITLES[key], title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    ordered = frame if key == "age_band" else frame.sort("recordings", key, descending=[True, False], nulls_last=True)
    for row in ordered.head(ROWS).iter_rows(named=True):
        table.add_row(escape(row[key]), *(escape(number(row, name)) for name in names))
    if len(ordered) > ROWS:
        table.caption = f"and {len(ordered) - ROWS} more"
    return table


def _associations(frame: pl.DataFrame) -> Table:
    table = Table("what goes together", "", "strength", "persons", "means", title="Confounding", title_justify="left")
    for row in frame.head(ROWS).iter_rows(named=True):
        strength = "-" if row["strength"] is None else f"{row['strength']:.2f}"
        table.add_row(escape(pair(row)), row["measure"], strength, f"{row['persons']:,}", row["means"])
    if len(frame) > ROWS:
        table.caption = f"and {len(frame) - ROWS} more (--json, --html)"
    return table


def _quality(frame: pl.DataFrame) -> Table:
    """Shares of samples, of windows that are flat, and of power; by channel type and site."""
    names = (*SHARES, *LINES)
    table = Table("type", "site", "channels", title="Signal quality", title_justify="left")
    for name in names:
        table.add_column(MEANINGS[name], justify="right")
    table.add_column("std", justify="right")
    for row in frame.head(2 * ROWS).iter_rows(named=True):
        deviation = "-" if row["std"] is None else f"{row['std']:.3g} {row['unit']}"
        numbers = [quality_share(row, name) for name in names]
        table.add_row(row["type"], escape(row["site"]), row["hidden"] or f"{row['channels']:,}", *numbers, deviation)
    if len(frame) > 2 * ROWS:
        table.caption = f"and {len(frame) - 2 * ROWS} more (--json, --html)"
    return table


def quality_share(row: dict[str, Any], name: str) -> str:
    """A share as percent, of two digits where it is small."""
    share = row[name]
    if share is None:
        return "-"
    return f"{share:.1%}" if share >= 0.01 else f"{100 * share:.2g}%" if share else "0"


def _grid(frame: pl.DataFrame, row_key: str, title: str) -> Table:
    """Shares, one line a field or flag that occurs, one column a site."""
    sites = frame["site"].unique().sort().head(6).to_list()
    table = Table(title, *map(escape, sites), title=f"{title}: share of recordings", title_justify="left")
    occurs = frame.filter((pl.col("share") > 0) | pl.col("hidden").is_not_null())[row_key].unique().sort()
    for name in occurs.head(2 * ROWS):
        here = {row["site"]: row for row in frame.filter(pl.col(row_key) == name).iter_rows(named=True)}
        table.add_row(escape(name), *(escape(number(here[site], "share")) if site in here else "" for site in sites))
    return table
