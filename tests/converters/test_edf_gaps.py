"""Gaps of EDF+D, BDF+D and of files that do not own up to them (FIDELITY S01)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.conformance import ConverterConformance, convert
from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from converters.edf_cases import CONVERTER, ramp, refused, run, write
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles

GAPPED = [b"+0.5\x14\x14\0", b"+1.5\x14\x14\0", b"+7.25\x14\x14\0", b"+8.25\x14\x14\0", b"+100\x14\x14\0"]
SPANS = [(0, 2, 0.5), (2, 2, 7.25), (4, 1, 100.0)]
"""Records, how many, and onset of the runs that ``GAPPED`` says."""


def gapped(kind: str, tals: list[bytes] = GAPPED) -> bytes:
    signals = [
        Signal("EEG Fpz", ramp(40), 8),
        Signal("Resp", ramp(15), 3),
        annotations(tals, label=f"{kind[:3]} Annotations"),
    ]
    return edf_bytes(signals, n_records=5, bdf=kind.startswith("BDF"), reserved=kind)


class TestConformance(ConverterConformance):
    converter = CONVERTER

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        return [write(tmp_path, gapped("EDF+D"), "a.edf"), write(tmp_path, gapped("BDF+D"), "b.bdf")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        tals = timekeeping(50) + timekeeping(50, first_s=60)
        signals = [Signal(f"EEG {i}", ramp(40_000, -16000, 1) % 9999, 400) for i in range(32)]
        return write(tmp_path, edf_bytes([*signals, annotations(tals)], n_records=100, reserved="EDF+D"))

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        """What was written: no other reader keeps the gaps."""
        return [np.array([ramp(40)]), np.array([ramp(15)])]

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        return [0, 1, 100, 1023, 1024, 1030]


@pytest.mark.parametrize("kind", ["EDF+D", "BDF+D", "EDF+C"])
def test_s01_gaps_are_segments_of_every_stream(tmp_path: Path, kind: str) -> None:
    outcome = run(tmp_path, gapped(kind))
    for stream, width, samples in zip(outcome.description.streams, (8, 3), (ramp(40), ramp(15)), strict=True):
        found = [(s.start, s.n_samples, s.onset_s) for s in stream.segments]
        assert found == [(first * width, count * width, onset_s) for first, count, onset_s in SPANS]
        np.testing.assert_array_equal(outcome.arrays[outcome.description.streams.index(stream)], [samples])
    assert outcome.description.duration_s == 100.5, "from the first sample to the end of the last, gaps included"
    assert ("gaps_undeclared" in outcome.description.flags) == (kind == "EDF+C")


def test_s01_plus_d_without_gaps_is_one_segment(tmp_path: Path) -> None:
    signals = [Signal(samples=ramp(24)), annotations(timekeeping(3, first_s=0.25))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=3, reserved="EDF+D"))
    (segment,) = outcome.description.streams[0].segments
    assert (segment.start, segment.n_samples, segment.onset_s) == (0, 24, 0.25)
    assert outcome.description.format == "EDF+D"


def test_s01_gap_below_a_sample_is_rounding(tmp_path: Path) -> None:
    tals = [b"+0\x14\x14\0", b"+1.0009\x14\x14\0", b"+2\x14\x14\0"]
    outcome = run(tmp_path, edf_bytes([Signal(samples=ramp(24)), annotations(tals)], n_records=3, reserved="EDF+D"))
    assert len(outcome.description.streams[0].segments) == 1


@pytest.mark.parametrize("kind", ["EDF+D", "EDF+C"])
def test_s01_records_that_overlap_are_refused(tmp_path: Path, kind: str) -> None:
    for onset in (b"+1.5", b"+3.5"):
        tals = timekeeping(5)
        tals[2] = onset + b"\x14\x14\0"
        source = write(tmp_path, gapped(kind, tals))
        for block_bytes in (1, 60, 1 << 20):
            with pytest.raises(ConversionError, match="inconsistent_onsets"):
                convert(CONVERTER, source, block_bytes)


def test_s01_discontinuous_without_onsets_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, edf_bytes([Signal(samples=ramp(8))], n_records=1, reserved="EDF+D")) == "invalid_header"
    for missing in range(3):
        tals = timekeeping(3)
        tals[missing] = b""
        signals = [Signal(samples=ramp(24)), annotations(tals)]
        assert refused(tmp_path, edf_bytes(signals, n_records=3, reserved="EDF+D")) == "corrupt"


def test_s01_continuous_files_may_leave_onsets_out(tmp_path: Path) -> None:
    for tals in ([b"+0\x14\x14\0", b"", b""], [b"", b"", b""], [b"+0\x14\x14\0", b"", b"+2\x14\x14\0"]):
        signals = [Signal(samples=ramp(24)), annotations(tals)]
        outcome = run(tmp_path, edf_bytes(signals, n_records=3, reserved="EDF+C"))
        assert [s.n_samples for s in outcome.description.streams[0].segments] == [24]
        assert outcome.description.flags == ()


def test_s01_first_onset_may_be_above_a_second(tmp_path: Path) -> None:
    signals = [Signal(samples=ramp(16)), annotations(timekeeping(2, first_s=12.5))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+C"))
    assert outcome.description.streams[0].segments[0].onset_s == 12.5


def test_s01_drift_is_flagged(tmp_path: Path) -> None:
    tals = [b"+%.3f\x14\x14\0" % (i * 1.1) for i in range(5)]
    outcome = run(tmp_path, gapped("EDF+D", tals))
    assert len(outcome.description.streams[0].segments) == 1
    assert outcome.description.flags == ("clock_drift",)
