"""BrainVision recordings: a header (.vhdr), its samples (.eeg) and its markers (.vmrk) (FIDELITY S05, S12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np

from harmonize_converters._brainvision_header import (
    MAX_HEADER_BYTES,
    BvChannel,
    BvHeader,
    Marker,
    is_header,
    parse_header,
    parse_markers,
)
from harmonize_converters._frames import stream_name
from harmonize_converters._open import check_size, opened, read_at
from harmonize_converters._wfdb_header import safe_name
from harmonize_converters.channels import Name, canonical_names, modality_of, stream_flags, unit_factor
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
from harmonize_schemas import Channel, Segment, SignalStream

NEW_SEGMENT = "new segment"
_DRIFT = 1e-4
"""How far a computer's clock may run from the amplifier's: by so much may a segment's date lie before the end of
the segment before."""


class BrainVisionConverter:
    """BrainVision Core Data Format 1.0 and 2.0: one header is one recording."""

    name = "brainvision"
    version = "2"
    suffixes = frozenset({".vhdr"})

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether the first line is that of a BrainVision header file."""
        return is_header(head)

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """A header claims the data file and the marker file that it names."""
        return [self._source(file, siblings) for file in files]

    def _source(self, file: FoundFile, siblings: Mapping[str, FoundFile]) -> SourceFiles:
        members: list[tuple[FoundFile, str]] = [(file, "header")]
        try:
            header = _read_header(file)
        except ConversionError:
            header = None  # describe will say why
        for name, role in ((header.data_file, "signal"), (header.marker_file, "markers")) if header else ():
            key = file.key[: file.key.rfind("/") + 1] + name
            if name and safe_name(name) and key in siblings and key != file.key:
                members.append((siblings[key], role))
        found, roles = zip(*members, strict=True)
        return SourceFiles(self.name, file.key, found, roles)

    def describe(self, source: SourceFiles) -> Described:
        """The header, the size of the data file, and where markers say that recording was interrupted."""
        header = _read_header(source.primary)
        n_samples, trailing = _length(source, header)
        markers = _markers(source, header)
        segments, known = _segments(markers, n_samples, float(header.rate_hz))
        names = canonical_names([channel.name for channel in header.channels])
        stream = SignalStream(
            name=stream_name(header.rate_hz),
            rate_hz=header.rate_hz,
            dtype=header.dtype,
            n_samples=n_samples,
            channels=tuple(
                _channel(channel, name, header.dtype) for channel, name in zip(header.channels, names, strict=True)
            ),
            segments=segments,
        )
        flags = stream_flags([stream])
        flags |= {"trailing_bytes"} if trailing else set()
        flags |= set() if known else {"gap_unknown"}
        description = Description(
            format="BrainVision",
            modality=modality_of(channel.type for channel in stream.channels),
            streams=(stream,),
            duration_s=segments[-1].onset_s + segments[-1].n_samples / float(header.rate_hz),
            flags=tuple(sorted(flags)),
            libraries={"numpy": np.__version__},
        )
        start = next((m.date for m in markers if m.at == 0 and _begins_segment(m)), None)
        return Described(description, Identity(start=start), header.texts)

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some samples of all channels at a time."""
        header = _read_header(source.primary)
        (stream,) = description.streams
        n_samples, _ = _length(source, header)
        if (n_samples, len(header.channels), header.dtype) != (stream.n_samples, len(stream.channels), stream.dtype):
            raise ConversionError("source_changed", "The header is not the one that was described.")
        at_once = max(1, block_bytes // (np.dtype(header.dtype).itemsize * len(header.channels)))
        file = _member(source, "signal")
        with opened(file) as handle:
            for start in range(0, n_samples, at_once):
                count = min(at_once, n_samples - start)
                yield Block(0, start, _samples(handle, header, n_samples, start, count))
            check_size(handle, file)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Markers as "type/description", at their sample's time; "New Segment" is the segments' business."""
        (stream,) = description.streams
        rate_hz = float(stream.rate_hz)
        starts = [segment.start for segment in stream.segments]
        for marker in _markers(source, _read_header(source.primary)):
            if _begins_segment(marker):
                continue
            segment = stream.segments[max(0, int(np.searchsorted(starts, marker.at, side="right")) - 1)]
            onset_s = segment.onset_s + (marker.at - segment.start) / rate_hz
            duration_s = None if marker.size is None else marker.size / rate_hz
            text = "/".join(filter(None, (marker.kind, marker.text))) or None
            channel = marker.channel - 1 if 0 < marker.channel <= len(stream.channels) else None
            yield FoundAnnotation(onset_s, duration_s, text, None, channel)


def _read_header(file: FoundFile) -> BvHeader:
    return parse_header(_whole(file), file.path.stem)


