"""Commands that keep a store right: ``verify``, ``forget``, ``vacuum``, ``versions``.

Exit codes: 0 all right, 1 something is wrong or not finished (listed), 2 usage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from harmonize.cli_options import AsJson, StorePath, print_json
from harmonize.ingest import ProjectKey, load_key
from harmonize.ingest.identify import Policy
from harmonize.ingest.pool import process_pool
from harmonize.ingest.privacy import default_key_path
from harmonize.ingest.recipes import load_recipe
from harmonize.maintain.findings import Finding
from harmonize.maintain.forget import Forgotten, forget
from harmonize.maintain.verify import Report, verify
from harmonize.report.tables import print_frame
from harmonize.store import open_store
from harmonize.store.place import place_of
from harmonize.store.vacuum import Vacuumed, vacuum
from harmonize.store.versions import list_versions, remove_tag, resolve, tag_version

versions_app = typer.Typer(no_args_is_help=True, help="List the versions of a store and name them.")
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

TagName = Annotated[str, typer.Argument(help="A name of a version.", metavar="NAME")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="The store's project key file; default: the user's.")]
GraceHours = Annotated[
    float, typer.Option("--grace", min=0, help="Hours in which what no version names may be of a running conversion.")
]
LISTED = 50


def _own_key(file: Path | None) -> ProjectKey:
    """The key that was used before: unlike ``load_key``, this makes none."""
    return load_key(file or default_key_path())


def verify_command(
    store: StorePath,
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders that it was converted from.", metavar="[SOURCE...]")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Their data set; default: the folder's name.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Their recipe: a YAML file, or a name of one that ships.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: this one.")] = 0,
    privacy: Annotated[
        Literal["pseudonym", "keep"] | None, typer.Option(help="As given to convert, over what the recipe says.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="An older version of the store: its number or tag.")] = None,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every chunk of a store and compare it with its hash; with SOURCE, also sample by sample with the files.

    Sources that changed since they were converted are listed, and are no fault of the store.
    """
    opened = open_store(store, version)
    policy = None
    for source in sources or ():
        source.stat()
    if sources:
        loaded, recipe_sha256 = load_recipe(recipe, dataset, sources[0], privacy)
        policy = Policy(loaded, recipe_sha256, _own_key(key))
        if policy.key.key_id != (made_under := opened.attributes["key_id"]):
            raise typer.BadParameter(f"the store was made under the project key {made_under}: give it with --key")
    with process_pool(workers) as executor:
        report = verify(opened, sources or (), policy, executor)
    if as_json:
        print_json(asdict(report) | {"ok": report.ok})
    else:
        _print_report(report)
    raise typer.Exit(0 if report.ok else 1)


def _print_report(report: Report) -> None:
    unhashed = f"; {report.unhashed} streams or images have no hash and were only decoded" if report.unhashed else ""
    out.print(
        f"version {report.version}: {report.recordings} recordings read and compared with their hashes, "
        f"{report.compared} compared with their sources{unhashed}"
    )
    if report.unknown:
        out.print(f"{report.unknown} sources found are not in the store")
    if report.changed:
        out.print(f"[yellow]Changed since they were converted: {len(report.changed)}[/]")
        _print_findings(report.changed)
    if report.findings:
        counts = ", ".join(f"{code} {count}" for code, count in Counter(one.code for one in report.findings).items())
        out.print(f"[red]Wrong: {len(report.findings)}[/] ({counts})")
        _print_findings(report.findings)
    else:
        out.print("[green]Nothing is wrong.[/]")


def _print_findings(found: Sequence[Finding]) -> None:
    for one in found[:LISTED]:
        out.print(f"  {one.code} {escape(one.recording_id)} {escape(one.where)}: {escape(one.message)}", soft_wrap=True)
    if len(found) > LISTED:
        out.print(f"  and {len(found) - LISTED} more (--json lists all)")


