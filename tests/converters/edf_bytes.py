"""EDF and BDF files written byte by byte, for tests: nothing here comes from the library under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Signal:
    """One signal: its header fields as texts and its samples, or the bytes of its TALs in each record."""

    label: str = "EEG Fpz"
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    per_record: int = 8
    unit: str | bytes = "uV"
    physical: tuple[str, str] = ("-3276.8", "3276.7")
    digital: tuple[str, str] = ("-32768", "32767")
    prefilter: str = ""
    tals: Sequence[bytes] | None = None
    """One text for each data record; ``samples`` is then unused."""


def timekeeping(n_records: int, record_s: float = 1.0, first_s: float = 0.0) -> list[bytes]:
    """The list that says when each data record starts."""
    return [b"%+g\x14\x14\0" % (first_s + i * record_s) for i in range(n_records)]


def annotations(tals: Sequence[bytes], per_record: int = 60, label: str = "EDF Annotations") -> Signal:
    """An annotation signal."""
    return Signal(label, per_record=per_record, unit="", physical=("-1", "1"), tals=tals)


def _text(value: str | bytes, width: int) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("latin-1")
    assert len(raw) <= width, value
    return raw.ljust(width)


def edf_bytes(
    signals: Sequence[Signal],
    *,
    n_records: int,
    record_s: str = "1",
    bdf: bool = False,
    reserved: str = "",
    patient: str = "X X X X",
    recording: str = "Startdate X X X X",
    date: str = "02.03.04",
    time: str = "05.06.07",
    declared_records: str | None = None,
) -> bytes:
    """A whole file."""
    count = len(signals)
    header = [
        b"\xffBIOSEMI" if bdf else _text("0", 8),
        _text(patient, 80),
        _text(recording, 80),
        _text(date, 8),
        _text(time, 8),
        _text(str(256 * (count + 1)), 8),
        _text(reserved, 44),
        _text(str(n_records) if declared_records is None else declared_records, 8),
        _text(record_s, 8),
        _text(str(count), 4),
    ]
    header += [_text(s.label, 16) for s in signals]
    header += [_text("" if s.tals is not None else "electrode", 80) for s in signals]
    header += [_text(s.unit, 8) for s in signals]
    header += [_text(s.physical[0], 8) for s in signals]
    header += [_text(s.physical[1], 8) for s in signals]
    header += [_text(s.digital[0], 8) for s in signals]
    header += [_text(s.digital[1], 8) for s in signals]
    header += [_text(s.prefilter, 80) for s in signals]
    header += [_text(str(s.per_record), 8) for s in signals]
    header += [_text("", 32) for s in signals]
    width = 3 if bdf else 2
    data = []
    for record in range(n_records):
        for signal in signals:
            if signal.tals is not None:
                data.append(signal.tals[record].ljust(signal.per_record * width, b"\0"))
                assert len(data[-1]) == signal.per_record * width
            else:
                part = signal.samples[record * signal.per_record : (record + 1) * signal.per_record]
                assert len(part) == signal.per_record
                data += [int(value).to_bytes(width, "little", signed=True) for value in part]
    return b"".join(header) + b"".join(data)
