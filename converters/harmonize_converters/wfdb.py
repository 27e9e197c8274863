"""WFDB records: PhysioNet headers, signal files, segments and annotations (FIDELITY S08-S10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from harmonize_converters._open import opened, read_at
from harmonize_converters._wfdb_annotations import ANNOTATORS, label_of, parse_annotations
from harmonize_converters._wfdb_decode import FORMATS
from harmonize_converters._wfdb_header import is_header, safe_name
from harmonize_converters._wfdb_layout import beside
from harmonize_converters._wfdb_record import WfdbRecord, load, read_header
from harmonize_converters._wfdb_samples import read_samples
from harmonize_converters._wfdb_segments import signal_streams
from harmonize_converters.channels import modality_of
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
from harmonize_schemas import Demographics

MAX_ANNOTATION_BYTES = 1 << 24
"""Some million annotations, which are held in memory to be sorted."""


class Named(NamedTuple):
    """The files that a header names, each once: of signals, and of segments' headers without their suffix."""

    signals: tuple[str, ...]
    segments: tuple[str, ...]


class WfdbConverter:
    """WFDB records: a header, its signal files or segments, and the annotation files beside it."""

    name = "wfdb"
    version = "2"
    suffixes = frozenset({".hea"})

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether the first line that is no comment is a record line that names the file itself."""
        return is_header(head, name.rsplit(".", 1)[0])

    def peek(self, file: FoundFile) -> Named:
        """The files that a header names."""
        try:
            header = read_header(file)
        except ConversionError:  # describe will say why
            return Named((), ())
        signals = dict.fromkeys(signal.file for signal in header.signals)
        return Named(tuple(signals), tuple(dict.fromkeys(segment.name for segment in header.segments)))

    def group(
        self,
        files: Sequence[FoundFile],
        siblings: Mapping[str, FoundFile],
        peeked: Iterable[Named | None] | None = None,
    ) -> list[SourceFiles]:
        """A header claims its signal files and annotation files; a multi-segment header also the headers
        of its segments, which are then no sources of their own."""
        by_key = {file.key: file for file in files}
        found = map(self.peek, files) if peeked is None else peeked
        named = {file.key: one or Named((), ()) for file, one in zip(files, found, strict=True)}
        claimed = {key for file in files for key in _segment_keys(file, named[file.key], by_key)}
        return [self._source(file, named, by_key, siblings) for file in files if file.key not in claimed]

    def _source(
        self,
        file: FoundFile,
        named: Mapping[str, Named],
        by_key: Mapping[str, FoundFile],
        siblings: Mapping[str, FoundFile],
    ) -> SourceFiles:
        members: dict[str, tuple[FoundFile, str]] = {}
        for key in _segment_keys(file, named[file.key], by_key):
            members[key] = (by_key[key], "segment")
            _claim_signals(by_key[key], named[key], siblings, members)
        _claim_signals(file, named[file.key], siblings, members)
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
        """The headers, and the sizes of the signal files."""
        record = load(source)
        found, headers = record.plan, record.headers
        streams, flags = signal_streams(found)
        if not streams and not any(role.startswith("annotations:") for role in source.roles):
            raise ConversionError("no_data")
        layouts = {id(piece.layout): piece.layout for piece in found.pieces}.values()
        signals = [signal for layout in layouts for part in layout.files for signal in part.signals]
        if "uncalibrated" in flags:
            flags.add("default_gain")
        # header(5): without a length, sums are not to be verified.
        if None in {signal.checksum for signal in signals} or None in {
            one.header.n_frames for one in layouts if one.files
        }:
            flags.add("checksum_absent")
        if {signal.skew for signal in signals} - {0}:
            flags.add("skew_corrected")
        if sum(len(layout.header.signals) for layout in layouts) > len(signals):
            flags.add("null_signals")
        if any(layout.trailing_bytes for layout in layouts):
            flags.add("trailing_bytes")
        if streams and record.header.n_frames is None and not record.header.multi_segment:
            flags.add("record_count_missing")
        if record.header.start_invalid:
            flags.add("invalid_start_date")
        libraries = {"numpy": np.__version__}
        if any(FORMATS[number].compressed for number in {signal.format for signal in signals}):
            libraries["soundfile"] = version("soundfile")
        description = Description(
            format="WFDB",
            modality=modality_of(channel.type for stream in streams for channel in stream.channels),
            streams=streams,
            demographics=next((one.demographics for one in headers if one.demographics != _UNKNOWN), _UNKNOWN),
            duration_s=None if found.n_frames is None else float(found.n_frames / found.rate_hz),
            flags=tuple(sorted(flags)),
            libraries=libraries,
        )
        # A record that gives no date begins when its first segment does, as in wfdb's signal.c.
        start = record.header.start or (record.segments[0].start if _begins_at_once(record) else None)
        fields = next((one.fields for one in headers if one.comments), {})
        return Described(description, Identity(start=start), fields)

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Some frames at a time, in all streams, one segment after the other; sums are compared with each
        header's after the segment's last frame."""
        found = load(source).plan
        if [(len(s.channels), s.n_samples) for s in description.streams] != [s.shape for s in found.streams]:
            raise ConversionError("source_changed", "The header is not the one that was described.")
        at = [0] * len(found.streams)
        for piece, members in zip(found.pieces, found.members, strict=True):
            for index, samples in read_samples(piece.layout, block_bytes) if members else ():
                stream = members[index]
                yield Block(stream, at[stream], samples)
                at[stream] += samples.shape[1]

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Events of all annotation files. At one time the reference annotations, "atr", come first."""
        named = {
            role.partition(":")[2]: file
            for file, role in zip(source.files, source.roles, strict=True)
            if role.startswith("annotations:")
        }
        if not named:
            return
        record = load(source)
        events: list[FoundAnnotation] = []
        for annotator in sorted(named, key=lambda name: (name != "atr", name)):
            events.extend(_events(named[annotator], annotator, record))
        yield from sorted(events, key=lambda event: event.onset_s)


_UNKNOWN = Demographics()


def _begins_at_once(record: WfdbRecord) -> bool:
    segments = record.header.segments
    return bool(segments) and not segments[0].null


def _events(file: FoundFile, annotator: str, record: WfdbRecord) -> Iterator[FoundAnnotation]:
    """The events of one annotation file, whose times count from the record's start."""
    if file.size > MAX_ANNOTATION_BYTES:
        raise ConversionError("implausible_size", where=f"annotations {annotator}")
    with opened(file) as handle:
        parsed = parse_annotations(read_at(handle, 0, file.size))
    rate_hz = parsed.resolution or record.header.rate_hz
    channels = {mark.channel: record.plan.channel_of(mark.channel) for mark in parsed.marks}
    for mark in parsed.marks:
        label, text = label_of(mark, parsed.defined)
        yield FoundAnnotation(
            onset_s=float(mark.time / rate_hz),
            duration_s=None,
            text=text,
            label=label,
            channel=channels[mark.channel],
            annotator=annotator,
            subtype=mark.subtype,
            number=mark.number,
        )


def _segment_keys(file: FoundFile, named: Named, known: Mapping[str, FoundFile]) -> list[str]:
    """The keys of the segments' headers that are there, each once."""
    keys = (beside(file, f"{name}.hea") for name in named.segments)
    return [key for key in keys if key in known and key != file.key]


def _claim_signals(
    file: FoundFile, named: Named, siblings: Mapping[str, FoundFile], members: dict[str, tuple[FoundFile, str]]
) -> None:
    for name in named.signals:
        key = beside(file, name)
        if safe_name(name) and key in siblings:
            members.setdefault(key, (siblings[key], "signal"))
