"""Bare arrays in HDF5, NPZ, NPY and pickle files, as a recipe's ``arrays`` describes them (``ArraySource``).

A file is of this converter only where a recipe says so (``array_sources``): bytes alone do not tell what an array
is. Arrays of one rate, dtype and length are one stream, the others streams of their own. Half floats are stored as
float32, truth values as uint8, both without loss; whole numbers of 64 bits are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import quote

import h5py
import numpy as np

from harmonize_converters._array_files import ArrayFile, Sliceable, array_file, sliced
from harmonize_converters._frames import stream_name
from harmonize_converters.channels import canonical_name, modality_of, stream_flags, unit_factor
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
from harmonize_schemas import ArraySource, ArrayStream, Channel, Segment, SignalStream

MAX_RECORDS = 10_000_000
SCAN_BYTES = 1 << 22
_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})
_WIDER = {"float16": "float32", "bool": "uint8"}


@dataclass(frozen=True, slots=True)
class _Part:
    """One array of a recipe as far as it is one record: samples ``start`` to ``stop`` of its time axis."""

    spec: ArrayStream
    dtype: str
    start: int
    stop: int


class ArraysConverter:
    """Arrays that a recipe describes; one file is one recording, or as many as its record axis is long."""

    name = "arrays"
    version = "2"
    suffixes: frozenset[str] = frozenset()

    def recognize(self, head: bytes, name: str) -> bool:
        """Never: only a recipe can say what an array is."""
        return False

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """None; see ``array_sources``."""
        return []

    def describe(self, source: SourceFiles) -> Described:
        """Shapes and dtypes; where the recipe names a padding, also the samples at both ends."""
        spec = _spec(source)
        opened = array_file(source.primary)
        groups, first_s = _streams(opened, spec, source.member)
        streams: list[SignalStream] = []
        for parts in groups:
            rate_hz, n_samples = Fraction(parts[0].spec.rate_hz), parts[0].stop - parts[0].start
            name = stream_name(rate_hz)
            again = sum(one.rate_hz == rate_hz for one in streams)
            onset_s = parts[0].start / float(rate_hz) - first_s
            stream = SignalStream(
                name=f"{name}_{again + 1}" if again else name,
                rate_hz=rate_hz,
                dtype=parts[0].dtype,
                n_samples=n_samples,
                channels=tuple(_channel(label, one.spec) for one in parts for label in one.spec.channels),
                segments=(Segment(start=0, n_samples=n_samples, onset_s=onset_s),),
            )
            streams.append(stream)
        description = Description(
            format=opened.kind,
            modality=modality_of(channel.type for stream in streams for channel in stream.channels),
            streams=tuple(streams),
            duration_s=max(stream.segments[0].onset_s + stream.duration_s for stream in streams),
            flags=tuple(sorted(stream_flags(streams))),
            libraries={"numpy": np.__version__} | ({"h5py": h5py.__version__} if "HDF5" in opened.kind else {}),
        )
        return Described(description, Identity(), opened.texts())

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some samples of all channels of a stream at a time."""
        spec = _spec(source)
        groups, _ = _streams(array_file(source.primary), spec, source.member)
        found = [(one.dtype, one.stop - one.start) for one, *_ in groups]
        if found != [(stream.dtype, stream.n_samples) for stream in description.streams]:
            raise ConversionError("source_changed")
        for index, (parts, stream) in enumerate(zip(groups, description.streams, strict=True)):
            at_once = max(1, block_bytes // (np.dtype(stream.dtype).itemsize * len(stream.channels)))
            for start in range(0, stream.n_samples, at_once):
                count = min(at_once, stream.n_samples - start)
                opened = array_file(source.primary)
                record = _record(opened, spec, source.member)
                rows = [_samples(opened, one, record, one.start + start, count) for one in parts]
                yield Block(index, start, np.concatenate(rows) if len(rows) > 1 else rows[0])

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Runs of the states that the recipe's ``events`` map names."""
        spec = _spec(source)
        if spec.events is None:
            return
        opened = array_file(source.primary)
        _, first_s = _streams(opened, spec, source.member)
        states = opened.array(spec.events.samples)
        record = _record(opened, spec, source.member)
        if len(states.shape) != (1 if record is None else 2):
            raise ConversionError("invalid_header", "The states have another number of axes.", "events")
        values = sliced(states, (slice(None),) if record is None else (record, slice(None)))
        rate_hz = float(spec.events.rate_hz)
        edges = np.flatnonzero(values[1:] != values[:-1]) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True):
            text = _text(values[start]) if stop > start else ""
            if label := spec.events.map.get(text):
                yield FoundAnnotation(start / rate_hz - first_s, (stop - start) / rate_hz, text, label)


def array_sources(file: FoundFile, spec: ArraySource) -> list[SourceFiles]:
    """A file that a recipe's ``arrays`` names, to one source a record. A file that cannot be read is one source,
    and ``describe`` says why."""
    whole = SourceFiles(ArraysConverter.name, file.key, (file,), ("arrays",), None, spec)
    if "record" not in spec.streams[0].axes:
        return [whole]
    try:
        members = _members(array_file(file), spec)
    except ConversionError:
        return [whole]
    return [
        SourceFiles(whole.converter, f"{file.key}#{quote(member, safe='')}", whole.files, whole.roles, member, spec)
        for member in members
    ]


def _spec(source: SourceFiles) -> ArraySource:
    if source.arrays is None:
        raise ConversionError("invalid_header", "No recipe says what these arrays are.")
    return source.arrays


