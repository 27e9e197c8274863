"""What a conversion would do and what it did, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmonize.ingest import Outcome
from harmonize.ingest.identify import BURNED_IN_RISK, QUARANTINED
from harmonize.ingest.outlook import Outlook
from harmonize.ingest.scan import Scan
from harmonize.ingest.tally import Tally, by, codes
from harmonize.report.progress import codes_text
from harmonize.report.tables import failures_table
from harmonize.store.catalog import Row

LISTED = 20


def size_text(size: float) -> str:
    """ "38.0 MB": decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def print_outlook(
    console: Console, found: Outlook, scanned: Scan, workers: int, into: object, prune: bool = False
) -> None:
    """The plan of a run."""
    if found.layouts:
        table = Table(
            "layout", "recordings", "samples", "parts", "in the store", title="To write", title_justify="left"
        )
        for column in table.columns[1:4]:
            column.justify = "right"
        for one in found.layouts[:LISTED]:
            share = "" if one.share is None else f"about {size_text(one.share * one.bytes)}"
            table.add_row(one.layout, str(one.recordings), size_text(one.bytes), str(one.parts), share)
        if len(found.layouts) > LISTED:
            table.add_row(f"{len(found.layouts) - LISTED} more (--json)", "", "", "", "")
        console.print(table)
    console.print(
        f"[bold]{found.recordings}[/] recordings, {size_text(found.bytes)} of samples, in {found.parts} parts of "
        f"{len(found.layouts)} layouts, by {found.tasks} tasks"
    )
    if into is not None:
        fate = "would be removed" if prune else "would stay (--prune removes them)"
        gone = f"; {len(found.vanished)} of the store have no source any more and {fate}" if found.vanished else ""
        console.print(
            f"{found.new} of them are new, {len(found.changed)} would replace what the store has; "
            f"{found.unchanged} are unchanged and left alone{gone}"
        )
    if found.recordings:
        low, high = map(size_text, found.stored_bytes)
        known = sum(one.bytes for one in found.layouts if one.share is not None)
        basis = "what `python -m benchmarks.sizes` prints of other data"
        if known:
            basis = f"parts of the same layout in this store for {known / max(found.bytes, 1):.0%}, the rest {basis}"
        console.print(f"Expected in the store: {low} to {high}, by {basis}", highlight=False)
        each = f"{workers} workers, each" if workers > 1 else "a worker"
        console.print(
            f"Memory: {each} up to {size_text(found.worker_bytes)}, the run itself up to {size_text(found.run_bytes)}"
        )
    print_side_files(console, scanned.side_files)
    if scanned.failures:
        console.print(failures_table(scanned.failures))
        print_quarantined(console, scanned.failures)


def print_outcome(console: Console, outcome: Outcome, pruned: bool) -> None:
    """What a run did: in one sentence, by format and by site, and what failed."""
    if outcome.stopped:
        console.print(
            f"[bold]Stopped[/] after {outcome.converted} of {outcome.planned} recordings. They are committed, and the "
            "same command goes on from there."
        )
    rate = outcome.raw_bytes / 1e6 / outcome.seconds
    console.print(
        f"[bold]{outcome.converted}[/] recordings converted, {outcome.unchanged} unchanged, "
        f"{len(outcome.failures)} failed; {outcome.raw_bytes / 1e6:.1f} MB in {outcome.seconds:.1f} s "
        f"({outcome.converted / outcome.seconds:.1f} recordings/s, {rate:.1f} MB/s); store version {outcome.version}"
    )
    if outcome.vanished:
        fate = "they were removed" if pruned else "they stay; --prune removes them"
        console.print(f"{outcome.vanished} recordings of the store have no source any more: {fate}.")
    print_side_files(console, outcome.side_files)
    if outcome.tallies:
        console.print(tallies_table("format", by(outcome.tallies, 0)))
    if any(site for _, site in outcome.tallies):
        console.print(tallies_table("site", by(outcome.tallies, 1)))
    if outcome.failures:
        console.print(failures_table(outcome.failures))
        print_quarantined(console, outcome.failures)
        console.print(
            "Sources are named by pseudonyms; `harmonize ls STORE --failures --locate SOURCE` shows their paths."
        )


def tallies_table(name: str, tallies: Mapping[str | None, Tally]) -> Table:
    """What was done by format or by site. Seconds are those of the workers together."""
    table = Table(name, "recordings", "hours", "images", "samples", "worker s", "not converted")
    for column in table.columns[1:6]:
        column.justify = "right"
    for key, one in tallies.items():
        hours = f"{one.hours:.2f}" if one.hours else "-"
        counts = str(one.recordings), hours, str(one.images or "-"), size_text(one.bytes), f"{one.seconds:.1f}"
        table.add_row(escape(key or "unknown"), *counts, codes_text(one.failures))
    return table


def print_quarantined(console: Console, failures: Sequence[Row]) -> None:
    """How many images may hold names, and what to do about them."""
    if quarantined := codes(failures)[QUARANTINED]:
        console.print(
            f"{quarantined} images are quarantined: names may be burned into their pixels, and nothing says that none "
            "are. Look at them; a recipe with `burned_in: allow_undeclared` then converts them, flagged "
            f"`{BURNED_IN_RISK}`."
        )


def print_side_files(console: Console, side_files: Counter[str]) -> None:
    """What was left aside, by suffix."""
    if side_files:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in side_files.most_common())
        console.print(f"Files that are no recordings, left aside: {kinds}")
