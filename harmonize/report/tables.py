"""Tables and trees for the terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from harmonize.report.quality import MEANINGS
from harmonize.report.unmapped import HOW
from harmonize.store.catalog import Row
from harmonize_schemas import CodedConcept, Image, ImageSegment, Recording, SignalStream


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def print_frame(console: Console, frame: pl.DataFrame, limit: int) -> None:
    """A frame's first ``limit`` rows, and how many there are: a table on a terminal, which never shortens an
    id; tab-separated text elsewhere, which shortens nothing."""
    table = Table(box=None, pad_edge=False)
    for name in frame.columns:
        table.add_column(name, overflow="fold" if name.startswith("recording") or name == "source" else "ellipsis")
    rows = [[_cell(value) for value in row] for row in frame.head(limit).iter_rows()]
    if console.is_terminal:
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    else:
        for row in [frame.columns, *rows]:
            print("\t".join(row), file=console.file)  # rich would turn tabs into spaces
    more = f", the first {limit} shown (--limit)" if len(frame) > limit else ""
    console.print(f"{len(frame)} rows{more}")


def print_unmapped(console: Console, labels: pl.DataFrame, limit: int) -> None:
    """Labels of channels that no vocabulary has, as a table, and how a user names them."""
    if labels.is_empty():
        console.print("Every channel label is in the vocabulary, or named by a recipe.")
        return
    print_frame(console, labels, limit)
    console.print(HOW, markup=False, highlight=False)


def print_unmapped_line(console: Console, labels: pl.DataFrame) -> None:
    """The most frequent of them in one sentence; nothing where there are none."""
    if labels.is_empty():
        return
    top = labels.group_by("label").agg(pl.sum("channels")).sort("channels", "label", descending=[True, False])
    names = ", ".join(f"{label!r} ({count})" for label, count in top.head(20).iter_rows())
    more = f", {len(top) - 20} more (--json)" if len(top) > 20 else ""
    console.print(f"Channel names in no vocabulary, kept as found: {names}{more}", markup=False)
    console.print(HOW, markup=False, highlight=False)


def failures_table(failures: Sequence[Row]) -> Table:
    """Failures grouped by code, with one example each of where and what."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in failures:
        groups[row["code"]].append(row)
    table = Table("code", "sources", "what it means", "for example", title="Not converted", title_justify="left")
    for code, rows in sorted(groups.items(), key=lambda item: -len(item[1])):
        table.add_row(code, str(len(rows)), escape(rows[0]["message"]), escape(rows[0]["source"]))
    return table


def layout_text(stream: SignalStream) -> str:
    """ "12 ecg @ 500 Hz"."""
    kinds = Counter(channel.type for channel in stream.channels)
    return " + ".join(f"{n} {kind}" for kind, n in kinds.items()) + f" @ {_rate(stream)} Hz"


def _short(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"


def _rate(stream: SignalStream) -> str:
    rate = float(stream.rate_hz)
    return f"{rate:g}"


def image_text(image: Image) -> str:
    """ "256 x 256 x 20 int16"."""
    return " x ".join(map(str, image.shape[::-1])) + f" {image.dtype}"


def segment_text(segment: ImageSegment) -> str:
    """ "segment 1: Kidney (SCT:64033007), Right (SCT:24028007); Anatomical Structure (SCT:91723000); MANUAL"."""

    def said(*concepts: CodedConcept | None) -> str:
        known = (one for one in concepts if one is not None)
        return ", ".join(one.code if one.meaning is None else f"{one.meaning} ({one.code})" for one in known)

    what = said(segment.type, *segment.type_modifiers) or "not said"
    region = said(segment.region, *segment.region_modifiers)
    parts = [what, f"in {region}" if region else "", said(segment.category), segment.algorithm or ""]
    return f"segment {segment.number}: " + "; ".join(filter(None, parts))


def counts_table(recordings: Iterable[Recording]) -> Table:
    """What was found: recordings by data set, modality, site, device and layout."""
    groups: Counter[tuple[str, ...]] = Counter()
    seconds: dict[tuple[str, ...], float] = defaultdict(float)
    subjects: dict[tuple[str, ...], set[str | None]] = defaultdict(set)
    for recording in recordings:
        acquisition = recording.acquisition
        device = " ".join(filter(None, (acquisition.device_maker, acquisition.device_model)))
        what = image_text(recording.image) if recording.image else "\n".join(map(layout_text, recording.streams))
        site, form = acquisition.site or "-", recording.source.format
        key: tuple[str, ...] = (recording.dataset, recording.modality, form, site, device or "-", what)
        groups[key] += 1
        seconds[key] += recording.duration_s or 0.0
        subjects[key].add(recording.subject)
    table = Table("data set", "modality", "format", "site", "device", "layout", "recordings", "subjects", "hours")
    for key, count in sorted(groups.items()):
        known = len(subjects[key] - {None})
        hours = f"{seconds[key] / 3600:.2f}" if seconds[key] else "-"
        table.add_row(*map(escape, key), str(count), str(known) if known else "-", hours)
    return table


def recording_tree(recording: Recording, events: Mapping[str, int], statistics: Mapping[str, Row]) -> Tree:
    """A recording's document as a tree, empty fields left out; ``statistics`` are rows of ``Store.streams`` by name."""
    tree = Tree(f"[bold]{escape(recording.recording_id)}[/]  {recording.modality}")
    document = recording.model_dump(mode="json", exclude={"streams", "image", "recording_id", "modality"})
    for name, value in document.items():
        _branch(tree, name, value)
    for stream in recording.streams:
        branch = tree.add(f"stream [bold]{escape(stream.name)}[/]: {layout_text(stream)}, {stream.duration_s:g} s")
        if len(stream.segments) > 1:
            branch.add(f"{len(stream.segments)} segments")
        shown = ("min", "max", "std", "missing_share", "flat_share", "rail_share")
        headings = [MEANINGS.get(name, name) for name in shown]
        table = Table("label", "name", "type", "unit", "unit found", "scale", "offset", *headings, box=None)
        for at, channel in enumerate(stream.channels):
            unit = channel.unit or "-"
            numbers = [channel.scale, channel.offset]
            texts = (escape(channel.label), escape(channel.name), channel.type, unit, escape(channel.unit_found))
            found = [(statistics[stream.name][name] or {at: None})[at] for name in shown]
            table.add_row(*texts, *(f"{number:.6g}" for number in numbers), *map(_short, found))
        branch.add(table)
    if recording.image:
        branch = tree.add(f"image: {image_text(recording.image)}")
        for name, value in recording.image.model_dump(mode="json", exclude={"segments"}).items():
            _branch(branch, name, value)
        for segment in recording.image.segments:
            branch.add(escape(segment_text(segment)))
    if events:
        branch = tree.add(f"{sum(events.values())} annotations")
        for label, count in Counter(events).most_common(10):
            branch.add(f"{escape(label)}: {count}")
    return tree


def _branch(tree: Tree, name: str, value: Any) -> None:
    if value in (None, [], {}, ""):
        return
    if isinstance(value, dict):
        branch = tree.add(name)
        for key, inner in value.items():
            _branch(branch, key, inner)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        branch = tree.add(name)
        for inner in value:
            branch.add(escape(", ".join(f"{k}={v}" for k, v in inner.items())))
    else:
        text = ", ".join(map(str, value[:16])) if isinstance(value, list) else str(value)
        tree.add(f"{name}: {escape(text)}")