def _members(opened: ArrayFile, spec: ArraySource) -> list[str]:
    """The records of a file by name: the array ``ids``, else their numbers."""
    if "members" not in opened.memory:
        first = spec.streams[0]
        shape = opened.array(first.samples).shape
        count = shape[first.axes.index("record")] if len(shape) == len(first.axes) else 0
        if not 0 < count <= MAX_RECORDS:
            raise ConversionError("invalid_header", "There are no records.", "record axis")
        members = [str(number) for number in range(count)]
        if spec.ids is not None:
            ids = opened.array(spec.ids)
            if ids.shape not in ((count,), (count, 1)):
                raise ConversionError("invalid_header", f"There are {count} records and ids of {ids.shape}.", "ids")
            members = [_text(one) for one in sliced(ids, (slice(None),)).ravel()]
        opened.memory["members"] = members
    found: list[str] = opened.memory["members"]
    return found


def _record(opened: ArrayFile, spec: ArraySource, member: str | None) -> int | None:
    """The number of a record; None where the file is one recording. Of ids that repeat the first counts."""
    if "record" not in spec.streams[0].axes:
        return None
    members = _members(opened, spec)
    if "numbers" not in opened.memory:
        opened.memory["numbers"] = {name: number for number, name in reversed(list(enumerate(members)))}
    number: int | None = opened.memory["numbers"].get(member)
    if number is None:
        raise ConversionError("source_changed", "The record is not there.")
    return number


def _streams(opened: ArrayFile, spec: ArraySource, member: str | None) -> tuple[list[list[_Part]], float]:
    """Arrays put together that are one stream, and the s from the start of the arrays to the first sample."""
    key = ("streams", member)
    if key not in opened.memory:
        record = _record(opened, spec, member)
        groups: dict[tuple[object, ...], list[_Part]] = {}
        for stream in spec.streams:
            array = opened.array(stream.samples)
            part = _trimmed(opened, stream, _dtype(array, stream, record), record)
            groups.setdefault((Fraction(stream.rate_hz), part.dtype, part.start, part.stop), []).append(part)
        found = list(groups.values())
        opened.memory[key] = found, min(parts[0].start / float(parts[0].spec.rate_hz) for parts in found)
    answer: tuple[list[list[_Part]], float] = opened.memory[key]
    return answer


def _dtype(array: Sliceable, stream: ArrayStream, record: int | None) -> str:
    """The dtype to store. Raises ``ConversionError`` for arrays that are not what the recipe says."""
    if len(array.shape) != len(stream.axes):
        raise ConversionError("invalid_header", f"Found {len(array.shape)} axes and not {len(stream.axes)}.", "axes")
    shape = dict(zip(stream.axes, array.shape, strict=True))
    if shape.get("channel", 1) != len(stream.channels):
        raise ConversionError("invalid_header", f"Found {shape.get('channel', 1)} channels.", "channels")
    if record is not None and not record < shape["record"]:
        raise ConversionError("truncated", "An array has fewer records than others.")
    if shape["time"] < 1:
        raise ConversionError("empty_file", "There are no samples.")
    dtype = _WIDER.get(array.dtype.name, array.dtype.name)
    if dtype not in _DTYPES:
        raise ConversionError("unsupported_dtype", f"Found samples {dtype}.")
    return dtype


def _trimmed(opened: ArrayFile, stream: ArrayStream, dtype: str, record: int | None) -> _Part:
    """A record without the padding at its ends: runs over all channels of the value that the recipe names."""
    array = opened.array(stream.samples)
    length = array.shape[stream.axes.index("time")]
    whole = _Part(stream, dtype, 0, length)
    if stream.padding is None:
        return whole
    step = max(1, SCAN_BYTES // (np.dtype(dtype).itemsize * len(stream.channels)))
    bounds: list[int] = []
    for starts in (range(0, length, step), range((length - 1) // step * step, -1, -step)):
        for start in starts:
            samples = _samples(opened, whole, record, start, min(step, length - start))
            held = np.flatnonzero((samples != stream.padding).any(axis=0))
            if len(held):
                bounds.append(start + int(held[0] if not bounds else held[-1] + 1))
                break
        else:
            raise ConversionError("empty_file", "The record holds nothing but padding.")
    return _Part(stream, dtype, *bounds)


def _samples(opened: ArrayFile, part: _Part, record: int | None, start: int, count: int) -> np.ndarray:
    """``count`` samples from ``start`` of the time axis, (channel, time)."""
    axes = part.spec.axes
    where: dict[str, int | slice] = {"time": slice(start, start + count), "channel": slice(None)}
    if record is not None:
        where["record"] = record
    found = sliced(opened.array(part.spec.samples), tuple(where[axis] for axis in axes))
    left = [axis for axis in axes if axis != "record"]
    if left == ["time"]:
        found = found[np.newaxis]
    elif left == ["time", "channel"]:
        found = found.T
    if found.shape != (len(part.spec.channels), count):
        raise ConversionError("truncated", "Samples are missing.")
    return np.ascontiguousarray(found, np.dtype(part.dtype))


def _channel(label: str, spec: ArrayStream) -> Channel:
    known = canonical_name(label)
    unit, factor, _ = unit_factor(spec.unit, known.type)
    return Channel(
        label=label,
        unit_found=spec.unit,
        unit=unit,
        scale=spec.scale * factor,
        offset=0.0,
        **known.fields(),
    )


def _text(value: object) -> str:
    """An id or a state as text: whole numbers without a point, bytes as Latin-1."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
