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
from converters.edf_cases import CONVERTER, ramp, run, source_of, write
from harmonize_converters.contract import FoundFile, SourceFiles
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

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        """A file cut behind its first data record is converted as far as it is whole (FIDELITY S06)."""
        header = 256 * (1 + int(file.path.read_bytes()[252:256]))
        return [0, 1, 100, header - 1, header, header + 7]

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
    outcome = convert(CONVERTER, source_of(path))
    assert outcome.arrays or (path.name == "test_edfann.edf" and outcome.annotations)


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
    assert checked >= 0.9 * len(channels) > 0


@needs_data
def test_s01_real_subsecond_start() -> None:
    described = CONVERTER.describe(source_of(DATA / "edf/pyedflib/test_subsecond.edf"))
    assert described.description.streams[0].segments[0].onset_s == 0.3945312


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
