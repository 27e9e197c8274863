"""Empatica E4 sessions as E4 connect exports them: a folder of CSV files, one for each sensor.

First row: when it starts, s since 1970 UTC; second row: its rate in Hz; then samples (support.empatica.com, "Data
export and formatting from E4 connect"; info.txt of each session). ACC counts 1/64 g, EDA is in µS, TEMP in °C, HR in
beats a minute over spans of 10 s (computed, and starting 10 s late), BVP has no unit. IBI.csv: s since its start, and
the s from the beat before; tags.csv: the times at which the button was pressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np

from harmonize_converters._fields import decimal
from harmonize_converters._open import opened, read_at
from harmonize_converters.channels import modality_of, stream_flags, unit_factor
from harmonize_converters.contract import (
    Block,
    ConversionError,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    Identity,
    SourceFiles,
)
from harmonize_schemas import Acquisition, Channel, Segment, SignalStream

FIRST, LAST = 946_684_800, 4_102_444_800  # 2000 and 2100: a number that is no such time is no start
MAX_RATE = 1024
MAX_EVENT_BYTES = 1 << 26
SCAN_BYTES = 1 << 18
_PLAIN = re.compile(rb"[-+0-9.eE, \t\r\n]*")


@dataclass(frozen=True, slots=True)
class _Sensor:
    """Columns of a file, as channels; value in ``unit`` = number * ``scale``."""

    names: tuple[str, ...]
    type: str
    unit: str
    scale: float = 1.0
    dtype: str = "float64"


_SENSORS = {
    "ACC.csv": _Sensor(("Acceleration X", "Acceleration Y", "Acceleration Z"), "acceleration", "g", 1 / 64, "int16"),
    "BVP.csv": _Sensor(("PPG",), "ppg", "a.u."),
    "EDA.csv": _Sensor(("EDA",), "eda", "uS"),
    "TEMP.csv": _Sensor(("Temp",), "temperature", "degC"),
    "HR.csv": _Sensor(("HR",), "heart_rate", "1/min"),
}
IBI, TAGS = "IBI.csv", "tags.csv"
_NAMES = (*_SENSORS, IBI, TAGS)


@dataclass(frozen=True, slots=True)
class _Table:
    """A sensor's file: start (s since 1970), rate, where its samples start, how many whole rows there are."""

    start: Fraction
    rate_hz: Fraction
    offset: int
    n_rows: int
    whole: bool


class EmpaticaConverter:
    """One session folder is one recording; each sensor is a stream at its own rate and with its own start."""

    name = "empatica"
    version = "1"
    suffixes: frozenset[str] = frozenset()  # .csv promises nothing

    def recognize(self, head: bytes, name: str) -> bool:
        """One of the seven names, and rows that can be of it."""
        rows = [row.split(b",") for row in head.split(b"\n", 3)[:3]]
        if name in _SENSORS:
            width = len(_SENSORS[name].names)
            times, rates = [*rows, [], []][:2]
            return len(times) == len(rates) == width and _time(times[0]) is not None and _rate(rates[0]) is not None
        if name == IBI:
            return len(rows[0]) == 2 and _time(rows[0][0]) is not None and rows[0][1].strip() == b"IBI"
        return name == TAGS and len(rows[0]) == 1 and _time(rows[0][0]) is not None

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """The recognised files of a folder are one source."""
        folders: dict[str, list[FoundFile]] = {}
        for file in files:
            folders.setdefault(PurePosixPath(file.key).parent.as_posix(), []).append(file)
        sources = []
        for session in folders.values():
            session.sort(key=lambda file: _NAMES.index(_name(file)))
            roles = tuple(_name(file).removesuffix(".csv").lower() for file in session)
            sources.append(SourceFiles(self.name, session[0].key, tuple(session), roles))
        return sources

    def describe(self, source: SourceFiles) -> Described:
        """The first two rows of each file and the number of those that follow."""
        tables = _tables(source)
        if not tables:
            raise ConversionError("unsupported_annotation_only")
        first = min(table.start for _, table in tables)
        streams = tuple(_stream(_name(file), table, first) for file, table in tables)
        flags = stream_flags(streams)
        if not all(table.whole for _, table in tables):
            flags.add("trailing_bytes")
        description = Description(
            format="Empatica E4",
            modality=modality_of(channel.type for stream in streams for channel in stream.channels),
            streams=streams,
            acquisition=Acquisition(device_maker="Empatica", device_model="E4"),
            duration_s=max(stream.segments[0].onset_s + stream.duration_s for stream in streams),
            flags=tuple(sorted(flags)),
            libraries={"numpy": np.__version__},
        )
        start = datetime.fromtimestamp(float(first), UTC).replace(tzinfo=None)
        return Described(description, Identity(start=start))

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some rows at a time, sensor by sensor."""
        tables = _tables(source)
        if [table.n_rows for _, table in tables] != [stream.n_samples for stream in description.streams]:
            raise ConversionError("source_changed")
        for index, (file, table) in enumerate(tables):
            start = 0
            for samples in _samples(file, table, max(256, min(block_bytes // 2, SCAN_BYTES))):
                yield Block(index, start, samples)
                start += samples.shape[1]
            if start != table.n_rows:
                raise ConversionError("source_changed")

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Intervals between beats, from the beat before, and presses of the button."""
        first = min(table.start for _, table in _tables(source))
        found: list[FoundAnnotation] = []
        for file in source.files:
            if _name(file) == IBI:
                found.extend(_beats(file, first))
            elif _name(file) == TAGS:
                times = [_time(row) for row in _rows(file)]
                if None in times:
                    raise ConversionError("corrupt", "A time of a tag is none.", "tags")
                found.extend(FoundAnnotation(float(t - first), None, None, "button_press") for t in times if t)
        yield from sorted(found, key=lambda one: one.onset_s)


