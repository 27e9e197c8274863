"""The signal files of one ordinary WFDB record: which file, frame and stream each signal is in.

Everything here follows from headers and file sizes (and, for FLAC, from its own header).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import soundfile

from harmonize_converters._open import opened
from harmonize_converters._wfdb_decode import FORMATS, bytes_of, samples_in
from harmonize_converters._wfdb_header import WfdbHeader, WfdbSignal, safe_name
from harmonize_converters.contract import ConversionError, FoundFile

_FLAC_BYTES_PER_BLOCK = 10
_FLAC_SAMPLES_PER_BLOCK = 65535
"""The least bytes and most samples of a FLAC frame: no file holds more samples than these allow."""
_MAX_SKEWS = 64
"""Different skews in one file: each costs a pass over the file, so a hostile header could ask for many."""


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

    @property
    def skewed(self) -> bool:
        return any(signal.skew for signal in self.signals)

    @property
    def indices(self) -> range:
        return range(self.first, self.first + len(self.signals))


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

    def rate_hz(self, stream: int) -> Fraction:
        return self.header.rate_hz * self.width(stream)

    def places(self) -> dict[int, tuple[int, int]]:
        """Index in the record to (stream, channel)."""
        return {
            index: (stream, channel)
            for stream, members in enumerate(self.streams)
            for channel, index in enumerate(members)
        }


def skew_frames(signal: WfdbSignal) -> int:
    """The skew in frames, which header(5) gives in samples of the signal (wfdb's signal.c divides too)."""
    return signal.skew // signal.samples_per_frame


def missing_value(signal: WfdbSignal) -> int | None:
    """What stands for a missing sample. Format 8 has no such value; a skewed signal needs one for its end,
    and no sum of differences reaches the least 32-bit number."""
    missing = FORMATS[signal.format].missing
    return -(2**31) if missing is None and signal.skew else missing


def beside(file: FoundFile, name: str) -> str:
    """The key of a file in the folder of another."""
    return file.key[: file.key.rfind("/") + 1] + name


def check_inside(file: FoundFile, header: FoundFile) -> None:
    """Refuse a file that a link leads out of the header's folder."""
    folder = os.path.dirname(header.path)
    # In the same folder and no link: there is nothing to resolve.
    if os.path.dirname(file.path) == folder and not os.path.islink(file.path):
        return
    if not file.path.resolve().is_relative_to(os.path.realpath(folder)):
        raise ConversionError("path_escape", "A file of the record is a link out of the header's folder.")


def lay_out(
    header: WfdbHeader,
    at: FoundFile,
    claimed: Mapping[str, FoundFile],
    n_frames: int | None = None,
    order: Sequence[int] | None = None,
) -> Layout:
    """Signals to files and streams; the files' sizes are checked against the header.

    ``at`` is the header's file and ``claimed`` the source's signal files by key. ``n_frames`` is the length
    where something else than the header gives it. ``order`` ranks the signals: the channels of a stream
    are in that order, or else in the header's. Null signals are in no stream.
    """
    present = [index for index, signal in enumerate(header.signals) if not signal.null]
    _check_signals(header.signals, present)
    files = _files(header.signals, present, at, claimed)
    for part in files:
        _check_file(part)
    n_frames = n_frames or header.n_frames
    if n_frames is None:
        n_frames = _frames_in(files[0]) if files else 0
    trailing = False
    for part in files:
        held = _frames_in(part)
        if held < n_frames:
            raise ConversionError("truncated", f"Found {held} frames of {n_frames}.", f"file of signal {part.first}")
        compressed = FORMATS[part.format].compressed
        trailing |= held > n_frames if compressed else _trailing(part, n_frames)
        if part.skewed and any(skew_frames(signal) >= n_frames > 0 for signal in part.signals):
            raise ConversionError("invalid_header", "A skew is longer than the record.", f"file of signal {part.first}")
    if files and n_frames == 0:
        raise ConversionError("truncated", "Found no sample.")
    streams: dict[int, list[int]] = {}
    if order is not None:
        present.sort(key=lambda index: order[index])
    for index in present:
        streams.setdefault(header.signals[index].samples_per_frame, []).append(index)
    return Layout(header, tuple(files), n_frames, trailing, tuple(map(tuple, streams.values())))


def _files(
    signals: Sequence[WfdbSignal], present: Sequence[int], at: FoundFile, claimed: Mapping[str, FoundFile]
) -> list[SignalFile]:
    """The signal files in the header's order, each with its signals."""
    runs: list[tuple[int, list[WfdbSignal]]] = []
    for index in present:
        signal = signals[index]
        if runs and runs[-1][1][-1].file == signal.file and runs[-1][0] + len(runs[-1][1]) == index:
            runs[-1][1].append(signal)
        else:
            runs.append((index, [signal]))
    files = []
    for first, members in runs:
        file = claimed.get(beside(at, members[0].file))
        if file is None:
            raise ConversionError("missing_file", where=f"signal {first}")
        check_inside(file, at)
        files.append(SignalFile(file, tuple(members), first, sum(s.samples_per_frame for s in members)))
    if len({part.file.key for part in files}) < len(files):
        raise ConversionError("invalid_header", "The signals of one file must follow each other.")
    return files


def _check_signals(signals: Sequence[WfdbSignal], present: Sequence[int]) -> None:
    """Refuse what cannot be done right."""
    for index in present:
        signal = signals[index]
        if not safe_name(signal.file):
            raise ConversionError("path_escape", where=f"signal {index}")
        if signal.format not in FORMATS:
            raise ConversionError("unsupported_wfdb_format", f"Found format {signal.format}.", f"signal {index}")
        if signal.skew and signal.skew % signal.samples_per_frame:
            message = f"Found a skew of {signal.skew} samples, no whole number of frames."
            raise ConversionError("unsupported_wfdb_format", message, f"signal {index}")


def _check_file(part: SignalFile) -> None:
    where = f"file of signal {part.first}"
    if len({signal.format for signal in part.signals}) > 1:
        raise ConversionError("invalid_header", "The signals of one file must have one format.", where)
    if len({s.byte_offset for s in part.signals if s.byte_offset is not None}) > 1:
        raise ConversionError("invalid_header", "The signals of one file must have one byte offset.", where)
    if part.file.size == 0:
        raise ConversionError("empty_file", where=where)
    if part.skewed and len({signal.skew for signal in part.signals}) > _MAX_SKEWS:
        message = f"Found more than {_MAX_SKEWS} different skews in one file."
        raise ConversionError("unsupported_wfdb_format", message, where)
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
            return int(open_flac(stack, part).frames) // part.signals[0].samples_per_frame
    return samples_in(part.format, max(0, part.file.size - part.byte_offset)) // part.frame_samples


def _trailing(part: SignalFile, n_frames: int) -> bool:
    """Whether bytes follow the declared frames, but for the padding of a packed unit."""
    form = FORMATS[part.format]
    used = part.byte_offset + bytes_of(part.format, n_frames * part.frame_samples)
    return part.file.size - used >= (form.unit_bytes if form.unit_samples > 1 else 1)


def open_flac(stack: ExitStack, part: SignalFile) -> Any:
    """A signal file of formats 508, 516 and 524, checked to be what the header says."""
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