def _whole(file: FoundFile) -> bytes:
    if file.size > MAX_HEADER_BYTES:
        raise ConversionError("implausible_size", f"Found {file.size} bytes, too many for a text of BrainVision.")
    with opened(file) as handle:
        return read_at(handle, 0, file.size)


def _member(source: SourceFiles, role: str) -> FoundFile:
    """A file that the header names, which must be there, in the header's folder or below."""
    header = _read_header(source.primary)
    name = header.data_file if role == "signal" else header.marker_file
    if not safe_name(name):
        raise ConversionError("path_escape", where=role)
    for file, found in zip(source.files, source.roles, strict=True):
        if found == role:
            if not file.path.resolve().is_relative_to(source.primary.path.parent.resolve()):
                raise ConversionError("path_escape", "The file is a link out of the header's folder.", role)
            return file
    raise ConversionError("missing_file", where=role)


def _length(source: SourceFiles, header: BvHeader) -> tuple[int, bool]:
    """Samples of each channel, and whether bytes follow them."""
    size = _member(source, "signal").size
    frame = len(header.channels) * np.dtype(header.dtype).itemsize
    found, rest = divmod(size, frame)
    n_samples = header.data_points or found
    if found < n_samples or (rest and header.data_points is None) or n_samples == 0:
        raise ConversionError("truncated", f"Found {size} bytes, no whole number of samples or fewer than declared.")
    return n_samples, size > n_samples * frame


def _samples(handle: BinaryIO, header: BvHeader, n_samples: int, start: int, count: int) -> np.ndarray:
    """``count`` samples from ``start`` on, (channel, time)."""
    dtype = np.dtype(header.dtype).newbyteorder(">" if header.big_endian else "<")
    n, width = len(header.channels), dtype.itemsize
    if not header.vectorized:
        raw = read_at(handle, start * n * width, count * n * width)
        return np.ascontiguousarray(np.frombuffer(raw, dtype).reshape(count, n).T.astype(header.dtype, copy=False))
    out = np.empty((n, count), header.dtype)
    for channel in range(n):
        raw = read_at(handle, (channel * n_samples + start) * width, count * width)
        out[channel] = np.frombuffer(raw, dtype)
    return out


def _markers(source: SourceFiles, header: BvHeader) -> tuple[Marker, ...]:
    return parse_markers(_whole(_member(source, "markers"))) if header.marker_file else ()


def _begins_segment(marker: Marker) -> bool:
    return marker.kind.casefold() == NEW_SEGMENT


def _segments(markers: Sequence[Marker], n_samples: int, rate_hz: float) -> tuple[tuple[Segment, ...], bool]:
    """Gap-free runs, and whether it is known when each began.

    Each "New Segment" begins one, at its date. Where a date is missing or lies before the end of the
    segment before (by more than a sample and what clocks drift), the run follows at once and the gap is
    unknown.
    """
    dates = {0: None} | {m.at: m.date for m in markers if _begins_segment(m) and 0 <= m.at < n_samples}
    starts = sorted(dates)
    segments: list[Segment] = []
    known = True
    ends_s, last = 0.0, dates[0]
    for start, end in zip(starts, [*starts[1:], n_samples], strict=True):
        onset_s, date = ends_s, dates[start]
        if segments:
            length_s = segments[-1].n_samples / rate_hz
            gap_s = (date - last).total_seconds() - length_s if date and last else None
            if gap_s is None or gap_s < -max(1 / rate_hz, _DRIFT * length_s):
                known = False
            elif gap_s > 1 / rate_hz:
                onset_s += gap_s
        segments.append(Segment(start=start, n_samples=end - start, onset_s=onset_s))
        ends_s, last = onset_s + (end - start) / rate_hz, date
    return tuple(segments), known


def _channel(channel: BvChannel, name: Name, dtype: str) -> Channel:
    calibrated = name.type == "trigger" or channel.resolution != 0
    unit, scale = None, 1.0
    if calibrated and name.type != "trigger":  # triggers are codes, not quantities
        unit, factor, _ = unit_factor(channel.unit, name.type)
        scale = float(channel.resolution) * factor
    limits = np.iinfo(dtype) if dtype in ("int16", "uint16") else None  # a converter of 32 bits has other rails
    return Channel(
        label=channel.name,
        unit_found=channel.unit,
        unit=unit,
        scale=scale,
        offset=0.0,
        calibrated=calibrated,
        digital_min=None if limits is None else int(limits.min),
        digital_max=None if limits is None else int(limits.max),
        prefilter=channel.prefilter,
        **(name.fields() | {"reference": channel.reference or name.reference}),
        position=channel.position,
    )
