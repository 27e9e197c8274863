"""Events in EDF and BDF files: annotation signals (FIDELITY S03) and BioSemi triggers (S07)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from harmonize_converters._edf_layout import Layout
from harmonize_converters._edf_onsets import RecordRun
from harmonize_converters._edf_read import read_signal
from harmonize_converters._edf_tal import first_onset, parse_tals
from harmonize_converters._fields import decode_text, is_utf8
from harmonize_converters._open import read_at
from harmonize_converters.contract import ConversionError, FoundAnnotation

STATUS = "Status"
TRIGGER_BITS = 0xFFFF
"""Bits 0 to 15 of the Status channel are trigger inputs, those above tell of the system: new epoch, speed,
CMS in range, low battery (biosemi.com/faq/trigger_signals.htm)."""


def annotation_events(handle: BinaryIO, layout: Layout) -> list[FoundAnnotation]:
    """All texts of all annotation signals, by onset from the start of the file.

    A text that is no UTF-8 is read as Latin-1 and flagged. A list that cannot be read gives an event
    "unreadable" where its data record starts: what was marked is lost, the samples are not.
    """
    events: list[tuple[Fraction, FoundAnnotation]] = []
    for record in range(layout.n_records):
        start_s = record * float(layout.header.record_s)
        for index, raw in enumerate(_signals(handle, layout, record)):
            if index == 0:
                start_s = start_s if (onset_s := first_onset(raw)) is None else onset_s
            for part in filter(None, raw.rstrip(b"\0").split(b"\0")):
                if not (part.endswith(b"\x14\x14") and part.count(b"\x14") == 2):  # most lists only keep time
                    events += _events(part, start_s)
    events.sort(key=lambda event: event[0])
    return [event for _, event in events]


def _events(part: bytes, start_s: float) -> Iterator[tuple[Fraction, FoundAnnotation]]:
    """The texts of one list, with exact onsets to sort by."""
    try:
        (tal,) = parse_tals(part)
    except ConversionError:
        flags: tuple[str, ...] = ("annotation_unreadable",)
        yield Fraction(start_s), FoundAnnotation(start_s, None, None, "unreadable", flags=flags)
        return
    duration_s = None if tal.duration_s is None else float(tal.duration_s)
    for words in tal.texts:
        if text := decode_text(words).strip():
            flags = () if is_utf8(words) else ("annotation_not_utf8",)
            yield tal.onset_s, FoundAnnotation(float(tal.onset_s), duration_s, text, flags=flags)


def _signals(handle: BinaryIO, layout: Layout, record: int) -> Iterator[bytes]:
    start = layout.header.data_start + record * layout.header.record_bytes
    return (read_at(handle, start + offset, n_bytes) for offset, n_bytes in layout.annotations)


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
    for run in runs:
        before = 0
        for record in range(run.first, run.first + run.count):
            codes = (read_signal(handle, layout, signal, record, 0, samples) >> 8) & TRIGGER_BITS
            changes = np.flatnonzero(np.diff(codes, prepend=before))
            for at in changes[codes[changes] != 0].tolist():
                onset_s = run.onset_s + ((record - run.first) * samples + at) / rate_hz
                yield FoundAnnotation(onset_s, None, None, "trigger", channel, number=int(codes[at]))
            before = int(codes[-1])
