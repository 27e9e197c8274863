"""The command line: parses, calls, prints. Exit codes: 0 all converted, 1 some sources failed, 2 usage, 3 the store
cannot be written, 130 interrupted."""

from __future__ import annotations

import os
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape

from harmonize.cli_audit import audit_command
from harmonize.cli_convert import convert_command, scan_command
from harmonize.cli_maintain import forget_command, vacuum_command, verify_command, versions_app
from harmonize.cli_options import AsJson, KeyFile, StorePath, print_json
from harmonize.cli_recipe import app as recipe_app
from harmonize.cli_splits import duplicates_command, splits_app
from harmonize.cli_terms import cite_command, metadata_command
from harmonize.ingest import KeyFileError, load_key
from harmonize.ingest.identify import Policy
from harmonize.ingest.pool import ClusterError
from harmonize.ingest.recipes import RecipeError, load_recipe
from harmonize.ingest.scan import scan
from harmonize.report.tables import (
    print_frame,
    print_unmapped,
    recording_tree,
)
from harmonize.report.unmapped import unmapped as unmapped_labels
from harmonize.store import StoreError, StoreWriteError, open_store
from harmonize_schemas.jsonschema import SCHEMAS, schema_text, write_schemas

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would show paths and names
    help="Raw biosignals and medical images into one Zarr store with one schema.",
)
app.add_typer(recipe_app, name="recipe")
out = Console()
err = Console(stderr=True)


def _print_version(asked: bool) -> None:
    if asked:
        from harmonize.store.kernels import COMPILED

        slower = "" if COMPILED else " (not compiled, as there was no C compiler: batches are made more slowly)"
        out.print(f"harmonize {version('harmonize-biomed')}{slower}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """What no command is needed for."""


app.command("convert")(convert_command)
app.command("scan")(scan_command)
app.command("audit")(audit_command)
app.command("cite")(cite_command)
app.command("metadata")(metadata_command)
app.command("duplicates")(duplicates_command)
app.add_typer(splits_app, name="splits")
app.command("verify")(verify_command)
app.command("forget")(forget_command)
app.command("vacuum")(vacuum_command)
app.add_typer(versions_app, name="versions")


@app.command("ls")
def ls_command(
    store: StorePath,
    where: Annotated[str | None, typer.Option(help="SQL condition, such as \"modality = 'eeg'\".")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="List what could not be converted.")] = False,
    locate: Annotated[
        list[Path] | None, typer.Option(help="With --failures: folders whose paths to show for the pseudonyms.")
    ] = None,
    unmapped: Annotated[
        bool, typer.Option("--unmapped", help="List channel labels that no vocabulary has, by data set.")
    ] = False,
    version: Annotated[str | None, typer.Option(help="An older version of the store: its number or tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 50,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the recordings of a store, its failures, or the channel labels that no vocabulary has."""
    opened = open_store(store, version)
    if unmapped:
        frame = unmapped_labels(opened)
    else:
        frame = opened.failures.drop("commit") if failures else opened.recordings.drop("commit")
    if failures and locate:
        frame = _located(frame, locate, key)
    if where:
        frame = frame.filter(pl.sql_expr(where))
    if as_json:
        print_json(frame.to_dicts())
        return
    shown = ["recording_id", "modality", "subject", "site", "device_model", "duration_s", "n_streams", "flags"]
    if unmapped:
        print_unmapped(out, frame, limit)
    else:
        print_frame(out, frame if failures else frame.select(shown), limit)


def _located(failures: pl.DataFrame, folders: list[Path], key: Path | None) -> pl.DataFrame:
    """Failures with the paths their pseudonyms stand for: made again from the files and the key."""
    paths: dict[str, str] = {}
    for dataset in failures["dataset"].unique():
        loaded, digest = load_recipe(None, dataset, folders[0])
        found = scan(folders, Policy(loaded, digest, load_key(key)), None, detailed=True)
        paths |= {name: str(file.path) for name, file in found.files.items()}
    return failures.with_columns(path=pl.col("source").replace_strict(paths, default=None, return_dtype=pl.String))


@app.command("show")
def show_command(
    store: StorePath,
    recording_id: Annotated[str, typer.Argument(metavar="ID", help="A recording's id; `harmonize ls` lists them.")],
    as_json: AsJson = False,
) -> None:
    """Show one recording: everything its document says."""
    opened = open_store(store)
    try:
        recording = opened[recording_id].meta
    except KeyError:
        raise typer.BadParameter(f"the store has no recording {recording_id!r}") from None
    if as_json:
        print_json(recording.model_dump(mode="json"))
        return
    events = opened.annotations.filter(pl.col("recording_id") == recording_id)["label"].to_list()
    statistics = opened.streams.filter(pl.col("recording_id") == recording_id).rows_by_key(
        "stream", named=True, unique=True
    )
    out.print(recording_tree(recording, Counter(events), statistics))


@app.command("schema")
def schema_command(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(SCHEMAS)}.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write all of them into this folder.")] = None,
) -> None:
    """Print the JSON Schema of a document, or write all of them."""
    if write:
        for file in write_schemas(write):
            out.print(str(file))
        return
    if name not in SCHEMAS:
        raise typer.BadParameter(f"name one of {', '.join(SCHEMAS)}")
    sys.stdout.write(schema_text(name))


@app.command("demo")
def demo_command(
    folder: Annotated[Path, typer.Argument(help="Where to put the demo; must be new or empty.")] = Path("demo-out"),
) -> None:
    """Make a small cohort of many formats, convert it, stream it, train on it, and draw it."""
    from harmonize.report.demo import run_demo  # needs torch and matplotlib, which other commands do not

    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty")
    run_demo(folder, out)


def main() -> None:
    """Run the command line; known errors are one line on stderr and exit code 2, or 3 for a store that cannot be
    written."""
    # What is said where workers are killed at the second Ctrl-C; its process is the first that is started.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    try:
        app()
    except StoreWriteError as error:
        err.print(f"[red]Stopped:[/] {escape(str(error))}.", highlight=False, soft_wrap=True)
        raise SystemExit(3) from None
    except (StoreError, KeyFileError, ClusterError) as error:
        err.print(f"[red]Error:[/] {error}", highlight=False)
        raise SystemExit(2) from None
    except RecipeError as error:
        err.print(f"[red]Error in recipe:[/] {escape(str(error))}", highlight=False)
        raise SystemExit(2) from None
    except FileNotFoundError as error:
        err.print(f"[red]Error:[/] there is no {error.filename}", highlight=False)
        raise SystemExit(2) from None
