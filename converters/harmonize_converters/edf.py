"""EDF, EDF+, BDF and BDF+: continuous recordings with their annotations (FIDELITY S01-S07)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from harmonize_converters._edf_header import (
    FIXED_BYTES,
    SIGNAL_BYTES,
    EdfHeader,
    EdfSignal,
    is_edf,
    parse_header,
    parse_prefilter,
    signal_count,
    who,
)
from harmonize_converters._edf_tal import first_onset, parse_tals
from harmonize_converters._fields import decode_text
from harmonize_converters._frames import Run, copy_run, find_runs, stream_name
from harmonize_converters._open import check_size, opened, read_at, read_into
from harmonize_converters.channels import canonical_name, modality_of, stream_flags, unit_factor
from harmonize_converters.contract import (
    Block,
    ConversionError,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    SourceFiles,
)
from harmonize_schemas import Channel, Segment, SignalStream

_ROUNDING_S = 0.001
"""Onsets of records are decimal texts, rounded by some writers."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What reading needs: the header, the true number of records, and the signals of each stream."""

    header: EdfHeader
    n_records: int
    record_bytes: int
    trailing_bytes: bool
    streams: tuple[tuple[int, ...], ...]
    runs: tuple[Run, ...]
    annotations: tuple[tuple[int, int], ...]
    """Offset in the record and length of each annotation signal, in bytes."""

    @property
    def dtype(self) -> str:
        return "int32" if self.header.bdf else "int16"

    def samples(self, stream: int) -> int:
        """Samples of one record in one stream."""
        return self.header.signals[self.streams[stream][0]].samples


