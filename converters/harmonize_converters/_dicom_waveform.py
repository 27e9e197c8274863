"""Waveforms (PS3.3 A.34) to signals: one stream for each multiplex group that was recorded.

The recording starts with the first of its groups. Groups that were computed from others are left out, and samples are
read where they lie, so that a day's recording needs no more memory than a minute's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from io import BytesIO

import numpy as np
from pydicom.dataset import FileDataset

from harmonize_converters import _dicom_subject
from harmonize_converters._dicom_header import meta_uid, opened_header
from harmonize_converters._dicom_leads import KINDS
from harmonize_converters._dicom_multiplex import MOST_CHANNELS, Multiplex, is_derived, multiplex
from harmonize_converters._dicom_pixels import libraries
from harmonize_converters._dicom_recent import Recent
from harmonize_converters._dicom_sequence import sequence_items, size_of
from harmonize_converters._dicom_slice import sop_class_of
from harmonize_converters._dicom_walk import Stream
from harmonize_converters._frames import stream_name
from harmonize_converters._open import opened, read_into
from harmonize_converters.channels import modality_of, stream_flags
from harmonize_converters.contract import Block, ConversionError, Described, Description, SourceFiles
from harmonize_schemas import Segment, SignalStream

SEQUENCE, DATA = 0x54000100, 0x54001010
"""WaveformSequence, and WaveformData in its items."""
TAGS: tuple[str | int, ...] = tuple(dict.fromkeys(("SOPClassUID", *_dicom_subject.TAGS, *_dicom_subject.RECIPE_TAGS)))
_LONGEST_GAP_S = 7 * 24 * 3600
"""Groups of one object that are further apart are not of one recording."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """The groups of one object that were recorded, in stored order, of ``n_groups`` in all, and flags of any.
    ``inflated`` is the file where it was deflated."""

    header: FileDataset
    groups: tuple[Multiplex, ...]
    n_groups: int
    flags: frozenset[str]
    inflated: BytesIO | None

    @property
    def start_s(self) -> float:
        """When the first group begins after the acquisition's time."""
        return float(min(group.offset_s for group in self.groups))

    @property
    def start(self) -> datetime | None:
        """When the first group begins."""
        acquired = _dicom_subject.start(self.header)
        return None if acquired is None else acquired + timedelta(seconds=self.start_s)

    @property
    def duration_s(self) -> float:
        """From the start of the first group to the end of the last."""
        return max(self.onset_s(group) + float(group.n_samples / group.rate_hz) for group in self.groups)

    def onset_s(self, group: Multiplex) -> float:
        """When a group begins after the recording's start."""
        return float(group.offset_s) - self.start_s


_RECENT: Recent[Waveform] = Recent(MOST_CHANNELS)
"""As many channels as one object may have, of any number of them."""


def is_waveform(header: FileDataset) -> bool:
    """Whether a file is an object of this kind."""
    return sop_class_of(header) in KINDS


def describe(source: SourceFiles) -> Described:
    """As ``Converter.describe``. Samples are not looked at."""
    one = read_groups(source)
    header = one.header
    streams = _streams(one)
    description = Description(
        format="DICOM",
        modality=modality_of(channel.type for stream in streams for channel in stream.channels),
        streams=streams,
        acquisition=_dicom_subject.acquisition(header),
        demographics=_dicom_subject.demographics(header),
        duration_s=one.duration_s,
        flags=tuple(sorted(stream_flags(streams) | one.flags)),
        transfer_syntax=meta_uid(header, "TransferSyntaxUID"),
        libraries=libraries(""),
    )
    identity = replace(_dicom_subject.identity(header), start=one.start)
    return Described(description, identity, _dicom_subject.recipe_texts(header))


def read(source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
    """As ``Converter.read``: some samples of all channels of a group at a time."""
    one = read_groups(source)
    if _streams(one) != description.streams:
        raise ConversionError("source_changed")
    with opened(source.primary) as handle:
        for index, group in enumerate(one.groups):
            at_once = max(1, block_bytes // group.sample_bytes)
            for start in range(0, group.n_samples, at_once):
                n_samples = min(at_once, group.n_samples - start)
                at = group.start + start * group.sample_bytes
                rows = np.empty((n_samples, len(group.channels)), group.dtype)
                buffer = rows.reshape(-1).view(np.uint8).data
                if one.inflated is None:
                    read_into(handle, at, buffer)
                else:
                    buffer[:] = one.inflated.getbuffer()[at : at + len(buffer)]
                yield Block(index, start, np.ascontiguousarray(rows.T, group.dtype.newbyteorder("=")))


def read_groups(source: SourceFiles) -> Waveform:
    """The header of a file up to its samples, and what its groups are. Raises ``ConversionError``."""
    if source.primary.size == 0:
        raise ConversionError("empty_file")
    if (found := _RECENT.of(source)) is not None:  # describing, reading and annotations of one source follow each other
        return found
    with opened_header(source.primary.path, TAGS, until=(SEQUENCE,)) as (header, stream):
        if not is_waveform(header):
            raise ConversionError("source_changed")
        groups, n_groups, flags = _groups(header, stream)
    if not groups:
        code = "not_raw" if "derived_waveforms_left_out" in flags else "no_data"
        raise ConversionError(code, "There is no multiplex group that was recorded.", "WaveformSequence")
    offsets = [group.offset_s for group in groups]
    if max(map(abs, offsets)) > _LONGEST_GAP_S:
        raise ConversionError("invalid_header", "The groups lie days apart.", "MultiplexGroupTimeOffset")
    one = Waveform(header, groups, n_groups, flags, stream if isinstance(stream, BytesIO) else None)
    if one.inflated is None:
        _RECENT.keep(source, one, sum(len(group.channels) for group in groups))
    return one


def _groups(header: FileDataset, stream: Stream) -> tuple[tuple[Multiplex, ...], int, frozenset[str]]:
    size = size_of(stream)
    kind = KINDS[sop_class_of(header)]
    groups: list[Multiplex] = []
    flags: set[str] = set()
    place = 0
    for place, (item, value) in enumerate(sequence_items(stream, header, SEQUENCE, DATA), 1):
        if place > MOST_CHANNELS:
            raise ConversionError("implausible_size", "There are more groups than channels of any device.")
        if is_derived(item):
            flags.add("derived_waveforms_left_out")
            continue
        groups.append(multiplex(item, value, place, kind, size))
        flags |= groups[-1].flags
        if sum(len(group.channels) for group in groups) > MOST_CHANNELS:
            raise ConversionError("implausible_size", "There are more channels than any device has.")
    return tuple(groups), place, frozenset(flags)


def _streams(one: Waveform) -> tuple[SignalStream, ...]:
    """A stream for each group, named by its rate: "500hz", "500hz_2"."""
    used: Counter[str] = Counter()
    streams = []
    for group in one.groups:
        name = stream_name(group.rate_hz)
        used[name] += 1
        streams.append(
            SignalStream(
                name=name if used[name] == 1 else f"{name}_{used[name]}",
                rate_hz=group.rate_hz,
                dtype=group.dtype.name,
                n_samples=group.n_samples,
                channels=group.channels,
                segments=(Segment(start=0, n_samples=group.n_samples, onset_s=one.onset_s(group)),),
            )
        )
    return tuple(streams)
