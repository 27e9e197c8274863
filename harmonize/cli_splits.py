"""Commands about what must stay together: ``harmonize duplicates`` and ``harmonize splits``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape

from harmonize.cli_options import AsJson, StorePath, print_json
from harmonize.data.split_check import Proof, check_split
from harmonize.data.split_tables import Method, grow_split, make_split, split_runs
from harmonize.report.tables import print_frame
from harmonize.store import Store, open_store

splits_app = typer.Typer(no_args_is_help=True, help="Make, list and check splits that cannot leak.")
out = Console()

SplitName = Annotated[str, typer.Argument(help="The split.", metavar="NAME")]


def duplicates_command(
    store: StorePath,
    near: Annotated[
        bool, typer.Option("--near/--no-near", help="Also resampled, rescaled, cropped copies; only then stored.")
    ] = True,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Find recordings that hold the same data, and keep the pairs in the store."""
    from harmonize.data.duplicates import find_duplicates, update_duplicates  # scipy.signal takes half a second

    opened = open_store(store)
    found = update_duplicates(opened) if near else find_duplicates(opened, near=False)
    if as_json:
        print_json({"store_version": opened.version, "stored": near, "duplicates": found.to_dicts()})
        return
    print_frame(out, found, limit)
    if not near:
        out.print("Near duplicates were not searched, so nothing is stored.")


@splits_app.command("make")
def make_command(
    store: StorePath,
    name: SplitName,
    method: Annotated[Method, typer.Option(help="How recordings are given to sides.")] = "random",
    fraction: Annotated[
        list[str] | None, typer.Option(help="SIDE=FRACTION, in order of time for temporal; default 0.8, 0.1, 0.1.")
    ] = None,
    k: Annotated[int, typer.Option(min=2, help="Folds of kfold.")] = 5,
    by: Annotated[
        str | None,
        typer.Option(help="Column or label: site, device, dataset (leave-one-out); a year or date (temporal)."),
    ] = None,
    side: Annotated[list[str] | None, typer.Option(help="FOLD=SIDE of official folds; '*=train' for the rest.")] = None,
    stratify: Annotated[
        list[str] | None, typer.Option(help="Column or label to spread evenly; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another random split.")] = 0,
    own: Annotated[
        bool, typer.Option("--unknown-subjects-own", help="Take recordings without a subject as persons of their own.")
    ] = False,
    without_near: Annotated[
        bool, typer.Option("--without-near-duplicates", help="Split though near duplicates were not searched.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Split the recordings of a store; subjects, duplicates and source files stay on one side."""
    options: dict[str, Any] = {"k": k, "by": by, "stratify": stratify or (), "seed": seed}
    options |= {"unknown_subjects": "own" if own else "refuse", "near_duplicates": not without_near}
    if side:
        options["sides"] = _pairs(side)
    opened = open_store(store)
    try:
        if fraction:
            options["fractions"] = {key: float(value) for key, value in _pairs(fraction).items()}
        rows = make_split(opened, name, method, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _print_split(opened, name, rows, as_json)


@splits_app.command("grow")
def grow_command(store: StorePath, name: SplitName, as_json: AsJson = False) -> None:
    """Give sides to recordings that came after a split was made; all others keep theirs."""
    opened = open_store(store)
    try:
        rows = grow_split(opened, name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _print_split(opened, name, rows, as_json)


@splits_app.command("ls")
def ls_command(store: StorePath, as_json: AsJson = False) -> None:
    """List the splits of a store."""
    runs = split_runs(open_store(store))
    if as_json:
        print_json(runs.to_dicts())
    else:
        print_frame(out, runs.drop("parameters"), 50)


@splits_app.command("check")
def check_command(store: StorePath, name: SplitName, as_json: AsJson = False) -> None:
    """Prove that no subject, no duplicate and no source file is on two sides. Exit code 1 if not proven."""
    try:
        proof = check_split(open_store(store), name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(asdict(proof) | {"ok": proof.ok})
    else:
        _print_proof(proof)
    raise typer.Exit(0 if proof.ok else 1)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [key for key, equal, _ in pairs if not equal]:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form NAME=VALUE")
    return {key: value for key, _, value in pairs}


def _print_split(store: Store, name: str, rows: pl.DataFrame, as_json: bool) -> None:
    run = split_runs(store).filter(pl.col("split") == name).row(0, named=True)
    sides = dict(rows.drop_nulls("side").group_by("side").len().sort("side").iter_rows())
    reasons = dict(rows.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows())
    if as_json:
        print_json(run | {"sides": sides, "excluded": reasons})
        return
    out.print(f"Split {name}: " + ", ".join(f"{escape(side)} {count}" for side, count in sides.items()))
    for reason, count in reasons.items():
        out.print(f"excluded {count}: {escape(reason)}")
    out.print(f"sha256 {run['sha256']}")


def _print_proof(proof: Proof) -> None:
    sides = ", ".join(f"{escape(side)} {count}" for side, count in proof.sides.items())
    out.print(f"Split {proof.split}: {sides}; {proof.excluded} excluded")
    for kind, count in proof.checked.items():
        leaking = [leak for leak in proof.leaks if leak.kind == kind]
        out.print(f"{kind}s checked: {count}; on two sides: {len(leaking)}")
        for leak in leaking:
            out.print(f"  [red]{escape(leak.what)}[/] on {', '.join(leak.sides)}: {escape(', '.join(leak.recordings))}")
    for text in proof.open:
        out.print(f"[red]Not proven:[/] {escape(text)}")
    for text in proof.notes:
        out.print(f"Note: {escape(text)}")
    out.print("[green]No leak.[/]" if proof.ok else "[red]Not proven to be free of leaks.[/]")