class EdfConverter:
    """EDF(+) and BDF(+) files, one recording each."""

    name = "edf"
    version = "1"
    suffixes = frozenset({".edf", ".bdf", ".rec"})

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether the version field is that of EDF or BDF and the header's size is possible."""
        return is_edf(head)

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """Every file is a source of its own."""
        return [SourceFiles(self.name, file.key, (file,), ("signal",)) for file in files]

    def describe(self, source: SourceFiles) -> Described:
        """Header and, of discontinuous files, the onset of every record."""
        with opened(source.primary) as handle:
            layout = _read_layout(handle, source.primary.size)
            if not layout.streams:
                raise ConversionError("unsupported_annotation_only")
            onset_s = _start_of_records(handle, layout)
        header = layout.header
        streams = tuple(_stream(layout, index, onset_s) for index in range(len(layout.streams)))
        channels = [channel for stream in streams for channel in stream.channels]
        flags = stream_flags(streams)
        if header.n_records == -1:
            flags.add("record_count_missing")
        if layout.trailing_bytes:
            flags.add("trailing_bytes")
        if header.start is None:
            flags.add("invalid_start_date")
        identity, demographics = who(header)
        description = Description(
            format=header.kind,
            modality=modality_of(channel.type for channel in channels),
            streams=streams,
            demographics=demographics,
            duration_s=float(layout.n_records * header.record_s),
            flags=tuple(sorted(flags)),
            libraries={"numpy": np.__version__},
        )
        return Described(description, identity, {"patient": header.patient, "recording": header.recording})

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Whole data records at a time; parts of one where a record is larger than ``block_bytes``."""
        with opened(source.primary) as handle:
            layout = _read_layout(handle, source.primary.size)
            shape = [(len(s.channels), s.n_samples) for s in description.streams]
            found = [(len(s), layout.n_records * layout.samples(i)) for i, s in enumerate(layout.streams)]
            if shape != found:
                raise ConversionError("source_changed", "The header is not the one that was described.")
            per_record = layout.header.record_samples * np.dtype(layout.dtype).itemsize
            if per_record > max(block_bytes, 1):
                yield from _read_parts(handle, layout, block_bytes)
            else:
                yield from _read_records(handle, layout, block_bytes // per_record)
            check_size(handle, source.primary)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """All texts of all annotation signals, by onset from the start of the file."""
        yield from read_annotations(source.primary)[1]


def read_annotations(file: FoundFile) -> tuple[datetime | None, list[FoundAnnotation]]:
    """When a file starts, and its texts by onset from there; for a file of annotations alone, too (hypnograms)."""
    events: list[tuple[Fraction, FoundAnnotation]] = []
    with opened(file) as handle:
        layout = _read_layout(handle, file.size)
        for record in range(layout.n_records):
            for raw in _annotation_bytes(handle, layout, record):
                for tal in parse_tals(raw):
                    duration_s = None if tal.duration_s is None else float(tal.duration_s)
                    for text in filter(None, (decode_text(raw).strip() for raw in tal.texts)):
                        events.append((tal.onset_s, FoundAnnotation(float(tal.onset_s), duration_s, text)))
    events.sort(key=lambda event: event[0])
    return layout.header.start, [event for _, event in events]


def _read_layout(handle: BinaryIO, size: int) -> _Layout:
    """The header, checked against the size of the file before more than 256 bytes are taken."""
    if size < FIXED_BYTES:
        raise ConversionError("truncated", f"Found {size} bytes, the header alone has {FIXED_BYTES}.")
    header_bytes = FIXED_BYTES + SIGNAL_BYTES * signal_count(read_at(handle, 0, FIXED_BYTES))
    if size < header_bytes:
        raise ConversionError("truncated", f"Found {size} bytes, the header alone has {header_bytes}.")
    header = parse_header(read_at(handle, 0, header_bytes))
    n_records, rest = divmod(size - header.data_start, header.record_bytes)
    trailing = rest > 0
    if header.n_records >= 0:
        if n_records < header.n_records:
            message = f"Found {n_records} whole data records of the {header.n_records} declared."
            raise ConversionError("truncated", message)
        trailing = trailing or n_records > header.n_records
        n_records = header.n_records
    return _lay_out(header, n_records, trailing)


def _lay_out(header: EdfHeader, n_records: int, trailing: bool) -> _Layout:
    members: dict[int, list[int]] = {}
    places: list[tuple[int, int] | None] = []
    annotations: list[tuple[int, int]] = []
    order: list[int] = []
    offset = 0
    for index, signal in enumerate(header.signals):
        n_bytes = signal.samples * header.sample_bytes
        if signal.is_annotations:
            annotations.append((offset, n_bytes))
            places.append(None)
        else:
            stream = members.setdefault(signal.samples, [])
            if not stream:
                order.append(signal.samples)
            places.append((order.index(signal.samples), len(stream)))
            stream.append(index)
        offset += n_bytes
    if header.record_s == 0 and members:
        raise ConversionError("invalid_header", "The record duration is zero, but there are samples.", "byte 244")
    if n_records == 0:
        raise ConversionError("truncated", "Found no data record.")
    runs = find_runs([signal.samples for signal in header.signals], places)
    streams = tuple(tuple(members[samples]) for samples in order)
    return _Layout(header, n_records, header.record_bytes, trailing, streams, runs, tuple(annotations))


def _annotation_bytes(handle: BinaryIO, layout: _Layout, record: int) -> Iterator[bytes]:
    start = layout.header.data_start + record * layout.record_bytes
    return (read_at(handle, start + offset, n_bytes) for offset, n_bytes in layout.annotations)


def _start_of_records(handle: BinaryIO, layout: _Layout) -> float:
    """Onset of the first record from the start of the file. Refuses discontinuous files that have gaps;
    those of continuous files are looked for while their samples are read."""
    if not layout.annotations:
        if layout.header.kind.endswith("D"):
            message = "A discontinuous file must have an annotation signal with the onsets of its records."
            raise ConversionError("invalid_header", message, "byte 192")
        return 0.0
    first = first_onset(next(_annotation_bytes(handle, layout, 0)))
    if layout.header.kind.endswith("D"):
        clock = _Clock(layout)
        for record in range(layout.n_records):
            onset_s = first_onset(next(_annotation_bytes(handle, layout, record)))
            if onset_s is None:
                raise ConversionError("corrupt", "A data record has no onset.", f"data record {record}")
            clock.check(record, onset_s)
    return first or 0.0


class _Clock:
    """Checks that each record starts where the one before it ended."""

    def __init__(self, layout: _Layout) -> None:
        self._record_s = float(layout.header.record_s)
        fastest = max(layout.samples(stream) for stream in range(len(layout.streams)))
        self._tolerance_s = max(self._record_s / fastest, _ROUNDING_S)
        self._first_s: float | None = None

    def check(self, record: int, onset_s: float | None) -> None:
        """Records come in order. Some continuous files leave onsets out: then there is nothing to check."""
        if onset_s is None:
            return
        if self._first_s is None:
            self._first_s = onset_s - record * self._record_s
        if abs(onset_s - self._first_s - record * self._record_s) > self._tolerance_s:
            message = "A data record does not start where the one before it ends."
            raise ConversionError("unsupported_discontinuous", message, f"data record {record}")


def _read_records(handle: BinaryIO, layout: _Layout, count: int) -> Iterator[Block]:
    """Blocks of up to ``count`` whole records."""
    header = layout.header
    count = min(count, layout.n_records)
    # The spare byte in front lets a 24-bit sample be read as the upper three bytes of a 32-bit one.
    record_bytes = header.record_bytes
    buffer = np.zeros(1 + count * record_bytes, np.uint8)
    clock = _Clock(layout)
    for at in range(0, layout.n_records, count):
        n = min(count, layout.n_records - at)
        read_into(handle, header.data_start + at * record_bytes, buffer.data[1 : 1 + n * record_bytes])
        if layout.annotations:
            offset, length = layout.annotations[0]
            for record in range(n):
                begin = 1 + record * record_bytes + offset
                clock.check(at + record, first_onset(bytes(buffer.data[begin : begin + length])))
        frames = _frames(buffer, header, n)
        outs = [np.empty((len(s), n * layout.samples(i)), layout.dtype) for i, s in enumerate(layout.streams)]
        for run in layout.runs:
            copy_run(frames, run, outs[run.stream])
        for stream, out in enumerate(outs):
            yield Block(stream, at * layout.samples(stream), _finish(out, header))


def _frames(buffer: np.ndarray, header: EdfHeader, n: int) -> np.ndarray:
    """The records of ``buffer`` (spare byte first) as (record, sample), without copying. BDF samples are
    the upper 24 bits of 32 here, until ``_finish``."""
    width = header.sample_bytes
    return np.ndarray(
        (n, header.record_samples),
        "<i4" if header.bdf else "<i2",
        buffer.data,
        offset=0 if header.bdf else 1,
        strides=(header.record_bytes, width),
    )


def _finish(out: np.ndarray, header: EdfHeader) -> np.ndarray:
    """Shift 24-bit samples down in place: the arithmetic shift extends their sign."""
    if header.bdf:
        np.right_shift(out, 8, out=out)
    return out


def _read_parts(handle: BinaryIO, layout: _Layout, block_bytes: int) -> Iterator[Block]:
    """Blocks of parts of one record, for records that are too large to be taken whole."""
    header = layout.header
    offsets = [0, *np.cumsum([signal.samples for signal in header.signals]).tolist()]
    clock = _Clock(layout)
    for record in range(layout.n_records):
        if layout.annotations:
            clock.check(record, first_onset(next(_annotation_bytes(handle, layout, record))))
        for stream, members in enumerate(layout.streams):
            samples = layout.samples(stream)
            step = max(1, block_bytes // (len(members) * np.dtype(layout.dtype).itemsize))
            for begin in range(0, samples, step):
                n = min(step, samples - begin)
                buffer = np.zeros(1 + n * header.sample_bytes, np.uint8)
                out = np.empty((len(members), n), layout.dtype)
                for channel, signal in enumerate(members):
                    where = record * header.record_samples + offsets[signal] + begin
                    where = header.data_start + where * header.sample_bytes
                    read_into(handle, where, buffer.data[1:])
                    kind, skip = ("<i4", 0) if header.bdf else ("<i2", 1)
                    out[channel] = np.ndarray(n, kind, buffer.data, skip, header.sample_bytes)
                yield Block(stream, record * samples + begin, _finish(out, header))


def _stream(layout: _Layout, index: int, onset_s: float) -> SignalStream:
    rate_hz = layout.samples(index) / layout.header.record_s
    n_samples = layout.n_records * layout.samples(index)
    return SignalStream(
        name=stream_name(rate_hz),
        rate_hz=rate_hz,
        dtype=layout.dtype,
        n_samples=n_samples,
        channels=tuple(_channel(layout.header.signals[signal]) for signal in layout.streams[index]),
        segments=(Segment(start=0, n_samples=n_samples, onset_s=onset_s),),
    )


def _channel(signal: EdfSignal) -> Channel:
    name = canonical_name(signal.label)
    ranges = (signal.physical_min, signal.physical_max, signal.digital_min, signal.digital_max)
    pmin, pmax, dmin, dmax = (Fraction(0) if value is None else Fraction(value) for value in ranges)
    calibrated = name.type == "trigger" or (pmin != pmax and dmin != dmax)
    unit, scale, offset = None, 1.0, 0.0
    # Triggers are codes, not quantities: whatever ranges the header gives, their integers are the values.
    if calibrated and name.type != "trigger":
        gain = (pmax - pmin) / (dmax - dmin)
        unit, factor, _ = unit_factor(signal.unit, name.type)
        scale, offset = float(gain) * factor, float(pmin - gain * dmin) * factor
    return Channel(
        label=signal.label,
        unit_found=signal.unit,
        unit=unit,
        scale=scale,
        offset=offset,
        calibrated=calibrated,
        digital_min=int(dmin),
        digital_max=int(dmax),
        physical_min=float(pmin),
        physical_max=float(pmax),
        prefilter=parse_prefilter(signal.prefilter),
        **name.fields(),
    )
