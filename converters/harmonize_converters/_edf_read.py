"""Samples of EDF and BDF files: data records to blocks of (channel, time), and onsets checked on the way.

Records are copied into the block in one pass over pieces that fit a core's cache (``_pieces``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from harmonize_converters._edf_layout import Layout
from harmonize_converters._edf_onsets import ONSET_BYTES, RecordRun, breaks, parse_onsets, tolerance_s
from harmonize_converters._edf_tal import first_onset
from harmonize_converters._frames import copy_run
from harmonize_converters._open import read_at, read_into
from harmonize_converters._pieces import loader
from harmonize_converters.contract import Block, ConversionError

_PIECE_BYTES = 384 * 1024
_SMALL_RECORD_BYTES = 32 * 1024
_CHECKED_RECORDS = 4096
"""Onsets of so many records are compared at once."""


class _OnsetCheck:
    """Compares the onsets of records, taken in order, with the runs that were described."""

    def __init__(self, layout: Layout, runs: Sequence[RecordRun]) -> None:
        length = min(layout.annotations[0][1], ONSET_BYTES) if layout.annotations else 0
        self._starts = np.empty((_CHECKED_RECORDS, length), np.uint8)
        self._first = self._held = 0
        self._record_s = float(layout.header.record_s)
        self._tolerance_s = layout_tolerance_s(layout)
        self._breaks = np.array([run.first for run in runs[1:]], np.int64)
        self._required = layout.header.kind.endswith("D")
        self._before_s = runs[0].onset_s - self._record_s

    def take(self, starts: np.ndarray) -> None:
        """The next records: the first bytes of their annotation signals, uint8 (record, byte); not kept."""
        while len(starts):
            n = min(len(starts), _CHECKED_RECORDS - self._held)
            self._starts[self._held : self._held + n] = starts[:n]
            self._held += n
            starts = starts[n:]
            if self._held == _CHECKED_RECORDS:
                self.check()

    def check(self) -> None:
        """Compare what was taken since the last time. A continuous file may leave onsets out: those records
        follow the one before."""
        first, starts = self._first, self._starts[: self._held]
        if not starts.size:
            return
        self._first, self._held = first + len(starts), 0
        onsets = fill_onsets(parse_onsets(starts), self._before_s, self._record_s, self._required, first)
        with_before = np.concatenate([[self._before_s], onsets])
        found = breaks(with_before, self._record_s, self._tolerance_s, first - 1)
        described = self._breaks[(self._breaks >= first) & (self._breaks < first + len(onsets))]
        if not np.array_equal(found, described):
            message = "The onsets of the data records are not those that were described."
            raise ConversionError("inconsistent_onsets", message, f"data records from {first}")
        self._before_s = float(onsets[-1])


def layout_tolerance_s(layout: Layout) -> float:
    """See ``tolerance_s``."""
    most = max((layout.samples(stream) for stream in range(len(layout.streams))), default=1)
    return tolerance_s(float(layout.header.record_s), most)


def fill_onsets(onsets: np.ndarray, before_s: float, record_s: float, required: bool, first: int) -> np.ndarray:
    """Onsets with those that are left out (NaN) put where the record before ends; ``before_s`` is the onset of
    the record before the first. Raises ``ConversionError`` where ``required``."""
    absent = np.flatnonzero(np.isnan(onsets))
    if absent.size and required:
        raise ConversionError("corrupt", "A data record has no onset.", f"data record {first + absent[0]}")
    for at in absent:
        onsets[at] = (onsets[at - 1] if at else before_s) + record_s
    return onsets


def read_onset(handle: BinaryIO, layout: Layout, record: int) -> float:
    """Onset of one record in s, NaN where it has none."""
    offset, length = layout.annotations[0]
    where = layout.header.data_start + record * layout.header.record_bytes + offset
    onset_s = first_onset(read_at(handle, where, min(length, ONSET_BYTES)))
    return math.nan if onset_s is None else onset_s


def read_onsets(handle: BinaryIO, layout: Layout, first: int, count: int) -> np.ndarray:
    """Onsets of records in s, NaN where one has none."""
    offset, length = layout.annotations[0]
    rows = read_rows(handle, layout, offset, min(length, ONSET_BYTES), first, count)
    return np.concatenate([parse_onsets(part) for _, part in rows])


def read_rows(
    handle: BinaryIO, layout: Layout, offset: int, length: int, first: int, count: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The same ``length`` bytes from ``offset`` on of ``count`` records: (number of a record, bytes of it and those
    that follow, uint8 (record, byte)), in pieces. Small records are read whole: that takes less time than to skip."""
    record_bytes = layout.header.record_bytes
    whole = record_bytes <= _SMALL_RECORD_BYTES
    step = max(1, _PIECE_BYTES // (record_bytes if whole else length))
    for at in range(first, first + count, step):
        n = min(step, first + count - at)
        begin = layout.header.data_start + at * record_bytes
        rows = np.empty((n, record_bytes if whole else length), np.uint8)
        if whole:
            read_into(handle, begin, rows.reshape(-1).data)
            yield at, rows[:, offset : offset + length]
            continue
        for number, row in enumerate(rows):
            read_into(handle, begin + number * record_bytes + offset, row.data)
        yield at, rows


def read_blocks(handle: BinaryIO, layout: Layout, runs: Sequence[RecordRun], block_bytes: int) -> Iterator[Block]:
    """Blocks of whole records, of parts of one where a record is larger than ``block_bytes``."""
    per_record = layout.header.record_samples * np.dtype(layout.dtype).itemsize
    if per_record > max(block_bytes, 1):
        yield from _read_parts(handle, layout, runs, block_bytes)
    else:
        yield from _read_records(handle, layout, runs, block_bytes // per_record)


def _read_records(handle: BinaryIO, layout: Layout, runs: Sequence[RecordRun], count: int) -> Iterator[Block]:
    """Blocks of up to ``count`` whole records."""
    record_bytes, data_start, spare = layout.header.record_bytes, layout.header.data_start, _spare(layout)
    count = min(count, layout.n_records)
    piece = min(count, max(1, _PIECE_BYTES // record_bytes))
    load = loader(handle, spare + piece * record_bytes)
    shapes = [(len(members), layout.samples(stream)) for stream, members in enumerate(layout.streams)]
    offset, length = layout.annotations[0] if layout.annotations else (0, 0)
    onset = slice(offset, offset + min(length, ONSET_BYTES))
    check = _OnsetCheck(layout, runs)
    for at in range(0, layout.n_records, count):
        n = min(count, layout.n_records - at)
        outs = [np.empty((channels, n * samples), layout.dtype) for channels, samples in shapes]
        for begin in range(0, n, piece):
            stop = min(begin + piece, n)
            size = (stop - begin) * record_bytes
            loaded = load(data_start + (at + begin) * record_bytes - spare, spare + size)
            frames = _frames(loaded, layout, stop - begin)
            for run in layout.runs:
                copy_run(frames, run, outs[run.stream], begin)
            if length:
                check.take(loaded[spare:].reshape(-1, record_bytes)[:, onset])
        for stream, out in enumerate(outs):
            yield Block(stream, at * shapes[stream][1], _finish(out, layout))
    check.check()


def _frames(loaded: np.ndarray, layout: Layout, n: int) -> np.ndarray:
    """The records of ``loaded`` (spare byte first) as (record, sample), without copying. BDF samples are
    the upper 24 bits of 32 here, until ``_finish``."""
    header = layout.header
    strides = (header.record_bytes, header.sample_bytes)
    return np.ndarray((n, header.record_samples), _kind(layout), loaded.data, 0, strides)


def _spare(layout: Layout) -> int:
    """Bytes taken in front of samples (of the header, or a buffer's own): one lets a 24-bit sample be read as the
    upper three bytes of a 32-bit one."""
    return 1 if layout.header.bdf else 0


def _kind(layout: Layout) -> str:
    return "<i4" if layout.header.bdf else "<i2"


def _finish(out: np.ndarray, layout: Layout) -> np.ndarray:
    """Shift 24-bit samples down in place: the arithmetic shift extends their sign."""
    if layout.header.bdf:
        np.right_shift(out, 8, out=out)
    return out


def _read_parts(handle: BinaryIO, layout: Layout, runs: Sequence[RecordRun], block_bytes: int) -> Iterator[Block]:
    """Blocks of parts of one record, for records that are too large to be taken whole."""
    check = _OnsetCheck(layout, runs)
    starts = np.zeros((1, min(layout.annotations[0][1], ONSET_BYTES)), np.uint8) if layout.annotations else None
    for record in range(layout.n_records):
        at = layout.header.data_start + record * layout.header.record_bytes
        if starts is not None:
            read_into(handle, at + layout.annotations[0][0], starts[0].data)
            check.take(starts)
        for stream, members in enumerate(layout.streams):
            samples = layout.samples(stream)
            step = max(1, block_bytes // (len(members) * np.dtype(layout.dtype).itemsize))
            for begin in range(0, samples, step):
                n = min(step, samples - begin)
                out = np.empty((len(members), n), layout.dtype)
                for channel, signal in enumerate(members):
                    out[channel] = read_signal(handle, layout, signal, record, begin, n)
                yield Block(stream, record * samples + begin, _finish(out, layout))
    check.check()


def read_signal(handle: BinaryIO, layout: Layout, signal: int, record: int, begin: int, n: int) -> np.ndarray:
    """``n`` samples of one signal in one record; of BDF as the upper 24 bits of 32."""
    header = layout.header
    buffer = np.zeros(_spare(layout) + n * header.sample_bytes, np.uint8)
    where = record * header.record_samples + layout.offset(signal) + begin
    read_into(handle, header.data_start + where * header.sample_bytes, buffer.data[_spare(layout) :])
    return np.ndarray(n, _kind(layout), buffer.data, 0, (header.sample_bytes,))
