"""What harmonize gives for the same files, in the judges' terms."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from converters.conformance import collect, found, sources_in
from harmonize_converters.contract import ConversionError, Description, FoundAnnotation, SourceFiles
from harmonize_converters.edf import EdfConverter
from harmonize_converters.wfdb import WfdbConverter
from harmonize_schemas import Channel, SignalStream
from judging.model import Event, Key, Reading, Refusal, Signal, keyed, time_line
from judging.raw_annotations import event_text

CONVERTERS = {"edf": EdfConverter(), "wfdb": WfdbConverter()}
BLOCK_BYTES = 1 << 22
TOUCH_S = 1e-6
"""Onsets and durations are float64 seconds: what is nearer than this touches."""


@dataclass(frozen=True, slots=True)
class Ours:
    """Our reading and our description, or our refusal."""

    reading: Reading | Refusal
    description: Description | None = None


def edf_source(path: Path) -> SourceFiles:
    """A file on its own, as no file of the data is another's hypnogram."""
    file = found(path, path.parent)
    return SourceFiles("edf", file.key, (file,), ("signal",))


def wfdb_sources(folder: Path) -> list[SourceFiles]:
    """The records of a folder; a segment's header is its record's, and no record of its own."""
    return sources_in(CONVERTERS["wfdb"], folder)


def segments_alone(source: SourceFiles) -> list[SourceFiles]:
    """The segments of a record as records of their own, those whose signal files are there."""
    alone = []
    for file, role in zip(source.files, source.roles, strict=True):
        if role == "segment":
            (own,) = CONVERTERS["wfdb"].group([file], {f.key: f for f in source.files})
            alone += [own] if "signal" in own.roles else []
    return alone


def annotators(source: SourceFiles) -> tuple[str, ...]:
    """The annotation files beside a header."""
    return tuple(role.partition(":")[2] for role in source.roles if role.startswith("annotations:"))


def read(source: SourceFiles) -> Ours:
    """Describe, read, and lay every channel on the record's time line."""
    converter = CONVERTERS[source.converter]
    try:
        description = converter.describe(source).description
        arrays = collect(description, list(converter.read(source, description, BLOCK_BYTES)))
        marks = list(converter.annotations(source, description))
    except ConversionError as error:
        return Ours(Refusal(error.code, str(error).removeprefix(f"{error.code}: ")))
    signals = _signals(description, arrays)
    triggers = tuple((m.onset_s, m.number or 0) for m in marks if m.label == "trigger")
    texts = [_event(m) for m in marks if m.label != "trigger"]
    return Ours(Reading(signals, tuple(sorted(texts)), triggers, _stretches(description)), description)


def _stretches(description: Description) -> tuple[tuple[float, float], ...]:
    """Where any stream has samples: what touches is one stretch."""
    spans = sorted({(s.onset_s, float(s.n_samples / t.rate_hz)) for t in description.streams for s in t.segments})
    joined: list[tuple[float, float]] = []
    for onset_s, duration_s in spans:
        end_s = sum(joined[-1]) if joined else -1.0
        if joined and onset_s <= end_s + TOUCH_S:
            joined[-1] = joined[-1][0], max(end_s, onset_s + duration_s) - joined[-1][0]
        else:
            joined.append((onset_s, duration_s))
    return tuple(joined)


def _signals(description: Description, arrays: list[np.ndarray]) -> dict[Key, Signal]:
    """Channels of one label and rate in several streams (another gain, say) are one signal at different times."""
    pieces: dict[Key, list[tuple[SignalStream, Channel, np.ndarray]]] = {}
    for stream, array in zip(description.streams, arrays, strict=True):
        seen: Counter[str] = Counter()
        for channel, row in zip(stream.channels, array, strict=True):
            pieces.setdefault((channel.label, stream.rate_hz, seen[channel.label]), []).append((stream, channel, row))
            seen[channel.label] += 1
    first_s = min((s.onset_s for stream in description.streams for s in stream.segments), default=0.0)
    if description.format == "WFDB":
        first_s = 0.0
    return keyed(_signal(parts, first_s, description.duration_s) for parts in pieces.values())


def _signal(parts: list[tuple[SignalStream, Channel, np.ndarray]], first_s: float, duration_s: float | None) -> Signal:
    stream, channel, _ = parts[0]
    runs, physical = [], []
    for own, one, row in parts:
        values = row * one.scale + one.offset
        if one.missing_value is not None:
            values[row == one.missing_value] = np.nan
        for segment in own.segments:
            at = slice(segment.start, segment.start + segment.n_samples)
            start = round((segment.onset_s - first_s) * float(own.rate_hz))
            runs.append((start, row[at].astype(np.int64)))
            physical.append((start, values[at]))
    end = max(start + len(row) for start, row in runs)
    n = max(end, round((duration_s or 0.0) * float(stream.rate_hz)))
    digital, present = time_line(runs, n)
    line, _ = time_line(physical, n)
    if present is not None:
        line[~present] = np.nan
    step = abs(channel.scale)
    return Signal(channel.label, stream.rate_hz, digital, line, channel.unit, present, step, channel.missing_value)


@cache
def _mnemonic(label: str | None) -> str:
    """A vocabulary's term for a WFDB code, as the code's mnemonic."""
    if label is None:
        return ""
    return "+" if label.startswith("rhythm:") else label.removeprefix("wfdb:")


def _event(mark: FoundAnnotation) -> Event:
    duration_s = -1.0 if mark.duration_s is None else mark.duration_s
    if mark.annotator is None:
        return Event(mark.onset_s, mark.text or "", duration_s)
    text = event_text(_mnemonic(mark.label), mark.text or "", mark.subtype or 0, mark.channel or 0, mark.number or 0)
    return Event(mark.onset_s, text, duration_s)
