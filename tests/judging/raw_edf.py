"""The judge "raw bytes" for EDF and BDF: a plain decoder written from the specifications, and nothing else.

edfplus.info/specs/edf.html and edfplus.html; biosemi.com/faq/file_format.htm and trigger_signals.htm.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from judging.model import Event, Reading, Signal, keyed, time_line

# edf.html: the header's fields of all signals, one field after the other, with their widths in bytes.
FIELDS = {"label": 16, "transducer": 80, "unit": 8, "pmin": 8, "pmax": 8, "dmin": 8, "dmax": 8}
FIELDS |= {"prefilter": 80, "samples": 8, "reserved": 32}
Run = tuple[float, int]
"""Onset in s and number of records of a gap-free run."""
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True, slots=True)
class Field:
    """The texts of one signal's header."""

    texts: dict[str, str]

    @property
    def samples(self) -> int:
        return int(self.texts["samples"])

    @property
    def is_annotations(self) -> bool:
        return self.texts["label"] in ANNOTATIONS

    @property
    def step(self) -> float:
        """Physical units of one digital unit."""
        pmin, pmax, dmin, dmax = (float(self.texts[name]) for name in ("pmin", "pmax", "dmin", "dmax"))
        return (pmax - pmin) / (dmax - dmin)

    def physical(self, digital: np.ndarray) -> np.ndarray:
        """edf.html: the line through (dmin, pmin) and (dmax, pmax)."""
        return float(self.texts["pmin"]) + (digital - float(self.texts["dmin"])) * self.step


def fields(data: bytes) -> list[Field]:
    """The headers of all signals."""
    count = int(data[252:256])
    columns: dict[str, list[str]] = {}
    at = 256
    for name, width in FIELDS.items():
        columns[name] = [data[at + i * width : at + (i + 1) * width].decode("latin-1").strip() for i in range(count)]
        at += count * width
    return [Field({name: column[i] for name, column in columns.items()}) for i in range(count)]


def read(path: Path) -> Reading:
    """Every sample and every annotation of a file."""
    data = path.read_bytes()
    bdf = data[0] == 0xFF
    width = 3 if bdf else 2
    signals = fields(data)
    record_bytes = width * sum(signal.samples for signal in signals)
    body = np.frombuffer(data, np.uint8)[256 * (1 + len(signals)) :]
    declared = int(data[236:244])
    n_records = len(body) // record_bytes if declared == -1 else min(declared, len(body) // record_bytes)
    records = body[: n_records * record_bytes].reshape(n_records, record_bytes)
    record_s = Fraction(data[244:252].decode().strip())
    ends = np.cumsum([width * signal.samples for signal in signals])
    raw = [records[:, end - width * s.samples : end] for s, end in zip(signals, ends, strict=True)]
    texts = [part for part, signal in zip(raw, signals, strict=True) if signal.is_annotations]
    onsets, events = annotations(texts, n_records, float(record_s))
    plain = [(signal, part) for signal, part in zip(signals, raw, strict=True) if not signal.is_annotations]
    runs = _runs(onsets, float(record_s), max((signal.samples for signal, _ in plain), default=1))
    found = [_signal(signal, integers(part, width), record_s, runs) for signal, part in plain]
    triggers = [
        trigger
        for signal in found
        if bdf and signal.label == "Status" and signal.digital is not None
        for trigger in status_triggers(signal.digital, float(signal.rate_hz), onsets[0])
    ]
    segments = tuple((onset_s, n * float(record_s)) for onset_s, n in runs) if found else None
    return Reading(keyed(found), tuple(events), tuple(triggers) if bdf else None, segments)


def integers(raw: np.ndarray, width: int) -> np.ndarray:
    """Little-endian two's complement numbers of 2 or 3 bytes, int64, from uint8 (record, byte)."""
    parts = raw.reshape(-1, width).astype(np.int64)
    values = sum(parts[:, i] << (8 * i) for i in range(width))
    return np.asarray(values - ((parts[:, -1] >> 7) << (8 * width)))


def annotations(texts: list[np.ndarray], n_records: int, record_s: float) -> tuple[list[float], list[Event]]:
    """Onset of each data record in s, and all events, from the bytes of the annotation signals (edfplus.html 2.2)."""
    onsets, events = [record * record_s for record in range(n_records)], []
    for record in range(n_records):
        for index, signal in enumerate(texts):
            lists = signal[record].tobytes().split(b"\x14\0")
            for number, one in enumerate(part.strip(b"\0") for part in lists):
                if not one:
                    continue
                stamp, *words = one.split(b"\x14")
                onset, _, duration = stamp.partition(b"\x15")
                if index == number == 0:
                    onsets[record] = float(onset)
                events += [
                    Event(float(onset), word.decode().strip(), float(duration) if duration else -1.0)
                    for word in words
                    if word.strip()
                ]
    return onsets, events


def status_triggers(status: np.ndarray, rate_hz: float, first_s: float) -> list[tuple[float, int]]:
    """When the lower 16 bits of a BioSemi Status channel change to another code than 0, and to which."""
    codes = status & 0xFFFF
    at = np.flatnonzero(np.diff(codes, prepend=0))
    return [(first_s + int(i) / rate_hz, int(codes[i])) for i in at if codes[i]]


def _signal(field: Field, digital: np.ndarray, record_s: Fraction, runs: list[Run]) -> Signal:
    """The signal on the time line of its runs of records."""
    rate_hz = field.samples / record_s
    pieces, record = [], 0
    for onset_s, n_records in runs:
        start = round((onset_s - runs[0][0]) * float(rate_hz))
        pieces.append((start, digital[record * field.samples : (record + n_records) * field.samples]))
        record += n_records
    line, present = time_line(pieces, pieces[-1][0] + len(pieces[-1][1]))
    physical = field.physical(line)
    if present is not None:
        physical[~present] = np.nan
    return Signal(field.texts["label"], rate_hz, line, physical, field.texts["unit"], present, abs(field.step))


def _runs(onsets: list[float], record_s: float, samples: int) -> list[Run]:
    """Runs of records each of which begins where the one before ends, to one sample of the fastest signal."""
    runs: list[Run] = []
    for before_s, onset_s in zip([-np.inf, *onsets], onsets, strict=False):
        if abs(onset_s - before_s - record_s) <= record_s / samples:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((onset_s, 1))
    return runs
