"""Reading the signal files of a WFDB record, frame by frame, with lengths and sums checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from harmonize_converters._frames import Run, copy_run, find_runs
from harmonize_converters._open import check_size, opened, read_into
from harmonize_converters._wfdb_decode import FORMATS, FRAMES_IN_STEP, bytes_of, decode, samples_in
from harmonize_converters._wfdb_header import WfdbHeader, WfdbSignal
from harmonize_converters.contract import Block, ConversionError, FoundFile

_FLAC_BYTES_PER_BLOCK = 10
_FLAC_SAMPLES_PER_BLOCK = 65535
"""The least bytes and most samples of a FLAC frame: no file holds more samples than these allow."""


@dataclass(frozen=True, slots=True)
class SignalFile:
    """One signal file and its signals, of which ``first`` is the first one's index in the record."""

    file: FoundFile
    signals: tuple[WfdbSignal, ...]
    first: int
    frame_samples: int

    @property
    def format(self) -> int:
        return self.signals[0].format

    @property
    def byte_offset(self) -> int:
        return next((s.byte_offset for s in self.signals if s.byte_offset is not None), 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """What reading needs: files, frames, and the signals of each stream (by index in the record)."""

    header: WfdbHeader
    files: tuple[SignalFile, ...]
    n_frames: int
    trailing_bytes: bool
    streams: tuple[tuple[int, ...], ...]

    def dtype(self, stream: int) -> str:
        """The widest dtype that the stream's formats need."""
        kinds = {FORMATS[self.header.signals[index].format].dtype for index in self.streams[stream]}
        return "int32" if "int32" in kinds else "int16"

    def width(self, stream: int) -> int:
        """Samples of one frame in one signal of the stream."""
        return self.header.signals[self.streams[stream][0]].samples_per_frame

    def places(self) -> dict[int, tuple[int, int]]:
        """Index in the record to (stream, channel)."""
        return {
            index: (stream, channel)
            for stream, members in enumerate(self.streams)
            for channel, index in enumerate(members)
        }

    def rate_hz(self, stream: int) -> Fraction:
        return self.header.rate_hz * self.width(stream)


def lay_out(header: WfdbHeader, folder: Path, claimed: Sequence[FoundFile]) -> Layout:
    """Signals to files and streams; the files' sizes are checked against the header."""
    by_path = {file.path: file for file in claimed}
    by_name = {name: by_path.get(folder / name) for name in {signal.file for signal in header.signals}}
    files: list[SignalFile] = []
    for index, signal in enumerate(header.signals):
        file = by_name.get(signal.file)
        if file is None:
            raise ConversionError("missing_file", where=f"signal {index}")
        if files and files[-1].file is file:
            last = files[-1]
            total = last.frame_samples + signal.samples_per_frame
            files[-1] = SignalFile(last.file, (*last.signals, signal), last.first, total)
        else:
            files.append(SignalFile(file, (signal,), index, signal.samples_per_frame))
    for part in files:
        _check_file(part)
    if len({part.file.path for part in files}) < len(files):
        message = "The signals of one file must follow each other."
        raise ConversionError("invalid_header", message)
    n_frames = header.n_frames or _frames_in(files[0])
    for part in files:
        if _frames_in(part) < n_frames:
            message = f"Found {_frames_in(part)} frames of {n_frames}."
            raise ConversionError("truncated", message, f"file of signal {part.first}")
    streams: dict[int, list[int]] = {}
    for index, signal in enumerate(header.signals):
        streams.setdefault(signal.samples_per_frame, []).append(index)
    trailing = any(_trailing(part, n_frames) for part in files)
    if n_frames == 0:
        raise ConversionError("truncated", "Found no sample.")
    return Layout(header, tuple(files), n_frames, trailing, tuple(map(tuple, streams.values())))


def _check_file(part: SignalFile) -> None:
    where = f"file of signal {part.first}"
    if len({signal.format for signal in part.signals}) > 1:
        raise ConversionError("invalid_header", "The signals of one file must have one format.", where)
    if len({s.byte_offset for s in part.signals if s.byte_offset is not None}) > 1:
        raise ConversionError("invalid_header", "The signals of one file must have one byte offset.", where)
    if part.file.size == 0:
        raise ConversionError("empty_file", where=where)
    if FORMATS[part.format].compressed:
        if part.byte_offset:
            message = "Found an offset in a compressed file."
            raise ConversionError("unsupported_wfdb_format", message, where)
        if len({signal.samples_per_frame for signal in part.signals}) > 1:
            message = "The signals of a compressed file must have the same number of samples per frame."
            raise ConversionError("invalid_header", message, where)


def _frames_in(part: SignalFile) -> int:
    """How many whole frames a file holds."""
    if FORMATS[part.format].compressed:
        with ExitStack() as stack:
            return int(_open_flac(stack, part).frames) // part.signals[0].samples_per_frame
    return samples_in(part.format, max(0, part.file.size - part.byte_offset)) // part.frame_samples


def _trailing(part: SignalFile, n_frames: int) -> bool:
    """Whether bytes follow the declared frames, but for the padding of a packed unit."""
    if FORMATS[part.format].compressed:
        return _frames_in(part) > n_frames
    form = FORMATS[part.format]
    used = part.byte_offset + bytes_of(part.format, n_frames * part.frame_samples)
    return part.file.size - used >= (form.unit_bytes if form.unit_samples > 1 else 1)


class _Reader(ABC):
    """Frames of one signal file, in order, as (frame, sample)."""

    @abstractmethod
    def take(self, n_frames: int) -> np.ndarray: ...


class _Plain(_Reader):
    """All formats of fixed size. ``n_frames`` is a multiple of ``FRAMES_IN_STEP`` but for the last call."""

    def __init__(self, handle: BinaryIO, part: SignalFile) -> None:
        self._handle, self._part, self._at = handle, part, part.byte_offset
        self._sums = [np.int64(signal.initial) for signal in part.signals]

    def take(self, n_frames: int) -> np.ndarray:
        part = self._part
        n_samples = n_frames * part.frame_samples
        raw = np.empty(bytes_of(part.format, n_samples), np.uint8)
        read_into(self._handle, self._at, raw.data)
        self._at += len(raw)
        frames = decode(part.format, raw, n_samples).reshape(n_frames, part.frame_samples)
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
        self._sound, self._part = _open_flac(stack, part), part
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


def _open_flac(stack: ExitStack, part: SignalFile) -> Any:
    handle = stack.enter_context(opened(part.file))
    where = f"file of signal {part.first}"
    try:
        sound = stack.enter_context(soundfile.SoundFile(handle))
    except soundfile.SoundFileError:
        raise ConversionError("corrupt", "The signal file is not a FLAC file.", where) from None
    bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}.get(sound.subtype)
    if sound.format != "FLAC" or bits is None or bits > part.format - 500:
        raise ConversionError("corrupt", "The FLAC stream is not of the declared format.", where)
    if sound.channels != len(part.signals):
        raise ConversionError("invalid_header", "The FLAC stream has another number of signals.", where)
    if sound.frames > (part.file.size // _FLAC_BYTES_PER_BLOCK + 1) * _FLAC_SAMPLES_PER_BLOCK:
        raise ConversionError("implausible_size", where=where)
    return sound


def read_blocks(layout: Layout, block_bytes: int) -> Iterator[Block]:
    """Native samples of all streams, some frames at a time. Raises after the last block where a file has
    changed or a signal's sum is not the checksum in the header."""
    places = layout.places()
    widths = [layout.width(stream) for stream in range(len(layout.streams))]
    dtypes = [np.dtype(layout.dtype(stream)) for stream in range(len(layout.streams))]
    sums = [np.zeros(len(members), np.uint32) for members in layout.streams]
    frame_bytes = sum(
        len(members) * width * dtype.itemsize
        for members, width, dtype in zip(layout.streams, widths, dtypes, strict=True)
    )
    step = max(1, block_bytes // (frame_bytes * FRAMES_IN_STEP)) * FRAMES_IN_STEP
    with ExitStack() as stack:
        readers: list[tuple[_Reader, tuple[Run, ...]]] = []
        handles: list[tuple[BinaryIO, FoundFile]] = []
        for part in layout.files:
            indices = range(part.first, part.first + len(part.signals))
            runs = find_runs([s.samples_per_frame for s in part.signals], [places[i] for i in indices])
            if FORMATS[part.format].compressed:
                readers.append((_Flac(stack, part), runs))
            else:
                handles.append((stack.enter_context(opened(part.file)), part.file))
                readers.append((_Plain(handles[-1][0], part), runs))
        for at in range(0, layout.n_frames, step):
            n = min(step, layout.n_frames - at)
            outs = [
                np.empty((len(members), n * width), dtype)
                for members, width, dtype in zip(layout.streams, widths, dtypes, strict=True)
            ]
            for reader, runs in readers:
                frames = reader.take(n)
                for run in runs:
                    copy_run(frames, run, outs[run.stream])
            for stream, out in enumerate(outs):
                # Sums modulo 2^16, so that wrapping does no harm.
                unsigned = out.view(np.uint16 if out.dtype.itemsize == 2 else np.uint32)
                sums[stream] += unsigned.sum(axis=1, dtype=unsigned.dtype)
                yield Block(stream, at * widths[stream], out)
        for handle, file in handles:
            check_size(handle, file)
    for index, (stream, channel) in places.items():
        checksum = layout.header.signals[index].checksum
        if checksum is not None and (int(sums[stream][channel]) - checksum) % 65536:
            raise ConversionError("checksum_mismatch", where=f"signal {index}")
