"""The command line: parses, calls, prints. Exit codes: 0 all converted, 1 some sources failed, 2 usage."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape

from harmonize.cli_audit import audit_command
from harmonize.cli_maintain import forget_command, vacuum_command, verify_command, versions_app
from harmonize.cli_recipe import app as recipe_app
from harmonize.cli_splits import duplicates_command, splits_app
from harmonize.cli_terms import cite_command, metadata_command
from harmonize.ingest import KeyFileError, convert, load_key
from harmonize.ingest.convert import Outcome
from harmonize.ingest.identify import Policy
from harmonize.ingest.plan import plan
from harmonize.ingest.pool import ClusterError, dask_pool, process_pool
from harmonize.ingest.recipes import RecipeError, load_recipe
from harmonize.ingest.scan import scan
from harmonize.report.progress import JsonLog, reporter
from harmonize.report.tables import (
    counts_table,
    failures_table,
    print_frame,
    print_unmapped,
    print_unmapped_line,
    recording_tree,
)
from harmonize.report.unmapped import unmapped as unmapped_labels
from harmonize.report.unmapped import unmapped_of
from harmonize.store import StoreError, open_store
from harmonize.store.shards import Codec
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

app.command("audit")(audit_command)
app.command("cite")(cite_command)
app.command("metadata")(metadata_command)
app.command("duplicates")(duplicates_command)
app.add_typer(splits_app, name="splits")
app.command("verify")(verify_command)
app.command("forget")(forget_command)
app.command("vacuum")(vacuum_command)
app.add_typer(versions_app, name="versions")

StorePath = Annotated[str, typer.Argument(help="A store: its path or URL.", metavar="STORE")]
Sources = Annotated[list[Path], typer.Argument(help="Files or folders.", metavar="SOURCE...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="Project key file; default: made on first use.")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Name of the data set; default: the folder's.")]
RecipeFile = Annotated[str | None, typer.Option("--recipe", help="Recipe: a YAML file, or the name of one that ships.")]

PrivacyMode = Annotated[
    Literal["pseudonym", "keep"] | None,
    typer.Option(help="Over what the recipe says; keep: identifiers, paths and texts as found, for public data."),
]


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1, default=str) + "\n")


@app.command("convert")
def convert_command(
    sources: Sources,
    into: Annotated[str, typer.Option("--into", help="The store, a path or URL; made where there is none.")],
    dataset: DatasetName = None,
    recipe: RecipeFile = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0: this one. Default: the number of cores.")
    ] = os.cpu_count() or 1,
    codec: Annotated[Codec, typer.Option(help="How samples are compressed; all are lossless.")] = "lz4",
    privacy: PrivacyMode = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove recordings whose sources are no longer in the folders given.")
    ] = False,
    dask: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose workers do the work, tcp://HOST:8786 (extra [dask]).")
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="I/N: only the I-th of N parts of the sources, for job arrays.", metavar="I/N")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Append a line of JSON for each event to this file.")] = None,
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Tell changed sources by SHA-256, not by size and time.")
    ] = False,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Convert every recording in SOURCE into a store.

    Unchanged sources of an earlier run are left alone. What cannot be converted is listed with a reason and
    stops nothing else.
    """
    report = reporter(err, quiet=as_json)
    try:
        with report, JsonLog(log) as events, dask_pool(dask) if dask else process_pool(workers) as executor:
            outcome = convert(
                list(sources), into, dataset, recipe, executor,
                key=load_key(key), codec=codec, workers=max(1, workers), privacy=privacy, checksum=checksum,
                prune=prune, partition=_partition(partition), progress=report.update, log=events,
            )  # fmt: skip
    except KeyboardInterrupt:
        err.print("Interrupted: running tasks end now; the store stays as its last commit left it.")
        raise typer.Exit(130) from None
    if as_json:
        _print_json(
            {
                "store": into,
                "version": outcome.version,
                "converted": outcome.converted,
                "unchanged": outcome.unchanged,
                "failures": outcome.failures,
                "vanished": outcome.vanished,
                "side_files": outcome.side_files,
                "raw_bytes": outcome.raw_bytes,
                "seconds": outcome.seconds,
            }
        )
    else:
        _print_outcome(outcome, prune)
    raise typer.Exit(1 if outcome.failures else 0)


