"""The page that compares us with other readers is current, and the comparison itself would see a mistake."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from converters.wfdb_bytes import END, Record, noise, skip, word
from converters.wfdb_bytes import Signal as WfdbSignal
from docs_pages import DOCS, page_module
from judging import explanations, model, ours, raw_annotations, raw_edf, raw_wfdb, results
from judging.compare import Finding, compare, ratio
from judging.model import Event, Reading, Refusal
from judging.results import Result, edf_results, explained, wfdb_results
from realdata import needs_data


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    return page_module("judges")


# --- real files -------------------------------------------------------------------------------------


@needs_data
def test_the_page_of_judges_is_current(docs: ModuleType) -> None:
    assert (DOCS / "judges.md").read_text("utf-8") == docs.page(), "run: python docs/judges.py"


@needs_data
def test_our_samples_are_those_of_the_raw_bytes() -> None:
    converted = [result for result in (*edf_results(), *wfdb_results()) if not result.refused]
    assert len(converted) >= 500
    for result in converted:
        kinds = {one.aspect: one.kind for one in result.findings["raw bytes"]}
        assert kinds.get("samples", "identical") == "identical", result.name
        assert kinds.get("segments", "identical") == "identical", result.name
        assert "file" not in kinds, result.name
        assert "signals" not in kinds, result.name
        # Only a file of annotations alone has no samples to compare.
        assert ("samples" in kinds) != (result.ours.endswith("annotations only")), result.name


@needs_data
def test_what_we_refuse_the_raw_bytes_refuse() -> None:
    refused = [result for result in (*edf_results(), *wfdb_results()) if result.refused]
    assert all(result.findings["raw bytes"][0].kind == "identical" for result in refused)


# --- the explanations -------------------------------------------------------------------------------


def differing() -> list[Result]:
    """A difference for each explanation, and nothing else."""
    places = [place for one in explanations.EXPLANATIONS for place in one.places()]
    return [Result(name, "", False, {judge: [Finding(aspect, "differs", "")]}) for name, judge, aspect in places]


def test_every_difference_needs_an_explanation() -> None:
    assert set(explained(differing()).values()) == set(range(1, len(explanations.EXPLANATIONS) + 1))
    more = Result("new.edf", "", False, {"MNE": [Finding("values", "differs", "")]})
    with pytest.raises(ValueError, match=r"without an explanation.*new\.edf"):
        explained([*differing(), more])


def test_every_explanation_needs_a_difference() -> None:
    with pytest.raises(ValueError, match="explanations without a difference"):
        explained(differing()[1:])


def test_no_difference_has_two_explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "EXPLANATIONS", explanations.EXPLANATIONS[:1] * 2)
    with pytest.raises(ValueError, match="two explanations"):
        explained([])


# --- the comparison sees mistakes -------------------------------------------------------------------


@pytest.fixture
def readings(tmp_path: Path) -> tuple[Reading, Reading]:
    """Ours and the raw bytes of a file with two rates, gaps and an annotation."""
    tals = timekeeping(3)
    tals[1] = b"+1.5\x14\x14\0+1.75\x150.5\x14spindle\x14\0"
    tals[2] = b"+4\x14\x14\0"
    signals = [
        Signal("EEG Fpz", np.arange(24) - 9, 8, physical=("-100", "300"), digital=("-2000", "2000")),
        Signal("Resp", np.arange(6) * 7, 2),
        annotations(tals, 40),
    ]
    path = tmp_path / "a.edf"
    path.write_bytes(edf_bytes(signals, n_records=3, reserved="EDF+D"))
    mine = ours.read(ours.edf_source(path)).reading
    assert isinstance(mine, Reading)
    return mine, raw_edf.read(path)


def kinds(left: Reading | Refusal, right: Reading | Refusal) -> dict[str, str]:
    return {one.aspect: one.kind for one in compare(left, right)}


def test_s01_gaps_are_those_of_the_raw_bytes(readings: tuple[Reading, Reading]) -> None:
    mine, judge = readings
    assert kinds(mine, judge) == dict.fromkeys(("samples", "values", "annotations", "segments"), "identical")
    assert judge.segments == ((0.0, 1.0), (1.5, 1.0), (4.0, 1.0))
    (fast, slow) = judge.signals.values()
    assert (len(fast.digital), len(slow.digital)) == (40, 10)
    assert fast.present is not None
    assert fast.present.tolist() == [*[True] * 8, *[False] * 4, *[True] * 8, *[False] * 12, *[True] * 8]


def test_one_wrong_sample_is_seen(readings: tuple[Reading, Reading]) -> None:
    mine, judge = readings
    key = next(iter(mine.signals))
    signal = judge.signals[key]
    digital = signal.digital.copy()
    digital[3] += 2
    found = compare(mine, replace(judge, signals=judge.signals | {key: replace(signal, digital=digital)}))
    assert found[0] == Finding("samples", "differs", "1 of 30 samples differ, by up to 2, in 'EEG Fpz'")


def test_a_wrong_scale_unit_gap_or_length_is_seen(readings: tuple[Reading, Reading]) -> None:
    mine, judge = readings
    key = next(iter(mine.signals))
    signal = judge.signals[key]

    def with_(**changes: object) -> dict[str, str]:
        other = replace(signal, **changes)  # type: ignore[arg-type]
        return kinds(mine, replace(judge, signals=judge.signals | {key: other}))

    assert with_(physical=signal.physical * (1 + 1e-6))["values"] == "differs"
    assert with_(unit="mV")["values"] == "differs"
    assert with_(unit="mmHg")["values"] == "differs"
    assert with_(present=None)["samples"] == "differs"
    assert with_(physical=np.nan_to_num(signal.physical))["values"] == "differs"
    assert with_(digital=signal.digital[:-1])["signals"] == "differs"
    other = (key[0], Fraction(9), 0)
    assert kinds(mine, replace(judge, signals={other: signal}))["signals"] == "differs"


def test_a_wrong_annotation_is_seen(readings: tuple[Reading, Reading]) -> None:
    mine, judge = readings
    for event in (Event(1.7501, "spindle", 0.5), Event(1.75, "spindles", 0.5), Event(1.75, "spindle")):
        assert kinds(mine, replace(judge, events=(event,)))["annotations"] == "differs"
    assert kinds(mine, replace(judge, events=()))["annotations"] == "differs"
    assert kinds(mine, replace(judge, triggers=((1.0, 3),)))["triggers"] == "differs"
    assert kinds(mine, replace(judge, segments=((0.0, 3.0),)))["segments"] == "differs"


def test_refusals(readings: tuple[Reading, Reading]) -> None:
    no = Refusal("ValueError", "no")
    assert kinds(readings[0], no) == {"file": "differs"} == kinds(no, readings[1])
    assert kinds(no, no) == {"file": "identical"}


def test_units_of_one_thing() -> None:
    assert (ratio("mV", "µV"), ratio("uV", None), ratio("mV", "mmHg")) == (pytest.approx(1000), 1.0, None)


@pytest.mark.parametrize("module", [model, raw_edf, raw_wfdb, raw_annotations], ids=lambda module: module.__name__)
def test_the_raw_bytes_share_nothing_with_us(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "numpy", "soundfile", "judging"}


# --- the plain decoder, by the examples of the specifications -----------------------------------------


def test_signal_5_packed_formats() -> None:
    """Bits by hand: 212 is two samples in three bytes, 310 and 311 are three in four."""
    bits = np.frombuffer(bytes([0x34, 0xF2, 0xFE]), np.uint8)
    assert raw_wfdb.decode(212, bits).tolist() == [0x234, 0xFFE - 0x1000]
    words = (0b00010_0000000011_0).to_bytes(2, "little") + (0b11111_1111111111_0).to_bytes(2, "little")
    assert raw_wfdb.decode(310, np.frombuffer(words, np.uint8)).tolist() == [3, -1, 0b1111100010 - 1024]
    packed = (3 | 1023 << 10 | 512 << 20).to_bytes(4, "little")
    assert raw_wfdb.decode(311, np.frombuffer(packed, np.uint8)).tolist() == [3, -1, -512]


def test_annot_5_long_skips_and_sticky_fields(tmp_path: Path) -> None:
    record = Record([WfdbSignal(noise(90, 8), 16, file="c.dat"), WfdbSignal(noise(90, 8, 1), 16, file="c.dat")], "c")
    record.write(tmp_path)
    data = word(1, 20) + word(62, 1) + word(61, 255) + skip(70000) + word(5, 80) + word(60, 7) + word(1, 5) + END
    (tmp_path / "c.qrs").write_bytes(data)
    (source,) = ours.wfdb_sources(tmp_path)
    mine = ours.read(source).reading
    judge = raw_wfdb.read(source.primary.path, ours.annotators(source))
    assert kinds(mine, judge) == dict.fromkeys(("samples", "values", "annotations", "segments"), "identical")
    assert judge.events is not None
    assert [e.text for e in judge.events] == ["N sub -1 chan 1", "V chan 1 num 7", "N chan 1 num 7"]
    rate_hz = float(raw_wfdb.header(source.primary.path).rate_hz)
    assert [round(e.onset_s * rate_hz) for e in judge.events] == [20, 70100, 70105]
