"""WFDB headers, signal files and annotation files written byte by byte, for tests (header(5), signal(5),
annot(5)): nothing here comes from the library under test."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}


def noise(n: int, bits: int = 12, seed: int = 1) -> np.ndarray:
    """Any samples but the least, which is missing data."""
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), n)


def _ten_bit_words(values: list[int]) -> Iterable[tuple[int, int, int]]:
    padded = [value & 0x3FF for value in values] + [0] * (-len(values) % 3)
    return zip(padded[::3], padded[1::3], padded[2::3], strict=True)


def pack(number: int, samples: Sequence[int]) -> bytes:
    """Samples in the order of the file to bytes; the last packed unit is padded."""
    values = [int(value) for value in samples]
    if number in (8, 16, 24, 32):
        return b"".join(value.to_bytes(number // 8, "little", signed=True) for value in values)
    if number == 61:
        return b"".join(value.to_bytes(2, "big", signed=True) for value in values)
    if number == 80:
        return bytes(value + 128 for value in values)
    if number == 160:
        return b"".join((value + 32768).to_bytes(2, "little") for value in values)
    if number == 212:
        padded = [value & 0xFFF for value in values] + [0] * (len(values) % 2)
        units = zip(padded[::2], padded[1::2], strict=True)
        return b"".join(bytes((a & 0xFF, a >> 8 | b >> 8 << 4, b & 0xFF)) for a, b in units)
    if number == 310:
        words = (((a << 1 | (c & 0x1F) << 11), (b << 1 | (c >> 5) << 11)) for a, b, c in _ten_bit_words(values))
        return b"".join(struct.pack("<HH", *pair) for pair in words)
    if number == 311:
        return b"".join(struct.pack("<I", a | b << 10 | c << 20) for a, b, c in _ten_bit_words(values))
    raise ValueError(number)


@dataclass
class Signal:
    """One signal: its samples, and the texts of its specification line."""

    samples: np.ndarray
    number: int = 16
    per_frame: int = 1
    file: str = "rec.dat"
    gain: str = "200/mV"
    resolution: int = 12
    zero: int = 0
    name: str = "II"
    skew: int = 0
    """In samples; ``samples`` are those in the file, the first ``skew`` before the record's start."""
    form: str | None = None
    """The format field, where it is not just format and samples per frame."""
    tail: str | None = None
    """What follows the gain, where it is not resolution, zero, initial value, checksum, size and name."""

    def line(self) -> str:
        width = f"x{self.per_frame}" if self.per_frame > 1 else ""
        form = self.form or f"{self.number}{width}" + (f":{self.skew}" if self.skew else "")
        checksum = (int(self.samples.sum()) + 32768) % 65536 - 32768
        first = int(self.samples[0]) if len(self.samples) else 0
        tail = f" {self.resolution} {self.zero} {first} {checksum} 0 {self.name}" if self.tail is None else self.tail
        return f"{self.file} {form} {self.gain}{tail}".rstrip()


@dataclass
class Record:
    """One record of one segment."""

    signals: list[Signal]
    name: str = "rec"
    rate: str = "250"
    length: str | None = None
    start: str = ""
    comments: Sequence[str] = field(default_factory=tuple)
    prolog: bytes = b""

    def header(self) -> bytes:
        n_frames = len(self.signals[0].samples) // self.signals[0].per_frame
        length = str(n_frames) if self.length is None else self.length
        record = f"{self.name} {len(self.signals)} {self.rate} {length} {self.start}".rstrip()
        lines = ["# a comment before", record, *(s.line() for s in self.signals), *(f"#{c}" for c in self.comments)]
        return ("\n".join(lines) + "\n").encode()

    def write(self, folder: Path) -> None:
        (folder / f"{self.name}.hea").write_bytes(self.header())
        for file in dict.fromkeys(signal.file for signal in self.signals):
            members = [signal for signal in self.signals if signal.file == file]
            parts = []
            for signal in members:
                values = signal.samples.astype(np.int64)
                if signal.number == 8:
                    values = np.diff(values, prepend=values[:1])
                parts.append(values.reshape(-1, signal.per_frame))
            (folder / file).write_bytes(self.prolog + pack(members[0].number, np.hstack(parts).ravel().tolist()))


NULL = "~ 0 200/mV 12 0 0 0 0 {}"
"""A signal without samples, by its name."""


@dataclass
class MultiSegment:
    """One record of several segments: records to be written, or a number of frames for a gap. ``layout`` are the
    names of the layout segment, where there is one; ``lines`` replace the segment lines that follow from these."""

    segments: list[Record | int]
    name: str = "whole"
    rate: str = "250"
    layout: Sequence[str] | None = None
    signals: int = 2
    start: str = ""
    length: str | None = None
    lines: Sequence[str] | None = None
    comments: Sequence[str] = field(default_factory=tuple)

    def lengths(self) -> list[int]:
        counts = [
            s if isinstance(s, int) else len(s.signals[0].samples) // s.signals[0].per_frame for s in self.segments
        ]
        return [0, *counts] if self.layout is not None else counts

    def header(self) -> bytes:
        names = ["~" if isinstance(segment, int) else segment.name for segment in self.segments]
        names = [f"{self.name}_layout", *names] if self.layout is not None else names
        lines = self.lines
        if lines is None:
            lines = [f"{name} {length}" for name, length in zip(names, self.lengths(), strict=True)]
        length = str(sum(self.lengths())) if self.length is None else self.length
        record = f"{self.name}/{len(lines)} {self.signals} {self.rate} {length} {self.start}".rstrip()
        return ("\n".join([record, *lines, *(f"#{c}" for c in self.comments)]) + "\n").encode()

    def write(self, folder: Path) -> None:
        (folder / f"{self.name}.hea").write_bytes(self.header())
        if self.layout is not None:
            lines = [f"{self.name}_layout {len(self.layout)} {self.rate} 0", *map(NULL.format, self.layout)]
            (folder / f"{self.name}_layout.hea").write_text("\n".join(lines) + "\n")
        for segment in self.segments:
            if isinstance(segment, Record):
                segment.write(folder)


def word(kind: int, value: int) -> bytes:
    """One 16-bit annotation word: type in the upper 6 bits."""
    return struct.pack("<H", kind << 10 | value)


def skip(interval: int) -> bytes:
    """A long interval: the high 16 bits first."""
    raw = struct.pack("<i", interval)
    return word(59, 0) + raw[2:] + raw[:2]


def aux(text: bytes) -> bytes:
    """A text, padded to an even length."""
    return word(63, len(text)) + text + b"\0" * (len(text) % 2)


END = b"\0\0"