def _partition(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise typer.BadParameter(f"{text!r} is no part such as 3/16", param_hint="--partition")
    return int(part), int(parts)


def _print_outcome(outcome: Outcome, pruned: bool) -> None:
    rate = outcome.raw_bytes / 1e6 / outcome.seconds
    out.print(
        f"[bold]{outcome.converted}[/] recordings converted, {outcome.unchanged} unchanged, "
        f"{len(outcome.failures)} failed; {outcome.raw_bytes / 1e6:.1f} MB in {outcome.seconds:.1f} s "
        f"({outcome.converted / outcome.seconds:.1f} recordings/s, {rate:.1f} MB/s); store version {outcome.version}"
    )
    if outcome.vanished:
        fate = "they were removed" if pruned else "they stay; --prune removes them"
        out.print(f"{outcome.vanished} recordings of the store have no source any more: {fate}.")
    _print_side_files(outcome.side_files)
    if outcome.failures:
        out.print(failures_table(outcome.failures))
        out.print("Sources are named by pseudonyms; `harmonize ls STORE --failures --locate SOURCE` shows their paths.")


def _print_side_files(side_files: Counter[str]) -> None:
    if side_files:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in side_files.most_common())
        out.print(f"Files that are no recordings, left aside: {kinds}")


@app.command("scan")
def scan_command(
    sources: Sources,
    dataset: DatasetName = None,
    recipe: RecipeFile = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: this one.")] = 0,
    privacy: PrivacyMode = None,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be converted, from headers only. Writes nothing."""
    for source in sources:
        source.stat()
    loaded, recipe_sha256 = load_recipe(recipe, dataset, sources[0], privacy)
    report = reporter(err, quiet=as_json)
    with report, process_pool(workers) as executor:
        found = scan(sources, Policy(loaded, recipe_sha256, load_key(key)), None, executor, report.update)
    tasks = plan(found.drafts, max(1, workers))
    labels = unmapped_of(draft.recording for draft in found.drafts)
    if as_json:
        recordings = [draft.recording.model_dump(mode="json") for draft in found.drafts]
        _print_json(
            {
                "recordings": recordings,
                "failures": found.failures,
                "side_files": found.side_files,
                "unmapped": labels.to_dicts(),
            }
        )
    else:
        out.print(counts_table([draft.recording for draft in found.drafts]))
        size = sum(task.raw_bytes for task in tasks)
        out.print(f"{len(found.drafts)} recordings, {size / 1e6:.1f} MB of samples, {len(tasks)} tasks")
        print_unmapped_line(out, labels)
        _print_side_files(found.side_files)
        if found.failures:
            out.print(failures_table(found.failures))
    raise typer.Exit(1 if found.failures else 0)


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
        _print_json(frame.to_dicts())
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
        found = scan(folders, Policy(loaded, digest, load_key(key)), None)
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
        _print_json(recording.model_dump(mode="json"))
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
    """Run the command line; known errors are one line on stderr and exit code 2."""
    try:
        app()
    except (StoreError, KeyFileError, ClusterError) as error:
        err.print(f"[red]Error:[/] {error}", highlight=False)
        raise SystemExit(2) from None
    except RecipeError as error:
        err.print(f"[red]Error in recipe:[/] {escape(str(error))}", highlight=False)
        raise SystemExit(2) from None
    except FileNotFoundError as error:
        err.print(f"[red]Error:[/] there is no {error.filename}", highlight=False)
        raise SystemExit(2) from None
