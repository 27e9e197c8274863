"""Annotations of DICOM waveforms as events (PS3.3 C.10.10); what codes mean is pydicom's copy of PS3.16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from converters.dicom_files import converted
from converters.seg_files import concept
from converters.waveform_files import Code, annotation, coded, group, noise, waveform_dataset
from harmonize_converters._dicom_codes import published_meaning
from harmonize_converters._dicom_waveform_events import _LABELS
from harmonize_converters.contract import FoundAnnotation
from harmonize_schemas import vocabulary

NORMAL: Code = ("10:8208", "MDC")


def events(folder: Path, *items: Dataset, **changes: Any) -> list[FoundAnnotation]:
    """Of an object of three groups: 2 channels at 500 Hz, a derived one, and 3 at 250 Hz that begin 0.1 s later."""
    groups = [
        group(noise(2, 5000)),
        group(noise(1, 40), WaveformOriginality="DERIVED"),
        group(noise(3, 1000), rate="250", MultiplexGroupTimeOffset="100"),
    ]
    outcome = converted(waveform_dataset(groups, items, **changes), folder)
    assert outcome.description.duration_s == 10.0
    return outcome.annotations


def timed(kind: str, samples: list[int], where: tuple[int, ...] = (1, 0), **changes: Any) -> Dataset:
    return annotation(where, NORMAL, TemporalRangeType=kind, ReferencedSamplePositions=samples, **changes)


@pytest.mark.parametrize(
    ("item", "spans"),
    [
        (timed("POINT", [1]), [(0.0, None)]),
        (timed("POINT", [501]), [(1.0, None)]),
        (timed("POINT", [26], (3, 0)), [(0.2, None)]),
        (timed("MULTIPOINT", [501, 751, 1001]), [(1.0, None), (1.5, None), (2.0, None)]),
        (timed("SEGMENT", [501, 751]), [(1.0, 0.5)]),
        (timed("MULTISEGMENT", [1, 51, 501, 751]), [(0.0, 0.1), (1.0, 0.5)]),
        (timed("BEGIN", [4001]), [(8.0, 2.0)]),
        (timed("END", [1001]), [(0.0, 2.0)]),
        (annotation((1, 0), NORMAL), [(0.0, 10.0)]),
        (
            annotation((1, 0, 3, 0), NORMAL, TemporalRangeType="SEGMENT", ReferencedTimeOffsets=["1.5", "2.75"]),
            [(1.5, 1.25)],
        ),
        (
            annotation((3, 1), NORMAL, TemporalRangeType="POINT", ReferencedDateTime="20230405101115.25"),
            [(2.75, None)],  # the recording starts at 10:11:12.5
        ),
    ],
)
def test_i14_times_of_annotations(tmp_path, item, spans):
    found = events(tmp_path, item)
    assert [(one.onset_s, one.duration_s) for one in found] == [
        (pytest.approx(onset), None if length is None else pytest.approx(length)) for onset, length in spans
    ]
    assert {one.label for one in found} == {"wfdb:N"}


@pytest.mark.parametrize(
    ("where", "channel"),
    [((1, 0), None), ((1, 1), 0), ((1, 2), 1), ((3, 1), 2), ((3, 3), 4), ((3, 1, 3, 2), None), ((3, 1, 3, 1), 2)],
)
def test_i14_channels_of_annotations_are_places_among_all_channels(tmp_path, where, channel):
    (found,) = events(tmp_path, timed("POINT", [1], where))
    assert found.channel == channel


def test_i14_what_is_said_of_a_group_that_is_left_out_is_left_out_too(tmp_path):
    (found,) = events(tmp_path, timed("POINT", [1], (2, 1)), timed("POINT", [501], (1, 1)))
    assert found.onset_s == 1.0


@pytest.mark.parametrize(
    "item",
    [
        timed("POINT", [0]),
        timed("SEGMENT", [1]),
        timed("BEGIN", [1, 2]),
        timed("SOMETIME", [1]),
        timed("POINT", [1], (1, 0, 3, 0)),  # whose samples are counted?
        annotation((1, 0), NORMAL, TemporalRangeType="POINT"),
        annotation((1, 0), NORMAL, TemporalRangeType="POINT", ReferencedDateTime="2023"),
        annotation((1,), NORMAL),
        annotation((1, 0), NORMAL, ReferencedWaveformChannels=None),
    ],
)
def test_i14_an_annotation_that_cannot_be_placed_is_marked(tmp_path, item):
    found, other = events(tmp_path, item, timed("POINT", [501]))
    assert (found.label, found.onset_s, found.flags) == ("unreadable", 0.0, ("annotation_unreadable",))
    assert (other.label, other.onset_s, other.flags) == ("wfdb:N", 1.0, ())


def test_i14_a_channel_that_is_not_there_is_unreadable(tmp_path):
    for where in ((1, 3), (3, 4), (0, 1), (4, 0), (1, 0, 4, 1)):
        (found,) = events(tmp_path, timed("POINT", [1], where))
        assert found.label == "unreadable"


def test_i14_words_of_annotations(tmp_path):
    measured = {"NumericValue": "71.5", "MeasurementUnitsCodeSequence": coded(("/min", "UCUM"))}
    stage = [concept("2:23680", "MDC", "planted")]
    found = events(
        tmp_path,
        annotation(code=("X", "99LOCAL"), UnformattedTextValue="as written"),
        annotation(code=("2:23736", "MDC"), ConceptCodeSequence=stage),
        annotation(code=("8867-4", "LN"), **measured),
        annotation(code=("X", "99LOCAL"), NumericValue="3"),
        annotation(code=("X", "99LOCAL")),
    )
    assert [(one.text, one.label) for one in found] == [
        ("as written", None),
        ("Sleep activity and event Sleep stage REM", "sleep_rem"),
        ("Heart rate 71.5 /min", None),
        ("3", None),
        (None, None),
    ]


WORDS = {
    "wfdb:N": "normal beat",
    "wfdb:L": "left bundle branch block beat",
    "wfdb:R": "right bundle branch block beat",
    "wfdb:a": "aberrated atrial premature",
    "wfdb:V": "ventricular premature contraction",
    "wfdb:F": "fusion of ventricular and normal",
    "wfdb:J": "junctional (nodal) premature",
    "wfdb:A": "atrial premature contraction",
    "wfdb:S": "supraventricular premature",
    "wfdb:E": "ventricular escape",
    "wfdb:j": "junctional (nodal) escape",
    "wfdb:Q": "unclassifiable",
    "wfdb:|": "isolated qrs-like artifact",
    "wfdb:s": "st change",
    "wfdb:T": "t-wave change",
    "wfdb:e": "atrial escape",
    "wfdb:n": "supraventricular escape",
    "wfdb:x": "non-conducted p-wave",
    "wfdb:f": "pacemaker fusion",
    "wfdb:!": "ventricular flutter",
    "wfdb:r": "r-on-t",
    "rhythm:N": "normal sinus rhythm",
    "rhythm:SBR": "sinus bradycardia",
    "rhythm:AB": "atrial bigeminy",
    "rhythm:AFL": "atrial flutter",
    "rhythm:AFIB": "atrial fibrillation",
    "rhythm:SVTA": "supraventricular tachy",
    "rhythm:NOD": "nodal",
    "rhythm:BII": "second degree",
    "rhythm:IVR": "idioventricular",
    "rhythm:B": "bigeminy",
    "rhythm:T": "trigeminy",
    "rhythm:VT": "ventricular tachy",
    "rhythm:VFL": "ventricular flutter",
    "rhythm:PREX": "pre-excitation",
    "sleep_n1": "sleep stage n1",
    "sleep_n2": "sleep stage n2",
    "sleep_n3": "sleep stage n3",
    "sleep_wake": "wake",
    "sleep_rem": "rem",
    "sleep_unscored": "un",
    "arousal": "arousal",
    "apnea": "apnea",
    "desaturation": "desaturation",
    "artifact": "artifact",
    "background": "background activity",
    "spike_and_slow_wave": "wave",
    "seizure": "seizure",
    "button_press": "event button pressed",
}
"""What the published meaning of a code says of each label."""


@pytest.mark.parametrize("code", [code for code in _LABELS if not code.startswith("SCPECG")])
def test_a_label_is_what_its_code_means(code):
    label, number = _LABELS[code]
    assert label in vocabulary("annotation_labels")
    assert number is None
    assert WORDS[label] in published_meaning(*code.split(":", 1)).casefold().replace("artifactual", "artifact")


def test_i14_beats_are_named_by_the_codes_of_iso_11073(tmp_path):
    codes = [code.split(":", 1)[1] for code in _LABELS if code.startswith("MDC:10:")]
    items = [
        annotation((1, 0), (code, "MDC"), TemporalRangeType="POINT", ReferencedSamplePositions=[1]) for code in codes
    ]
    assert [one.label for one in events(tmp_path, *items)] == [_LABELS[f"MDC:{code}"][0] for code in codes]


@pytest.mark.parametrize("undefined", [False, True])
def test_i14_annotations_are_found_in_sequences_of_either_length(tmp_path, undefined):
    found = events(tmp_path, timed("POINT", [751]), timed("POINT", [501]), undefined=undefined)
    assert [one.onset_s for one in found] == [1.0, 1.5]
