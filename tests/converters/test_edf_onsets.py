"""Onsets of data records and their gaps: pure functions (FIDELITY S01)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize_converters._edf_onsets import drifts, parse_onsets, record_runs
from harmonize_converters._edf_tal import first_onset
from harmonize_converters.contract import ConversionError

LISTS = st.one_of(
    st.from_regex(rb"[+-]?\d{1,16}(\.\d{0,16})?\x14\x14", fullmatch=True),
    st.from_regex(rb"[+-]?\d{0,4}\.?\d{0,4}(\x15\d{0,3})?\x14{0,2}[a-z]{0,3}\x14?", fullmatch=True),
    st.binary(max_size=40),
)


@given(raws=st.lists(LISTS, min_size=1, max_size=8), width=st.integers(2, 70))
def test_s01_all_onsets_at_once_equal_one_by_one(raws: list[bytes], width: int) -> None:
    """The fast path against its slow reference, ``first_onset``."""
    starts = np.array([list(raw[:width].ljust(width, b"\0")) for raw in raws], np.uint8)
    expected = [first_onset(row.tobytes()) for row in starts]
    np.testing.assert_array_equal(parse_onsets(starts), [np.nan if one is None else one for one in expected])


@pytest.mark.parametrize(
    ("raw", "onset_s"),
    [
        (b"+567\x14\x14", 567.0),
        (b"-0.065\x14\x14", -0.065),
        (b"+0.1\x14\x14", 0.1),
        (b"+123456789012.345\x14\x14", 123456789012.345),
        (b"+1\x150\x14\x14", 1.0),
        (b"+1.5\x14Lights off\x14", None),
        (b"+1\x14", None),
        (b"", None),
        (b"+.5\x14\x14", None),
        (b"\x14\x14", None),
        (b"+\x14\x14", None),
    ],
)
def test_s01_onset_of_a_record(raw: bytes, onset_s: float | None) -> None:
    starts = np.frombuffer(raw.ljust(66, b"\0"), np.uint8)[None]
    for found in (first_onset(raw), parse_onsets(starts)[0]):
        assert found == onset_s if onset_s is not None else found is None or np.isnan(found)


def spans(onsets: list[float], record_s: float = 1.0, tolerance: float = 0.01) -> list[tuple[int, int, float]]:
    return [(run.first, run.count, run.onset_s) for run in record_runs(np.array(onsets), record_s, tolerance)]


def test_s01_runs() -> None:
    assert spans([0]) == [(0, 1, 0.0)]
    assert spans([0.25, 1.25, 2.25]) == [(0, 3, 0.25)]
    assert spans([0, 1, 5, 6.005, 90]) == [(0, 2, 0.0), (2, 2, 5.0), (4, 1, 90.0)]


def test_s01_overlaps_are_refused() -> None:
    for onsets in ([0, 0.5], [0, 1, 3, 3.9], [5, 0]):
        with pytest.raises(ConversionError, match="inconsistent_onsets"):
            spans(onsets)


def test_s01_drift_is_no_gap_and_is_told() -> None:
    onsets = np.arange(1000) * 1.0005
    runs = record_runs(onsets, 1.0, 0.01)
    assert [(run.first, run.count) for run in runs] == [(0, 1000)]
    assert drifts(onsets, runs, 1.0, 0.01)
    assert not drifts(np.arange(1000.0), runs, 1.0, 0.01)


def test_s01_a_run_that_outlasts_the_gap_behind_it_is_refused() -> None:
    """A slow clock before a short gap: by the declared rate, the first run ends after the second begins."""
    onsets = np.concatenate([np.arange(1000) * 0.9995, [999.55]])
    with pytest.raises(ConversionError, match="inconsistent_onsets"):
        record_runs(onsets, 1.0, 0.01)


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), gap_s=st.floats(0.1, 1e6), first_s=st.floats(0, 1e4))
def test_s01_any_gaps_are_found(counts: list[int], gap_s: float, first_s: float) -> None:
    expected, onsets, at = [], [], first_s
    for count in counts:
        expected.append((len(onsets), count))
        onsets += [at + i for i in range(count)]
        at += count + gap_s
    assert [span[:2] for span in spans(onsets)] == expected
