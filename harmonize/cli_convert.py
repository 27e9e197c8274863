"""``harmonize convert`` and ``harmonize scan``: parse, call, print."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Literal, Self

import typer
from rich.console import Console

from harmonize.cli_options import AsJson, KeyFile, print_json
from harmonize.ingest import Outcome, Progress, convert, load_key
from harmonize.ingest.identify import Policy
from harmonize.ingest.pool import dask_pool, process_pool
from harmonize.ingest.prepare import Partition, preview
from harmonize.ingest.privacy import peek_key
from harmonize.ingest.recipes import load_recipe
from harmonize.ingest.tally import by
from harmonize.report.progress import JsonLog, Reporter, reporter
from harmonize.report.runs import print_outcome, print_outlook
from harmonize.report.tables import counts_table, print_unmapped_line
from harmonize.report.unmapped import unmapped_of
from harmonize.store.shards import Codec

out = Console()
err = Console(stderr=True)

Sources = Annotated[list[Path], typer.Argument(help="Files or folders.", metavar="SOURCE...")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Name of the data set; default: the folder's.")]
RecipeFile = Annotated[str | None, typer.Option("--recipe", help="Recipe: a YAML file, or the name of one that ships.")]
PrivacyMode = Annotated[
    Literal["pseudonym", "keep"] | None,
    typer.Option(help="Over what the recipe says; keep: identifiers, paths and texts as found, for public data."),
]
CodecName = Annotated[Codec, typer.Option(help="How samples are compressed; all are lossless.")]
INTERRUPTED = 130


def convert_command(
    sources: Sources,
    into: Annotated[str, typer.Option("--into", help="The store, a path or URL; made where there is none.")],
    dataset: DatasetName = None,
    recipe: RecipeFile = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0: this one. Default: the number of cores.")
    ] = os.cpu_count() or 1,
    codec: CodecName = "lz4",
    privacy: PrivacyMode = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done, from headers; writes nothing.")
    ] = False,
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
    stops nothing else. Ctrl-C stops after the tasks that run, and keeps what they did; a second one stops at once.
    Exit code 3: the store cannot be written (a full disk), 130: interrupted; the same command then goes on.
    """
    report, part = reporter(err, quiet=as_json), _partition(partition)
    try:
        with report, dask_pool(dask) if dask else process_pool(workers) as executor:
            if dry_run:
                loaded, recipe_sha256 = load_recipe(recipe, dataset, sources[0], privacy)
                ready, found = preview(
                    sources, into, Policy(loaded, recipe_sha256, peek_key(key)), executor, codec=codec,
                    workers=max(1, workers), checksum=checksum, partition=part, progress=report.update,
                )  # fmt: skip
            else:
                with JsonLog(log) as events, Interrupts(report) as interrupts:
                    outcome = convert(
                        list(sources), into, dataset, recipe, executor,
                        key=load_key(key), codec=codec, workers=max(1, workers), privacy=privacy, checksum=checksum,
                        prune=prune, partition=part, progress=interrupts.progress, log=events, stop=interrupts.asked,
                    )  # fmt: skip
    except KeyboardInterrupt:
        err.print("Interrupted: the store stays as its last commit left it; the same command goes on from there.")
        raise typer.Exit(INTERRUPTED) from None
    if dry_run:
        if as_json:
            print_json(vars(found) | {"failed": ready.found.failures, "side_files": ready.found.side_files})
        else:
            print_outlook(out, found, ready.found, max(1, workers), into, prune)
        raise typer.Exit(1 if ready.found.failures else 0)
    if as_json:
        print_json(_outcome_json(outcome))
    else:
        print_outcome(out, outcome, prune)
    raise typer.Exit(INTERRUPTED if outcome.stopped else 1 if outcome.failures else 0)


class Interrupts:
    """Ctrl-C, or SIGTERM: while tasks are written the first asks the run to stop after those that run; another, or one
    before, stops it at once (``KeyboardInterrupt``)."""

    def __init__(self, report: Reporter) -> None:
        self._report, self._asked, self._writing = report, False, False

    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self._asked

    def progress(self, state: Progress) -> None:
        """Show where the run is."""
        self._writing = state.stage == "write"
        self._report.update(state)

    def _on(self, _: int, __: FrameType | None) -> None:
        if self._asked or not self._writing:
            raise KeyboardInterrupt
        self._asked = True
        self._report.stopping()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    names = ("version", "converted", "unchanged", "planned", "stopped", "failures", "vanished", "side_files",
             "raw_bytes", "seconds")  # fmt: skip
    tallies = {
        f"by_{name}": [{name: key} | vars(one) for key, one in by(outcome.tallies, at).items()]
        for at, name in enumerate(("format", "site"))
    }
    return {"store": str(outcome.store)} | {name: getattr(outcome, name) for name in names} | tallies


def _partition(text: str | None) -> Partition | None:
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise typer.BadParameter(f"{text!r} is no part such as 3/16", param_hint="--partition")
    return int(part), int(parts)


def scan_command(
    sources: Sources,
    into: Annotated[str | None, typer.Option("--into", help="A store that it would go into: its path or URL.")] = None,
    dataset: DatasetName = None,
    recipe: RecipeFile = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: this one.")] = 0,
    codec: CodecName = "lz4",
    privacy: PrivacyMode = None,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be converted, from headers only. Writes nothing."""
    sources[0].stat()
    loaded, recipe_sha256 = load_recipe(recipe, dataset, sources[0], privacy)
    policy, report = Policy(loaded, recipe_sha256, peek_key(key)), reporter(err, quiet=as_json)
    with report, process_pool(workers) as executor:
        ready, found = preview(
            sources, into, policy, executor, codec=codec, workers=max(1, workers), progress=report.update
        )
    labels = unmapped_of(one.draft().recording for one in ready.found.drafts)
    if as_json:
        recordings = [one.draft().recording.model_dump(mode="json") for one in ready.found.drafts]
        listed = {"recordings": recordings, "failures": ready.found.failures, "side_files": ready.found.side_files}
        print_json(listed | {"unmapped": labels.to_dicts(), "plan": found})
    else:
        out.print(counts_table(one.draft().recording for one in ready.found.drafts))
        print_unmapped_line(out, labels)
        print_outlook(out, found, ready.found, max(1, workers), into)
    raise typer.Exit(1 if ready.found.failures else 0)
