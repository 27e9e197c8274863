"""The judge "raw bytes" for WFDB records: a plain decoder written from header(5) and signal(5), and nothing else.

FLAC streams are decoded by soundfile, all else by shifting bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from judging.model import Reading, Signal, keyed, time_line
from judging.raw_annotations import events

SENTINEL = {16: -(2**15), 61: -(2**15), 160: -(2**15), 516: -(2**15), 80: -(2**7), 508: -(2**7), 212: -(2**11)}
SENTINEL |= {310: -(2**9), 311: -(2**9), 24: -(2**23), 524: -(2**23), 32: -(2**31)}
"""signal(5): the least value of a format stands for a sample that is missing; format 8 has none."""
FLAC_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"([-+.\deE]+)(?:\((-?\d+)\))?(?:/(\S+))?")


@dataclass(frozen=True, slots=True)
class Line:
    """One signal line, with the defaults of header(5)."""

    file: str
    form: int
    width: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    initial: int
    label: str


@dataclass(frozen=True, slots=True)
class Header:
    """A header: signals, or segments (name, frames). ``n_frames`` is 0 where the length is not given."""

    rate_hz: Fraction
    n_frames: int
    signals: list[Line]
    segments: list[tuple[str, int]]


def header(path: Path) -> Header:
    """header(5): the record line, then a line for each signal or each segment."""
    lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines()]
    first, *rest = [line for line in lines if line and not line.startswith("#")]
    name, count, *more = first.split()
    rate_hz = Fraction(re.split(r"[/(]", more[0])[0]) if more else Fraction(250)
    n_frames = int(more[1]) if len(more) > 1 else 0
    if "/" in name:
        pairs = [line.split()[:2] for line in rest[: int(name.split("/")[1])]]
        return Header(rate_hz, n_frames, [], [(one, int(length)) for one, length in pairs])
    return Header(rate_hz, n_frames, [_line(line) for line in rest[: int(count)]], [])


def _line(text: str) -> Line:
    parts = text.split(None, 8)
    form = _FORMAT.fullmatch(parts[1])
    gain = _GAIN.fullmatch(parts[2]) if len(parts) > 2 else None
    assert form is not None
    zero = int(parts[4]) if len(parts) > 4 else 0
    return Line(
        file=parts[0],
        form=int(form[1]),
        width=int(form[2] or 1),
        skew=int(form[3] or 0),
        offset=int(form[4] or 0),
        gain=(float(gain[1]) if gain else 0.0) or 200.0,
        baseline=int(gain[2]) if gain and gain[2] else zero,
        unit=(gain and gain[3]) or "mV",
        initial=int(parts[5]) if len(parts) > 5 else zero,
        label=parts[8] if len(parts) > 8 else "",
    )


def read(path: Path, annotators: tuple[str, ...] = ()) -> Reading:
    """A record by its header's path, with its segments laid on its time line, and its annotation files."""
    record = header(path)
    spans: list[tuple[int, int]] = []
    found: dict[tuple[str, int, int], list[tuple[int, Line, np.ndarray]]] = {}
    start = 0
    order: list[str] = []
    for name, length in record.segments or [(path.stem, record.n_frames)]:
        own = header(path.with_name(f"{name}.hea")) if name != "~" else None
        if own is not None and length == 0 and record.segments:
            order = [line.label for line in own.signals]  # the layout segment
        elif own is not None:
            seen: dict[tuple[str, int], int] = {}
            lines = samples(path.parent, own, length)
            for line, values in lines:
                number = seen.setdefault((line.label, line.width), 0)
                seen[line.label, line.width] += 1
                found.setdefault((line.label, line.width, number), []).append((start, line, values))
            length = length or (len(lines[0][1]) // lines[0][0].width if lines else 0)
            spans.append((start, length))
        start += length
    keys = sorted(found, key=lambda key: order.index(key[0])) if order else list(found)
    signals = [_signal(found[key], record.rate_hz, start) for key in keys]
    marks = tuple(sorted(e for suffix in annotators for e in events(path, suffix, record.rate_hz)))
    return Reading(keyed(signals), marks if annotators else None, None, _stretches(spans, record.rate_hz))


def _signal(pieces: list[tuple[int, Line, np.ndarray]], rate_hz: Fraction, n_frames: int) -> Signal:
    first = pieces[0][1]
    n = n_frames * first.width
    physical = np.full(n, np.nan)
    for start, line, values in pieces:
        at = slice(start * line.width, start * line.width + len(values))
        physical[at] = (values - line.baseline) / line.gain
        if line.form in SENTINEL:
            physical[at][values == SENTINEL[line.form]] = np.nan
    digital, present = time_line([(start * line.width, values) for start, line, values in pieces], n)
    step = 1 / abs(first.gain)
    missing = SENTINEL.get(first.form)
    return Signal(first.label, rate_hz * first.width, digital, physical, first.unit, present, step, missing)


def _stretches(spans: list[tuple[int, int]], rate_hz: Fraction) -> tuple[tuple[float, float], ...]:
    joined: list[list[int]] = []
    for start, length in spans:
        if joined and sum(joined[-1]) == start:
            joined[-1][1] += length
        else:
            joined.append([start, length])
    return tuple((float(start / rate_hz), float(length / rate_hz)) for start, length in joined)


def samples(folder: Path, record: Header, n_frames: int) -> list[tuple[Line, np.ndarray]]:
    """The samples of each signal of an ordinary record; ``n_frames`` 0: as many as the first file holds."""
    groups: dict[str, list[Line]] = {}
    for line in record.signals:
        groups.setdefault(line.file, []).append(line)
    found = []
    for name, lines in groups.items():
        frame = sum(line.width for line in lines)
        if lines[0].form >= 500:
            columns = _flac(folder / name, [line.width for line in lines])
        else:
            raw = np.frombuffer((folder / name).read_bytes(), np.uint8)[lines[0].offset :]
            values = decode(lines[0].form, raw)
            values = values[: len(values) // frame * frame].reshape(-1, frame)
            ends = np.cumsum([line.width for line in lines])
            columns = [values[:, end - line.width : end].ravel() for line, end in zip(lines, ends, strict=True)]
        n_frames = n_frames or len(columns[0]) // lines[0].width
        found += [(line, _placed(line, column, n_frames)) for line, column in zip(lines, columns, strict=True)]
    return found


def _placed(line: Line, column: np.ndarray, n_frames: int) -> np.ndarray:
    """A signal's samples from time 0 on: differences summed, and what its skew puts before it left out."""
    if line.form == 8:
        column = line.initial + np.cumsum(column)
    column = column[: n_frames * line.width]
    if line.skew:
        column = np.concatenate([column[line.skew :], np.full(line.skew, SENTINEL[line.form])])
    return column


def _flac(path: Path, widths: list[int]) -> list[np.ndarray]:
    sound = soundfile.SoundFile(path)
    with sound:
        # soundfile fills 32 bits from above.
        values = sound.read(dtype="int32", always_2d=True) >> (32 - FLAC_BITS[sound.subtype])
    assert values.shape[1] == len(widths)
    return list(values.T.astype(np.int64))


def decode(form: int, raw: np.ndarray) -> np.ndarray:
    """signal(5): all samples of a file, int64, in the order of the file."""
    b = raw.astype(np.int64)
    if form == 8:
        return signed(b, 8)
    if form == 80:
        return b - 128
    if form in (16, 61, 160):
        pairs = b[: len(b) // 2 * 2].reshape(-1, 2)
        low, high = (pairs[:, 1], pairs[:, 0]) if form == 61 else (pairs[:, 0], pairs[:, 1])
        words = low | high << 8
        return words - 32768 if form == 160 else signed(words, 16)
    if form in (24, 32):
        n = form // 8
        parts = b[: len(b) // n * n].reshape(-1, n)
        return signed(np.asarray(sum(parts[:, i] << 8 * i for i in range(n))), form)
    # The packed formats: what is missing of the last unit holds no sample that is asked for.
    if form == 212:
        units = np.pad(b, (0, -len(b) % 3)).reshape(-1, 3)
        pair = [units[:, 0] | (units[:, 1] & 0x0F) << 8, units[:, 2] | (units[:, 1] & 0xF0) << 4]
        return signed(np.stack(pair, 1).ravel()[: len(b) * 2 // 3], 12)
    units = np.pad(b, (0, -len(b) % 4)).reshape(-1, 4)
    first, second = units[:, 0] | units[:, 1] << 8, units[:, 2] | units[:, 3] << 8
    if form == 310:
        # Bits 1 to 10 of each word, and a third sample of both words' upper five bits.
        three = [(first >> 1) & 0x3FF, (second >> 1) & 0x3FF, first >> 11 | (second >> 11) << 5]
    elif form == 311:
        both = first | second << 16
        three = [both & 0x3FF, (both >> 10) & 0x3FF, (both >> 20) & 0x3FF]
    else:
        raise ValueError(f"format {form}")
    return signed(np.stack(three, 1).ravel(), 10)


def signed(values: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement of ``bits`` bits."""
    return values - ((values >> (bits - 1) & 1) << bits)
