"""EDF, EDF+, BDF and BDF+: recordings with their gaps, rates, annotations and triggers (FIDELITY S01-S07)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import BinaryIO

import numpy as np

from harmonize_converters._edf_events import annotation_events, trigger_events
from harmonize_converters._edf_header import EdfSignal, is_edf, parse_prefilter, who
from harmonize_converters._edf_layout import Layout, read_layout
from harmonize_converters._edf_onsets import RecordRun, drifts, record_runs
from harmonize_converters._edf_read import fill_onsets, layout_tolerance_s, read_blocks, read_onset, read_onsets
from harmonize_converters._frames import stream_name
from harmonize_converters._open import check_size, opened
from harmonize_converters.channels import Name, canonical_names, modality_of, stream_flags, unit_factor
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

_PSG = re.compile(r"(.+).-PSG\.edf", re.IGNORECASE)
_HYPNOGRAM = re.compile(r"(.+).-Hypnogram\.edf", re.IGNORECASE)
"""Sleep-EDF names: one letter of a night's files differs, SC4001E0-PSG.edf and SC4001EC-Hypnogram.edf."""


class EdfConverter:
    """EDF(+) and BDF(+) files, one recording each; a hypnogram of Sleep-EDF joins its polysomnogram."""

    name = "edf"
    version = "3"
    suffixes = frozenset({".edf", ".bdf", ".rec"})

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether the version field is that of EDF or BDF and the header's size is possible."""
        return is_edf(head)

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """Every file is a source of its own, but the hypnograms whose polysomnogram lies beside them."""
        nights: dict[str, list[FoundFile]] = {}
        for file in files:
            if night := _night(file, _HYPNOGRAM):
                nights.setdefault(night, []).append(file)
        sources, joined = [], set()
        for file in files:
            hypnograms = sorted(nights.get(_night(file, _PSG) or "", []), key=lambda one: one.key)
            joined |= {one.key for one in hypnograms}
            roles = ("signal", *("hypnogram" for _ in hypnograms))
            sources.append(SourceFiles(self.name, file.key, (file, *hypnograms), roles))
        return [source for source in sources if source.key not in joined]

    def describe(self, source: SourceFiles) -> Described:
        """The header, and onsets of data records: of the first and the last, of all where these leave a gap."""
        with opened(source.primary) as handle:
            layout = read_layout(handle, source.primary.size)
            runs, flags = _runs(handle, layout)
        header = layout.header
        streams = tuple(_stream(layout, index, runs) for index in range(len(layout.streams)))
        channels = [channel for stream in streams for channel in stream.channels]
        flags |= stream_flags(streams)
        if header.n_records == -1:
            flags.add("record_count_missing")
        if layout.truncated:
            flags.add("truncated")
        if layout.trailing_bytes:
            flags.add("trailing_bytes")
        if header.start is None:
            flags.add("invalid_start_date")
        identity, demographics = who(header)
        last = runs[-1]
        end_s = last.onset_s + last.count * float(header.record_s)
        description = Description(
            format=header.kind,
            modality=modality_of(channel.type for channel in channels),
            streams=streams,
            demographics=demographics,
            duration_s=end_s - runs[0].onset_s if streams else None,
            flags=tuple(sorted(flags)),
            libraries={"numpy": np.__version__},
        )
        return Described(description, identity, {"patient": header.patient, "recording": header.recording})

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Whole data records at a time; parts of one where a record is larger than ``block_bytes``."""
        with opened(source.primary) as handle:
            layout = read_layout(handle, source.primary.size)
            shape = [(len(s.channels), s.n_samples) for s in description.streams]
            found = [(len(s), layout.n_records * layout.samples(i)) for i, s in enumerate(layout.streams)]
            if shape != found:
                raise ConversionError("source_changed", "The header is not the one that was described.")
            if description.streams:
                yield from read_blocks(handle, layout, _described_runs(layout, description), block_bytes)
            check_size(handle, source.primary)

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """All texts of all annotation signals and of a hypnogram, and the triggers of a BioSemi Status channel,
        by onset from the start of the recording's file."""
        start, events = read_annotations(source.primary)
        for file in source.files[1:]:
            beside, more = read_annotations(file)
            if start is None or beside is None:
                raise ConversionError("invalid_header", "The hypnogram's start relative to the signals is unknown.")
            shift_s = (beside - start).total_seconds()
            events.extend(one.at(one.onset_s + shift_s) for one in more)
        with opened(source.primary) as handle:
            layout = read_layout(handle, source.primary.size)
            if layout.header.bdf and layout.streams:
                events.extend(trigger_events(handle, layout, _described_runs(layout, description)))
        yield from sorted(events, key=lambda event: event.onset_s)


