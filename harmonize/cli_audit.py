"""``harmonize audit``: what a store holds, for whom, and what goes together with the place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harmonize.cli_options import AsJson, StorePath
from harmonize.report.audit import audit
from harmonize.report.audit_html import audit_page
from harmonize.report.audit_text import print_audit
from harmonize.store import open_store


def audit_command(
    store: StorePath,
    window: Annotated[float, typer.Option(min=0.001, help="Seconds of the windows counted.")] = 10.0,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and drawings to this file.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition on recordings and labels.")] = None,
    min_cell: Annotated[int, typer.Option(min=1, help="Counts of fewer subjects are hidden.")] = 5,
    version: Annotated[str | None, typer.Option(help="An older version of the store: its number or tag.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count recordings, hours, subjects and windows by domain; show what is missing, confounded or too small."""
    found = audit(open_store(store, version), window, min_cell, where)
    if html is not None:
        html.write_text(audit_page(found), "utf-8")
    if as_json:
        sys.stdout.write(found.to_json() + "\n")
        return
    print_audit(Console(), found)
    if html is not None:
        Console().print(f"page {html}")
