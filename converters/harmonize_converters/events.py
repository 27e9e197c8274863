"""Events in files beside a recording, as a recipe names them: tables, EDF+, WFDB, NSRR XML, CHB-MIT summaries."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from xml.etree import ElementTree

from harmonize_converters._fields import decimal, decode_text
from harmonize_converters._open import opened, read_at
from harmonize_converters._wfdb_annotations import label_of, parse_annotations
from harmonize_converters.contract import ConversionError, FoundAnnotation, FoundFile
from harmonize_converters.edf import read_annotations
from harmonize_schemas import EventSource

MAX_BYTES = 1 << 28
_BLANK = frozenset({"", "n/a", "na", "nan", "null", "-"})
_SEIZURE = re.compile(r"Seizure(?: \d+)? (Start|End) Time: *(\d+) *seconds", re.IGNORECASE)


def read_events(
    events: EventSource,
    file: FoundFile,
    rate_hz: Fraction | None,
    start: datetime | None,
    record: str,
    duration_s: float | None = None,
) -> list[FoundAnnotation]:
    """All events of one side file, by onset in s from the recording's start.

    ``rate_hz`` is that of the recording (for onsets in samples), ``start`` its date and time (for files that
    have their own), ``record`` its file name (for files about several), ``duration_s`` its length (for states
    that last to its end). Labels go through the recipe's map.
    Raises ``ConversionError``.
    """
    if file.size > MAX_BYTES:
        raise ConversionError("implausible_size", where="events")
    with opened(file) as handle:
        raw = read_at(handle, 0, file.size) if events.format != "edf" else b""
    if events.format == "table":
        found = list(_table(events, decode_text(raw), rate_hz))
    elif events.format == "edf":
        began, texts = read_annotations(file)
        shift = (began - start).total_seconds() if began and start else 0.0
        found = [one.at(one.onset_s + shift) for one in texts]
    elif events.format == "wfdb":
        found = _paired(_wfdb(raw, rate_hz))
    elif events.format == "nsrr_xml":
        found = list(_nsrr(raw))
    else:
        found = list(_chbmit(decode_text(raw), record))
    labelled = sorted((_labelled(events, one) for one in found), key=lambda one: one.onset_s)
    return _lasting(labelled, frozenset(events.states), duration_s)


def _lasting(events: list[FoundAnnotation], states: frozenset[str], end_s: float | None) -> list[FoundAnnotation]:
    """States without a duration last to the next state, or to the end."""
    lasting = []
    for one in reversed(events):
        if one.label in states:
            if one.duration_s is None and end_s is not None:
                lasting.append(replace(one, duration_s=max(0.0, end_s - one.onset_s)))
            else:
                lasting.append(one)
            end_s = one.onset_s
        else:
            lasting.append(one)
    return lasting[::-1]


def _labelled(events: EventSource, one: FoundAnnotation) -> FoundAnnotation:
    label = events.map.get((one.text or "").strip()) or one.label
    return replace(one, label=label)


def _table(events: EventSource, text: str, rate_hz: Fraction | None) -> Iterator[FoundAnnotation]:
    factor = {"s": 1.0, "ms": 1e-3, "samples": float(1 / rate_hz) if rate_hz else None}[events.unit]
    if factor is None:
        raise ConversionError("invalid_header", "Events in samples need a recording with one rate.", "events")
    separator = events.separator or ("\t" if "\t" in text.partition("\n")[0] else ",")
    lines = (line for line in text.lstrip("\N{ZERO WIDTH NO-BREAK SPACE}").splitlines() if not line.startswith("#"))
    rows = csv.DictReader(lines, events.header or None, delimiter=separator)
    for number, row in enumerate(rows, 1):
        where = f"row {number} of the events"
        onset_s = _number(row, events.onset, where)
        if onset_s is None:
            continue
        duration = _number(row, events.duration, where)
        stop = _number(row, events.stop, where)
        if stop is not None:
            duration = max(0.0, stop - onset_s)
        label = row.get(events.label) if events.label else None
        yield FoundAnnotation(
            onset_s * factor, None if duration is None else duration * factor, (label or "").strip() or None
        )


def _number(row: dict[str, str], column: str | None, where: str) -> float | None:
    if column is None:
        return None
    if column not in row:
        raise ConversionError("invalid_header", "The table of events lacks a column that the recipe names.", where)
    text = (row[column] or "").strip()
    if text.casefold() in _BLANK:
        return None
    if (value := decimal(text)) is None:
        raise ConversionError("corrupt", "A time of an event is no number.", where)
    return float(value)


def _wfdb(raw: bytes, rate_hz: Fraction | None) -> Iterator[FoundAnnotation]:
    parsed = parse_annotations(raw)
    rate = parsed.resolution or rate_hz
    if rate is None:
        raise ConversionError("invalid_header", "The annotations have no time resolution.", "events")
    for mark in parsed.marks:
        label, text = label_of(mark, parsed.defined)
        yield FoundAnnotation(float(mark.time / rate), None, text, label, subtype=mark.subtype, number=mark.number)


def _paired(marks: Iterable[FoundAnnotation]) -> list[FoundAnnotation]:
    """One event "x" with a duration for "(x" and the "x)" that follows; what nothing ends ("(AFIB") stays."""
    events: list[FoundAnnotation] = []
    begun: dict[str, int] = {}
    for mark in sorted(marks, key=lambda mark: mark.onset_s):
        text = mark.text or ""
        if text.endswith(")") and (at := begun.pop(text[:-1], None)) is not None:
            first = events[at]
            duration_s = mark.onset_s - first.onset_s
            events[at] = FoundAnnotation(first.onset_s, duration_s, text[:-1], None, first.channel)
            continue
        if text.startswith("("):
            begun[text[1:]] = len(events)
        events.append(mark)
    return events


def _nsrr(raw: bytes) -> Iterator[FoundAnnotation]:
    """ScoredEvents of the National Sleep Research Resource: EventConcept ("Wake|0"), Start and Duration in s."""
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError):
        raise ConversionError("corrupt", "The events are not XML.", "events") from None
    for event in root.iter("ScoredEvent"):
        start, duration = decimal(event.findtext("Start", "")), decimal(event.findtext("Duration", ""))
        if start is None:
            raise ConversionError("corrupt", "A scored event has no start.", "events")
        text = event.findtext("EventConcept") or event.findtext("Name")
        yield FoundAnnotation(float(start), None if duration is None else float(duration), text)


def _chbmit(text: str, record: str) -> Iterator[FoundAnnotation]:
    """Seizures of one file in a CHB-MIT summary ("File Name: chb01_03.edf", "Seizure 1 Start Time: 2996 seconds")."""
    for block in re.split(r"(?m)^File Name: *", text)[1:]:
        if block.split(None, 1)[:1] != [record]:
            continue
        begin: float | None = None
        for kind, seconds in _SEIZURE.findall(block):
            if kind.lower() == "start":
                begin = float(seconds)
            elif begin is not None:
                yield FoundAnnotation(begin, float(seconds) - begin, "seizure")
                begin = None
        if begin is not None:
            raise ConversionError("corrupt", "A seizure has no end.", "events")
