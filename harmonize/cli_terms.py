"""``harmonize cite`` and ``harmonize metadata``: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from harmonize.cli_options import AsJson, StorePath, print_json
from harmonize.report.terms import terms, write_metadata
from harmonize.store import open_store


def cite_command(store: StorePath, as_json: AsJson = False) -> None:
    """List licence, citation and access conditions of every data set inside a store.

    Exit code 1 where a data set's recipe states no licence or no citation.
    """
    rows = terms(open_store(store))
    if as_json:
        print_json(rows.to_dicts())
    out = Console(quiet=as_json, highlight=False)
    for row in rows.iter_rows(named=True):
        title = f" {escape(row['title'])}" if row["title"] else ""
        release = f", version {row['version']}" if row["version"] else ""
        out.print(
            f"[bold]{row['dataset']}[/]{title}{release}: {row['recordings']} recordings, {row['subjects']} subjects"
        )
        licence = " ".join(text for text in (row["licence"], row["licence_url"]) if text)
        out.print(f"  licence: {escape(licence) or '[yellow]not stated in a recipe[/]'}")
        access = ": ".join(text for text in (row["access"], row["access_note"]) if text)
        if access:
            out.print(f"  access: {escape(access)}")
        if row["url"]:
            out.print(f"  {row['url']}")
        for text in row["citation"] or ["[yellow]no citation in a recipe[/]"]:
            out.print(f"  cite: {escape(text) if row['citation'] else text}", soft_wrap=True)
    incomplete = any(not row["licence"] or not row["citation"] for row in rows.iter_rows(named=True))
    raise typer.Exit(1 if incomplete else 0)


def metadata_command(
    store: StorePath,
    into: Annotated[Path, typer.Option("--into", help="Folder for the files; made where there is none.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the whole; default: the store's.")] = None,
) -> None:
    """Write Croissant and BIDS metadata about a store: croissant.json, participants.tsv, dataset_description.json."""
    opened = open_store(store)
    out = Console()
    for file in write_metadata(opened, into, name or opened.path.resolve().name.removesuffix(".zarr")):
        out.print(str(file))
