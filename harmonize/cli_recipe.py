"""The commands ``harmonize recipe ...``: parse, call, print."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as Grid

from harmonize.cli_options import AsJson, print_json
from harmonize.ingest.check import Check, check
from harmonize.ingest.draft_recipe import draft_recipe
from harmonize.ingest.find import find
from harmonize.ingest.identify import Policy
from harmonize.ingest.privacy import load_key
from harmonize.ingest.recipes import load_recipe, read_recipe, shipped_recipes
from harmonize.ingest.registry import converters
from harmonize.ingest.scan import scan
from harmonize.report.tables import failures_table

app = typer.Typer(no_args_is_help=True, help="Recipes: what a data set's files and tables mean.")
out = Console()

Folder = Annotated[Path, typer.Argument(help="The data set's top folder.", exists=True, file_okay=False)]


@app.command("ls")
def ls_command(as_json: AsJson = False) -> None:
    """List the recipes that ship."""
    recipes = {name: read_recipe(file) for name, file in shipped_recipes().items()}
    if as_json:
        documents = {name: recipe.model_dump(mode="json", exclude_defaults=True) for name, recipe in recipes.items()}
        print_json(documents)
        return
    grid = Grid(box=None, header_style="bold")
    for column in ("recipe", "title", "access", "licence"):
        grid.add_column(column, overflow="fold")
    for name, recipe in recipes.items():
        grid.add_row(name, recipe.title or "", recipe.access or "", recipe.licence or "")
    out.print(grid)


@app.command("show")
def show_command(name: Annotated[str, typer.Argument(help="A recipe that ships.")]) -> None:
    """Print a recipe that ships: a start for one of your own."""
    shipped = shipped_recipes()
    if name not in shipped:
        raise typer.BadParameter(f"{name!r} does not ship; `harmonize recipe ls` lists those that do")
    sys.stdout.write(shipped[name].read_text("utf-8"))


@app.command("init")
def init_command(
    folder: Folder,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name of the data set; default: the folder's.")
    ] = None,
) -> None:
    """Draft a recipe from what FOLDER holds; prints YAML to finish by hand."""
    recipe, _ = load_recipe(None, dataset, folder)
    found = find([folder], converters())
    sys.stdout.write(draft_recipe(folder, recipe.dataset, found.sources))


@app.command("check")
def check_command(
    folder: Folder,
    recipe: Annotated[str, typer.Option("--recipe", help="A YAML file, or the name of one that ships.")],
    key: Annotated[Path | None, typer.Option("--key", help="Project key file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recipe fills, misses and leaves unmatched, from headers and tables; writes nothing.

    It prints values of the tables: what it shows may identify. Exit code 1 where something cannot be read.
    """
    loaded, digest = load_recipe(recipe, None, folder)
    found = check(scan([folder], Policy(loaded, digest, load_key(key)), None, detailed=True))
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)
    raise typer.Exit(1 if found.failures or any(one.unread for one in found.values) else 0)


def _print(found: Check) -> None:
    out.print(f"{found.sources} recordings")
    grid = Grid(box=None, header_style="bold")
    for column, style in (("gives", ""), ("filled", "green"), ("missing", ""), ("values", "dim"), ("unread", "red")):
        grid.add_column(column, style=style, overflow="fold")
    for one in found.values:
        unread = ", ".join(f"{text!r} ({count})" for text, count in list(one.unread.items())[:5])
        grid.add_row(one.name, str(one.filled), str(one.missing), _examples(one.values), unread)
    out.print(grid)
    for table in found.tables:
        out.print(f"table {table.name}: {table.used} of {table.rows} rows have a recording")
        if table.sources_without_row:
            names = ", ".join(table.sources_without_row[:5])
            out.print(
                f"[yellow]{len(table.sources_without_row)} recordings have no row of their own[/], such as {names}"
            )
    if found.unmapped_channels:
        names = ", ".join(f"{name!r} ({count})" for name, count in list(found.unmapped_channels.items())[:20])
        out.print(f"Channel names in no vocabulary (a rule under channels: names them): {names}")
    if found.failures:
        out.print(failures_table(found.failures))


def _examples(values: dict[str, int]) -> str:
    top = list(values.items())[:4]
    shown = ", ".join(f"{value if len(value) < 40 else value[:37] + '...'} ({count})" for value, count in top)
    return f"{shown}, {len(values) - 4} more" if len(values) > 4 else shown
