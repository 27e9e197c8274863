"""Reading the signal files of a WFDB record, frame by frame, with lengths and sums checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from harmonize_converters._frames import Run, copy_run, find_runs
from harmonize_converters._open import check_size, opened, read_into
from harmonize_converters._wfdb_decode import FORMATS, FRAMES_IN_STEP, bytes_of, decode
from harmonize_converters._wfdb_layout import Layout, SignalFile, missing_value, open_flac, skew_frames
from harmonize_converters.contract import ConversionError, FoundFile

_SAMPLES_IN_CACHE = 1 << 16
"""Samples that are read, decoded and put in order at once: what the processor's cache holds. (A block of
several MB in one go takes twice as long.)"""


class _Reader(ABC):
    """Frames of one signal file, in order, as (frame, sample)."""

    @abstractmethod
    def take(self, n_frames: int) -> np.ndarray: ...


class _Plain(_Reader):
    """All formats of fixed size."""

    def __init__(self, handle: BinaryIO, part: SignalFile) -> None:
        self._handle, self._part, self._at = handle, part, 0
        self._sums = [np.int64(signal.initial) for signal in part.signals]

    def take(self, n_frames: int) -> np.ndarray:
        part = self._part
        n_samples = n_frames * part.frame_samples
        # A frame may begin within a packed unit.
        unit, lead = divmod(self._at, FORMATS[part.format].unit_samples)
        raw = np.empty(bytes_of(part.format, lead + n_samples), np.uint8)
        read_into(self._handle, part.byte_offset + unit * FORMATS[part.format].unit_bytes, raw.data)
        self._at += n_samples
        frames = decode(part.format, raw, lead + n_samples)[lead:].reshape(n_frames, part.frame_samples)
        return self._summed(frames) if part.format == 8 else frames

    def _summed(self, frames: np.ndarray) -> np.ndarray:
        """Format 8: first differences of each signal, from its initial value on."""
        out = np.empty(frames.shape, np.int32)
        offset = 0
        for index, signal in enumerate(self._part.signals):
            column = slice(offset, offset + signal.samples_per_frame)
            values = frames[:, column].ravel().cumsum(dtype=np.int64) + self._sums[index]
            if np.abs(values).max() >= 2**31:
                raise ConversionError("corrupt", "The sum of differences exceeds 32 bits.", f"signal {index}")
            self._sums[index] = values[-1]
            out[:, column] = values.reshape(len(frames), -1)
            offset = column.stop
        return out


class _Flac(_Reader):
    """Formats 508, 516 and 524 through libsndfile."""

    def __init__(self, stack: ExitStack, part: SignalFile) -> None:
        self._sound, self._part = open_flac(stack, part), part
        self._shift = {"PCM_S8": 24, "PCM_16": 16, "PCM_24": 8}[self._sound.subtype]

    def take(self, n_frames: int) -> np.ndarray:
        width = self._part.signals[0].samples_per_frame
        try:
            values = self._sound.read(n_frames * width, dtype="int32", always_2d=True)
        except soundfile.SoundFileError:
            raise ConversionError("corrupt", "The FLAC stream cannot be decoded.") from None
        if len(values) < n_frames * width:
            raise ConversionError("truncated", "The FLAC stream ended early.")
        # libsndfile fills the upper bits.
        np.right_shift(values, self._shift, out=values)
        frames: np.ndarray = values.reshape(n_frames, width, -1).transpose(0, 2, 1)
        return frames.reshape(n_frames, -1)


@dataclass(frozen=True, slots=True)
class _Lane:
    """A pass over one signal file for its signals of one ``skew`` (frames), which ``runs`` place."""

    reader: _Reader
    runs: tuple[Run, ...]
    skew: int
    frame_samples: int


class _Streams:
    """Blocks of all streams of a layout, and the sums of their channels modulo 2^16."""

    def __init__(self, layout: Layout) -> None:
        indices = range(len(layout.streams))
        self.widths = [layout.width(stream) for stream in indices]
        self.dtypes = [np.dtype(layout.dtype(stream)) for stream in indices]
        self.shapes = [(len(layout.streams[stream]), self.widths[stream]) for stream in indices]
        self.sums = [np.zeros(len(members), np.uint32) for members in layout.streams]
        self.layout = layout

    @property
    def frame_bytes(self) -> int:
        return sum(n * width * dtype.itemsize for (n, width), dtype in zip(self.shapes, self.dtypes, strict=True))

    def block(self, n_frames: int, zeros: bool) -> list[np.ndarray]:
        make = np.zeros if zeros else np.empty
        return [make((n, n_frames * w), dtype) for (n, w), dtype in zip(self.shapes, self.dtypes, strict=True)]

    def missing(self, stream: int, channel: int) -> int | None:
        return missing_value(self.layout.header.signals[self.layout.streams[stream][channel]])

    def add(self, outs: Sequence[np.ndarray]) -> None:
        """Sums wrap at 2^16 or 2^32, which does no harm."""
        for total, out in zip(self.sums, outs, strict=True):
            unsigned = out.view(np.uint16 if out.dtype.itemsize == 2 else np.uint32)
            total += unsigned.sum(axis=1, dtype=unsigned.dtype)


def read_samples(layout: Layout, block_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Native samples (channel, time) of each stream by its index, some frames at a time.

    The samples of a signal that its skew puts before frame 0 count in its sum and are not given, as
    header(5) has it; as many are missing at its end. Raises after the last block where a file has changed
    or a signal's sum is not the checksum in the header.
    """
    streams = _Streams(layout)
    step = max(1, block_bytes // (streams.frame_bytes * FRAMES_IN_STEP)) * FRAMES_IN_STEP
    with ExitStack() as stack:
        handles: list[tuple[BinaryIO, FoundFile]] = []
        places = layout.places()
        lanes = [lane for part in layout.files for lane in _lanes(stack, places, part, handles)]
        skewed = any(lane.skew for lane in lanes)
        for lane in lanes:
            for at in range(0, lane.skew, step):
                outs = streams.block(n := min(step, lane.skew - at), zeros=True)
                _fill(lane, n, outs)
                streams.add(outs)
        for at in range(0, layout.n_frames, step):
            n = min(step, layout.n_frames - at)
            outs = streams.block(n, zeros=skewed)
            for lane in lanes:
                if (held := min(n, layout.n_frames - lane.skew - at)) > 0:
                    _fill(lane, held, outs)
            streams.add(outs)
            for lane in lanes if skewed else ():
                _end(lane, max(0, layout.n_frames - lane.skew - at), streams, outs)
            yield from enumerate(outs)
        for handle, file in handles:
            check_size(handle, file)
    _check_sums(layout, streams)


def _lanes(
    stack: ExitStack,
    places: Mapping[int, tuple[int, int]],
    part: SignalFile,
    handles: list[tuple[BinaryIO, FoundFile]],
) -> Iterator[_Lane]:
    widths = [signal.samples_per_frame for signal in part.signals]
    skews = [skew_frames(signal) for signal in part.signals]
    for skew in sorted(set(skews)):
        own = [places[i] if one == skew else None for i, one in zip(part.indices, skews, strict=True)]
        reader: _Reader
        if FORMATS[part.format].compressed:
            reader = _Flac(stack, part)
        else:
            handles.append((stack.enter_context(opened(part.file)), part.file))
            reader = _Plain(handles[-1][0], part)
        yield _Lane(reader, find_runs(widths, own), skew, part.frame_samples)


def _fill(lane: _Lane, n_frames: int, outs: Sequence[np.ndarray]) -> None:
    step = max(1, _SAMPLES_IN_CACHE // (lane.frame_samples * FRAMES_IN_STEP)) * FRAMES_IN_STEP
    for at in range(0, n_frames, step):
        frames = lane.reader.take(min(step, n_frames - at))
        for run in lane.runs:
            copy_run(frames, run, outs[run.stream], at)


def _end(lane: _Lane, held: int, streams: _Streams, outs: Sequence[np.ndarray]) -> None:
    """Mark as missing what is behind the last of ``held`` frames."""
    for run in lane.runs:
        for channel in range(run.channel, run.channel + run.count):
            rest = outs[run.stream][channel, held * run.width :]
            if len(rest):
                rest[:] = streams.missing(run.stream, channel)


def _check_sums(layout: Layout, streams: _Streams) -> None:
    if layout.header.n_frames is None:
        return  # header(5): without a length there is nothing to verify
    for members, sums in zip(layout.streams, streams.sums, strict=True):
        for index, total in zip(members, sums.tolist(), strict=True):
            checksum = layout.header.signals[index].checksum
            if checksum is not None and (total - checksum) % 65536:
                raise ConversionError("checksum_mismatch", where=f"signal {index}")