def read_annotations(file: FoundFile) -> tuple[datetime | None, list[FoundAnnotation]]:
    """When a file starts, and its texts by onset from there; for a file of annotations alone, too (hypnograms)."""
    with opened(file) as handle:
        layout = read_layout(handle, file.size)
        return layout.header.start, annotation_events(handle, layout)


def _night(file: FoundFile, pattern: re.Pattern[str]) -> str | None:
    """What a file's key has in common with the other file of the night; None for other names."""
    found = pattern.fullmatch(file.key)
    return found[1].casefold() if found else None


def _runs(handle: BinaryIO, layout: Layout) -> tuple[list[RecordRun], set[str]]:
    """Gap-free runs of records, and flags that follow from their onsets.

    Onsets only grow, so first and last tell whether there is any gap; what they cannot tell (a gap that an
    overlap makes up for) is refused when the samples are read.
    """
    header, n, record_s = layout.header, layout.n_records, float(layout.header.record_s)
    declared = header.kind.endswith("D")
    if not layout.annotations:
        if declared:
            message = "A discontinuous file must have an annotation signal with the onsets of its records."
            raise ConversionError("invalid_header", message, "byte 192")
        return [RecordRun(0, n, 0.0)], set()
    first_s, last_s = (read_onset(handle, layout, at) for at in (0, n - 1))
    if declared and np.isnan([first_s, last_s]).any():
        raise ConversionError("corrupt", "A data record has no onset.", "first or last data record")
    first_s = 0.0 if np.isnan(first_s) else first_s
    tolerance = layout_tolerance_s(layout)
    if not layout.streams or np.isnan(last_s) or abs(last_s - first_s - (n - 1) * record_s) <= tolerance:
        return [RecordRun(0, n, first_s)], set()
    onsets = read_onsets(handle, layout, 0, n)
    onsets = fill_onsets(onsets, first_s - record_s, record_s, declared, 0)
    runs = record_runs(onsets, record_s, tolerance)
    flags = {"clock_drift"} if drifts(onsets, runs, record_s, tolerance) else set()
    return runs, flags | ({"gaps_undeclared"} if len(runs) > 1 and not declared else set())


def _stream(layout: Layout, index: int, runs: Sequence[RecordRun]) -> SignalStream:
    samples = layout.samples(index)
    rate_hz = samples / layout.header.record_s
    # All signals of the file tell what one label means.
    names = canonical_names([signal.label for signal in layout.header.signals])
    return SignalStream(
        name=stream_name(rate_hz),
        rate_hz=rate_hz,
        dtype=layout.dtype,
        n_samples=layout.n_records * samples,
        channels=tuple(
            _channel(layout.header.signals[signal], names[signal], layout.header.bdf)
            for signal in layout.streams[index]
        ),
        segments=tuple(
            Segment(start=run.first * samples, n_samples=run.count * samples, onset_s=run.onset_s) for run in runs
        ),
    )


def _described_runs(layout: Layout, description: Description) -> list[RecordRun]:
    """The runs that a description's segments say."""
    samples = layout.samples(0)
    segments = description.streams[0].segments
    return [RecordRun(one.start // samples, one.n_samples // samples, one.onset_s) for one in segments]


@lru_cache(maxsize=4096)  # the channels of a data set repeat from file to file
def _channel(signal: EdfSignal, name: Name, bdf: bool) -> Channel:
    unit, scale, offset = None, 1.0, 0.0
    trigger = name.type == "trigger"
    # BioSemi's Status is bits, whatever ranges the header gives. Of EDF, the header's line makes the codes.
    bits = trigger and bdf
    calibration = None if bits else signal.calibration()
    if calibration is not None:
        # A code has no unit, though some headers give one.
        unit, factor, _ = (None, 1.0, None) if trigger else unit_factor(signal.unit, name.type)
        gain, zero = calibration
        scale, offset = float(gain) * factor, float(zero) * factor
    return Channel(
        label=signal.label,
        unit_found=signal.unit,
        unit=unit,
        scale=scale,
        offset=offset,
        calibrated=bits or calibration is not None,
        digital_min=signal.digital_min,
        digital_max=signal.digital_max,
        physical_min=None if signal.physical_min is None else float(signal.physical_min),
        physical_max=None if signal.physical_max is None else float(signal.physical_max),
        prefilter=parse_prefilter(signal.prefilter),
        **name.fields(),
    )
