"""WFDB headers, signal files and annotation files written byte by byte, for tests (header(5), signal(5),
annot(5)): nothing here comes from the library under test."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}


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
    form: str | None = None
    """The format field, where it is not just format and samples per frame."""
    tail: str | None = None
    """What follows the gain, where it is not resolution, zero, initial value, checksum, size and name."""

    def line(self) -> str:
        form = self.form or (f"{self.number}x{self.per_frame}" if self.per_frame > 1 else f"{self.number}")
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
