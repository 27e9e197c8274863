"""How the samples of an EDF or BDF file lie: data records, streams of one rate, annotation signals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from harmonize_converters._edf_header import FIXED_BYTES, SIGNAL_BYTES, EdfHeader, parse_header, signal_count
from harmonize_converters._frames import Run, find_runs
from harmonize_converters._open import read_at
from harmonize_converters.contract import ConversionError


@dataclass(frozen=True, slots=True)
class Layout:
    """What reading needs: the header, the number of whole records, and the signals of each stream."""

    header: EdfHeader
    n_records: int
    truncated: bool
    """Whether the header declares more records than the file holds."""
    trailing_bytes: bool
    streams: tuple[tuple[int, ...], ...]
    """Indices of the signals of each stream, streams in the order of their first signal."""
    runs: tuple[Run, ...]
    annotations: tuple[tuple[int, int], ...]
    """Offset in the record and length of each annotation signal, in bytes."""

    @property
    def dtype(self) -> str:
        return "int32" if self.header.bdf else "int16"

    def samples(self, stream: int) -> int:
        """Samples of one record in one signal of a stream."""
        return self.header.signals[self.streams[stream][0]].samples

    def offset(self, signal: int) -> int:
        """Where a signal begins in the record, in samples."""
        return sum(one.samples for one in self.header.signals[:signal])


def read_layout(handle: BinaryIO, size: int) -> Layout:
    """The header, checked against the size of the file before more than 256 bytes are taken.

    A file that ends early is laid out as far as its data records are whole (FIDELITY S06); one without a
    whole record is refused.
    """
    if size < FIXED_BYTES:
        raise ConversionError("truncated", f"Found {size} bytes, the header alone has {FIXED_BYTES}.")
    header_bytes = FIXED_BYTES + SIGNAL_BYTES * signal_count(read_at(handle, 0, FIXED_BYTES))
    if size < header_bytes:
        raise ConversionError("truncated", f"Found {size} bytes, the header alone has {header_bytes}.")
    return _laid_out(read_at(handle, 0, header_bytes), size)


@lru_cache(maxsize=4)  # describing, reading and annotations of one source follow each other
def _laid_out(raw: bytes, size: int) -> Layout:
    header = parse_header(raw)
    n_records, rest = divmod(size - header.data_start, header.record_bytes)
    truncated, trailing = False, rest > 0
    if header.n_records >= 0:
        truncated = n_records < header.n_records
        trailing = not truncated and (trailing or n_records > header.n_records)
        n_records = min(n_records, header.n_records)
    if n_records == 0:
        raise ConversionError("truncated", "Found no whole data record.")
    return _lay_out(header, n_records, truncated, trailing)


def _lay_out(header: EdfHeader, n_records: int, truncated: bool, trailing: bool) -> Layout:
    members: dict[int, list[int]] = {}
    places: list[tuple[int, int] | None] = []
    annotations: list[tuple[int, int]] = []
    offset = 0
    for index, signal in enumerate(header.signals):
        n_bytes = signal.samples * header.sample_bytes
        if signal.is_annotations:
            annotations.append((offset, n_bytes))
            places.append(None)
        else:
            stream = members.setdefault(signal.samples, [])
            places.append((list(members).index(signal.samples), len(stream)))
            stream.append(index)
        offset += n_bytes
    if header.record_s == 0 and members:
        raise ConversionError("invalid_header", "The record duration is zero, but there are samples.", "byte 244")
    runs = find_runs([signal.samples for signal in header.signals], places)
    streams = tuple(map(tuple, members.values()))
    return Layout(header, n_records, truncated, trailing, streams, runs, tuple(annotations))
