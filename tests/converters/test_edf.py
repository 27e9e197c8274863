"""EDF and BDF (FIDELITY S01 to S07), judged by pyEDFlib, MNE and by hand-written bytes."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pyedflib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.conformance import ConverterConformance, convert
from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from converters.edf_cases import CONVERTER, ramp, refused, run, source_of, write
from harmonize_converters._edf_tal import first_onset, parse_tals
from harmonize_converters.contract import ConversionError, SourceFiles
from realdata import DATA, needs_data, real_files

# pyEDFlib refuses mne/test.bdf; MNE is its judge below.
JUDGED = [path for path in real_files("edf", ".edf", ".bdf") if path.name != "test.bdf"]


def by_pyedflib(path: Path) -> list[np.ndarray]:
    """Digital samples of each distinct rate, annotation signals left out."""
    reader = pyedflib.EdfReader(str(path), pyedflib.DO_NOT_READ_ANNOTATIONS)
    try:
        signals = [
            reader.readSignal(i, digital=True)
            for i, label in enumerate(reader.getSignalLabels())
            if label.strip() not in ("EDF Annotations", "BDF Annotations")
        ]
    finally:
        reader.close()
    lengths = dict.fromkeys(len(signal) for signal in signals)
    return [np.array([s for s in signals if len(s) == length]) for length in lengths]


class TestConformance(ConverterConformance):
    converter = CONVERTER
    planted = ("Doe", "MRN-4711", "ADM-99", "Nurse_Ratched", "02-MAY-1951", "phoned her son")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        rng = np.random.default_rng(3)
        tals = timekeeping(5)
        tals[2] += b"+2.5\x150.5\x14phoned her son\x14\0"
        plus = edf_bytes(
            [
                Signal("EEG Fpz", rng.integers(-(2**15), 2**15, 40), 8),
                Signal("Resp chest", rng.integers(-(2**15), 2**15, 15), 3, unit=""),
                annotations(tals),
                Signal("EEG Cz", rng.integers(-(2**15), 2**15, 40), 8),
                Signal("EEG Pz", rng.integers(-(2**15), 2**15, 40), 8),
            ],
            n_records=5,
            reserved="EDF+C",
            patient="MRN-4711 F 02-MAY-1951 Doe",
            recording="Startdate 02-MAR-2004 ADM-99 Nurse_Ratched X",
        )
        full = {"physical": ("-8388608", "8388607"), "digital": ("-8388608", "8388607")}
        bdf = edf_bytes(
            [
                Signal("A1", rng.integers(-(2**23), 2**23, 40), 8, **full),
                Signal("A2", rng.integers(-(2**23), 2**23, 40), 8, **full),
                Signal("Status", rng.integers(-(2**23), 2**23, 40), 8, unit="Boolean", **full),
            ],
            n_records=5,
            bdf=True,
            reserved="24BIT",
            patient="Doe, Jane",
        )
        return [write(tmp_path, plus, "a.edf"), write(tmp_path, bdf, "b.bdf")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        signals = [Signal(f"EEG {i}", ramp(40_000, -16000, 1) % 9999, 400) for i in range(32)]
        return write(tmp_path, edf_bytes(signals, n_records=100))

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        return by_pyedflib(source.primary.path)

    def test_memory_is_bounded_for_one_huge_record(self, tmp_path: Path) -> None:
        signals = [Signal(f"EEG {i}", ramp(300_000, 0, 1) % 9999, 300_000) for i in range(4)]
        source = write(tmp_path, edf_bytes(signals, n_records=1, record_s="300"))
        self.test_memory_is_bounded(source)


# --- real files -------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("path", JUDGED, ids=lambda path: path.name)
def test_real_files_equal_pyedflib(path: Path) -> None:
    outcome = convert(CONVERTER, source_of(path))
    expected = by_pyedflib(path)
    assert len(outcome.arrays) == len(expected)
    for got, want in zip(outcome.arrays, expected, strict=True):
        np.testing.assert_array_equal(got, want)


@needs_data
@pytest.mark.parametrize("path", real_files(".", ".edf", ".bdf", ".rec"), ids=lambda path: path.name)
def test_real_files_never_fail_otherwise(path: Path) -> None:
    if path.name == "test_edfann.edf":
        with pytest.raises(ConversionError, match="unsupported_annotation_only"):
            convert(CONVERTER, source_of(path))
    else:
        assert convert(CONVERTER, source_of(path)).arrays


@needs_data
@pytest.mark.parametrize("name", ["eegbci/S001R02.edf", "mne/test.edf", "mne/test.bdf", "pyedflib/test_subsecond.edf"])
def test_s04_physical_values_equal_mne(name: str) -> None:
    path = DATA / "edf" / name
    outcome = convert(CONVERTER, source_of(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = mne.io.read_raw_bdf if path.suffix == ".bdf" else mne.io.read_raw_edf
        raw = reader(path, verbose="error", stim_channel=None)
        expected = raw.get_data()
    checked = 0
    channels = outcome.description.streams[0].channels
    for i, channel in enumerate(channels):
        # MNE gives volts where it knows the unit; ours are in µV. Channels of other units are not compared.
        if channel.unit == "µV":
            got = outcome.arrays[0][i] * channel.scale + channel.offset
            np.testing.assert_allclose(got, expected[i] * 1e6, rtol=1e-9, atol=1e-6)
            checked += 1
    assert checked >= 0.9 * sum(channel.type == "eeg" for channel in channels) > 0


@needs_data
def test_s03_real_annotations_equal_pyedflib() -> None:
    path = DATA / "edf/pyedflib/test_generator.edf"
    reader = pyedflib.EdfReader(str(path))
    onsets, durations, texts = reader.readAnnotations()
    reader.close()
    events = convert(CONVERTER, source_of(path)).annotations
    assert [(e.onset_s, e.text) for e in events] == list(zip(onsets.tolist(), texts.tolist(), strict=True))
    assert [e.duration_s is None for e in events] == [d < 0 for d in durations]


@needs_data
def test_s01_real_subsecond_start() -> None:
    described = CONVERTER.describe(source_of(DATA / "edf/pyedflib/test_subsecond.edf"))
    assert described.description.streams[0].segments[0].onset_s == 0.3945312


# --- S01: continuity --------------------------------------------------------------------------------


def test_s01_edf_plus_d_without_gaps_is_one_segment(tmp_path: Path) -> None:
    signals = [Signal(samples=ramp(24)), annotations(timekeeping(3, first_s=0.25))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=3, reserved="EDF+D"))
    (segment,) = outcome.description.streams[0].segments
    assert (segment.start, segment.n_samples, segment.onset_s) == (0, 24, 0.25)
    assert outcome.description.format == "EDF+D"


@pytest.mark.parametrize("kind", ["EDF+D", "EDF+C"])
def test_s01_gaps_are_refused(tmp_path: Path, kind: str) -> None:
    tals = timekeeping(3)
    tals[2] = b"+7\x14\x14\0"
    signals = [Signal(samples=ramp(24)), annotations(tals)]
    assert refused(tmp_path, edf_bytes(signals, n_records=3, reserved=kind)) == "unsupported_discontinuous"


def test_s01_gap_is_refused_in_every_way_of_reading(tmp_path: Path) -> None:
    tals = timekeeping(3)
    tals[1] = b"+1.5\x14\x14\0"
    data = edf_bytes([Signal(samples=ramp(24)), annotations(tals)], n_records=3, reserved="EDF+C")
    source = write(tmp_path, data)
    for block_bytes in (1, 200, 1 << 20):
        with pytest.raises(ConversionError, match="unsupported_discontinuous"):
            convert(CONVERTER, source, block_bytes)


def test_s01_discontinuous_without_onsets_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, edf_bytes([Signal(samples=ramp(8))], n_records=1, reserved="EDF+D")) == "invalid_header"
    signals = [Signal(samples=ramp(16)), annotations([b"+0\x14\x14\0", b""])]
    assert refused(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+D")) == "corrupt"


def test_s01_onset_of_the_first_record_may_be_above_a_second(tmp_path: Path) -> None:
    signals = [Signal(samples=ramp(16)), annotations(timekeeping(2, first_s=12.5))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+C"))
    assert outcome.description.streams[0].segments[0].onset_s == 12.5


# --- S02: rates -------------------------------------------------------------------------------------


def test_s02_rates_are_exact_fractions(tmp_path: Path) -> None:
    signals = [Signal("EEG Fpz", ramp(16), 8), Signal("Resp", ramp(6), 3), Signal("EEG Cz", ramp(16, 5), 8)]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, record_s="0.3"))
    streams = outcome.description.streams
    assert [s.rate_hz for s in streams] == [Fraction(80, 3), Fraction(10)]
    assert [s.name for s in streams] == ["80_3hz", "10hz"]
    assert [[c.name for c in s.channels] for s in streams] == [["Fpz", "Cz"], ["Resp"]]
    assert outcome.description.duration_s == pytest.approx(0.6)
    np.testing.assert_array_equal(outcome.arrays[0], [ramp(16), ramp(16, 5)])
    np.testing.assert_array_equal(outcome.arrays[1], [ramp(6)])


def test_s02_annotation_signal_defines_no_stream(tmp_path: Path) -> None:
    signals = [annotations(timekeeping(2), 30), Signal(samples=ramp(16))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+C"))
    assert [s.rate_hz for s in outcome.description.streams] == [8]


@given(
    layout=st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=6),
    n_records=st.integers(1, 4),
    bdf=st.booleans(),
    block_bytes=st.integers(1, 400),
)
def test_s02_any_layout_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    layout: list[tuple[int, bool]],
    n_records: int,
    bdf: bool,
    block_bytes: int,
) -> None:
    top = 2**23 if bdf else 2**15
    rng = np.random.default_rng(len(layout))
    signals = [
        annotations(timekeeping(n_records), 20)
        if extra and i
        else Signal(f"EEG {i}", rng.integers(-top, top, per_record * n_records), per_record)
        for i, (per_record, extra) in enumerate(layout)
    ]
    data = edf_bytes(signals, n_records=n_records, bdf=bdf)
    outcome = convert(CONVERTER, write(tmp_path_factory.mktemp("layout"), data), block_bytes)
    plain = [s for s in signals if s.tals is None]
    for got, per_record in zip(outcome.arrays, dict.fromkeys(s.per_record for s in plain), strict=True):
        np.testing.assert_array_equal(got, [s.samples for s in plain if s.per_record == per_record])


# --- S03: annotations -------------------------------------------------------------------------------


def test_s03_tals_of_several_signals(tmp_path: Path) -> None:
    first = timekeeping(2)
    first[0] = b"+0\x14\x14Recording starts\x14\0" + b"+1.5\x152.25\x14Arousal\x14Lights off\x14\0"
    second = [b"", b"+0.5\x14caf\xc3\xa9\x14\0-0.5\x14caf\xe9\x14\0"]
    signals = [annotations(first), Signal(samples=ramp(16)), annotations(second)]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+C"))
    assert [(e.onset_s, e.duration_s, e.text) for e in outcome.annotations] == [
        (-0.5, None, "café"),
        (0.0, None, "Recording starts"),
        (0.5, None, "café"),
        (1.5, 2.25, "Arousal"),
        (1.5, 2.25, "Lights off"),
    ]
    assert all(e.label is None for e in outcome.annotations)


def test_s03_bdf_annotations_pack_three_bytes_a_sample(tmp_path: Path) -> None:
    tals = [b"+0\x14\x14\0+0.125\x14a longer text than sixteen bytes\x14\0"]
    signals = [Signal(samples=ramp(8)), annotations(tals, 16, "BDF Annotations")]
    outcome = run(tmp_path, edf_bytes(signals, n_records=1, bdf=True, reserved="BDF+C"))
    assert [e.text for e in outcome.annotations] == ["a longer text than sixteen bytes"]
    assert outcome.description.format == "BDF+C"


@pytest.mark.parametrize("raw", [b"noon\x14text\x14\0", b"+1\x14text", b"+1", b"+1\x15x\x14text\x14"])
def test_s03_malformed_tals_are_refused(raw: bytes) -> None:
    with pytest.raises(ConversionError, match="corrupt"):
        parse_tals(raw)


def test_s03_timekeeping_onset() -> None:
    assert first_onset(b"+567.5\x14\x14\0\0") == 567.5
    assert first_onset(b"\0\0\0") is None
    assert first_onset(b"+5") is None


def test_s03_annotation_only_is_refused(tmp_path: Path) -> None:
    data = edf_bytes([annotations(timekeeping(1))], n_records=1, record_s="0", reserved="EDF+C")
    assert refused(tmp_path, data) == "unsupported_annotation_only"