def forget_command(
    store: StorePath,
    subjects: Annotated[
        list[str], typer.Argument(help="Subjects as `ls` shows them, or their real identifiers.", metavar="SUBJECT...")
    ],
    dataset: Annotated[str | None, typer.Option(help="Their data set, where several know the name.")] = None,
    key: KeyFile = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Forget without the project key; later conversions are not refused.")
    ] = False,
    grace: GraceHours = 24.0,
    as_json: AsJson = False,
) -> None:
    """Remove subjects from a store: rows, samples, documents and logs, in all versions.

    The newest version stays as the only one that can be opened. Later conversions into this store are refused the
    subjects and their sources. Exit code 1 while a conversion runs, or where its unfinished parts may hold something.
    """
    project_key = None if without_key else _own_key(key)
    try:
        done = forget(place_of(store), subjects, project_key, dataset, grace * 3600)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(asdict(done))
    else:
        _print_forgotten(done, refused=project_key is not None)
    raise typer.Exit(1 if done.waiting or done.converting else 0)


def _print_forgotten(done: Forgotten, *, refused: bool) -> None:
    if done.resumed:
        out.print("An earlier run that did not finish was taken up.")
    out.print(
        f"{done.recordings} recordings removed, {done.parts_rewritten} parts rewritten, {done.parts_removed} removed, "
        f"{done.versions_removed} older versions ended; the store is at version {done.version}"
    )
    if done.tags:
        out.print(f"Tags whose versions are gone: {escape(', '.join(done.tags))}")
    if refused:
        out.print(
            f"Later conversions into this store are refused the subjects and their {done.refused_sources} sources."
        )
    else:
        out.print("Without the project key nothing is refused: converting the same sources brings the subjects back.")
    out.print("Copies elsewhere (sources, backups, derived files, other stores) are not touched.")
    if done.converting:
        out.print(
            "[red]Not finished:[/] a conversion runs. It commits nothing of the subjects, but may have written what it "
            "removes at its next commit: forget again when it ended."
        )
    if done.waiting:
        out.print(
            f"[red]Not finished:[/] {len(done.waiting)} parts or files that no version names may hold more. Forget "
            "again when no conversion runs any more (after a killed one, at once with --grace 0):"
        )
        for path in done.waiting[:LISTED]:
            out.print(f"  {escape(path)}", soft_wrap=True)


def vacuum_command(
    store: StorePath,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep so many newest versions, and all tagged; default: all.")
    ] = None,
    grace: GraceHours = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove parts, files and rows that no kept version names. Nothing younger than the grace period goes."""
    done = vacuum(open_store(store).path, keep, grace * 3600, dry_run)
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run, "bytes": done.bytes})
        return
    _print_vacuumed(done, dry_run)


def _print_vacuumed(done: Vacuumed, dry_run: bool) -> None:
    for path, size in [*done.parts.items(), *done.files.items()]:
        out.print(f"  {escape(path)}  {size / 1e6:.1f} MB", soft_wrap=True)
    word = "Would remove" if dry_run else "Removed"
    ended = f", versions {', '.join(map(str, done.versions))}" if done.versions else ""
    out.print(
        f"{word} {len(done.parts)} parts, {len(done.files)} files of tables, {sum(done.rows.values())} rows{ended}: "
        f"{done.bytes / 1e6:.1f} MB. Versions kept: {len(done.kept)}"
    )
    if done.young:
        out.print(f"{done.young} parts or files that no version names are younger than the grace period and stay.")


@versions_app.command("ls")
def versions_ls_command(
    store: StorePath,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the versions that can be opened, oldest first, with their tags."""
    frame = list_versions(open_store(store).path)
    if as_json:
        print_json(frame.to_dicts())
    else:
        print_frame(out, frame, limit)


@versions_app.command("tag")
def versions_tag_command(
    store: StorePath,
    name: TagName,
    version: Annotated[str | None, typer.Argument(help="A version; default: the newest.", metavar="[VERSION]")] = None,
) -> None:
    """Name a version: `--version NAME` and `harmonize.open(path, version=NAME)` open it, and vacuum keeps it."""
    opened = open_store(store)
    number = opened.version if version is None else resolve(opened.path, version)
    try:
        tag_version(opened.path, name, number)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    out.print(f"{escape(name)} is version {number}")


@versions_app.command("untag")
def versions_untag_command(store: StorePath, name: TagName) -> None:
    """Take a name away; the version stays."""
    root = open_store(store).path
    try:
        remove_tag(root, name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