def _name(file: FoundFile) -> str:
    return PurePosixPath(file.key).name


def _tables(source: SourceFiles) -> list[tuple[FoundFile, _Table]]:
    return [(file, _table(file)) for file in source.files if _name(file) in _SENSORS]


def _table(file: FoundFile) -> _Table:
    """The head of a sensor's file, and its rows counted."""
    width = len(_SENSORS[_name(file)].names)
    with opened(file) as handle:
        rows = read_at(handle, 0, min(1024, file.size)).split(b"\n", 2)
        if len(rows) < 3:
            raise ConversionError("truncated", "There are no samples.")
        times, rates = rows[0].split(b","), rows[1].split(b",")
        start, rate_hz = _time(times[0]), _rate(rates[0])
        if start is None or rate_hz is None or len(times) != width or len(rates) != width:
            raise ConversionError("invalid_header", "The first rows are no start and rate.")
        if any(_time(one) != start for one in times) or any(_rate(one) != rate_hz for one in rates):
            raise ConversionError("invalid_header", "The columns have starts or rates of their own.")
        offset = len(rows[0]) + len(rows[1]) + 2
        n_rows, last = 0, b"\n"
        for at in range(offset, file.size, SCAN_BYTES):
            part = read_at(handle, at, min(SCAN_BYTES, file.size - at))
            n_rows, last = n_rows + part.count(b"\n"), part[-1:]
    if n_rows == 0:
        raise ConversionError("truncated", "There are no samples.")
    return _Table(start, rate_hz, offset, n_rows, last == b"\n")


def _stream(name: str, table: _Table, first: Fraction) -> SignalStream:
    sensor = _SENSORS[name]
    unit, factor, _ = unit_factor(sensor.unit, sensor.type)
    channels = tuple(
        Channel(
            label=one,
            name=one,
            mapped=True,
            type=sensor.type,
            unit_found=sensor.unit,
            unit=unit,
            scale=sensor.scale * factor,
            offset=0.0,
        )
        for one in sensor.names
    )
    return SignalStream(
        name=name.removesuffix(".csv").lower(),
        rate_hz=table.rate_hz,
        dtype=sensor.dtype,
        n_samples=table.n_rows,
        channels=channels,
        segments=(Segment(start=0, n_samples=table.n_rows, onset_s=float(table.start - first)),),
    )


def _samples(file: FoundFile, table: _Table, at_once: int) -> Iterator[np.ndarray]:
    """Whole rows as (channel, time). A last row without its end may be cut, and is left out."""
    sensor = _SENSORS[_name(file)]
    rest, done = b"", 0
    with opened(file) as handle:
        for at in range(table.offset, file.size, at_once):
            text, end, rest = (rest + read_at(handle, at, min(at_once, file.size - at))).rpartition(b"\n")
            if not end:
                if len(rest) > 1024:
                    raise ConversionError("corrupt", "A row is too long.", f"row {done}")
                continue
            samples = _numbers(text, len(sensor.names), text.count(b"\n") + 1, f"row {done}")
            if sensor.dtype == "int16" and (np.any(samples % 1) or np.any(np.abs(samples) > 32767)):
                raise ConversionError("corrupt", "A count of acceleration is none.", f"row {done}")
            done += len(samples)
            yield np.ascontiguousarray(samples.T.astype(sensor.dtype))


def _numbers(text: bytes, width: int, count: int, where: str) -> np.ndarray:
    """``count`` rows of ``width`` numbers."""
    try:
        if not _PLAIN.fullmatch(text):
            raise ValueError
        values = np.array(text.replace(b"\n", b",").split(b","), "S").astype(np.float64).reshape(count, width)
        if any(row.count(b",") != width - 1 for row in text.split(b"\n")) or not np.isfinite(values).all():
            raise ValueError
    except ValueError:
        raise ConversionError("corrupt", f"The rows are not {width} numbers each.", where) from None
    return values


def _rows(file: FoundFile) -> list[bytes]:
    """Whole rows of a file of events."""
    if file.size > MAX_EVENT_BYTES:
        raise ConversionError("implausible_size", where="events")
    with opened(file) as handle:
        return [row for row in read_at(handle, 0, file.size).split(b"\n")[:-1] if row.strip()]


def _beats(file: FoundFile, first: Fraction) -> Iterator[FoundAnnotation]:
    rows = _rows(file)
    start = _time(rows[0].split(b",")[0]) if rows else None
    if start is None:
        raise ConversionError("invalid_header", "The intervals have no start.", "IBI")
    for row in rows[1:]:
        numbers = [decimal(one.decode("latin-1")) for one in row.split(b",")]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None or numbers[1] < 0:
            raise ConversionError("corrupt", "An interval is no time and duration.", "IBI")
        onset_s = float(start - first + numbers[0] - numbers[1])
        yield FoundAnnotation(onset_s, float(numbers[1]), None, "inter_beat_interval")


def _time(text: bytes) -> Fraction | None:
    """s since 1970; None where it cannot be."""
    value = decimal(text.decode("latin-1"))
    return value if value is not None and FIRST <= value < LAST else None


def _rate(text: bytes) -> Fraction | None:
    value = decimal(text.decode("latin-1"))
    return value if value is not None and 0 < value <= MAX_RATE else None
