"""WFDB records of one segment: PhysioNet headers, signal files and annotations (FIDELITY S08-S10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

import numpy as np

from harmonize_converters._frames import stream_name
from harmonize_converters._open import opened, read_at
from harmonize_converters._wfdb_annotations import label_of, parse_annotations
from harmonize_converters._wfdb_decode import FORMATS
from harmonize_converters._wfdb_header import (
    MAX_HEADER_BYTES,
    WfdbHeader,
    WfdbSignal,
    check_supported,
    is_header,
    parse_header,
    safe_name,
)
from harmonize_converters._wfdb_samples import Layout, lay_out, read_blocks
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
from harmonize_schemas import Channel, Segment, SignalStream

ANNOTATORS = frozenset(
    {
        "16a",
        "ann",
        "anI",
        "apn",
        "ari",
        "atr",
        "ecg",
        "gqrs",
        "gqrsh",
        "gqrsl",
        "man",
        "pu",
        "pu0",
        "pu1",
        "pwave",
        "q1c",
        "q2c",
        "qrs",
        "qrsc",
        "qt1",
        "sqrs",
        "sta",
        "stb",
        "stc",
        "stf",
        "wabp",
        "wqrs",
    }
)
"""Suffixes of annotation files (annotator names used on PhysioNet); a sibling of another suffix is none."""
MAX_ANNOTATION_BYTES = 1 << 28


class WfdbConverter:
    """WFDB records: a header, its signal files and the annotation files beside it."""

    name = "wfdb"
    version = "1"
    suffixes = frozenset({".hea"})

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether the first line that is no comment is a record line that names the file itself."""
        return is_header(head, name.rsplit(".", 1)[0])

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """A header claims its signal files and annotation files; a multi-segment header also the headers
        of its segments, which are then no sources of their own."""
        by_key = {file.key: file for file in files}
        headers = {file.key: _try_header(file) for file in files}
        claimed = {
            key
            for file in files
            if (header := headers[file.key]) is not None
            for segment in header.segments
            if (key := _beside(file, f"{segment}.hea")) in by_key and key != file.key
        }
        return [self._source(file, headers, by_key, siblings) for file in files if file.key not in claimed]

    def _source(
        self,
        file: FoundFile,
        headers: Mapping[str, WfdbHeader | None],
        by_key: Mapping[str, FoundFile],
        siblings: Mapping[str, FoundFile],
    ) -> SourceFiles:
        members: dict[str, tuple[FoundFile, str]] = {}
        header = headers[file.key]
        for segment in header.segments if header else ():
            key = _beside(file, f"{segment}.hea")
            if key in by_key and key != file.key:
                members[key] = (by_key[key], "segment")
                _claim_signals(by_key[key], headers[key], siblings, members)
        _claim_signals(file, header, siblings, members)
        stem = file.key.rsplit(".", 1)[0]
        for suffix in sorted(ANNOTATORS):
            if (key := f"{stem}.{suffix}") in siblings:
                members.setdefault(key, (siblings[key], f"annotations:{suffix}"))
        members.pop(file.key, None)
        found = list(members.values())
        return SourceFiles(
            self.name, file.key, (file, *(f for f, _ in found)), ("header", *(role for _, role in found))
        )

    def describe(self, source: SourceFiles) -> Described:
        """The header, and the sizes of its signal files."""
        header = _read_header(source.primary)
        layout = _layout(source, header)
        streams = tuple(_stream(layout, index) for index in range(len(layout.streams)))
        channels = [channel for stream in streams for channel in stream.channels]
        flags = stream_flags(streams)
        if not all(signal.gain_given for signal in header.signals):
            flags.add("default_gain")
        if any(signal.checksum is None for signal in header.signals):
            flags.add("checksum_absent")
        if header.n_frames is None:
            flags.add("record_count_missing")
        if layout.trailing_bytes:
            flags.add("trailing_bytes")
        if header.start_invalid:
            flags.add("invalid_start_date")
        libraries = {"numpy": np.__version__}
        if any(FORMATS[signal.format].compressed for signal in header.signals):
            libraries["soundfile"] = version("soundfile")
        description = Description(
            format="WFDB",
            modality=modality_of(channel.type for channel in channels),
            streams=streams,
            demographics=header.demographics,
            duration_s=float(layout.n_frames / header.rate_hz),
            flags=tuple(sorted(flags)),
            libraries=libraries,
        )
        return Described(description, Identity(start=header.start), header.fields)

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some frames at a time, in all streams; sums are compared with the header's after the last."""
        layout = _layout(source, _read_header(source.primary))
        shape = [(len(s.channels), s.n_samples) for s in description.streams]
        found = [(len(s), layout.n_frames * layout.width(i)) for i, s in enumerate(layout.streams)]
        if shape != found:
            raise ConversionError("source_changed", "The header is not the one that was described.")
        yield from read_blocks(layout, block_bytes)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Events of one annotation file: "atr", the reference annotations, else the first by name."""
        named = {
            role.partition(":")[2]: file
            for file, role in zip(source.files, source.roles, strict=True)
            if role.startswith("annotations:")
        }
        if not named:
            return
        header = _read_header(source.primary)
        file = named.get("atr") or named[min(named)]
        if file.size > MAX_ANNOTATION_BYTES:
            raise ConversionError("implausible_size", where="annotations")
        with opened(file) as handle:
            parsed = parse_annotations(read_at(handle, 0, file.size))
        rate_hz = parsed.resolution or header.rate_hz
        order = {index: at for at, index in enumerate(_layout(source, header).places())}
        for mark in sorted(parsed.marks, key=lambda mark: mark.time):
            label, text = label_of(mark, parsed.defined)
            channel = None if mark.channel is None else order.get(mark.channel)
            yield FoundAnnotation(float(mark.time / rate_hz), None, text, label, channel)


def _read_header(file: FoundFile) -> WfdbHeader:
    if file.size > MAX_HEADER_BYTES:
        raise ConversionError("invalid_header", f"Found {file.size} bytes, too many for a header.")
    with opened(file) as handle:
        return parse_header(read_at(handle, 0, file.size))


def _try_header(file: FoundFile) -> WfdbHeader | None:
    """For grouping, which never raises: what is wrong with a header, ``describe`` will say."""
    try:
        return _read_header(file)
    except ConversionError:
        return None


def _beside(file: FoundFile, name: str) -> str:
    """The key of a file in the folder of another."""
    return file.key[: file.key.rfind("/") + 1] + name


def _claim_signals(
    file: FoundFile,
    header: WfdbHeader | None,
    siblings: Mapping[str, FoundFile],
    members: dict[str, tuple[FoundFile, str]],
) -> None:
    for signal in header.signals if header else ():
        key = _beside(file, signal.file)
        if safe_name(signal.file) and key in siblings:
            members.setdefault(key, (siblings[key], "signal"))


def _layout(source: SourceFiles, header: WfdbHeader) -> Layout:
    check_supported(header)
    claimed = [file for file, role in zip(source.files, source.roles, strict=True) if role == "signal"]
    folder = source.primary.path.parent
    inside = folder.resolve()
    for file in claimed:
        if not file.path.resolve().is_relative_to(inside):
            raise ConversionError("path_escape", "A signal file is a link out of the header's folder.")
    return lay_out(header, folder, claimed)


def _stream(layout: Layout, index: int) -> SignalStream:
    rate_hz = layout.rate_hz(index)
    n_samples = layout.n_frames * layout.width(index)
    return SignalStream(
        name=stream_name(rate_hz),
        rate_hz=rate_hz,
        dtype=layout.dtype(index),
        n_samples=n_samples,
        channels=tuple(_channel(layout.header.signals[i]) for i in layout.streams[index]),
        segments=(Segment(start=0, n_samples=n_samples, onset_s=0.0),),
    )


def _channel(signal: WfdbSignal) -> Channel:
    name = canonical_name(signal.description)
    unit, factor, _ = unit_factor(signal.unit, name.type)
    half = 1 << (signal.adc_resolution - 1) if 0 < signal.adc_resolution <= 32 else None
    return Channel(
        label=signal.description,
        unit_found=signal.unit,
        unit=unit,
        scale=float(1 / signal.gain) * factor,
        offset=float(-signal.baseline / signal.gain) * factor,
        calibrated=signal.gain_given,
        digital_min=None if half is None else signal.adc_zero - half,
        digital_max=None if half is None else signal.adc_zero + half - 1,
        missing_value=FORMATS[signal.format].missing,
        **name.fields(),
    )
