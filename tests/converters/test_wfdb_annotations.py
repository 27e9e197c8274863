"""WFDB annotation files (FIDELITY S10), judged by ``wfdb`` and by hand-written bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import wfdb

from converters.conformance import Outcome, convert, only_source, sources_in
from converters.wfdb_bytes import END, Record, Signal, aux, noise, skip, word
from harmonize_converters.contract import ConversionError
from harmonize_converters.wfdb import WfdbConverter
from realdata import DATA, needs_data

CONVERTER = WfdbConverter()


@needs_data
@pytest.mark.parametrize("name", ["wfdb/100", *(f"cpsc2021/data_{n}" for n in ("101_6", "84_1", "92_19"))])
def test_s10_real_annotations_equal_wfdb(name: str) -> None:
    path = DATA / name
    source = next(s for s in sources_in(CONVERTER, path.parent) if s.primary.path.stem == path.name)
    described = CONVERTER.describe(source)
    events = [event for event in CONVERTER.annotations(source, described.description) if event.annotator == "atr"]
    judge = wfdb.rdann(str(path), "atr")
    rate = float(described.description.streams[0].rate_hz)
    assert [round(e.onset_s * rate) for e in events] == judge.sample.tolist()
    assert [e.text or "" for e in events] == [text.rstrip("\0") for text in judge.aux_note]
    for event, symbol in zip(events, judge.symbol, strict=True):
        assert event.label == f"wfdb:{symbol}" or (symbol == "+" and event.label == f"rhythm:{event.text[1:]}")  # type: ignore[index]
    assert [e.subtype or 0 for e in events] == judge.subtype.tolist()
    assert [e.number or 0 for e in events] == judge.num.tolist()
    if path.name == "100":
        assert len(events) == 2274


@needs_data
def test_s10_every_annotator_beside_a_real_record_equals_wfdb() -> None:
    """Sticky channels and numbers, subtypes, and three annotators beside one record."""
    source = next(s for s in sources_in(CONVERTER, DATA / "wfdb") if s.primary.path.stem == "03700181")
    description = CONVERTER.describe(source).description
    events = list(CONVERTER.annotations(source, description))
    seen = 0
    for annotator in ("gqrsh", "gqrsl", "sqrs"):
        own = [event for event in events if event.annotator == annotator]
        judge = wfdb.rdann(str(source.primary.path.with_suffix("")), annotator)
        if annotator.startswith("gqrs"):  # a note at time 0 with the command; the judge drops it
            assert (own[0].onset_s, own[0].label) == (0.0, 'wfdb:"')
            own = own[1:]
        assert [round(e.onset_s * judge.fs) for e in own] == judge.sample.tolist()
        assert [e.label for e in own] == [f"wfdb:{symbol}" for symbol in judge.symbol]
        assert [e.subtype or 0 for e in own] == judge.subtype.tolist()
        assert [e.number or 0 for e in own] == judge.num.tolist()
        seen += len(own)
    assert seen == len(events) - 2 == 3462


def annotated(folder: Path, raw: bytes, suffix: str = "atr") -> Outcome:
    (folder / f"rec.{suffix}").write_bytes(raw)
    Record([Signal(noise(20), per_frame=1, name="I"), Signal(noise(20), name="II")]).write(folder)
    return convert(CONVERTER, only_source(CONVERTER, folder))


def test_s10_annotation_words(tmp_path: Path) -> None:
    raw = word(1, 250)
    raw += skip(100_000) + skip(-50_000) + word(5, 250) + word(61, 0xFF) + word(62, 1)
    raw += word(28, 250) + aux(b"(AFIB\0")
    raw += word(28, 0) + aux(b"(XYZ") + word(62, 9)
    raw += word(22, 125) + aux(b"odd") + END
    events = annotated(tmp_path, raw).annotations
    assert [(e.onset_s, e.label, e.text, e.channel) for e in events] == [
        (1.0, "wfdb:N", None, None),
        (202.0, "wfdb:V", None, 1),
        (203.0, "rhythm:AFIB", "(AFIB", 1),
        (203.0, "wfdb:+", "(XYZ", None),
        (203.5, 'wfdb:"', "odd", None),
    ]


def test_s10_time_resolution_and_definitions(tmp_path: Path) -> None:
    raw = word(22, 0) + aux(b"## time resolution: 1000")
    raw += word(22, 0) + aux(b"## annotation type definitions")
    raw += word(22, 0) + aux(b"42 z a new kind") + word(22, 0) + aux(b"1 N another meaning")
    raw += word(22, 0) + aux(b"## end of definitions")
    raw += word(1, 500) + word(42, 500) + word(5, 500) + END
    events = annotated(tmp_path, raw).annotations
    assert [(e.onset_s, e.label) for e in events] == [(0.5, None), (1.0, None), (1.5, "wfdb:V")]


@pytest.mark.parametrize("raw", [b"", word(1, 5), word(1, 5) + word(59, 0) + b"\0", word(1, 5) + word(63, 9) + b"ab"])
def test_s10_annotations_without_an_end_are_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        annotated(tmp_path, raw)
    assert caught.value.code in {"truncated", "empty_file"}


def test_s10_sticky_and_passing_fields(tmp_path: Path) -> None:
    """annot(5): CHN and NUM hold on, SUB does not; SUB and NUM are signed bytes."""
    raw = word(1, 10) + word(61, 0xFE) + word(60, 0xF0) + word(62, 1)
    raw += word(1, 10) + word(61, 5) + word(1, 10) + word(60, 3) + word(62, 0) + word(1, 10) + END
    events = annotated(tmp_path, word(1, 10) + raw).annotations
    assert [(e.subtype, e.number, e.channel) for e in events] == [
        (None, None, None),
        (-2, -16, 1),
        (5, -16, 1),
        (None, 3, 0),
        (None, 3, 0),
    ]


def test_s10_all_annotators_are_read_the_reference_first(tmp_path: Path) -> None:
    (tmp_path / "rec.qrs").write_bytes(word(1, 50) + word(1, 50) + END)
    (tmp_path / "rec.ari").write_bytes(word(5, 100) + END)
    (tmp_path / "rec.atr").write_bytes(word(8, 100) + END)
    (tmp_path / "rec.txt").write_bytes(b"no annotations")
    Record([Signal(noise(20))]).write(tmp_path)
    source = only_source(CONVERTER, tmp_path)
    assert source.roles == ("header", "signal", "annotations:ari", "annotations:atr", "annotations:qrs")
    events = convert(CONVERTER, source).annotations
    assert [(e.onset_s, e.annotator, e.label) for e in events] == [
        (0.2, "qrs", "wfdb:N"),
        (0.4, "atr", "wfdb:A"),
        (0.4, "ari", "wfdb:V"),
        (0.4, "qrs", "wfdb:N"),
    ]


def test_s10_a_record_of_annotations_alone(tmp_path: Path) -> None:
    (tmp_path / "rec.hea").write_text("rec 0 250 1000\n# Age: 30\n")
    with pytest.raises(ConversionError, match="no_data"):
        CONVERTER.describe(only_source(CONVERTER, tmp_path))
    (tmp_path / "rec.qrs").write_bytes(word(1, 50) + word(62, 1) + word(1, 50) + END)
    outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path))
    assert (outcome.description.streams, outcome.description.duration_s) == ((), 4.0)
    assert (outcome.description.demographics.age_years, outcome.description.flags) == (30.0, ())
    assert [(e.onset_s, e.channel) for e in outcome.annotations] == [(0.2, None), (0.4, None)]


def test_s10_annotations_of_the_aha_format_are_refused(tmp_path: Path) -> None:
    one = (
        b"\0N"
        + (0).to_bytes(2, "little")
        + (77).to_bytes(2, "little")
        + (1).to_bytes(2, "little")
        + b"\0\1"
        + b"\0" * 6
    )
    with pytest.raises(ConversionError, match="unsupported_wfdb_format"):
        annotated(tmp_path, one)
