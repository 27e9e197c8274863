"""Annotations of DICOM waveforms (PS3.3 C.10.10): beats, waves, rhythms, sleep stages and what people wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pydicom.dataset import Dataset

from harmonize_converters import _dicom_subject
from harmonize_converters._dicom_codes import concepts, current_code, unit_code
from harmonize_converters._dicom_header import lenient_text, number, numbers, opened_header, text, texts
from harmonize_converters._dicom_multiplex import Multiplex
from harmonize_converters._dicom_sequence import sequence_items
from harmonize_converters._dicom_waveform import SEQUENCE, TAGS, Waveform, read_groups
from harmonize_converters.contract import ConversionError, FoundAnnotation, SourceFiles

ANNOTATIONS = 0x0040B020
"""WaveformAnnotationSequence."""
_BEATS = {
    **{8208: "N", 8464: "L", 8496: "R", 8304: "a", 8336: "V", 8352: "F", 8288: "J", 8272: "A", 8256: "S", 8432: "E"},
    **{8416: "j", 8736: "Q", 2176: "|", 2304: "s", 2368: "T", 8400: "e", 8384: "n", 8320: "x", 8720: "f", 1728: "!"},
    **{8368: "r"},
}
"""Codes of ISO/IEEE 11073-10102 (PS3.16 CID 3335) to those of PhysioBank."""
_RHYTHMS = {
    **{9232: "N", 9248: "SBR", 9376: "AB", 9456: "AFL", 9472: "AFIB", 9504: "SVTA", 9536: "NOD", 9648: "BII"},
    **{9856: "IVR", 9920: "B", 9936: "T", 9984: "VT", 10000: "VFL", 10096: "PREX"},
}
_LABELS: Mapping[str, tuple[str, int | None]] = {
    **{f"MDC:10:{code}": (f"wfdb:{symbol}", None) for code, symbol in _BEATS.items()},
    **{f"MDC:10:{code}": (f"rhythm:{rhythm}", None) for code, rhythm in _RHYTHMS.items()},
    **{"MDC:3:3128": ("rhythm:AFIB", None), "MDC:3:3276": ("rhythm:AFL", None)},
    # Where waves begin and end, as ecgpuwave(1) writes it: which wave is the number (0 P, 1 QRS, 2 T).
    **{"SCPECG:5.10.3-1": ("wfdb:(", 0), "SCPECG:5.10.3-2": ("wfdb:)", 0), "SCPECG:5.10.3-3": ("wfdb:(", 1)},
    **{"SCPECG:5.10.3-4": ("wfdb:)", 1), "SCPECG:5.10.3-5": ("wfdb:)", 2)},
    **{"DCM:130834": ("sleep_n1", None), "DCM:130835": ("sleep_n2", None), "DCM:130836": ("sleep_n3", None)},
    **{"MDC:2:23672": ("sleep_wake", None), "MDC:2:23680": ("sleep_rem", None)},
    **{"MDC:2:23656": ("sleep_unscored", None), "MDC:2:23664": ("sleep_unscored", None)},
    **{"MDC:2:23800": ("arousal", None), "MDC:2:22952": ("arousal", None)},
    **{"MDC:3:3072": ("apnea", None), "MDC:3:3246": ("desaturation", None)},
    **{"MDC:3:432": ("artifact", None), "MDC:2:24200": ("artifact", None), "MDC:2:23560": ("background", None)},
    **{"MDC:2:23920": ("spike_and_slow_wave", None), "MDC:3:3254": ("spike_and_slow_wave", None)},
    **{"MDC:3:3264": ("seizure", None), "DCM:130893": ("button_press", None)},
}
"""Code to a term of the vocabulary, and the number that goes with it."""


@dataclass(frozen=True, slots=True)
class _Times:
    """What turns references of annotations into seconds from the recording's start and into channels: ``groups`` by
    their numbers, and ``first``, the place of each one's first channel among all channels."""

    waveform: Waveform
    groups: Mapping[int, Multiplex]
    first: Mapping[int, int]


def read_annotations(source: SourceFiles) -> list[FoundAnnotation]:
    """All annotations of the groups that are not left out, by onset. One without a time is of the whole recording."""
    waveform = read_groups(source)
    places = accumulate((len(group.channels) for group in waveform.groups), initial=0)
    first = {group.number: place for group, place in zip(waveform.groups, places, strict=False)}
    times = _Times(waveform, {group.number: group for group in waveform.groups}, first)
    with opened_header(source.primary.path, TAGS, until=(ANNOTATIONS, SEQUENCE)) as (header, stream):
        found = [one for item, _ in sequence_items(stream, header, ANNOTATIONS) for one in _events(item, times)]
    return sorted(found, key=lambda one: one.onset_s)


