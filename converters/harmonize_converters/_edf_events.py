"""Events in EDF and BDF files: annotation signals (FIDELITY S03) and BioSemi triggers (S07)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import BinaryIO

import numpy as np

from harmonize_converters._edf_layout import Layout
from harmonize_converters._edf_onsets import RecordRun
from harmonize_converters._edf_read import read_onset, read_rows
from harmonize_converters._edf_tal import parse_tals
from harmonize_converters._fields import decode_text, is_utf8
from harmonize_converters.contract import ConversionError, FoundAnnotation

STATUS = "Status"


def annotation_events(handle: BinaryIO, layout: Layout) -> list[FoundAnnotation]:
    """All texts of all annotation signals, by onset from the start of the file.

    A text that is no UTF-8 is read as Latin-1 and flagged. A list that cannot be read gives an event
    "unreadable" where its data record starts: what was marked is lost, the samples are not.
    """
    events: list[tuple[Fraction, FoundAnnotation]] = []
    for offset, length in layout.annotations:
        for first, rows in read_rows(handle, layout, offset, length, 0, layout.n_records):
            for number in np.flatnonzero(_says_something(rows)).tolist():
                start_s = partial(_start_s, handle, layout, first + number)
                for part in filter(None, rows[number].tobytes().split(b"\0")):
                    events += _events(part, start_s)
    events.sort(key=lambda event: event[0])
    return [event for _, event in events]


def _says_something(rows: np.ndarray) -> np.ndarray:
    """Whether each row, uint8 (record, byte), holds more than one list that only keeps time."""
    held = rows != 0
    ends = (rows[:, :-1] == 0x14) & (rows[:, 1:] == 0x14)
    end = ends.argmax(axis=1) + 2
    last = rows.shape[1] - held[:, ::-1].argmax(axis=1)
    n_held = held.sum(axis=1)
    silent: np.ndarray = (n_held == 0) | (ends.any(axis=1) & (last == end) & (n_held == end))
    return ~silent


def _start_s(handle: BinaryIO, layout: Layout, record: int) -> float:
    """When a record starts: by its time-keeping list, else as in a file without gaps."""
    onset_s = read_onset(handle, layout, record)
    return record * float(layout.header.record_s) if math.isnan(onset_s) else onset_s


def _events(part: bytes, start_s: Callable[[], float]) -> Iterator[tuple[Fraction, FoundAnnotation]]:
    """The texts of one list, with exact onsets to sort by; ``start_s`` tells when its record starts."""
    if part.endswith(b"\x14\x14") and part.count(b"\x14") == 2:  # keeps time only
        return
    try:
        (tal,) = parse_tals(part)
    except ConversionError:
        flags: tuple[str, ...] = ("annotation_unreadable",)
        at = start_s()
        yield Fraction(at), FoundAnnotation(at, None, None, "unreadable", flags=flags)
        return
    duration_s = None if tal.duration_s is None else float(tal.duration_s)
    for words in tal.texts:
        if text := decode_text(words).strip():
            flags = () if is_utf8(words) else ("annotation_not_utf8",)
            yield tal.onset_s, FoundAnnotation(float(tal.onset_s), duration_s, text, flags=flags)


def trigger_events(handle: BinaryIO, layout: Layout, runs: Sequence[RecordRun]) -> list[FoundAnnotation]:
    """An event where the trigger code of a BDF file's Status channel changes to another than 0; ``number`` is
    the code. The first sample of a run counts as a change: its code began in the gap or before the file."""
    events: list[FoundAnnotation] = []
    before_stream = 0
    for index, members in enumerate(layout.streams):
        for place, signal in enumerate(members):
            if layout.header.signals[signal].label == STATUS:
                events += _triggers(handle, layout, runs, signal, before_stream + place, layout.samples(index))
        before_stream += len(members)
    return events


def _triggers(
    handle: BinaryIO, layout: Layout, runs: Sequence[RecordRun], signal: int, channel: int, samples: int
) -> Iterator[FoundAnnotation]:
    rate_hz = float(samples / layout.header.record_s)
    width = layout.header.sample_bytes
    offset, length = layout.offset(signal) * width, samples * width
    for run in runs:
        before = 0
        for first, rows in read_rows(handle, layout, offset, length, run.first, run.count):
            # Bits 0 to 15 are the trigger inputs, those above tell of the system: new epoch, speed, CMS in range,
            # low battery (biosemi.com/faq/trigger_signals.htm).
            low = rows.reshape(len(rows), samples, width)[..., :2].astype(np.int64)
            codes = (low[..., 0] | low[..., 1] << 8).ravel()
            changes = np.flatnonzero(np.diff(codes, prepend=before))
            for at in changes[codes[changes] != 0].tolist():
                onset_s = run.onset_s + ((first - run.first) * samples + at) / rate_hz
                yield FoundAnnotation(onset_s, None, None, "trigger", channel, number=int(codes[at]))
            before = int(codes[-1])
