"""From the segments of a WFDB record to its streams: pure functions of headers and layouts (FIDELITY S10).

An ordinary record is one piece. A multi-segment record is several with gaps between; channels may come and
go, and calibrations change. A stream is a set of channels of one calibration, rate and dtype, with the
pieces in which it was recorded, so that nothing is rescaled and nothing is filled in. (wfdb-python and the
C library rescale to the gains of the layout segment instead.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from harmonize_converters._frames import stream_name
from harmonize_converters._wfdb_header import WfdbHeader, WfdbSignal
from harmonize_converters._wfdb_layout import Layout, missing_value
from harmonize_converters.channels import Name, canonical_names, channel_flags, unit_factor
from harmonize_schemas import Channel, Segment, SignalStream

_Key = tuple[int, str, tuple[tuple[object, ...], ...]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A gap-free stretch of a record from frame ``start`` on: a segment, or the whole ordinary record.

    ``signals`` are the indices in the record of the signals of the layout's header, None for one that the
    record does not know.
    """

    layout: Layout
    start: int
    signals: Sequence[int | None]


@dataclass(slots=True)
class PlannedStream:
    """One stream to be: ``runs`` are (frame in the record, number of frames), the gaps between them real."""

    width: int
    dtype: str
    signals: tuple[WfdbSignal, ...]
    runs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def n_samples(self) -> int:
        return sum(n for _, n in self.runs) * self.width

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.signals), self.n_samples


@dataclass(frozen=True, slots=True)
class Plan:
    """A record's streams and pieces. ``members[i]`` are, for each stream of piece ``i``'s layout, the index
    of the record's stream; ``channels`` maps a signal of the record to its places (stream, channel)."""

    rate_hz: Fraction
    n_frames: int | None
    pieces: tuple[Piece, ...]
    streams: tuple[PlannedStream, ...]
    members: tuple[tuple[int, ...], ...]
    channels: dict[int, set[tuple[int, int]]]

    def channel_of(self, signal: int | None) -> int | None:
        """The only channel, counted over all streams, that holds a signal of the record; else None."""
        places = self.channels.get(signal, set()) if signal is not None else set()
        if len(places) != 1:
            return None
        ((stream, channel),) = places
        return sum(len(one.signals) for one in self.streams[:stream]) + channel


def ranks(header: WfdbHeader, names: Sequence[str]) -> list[int | None]:
    """For each signal of a segment's header its place in the layout segment, by name; signals that share a
    name follow each other in both. None for a name that the layout lacks."""
    places: dict[tuple[str, int], int] = {}
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        places[name, seen[name]] = index
        seen[name] += 1
    seen.clear()
    found: list[int | None] = []
    for signal in header.signals:
        found.append(places.get((signal.description, seen[signal.description])))
        seen[signal.description] += 1
    return found


def plan(rate_hz: Fraction, n_frames: int | None, pieces: Iterable[Piece]) -> Plan:
    """Streams in order of first appearance; a piece that follows another of its stream at once joins its run."""
    pieces = tuple(pieces)
    index_of: dict[_Key, int] = {}
    streams: list[PlannedStream] = []
    members: list[tuple[int, ...]] = []
    channels: dict[int, set[tuple[int, int]]] = {}
    known: dict[int, tuple[int, ...]] = {}
    for piece in pieces:
        layout = piece.layout
        own = known.get(id(layout))
        if own is None:
            found = []
            for at, indices in enumerate(layout.streams):
                signals = tuple(layout.header.signals[index] for index in indices)
                key = layout.width(at), layout.dtype(at), tuple(map(_calibration, signals))
                stream = index_of.setdefault(key, len(streams))
                if stream == len(streams):
                    streams.append(PlannedStream(layout.width(at), layout.dtype(at), signals))
                for channel, index in enumerate(indices):
                    if (signal := piece.signals[index]) is not None:
                        channels.setdefault(signal, set()).add((stream, channel))
                found.append(stream)
            own = known[id(layout)] = tuple(found)
        members.append(own)
        for stream in own:
            runs = streams[stream].runs
            if runs and sum(runs[-1]) == piece.start:
                runs[-1] = runs[-1][0], runs[-1][1] + layout.n_frames
            else:
                runs.append((piece.start, layout.n_frames))
    return Plan(rate_hz, n_frames, pieces, tuple(streams), tuple(members), channels)


def _calibration(signal: WfdbSignal) -> tuple[object, ...]:
    """All that makes a channel, so that equal ones are one channel."""
    return (
        signal.description,
        signal.unit,
        signal.scale,
        signal.offset,
        signal.gain_given,
        signal.adc_resolution,
        signal.adc_zero,
        missing_value(signal),
    )


def signal_streams(found: Plan) -> tuple[tuple[SignalStream, ...], set[str]]:
    """The streams as they are stored, and the flags of their channels.

    Names are the rate, with a number from the second stream of that rate on: "125hz", "125hz_2".
    """
    streams: list[SignalStream] = []
    flags: set[str] = set()
    names: Counter[str] = Counter()
    labels = list(dict.fromkeys(signal.description for planned in found.streams for signal in planned.signals))
    known = dict(zip(labels, canonical_names(labels), strict=True))
    for planned in found.streams:
        rate_hz = found.rate_hz * planned.width
        name = stream_name(rate_hz)
        names[name] += 1
        made = [_channel(known[signal.description], *_calibration(signal)) for signal in planned.signals]
        segments, start = [], 0
        for frame, n_frames in planned.runs:
            n_samples = n_frames * planned.width
            segments.append(Segment(start=start, n_samples=n_samples, onset_s=float(frame / found.rate_hz)))
            start += n_samples
        streams.append(
            SignalStream(
                name=f"{name}_{names[name]}" if names[name] > 1 else name,
                rate_hz=rate_hz,
                dtype=planned.dtype,
                n_samples=start,
                channels=tuple(channel for channel, _ in made),
                segments=tuple(segments),
            )
        )
        flags.update(*(own for _, own in made))
        if len({channel.name for channel, _ in made}) < len(made):
            flags.add("duplicate_labels")
    return tuple(streams), flags


@lru_cache(maxsize=4096)  # the channels of a data set repeat from record to record
def _channel(
    name: Name,
    label: str,
    unit_found: str,
    scale: float,
    offset: float,
    calibrated: bool,
    adc_resolution: int,
    adc_zero: int,
    missing: int | None,
) -> tuple[Channel, frozenset[str]]:
    unit, factor, _ = unit_factor(unit_found, name.type)
    half = 1 << (adc_resolution - 1) if 0 < adc_resolution <= 32 else None
    channel = Channel(
        label=label,
        unit_found=unit_found,
        unit=unit,
        scale=scale * factor,
        offset=offset * factor,
        calibrated=calibrated,
        digital_min=None if half is None else adc_zero - half,
        digital_max=None if half is None else adc_zero + half - 1,
        missing_value=missing,
        **name.fields(),
    )
    return channel, frozenset(channel_flags([channel]))