def _events(item: Dataset, times: _Times) -> Iterator[FoundAnnotation]:
    """One annotation as events: several where it is of several points or ranges, none where it is of a group that is
    left out."""
    try:
        channels = _channels(item, times)
        own = [pair for pair in channels if pair[0] in times.first]
        if not own:
            return
        spans = _spans(item, own, times)
    except ConversionError:
        yield FoundAnnotation(0.0, None, None, "unreadable", flags=("annotation_unreadable",))
        return
    label, code = _label(item)
    channel = times.first[own[0][0]] + own[0][1] - 1 if len(channels) == 1 and own[0][1] else None
    words = _words(item)
    for onset_s, duration_s in spans:
        yield FoundAnnotation(onset_s, duration_s, words, label, channel, code)


def _channels(item: Dataset, times: _Times) -> list[tuple[int, int]]:
    """Pairs of a group and a channel of it, both from 1 on; channel 0 is all of them."""
    found = [int(one) for one in numbers(item, "ReferencedWaveformChannels") or ()]
    if not found or len(found) % 2:
        raise ConversionError("invalid_header", "Pairs of numbers.", "ReferencedWaveformChannels")
    pairs = list(dict.fromkeys(zip(found[::2], found[1::2], strict=True)))
    if not all(1 <= group <= times.waveform.n_groups for group, _ in pairs) or any(
        channel > len(times.groups[group].channels) for group, channel in pairs if group in times.groups
    ):
        raise ConversionError("invalid_header", "There is no such channel.", "ReferencedWaveformChannels")
    return pairs


def _spans(item: Dataset, channels: Sequence[tuple[int, int]], times: _Times) -> list[tuple[float, float | None]]:
    """Onset and duration in s of each event (PS3.3 C.10.10.1.1)."""
    kind = text(item, "TemporalRangeType")
    if kind is None:
        return [(0.0, times.waveform.duration_s)]
    points = _points(item, channels, times)
    if kind in ("POINT", "MULTIPOINT"):
        return [(point, None) for point in points]
    if kind in ("SEGMENT", "MULTISEGMENT") and len(points) % 2 == 0:
        pairs = zip(points[::2], points[1::2], strict=True)
        return [(min(pair), abs(pair[1] - pair[0])) for pair in pairs]
    if kind == "BEGIN" and len(points) == 1:
        return [(points[0], max(0.0, times.waveform.duration_s - points[0]))]
    if kind == "END" and len(points) == 1:
        return [(0.0, max(0.0, points[0]))]
    raise ConversionError("invalid_header", "", "TemporalRangeType")


def _points(item: Dataset, channels: Sequence[tuple[int, int]], times: _Times) -> list[float]:
    """Times in s from the recording's start; samples count from 1 on, in the one group that an annotation is of."""
    if (samples := numbers(item, "ReferencedSamplePositions")) is not None:
        if min(samples) < 1 or len({group for group, _ in channels}) > 1:
            raise ConversionError("invalid_header", "", "ReferencedSamplePositions")
        group = times.groups[channels[0][0]]
        onset_s = times.waveform.onset_s(group)
        return [onset_s + (sample - 1) / float(group.rate_hz) for sample in samples]
    if (offsets := numbers(item, "ReferencedTimeOffsets")) is not None:
        return list(offsets)
    moments = [_dicom_subject.moment_of(one) for one in texts(item, "ReferencedDateTime")]
    if not moments or (start := times.waveform.start) is None:
        raise ConversionError("invalid_header", "An annotation without its time.")
    since = [(one - start).total_seconds() for one in moments if one is not None]
    if len(since) < len(moments):
        raise ConversionError("invalid_header", "", "ReferencedDateTime")
    return since


def _label(item: Dataset) -> tuple[str | None, int | None]:
    """A term of the vocabulary and its number, by what is annotated or by what was found of it."""
    for name in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
        if found := _LABELS.get(current_code(item, name) or ""):
            return found
    return None, None


def _words(item: Dataset) -> str | None:
    """What was written, or the codes' published meanings with the number that was measured."""
    if (written := lenient_text(item, "UnformattedTextValue", r"[^\x00]{1,1024}")) is not None:
        return written
    found = [
        one.meaning or one.code
        for name in ("ConceptNameCodeSequence", "ConceptCodeSequence")
        for one in concepts(item, name)
        if one is not None
    ]
    try:
        measured = number(item, "NumericValue")
        unit = unit_code(item, "MeasurementUnitsCodeSequence")
    except ConversionError:
        measured, unit = None, ""
    if measured is not None:
        found += filter(None, (f"{measured:g}", unit))
    return " ".join(found) or None
