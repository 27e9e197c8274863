"""Statistics of channels (FIDELITY S11): by hand, by scipy, and by numpy on whole arrays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize.store.quality import STATISTICS, StreamStatistics
from harmonize_schemas import Channel, Segment, SignalStream


def stream(
    n_samples: int,
    rate_hz: int | Fraction = 20,
    dtype: str = "int16",
    segments: tuple[int, ...] = (),
    channels: int = 1,
    **fields: object,
) -> SignalStream:
    given_: dict[str, object] = {"scale": 1.0, "offset": 0.0, "digital_min": -100, "digital_max": 100} | fields
    one = Channel.model_validate(
        {"label": "a", "name": "a", "mapped": True, "type": "eeg", "unit_found": "uV", "unit": "µV"} | given_
    )
    lengths = segments or (n_samples,)
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    spans = tuple(
        Segment(start=start, n_samples=n, onset_s=1000.0 * i)
        for i, (start, n) in enumerate(zip(starts, lengths, strict=True))
    )
    return SignalStream(
        name="s",
        rate_hz=Fraction(rate_hz),
        dtype=dtype,
        n_samples=n_samples,
        channels=(one,) * channels,
        segments=spans,
    )


def result(meta: SignalStream, samples: np.ndarray, cuts: tuple[int, ...] = ()) -> dict[str, list[float | None]]:
    statistics = StreamStatistics(meta)
    for block in np.split(samples, cuts, axis=1):
        statistics.update(block)
    return statistics.result()


def one_channel(meta: SignalStream, samples: np.ndarray) -> dict[str, float | None]:
    return {name: values[0] for name, values in result(meta, samples[None]).items()}


def test_s11_moments_are_in_the_unit_of_values() -> None:
    found = one_channel(stream(4, scale=-0.5, offset=10.0), np.array([0, 2, 4, 10], np.int16))
    assert (found["min"], found["max"], found["mean"]) == (5.0, 10.0, 8.0)
    assert found["std"] == pytest.approx(0.5 * np.std([0, 2, 4, 10]))
    assert set(found) == set(STATISTICS)


def test_s11_missing_samples_count_in_nothing_else() -> None:
    samples = np.array([-32768, 1, 3, -32768, 5, -32768, -32768, 7, 9, -32768], np.int16)
    found = one_channel(stream(10, missing_value=-32768), samples)
    assert (found["missing_share"], found["min"], found["max"], found["mean"]) == (0.5, 1.0, 9.0, 5.0)
    assert (found["outside_share"], found["rail_share"]) == (0.0, 0.0)
    assert found["flat_share"] is None, "no window without missing samples"
    gone = one_channel(stream(10, missing_value=-32768), np.full(10, -32768, np.int16))
    assert (gone["missing_share"], gone["mean"], gone["min"], gone["rail_share"]) == (1.0, None, None, None)


def test_s11_not_a_number_is_missing_in_floats() -> None:
    samples = np.array([np.nan, 1, 2, np.inf, 3], np.float32)
    found = one_channel(stream(5, dtype="float32", digital_min=None, digital_max=None), samples)
    assert (found["missing_share"], found["mean"], found["max"]) == (pytest.approx(0.4), 2.0, 3.0)
    assert (found["outside_share"], found["rail_share"]) == (None, None), "no digital range is declared"


def test_s04_samples_at_the_rails_and_beyond_are_counted() -> None:
    samples = np.array([0, 100, 101, 99, -100, -101, -32768, 5, 6, 7], np.int16)
    found = one_channel(stream(10), samples)
    assert (found["rail_share"], found["outside_share"]) == (0.5, 0.3)


def test_s11_flat_windows() -> None:
    """20 Hz: windows of 20 samples from each segment's start; what is left of a segment is not judged."""
    moving = np.arange(20) % 7
    first = np.concatenate([np.full(20, 3), moving, np.full(15, 3)])
    second = np.concatenate([np.full(20, 9), moving, moving])
    found = one_channel(stream(115, segments=(55, 60)), np.concatenate([first, second]).astype(np.int16))
    assert found["flat_share"] == 2 / 5
    assert one_channel(stream(15), np.zeros(15, np.int16))["flat_share"] is None


def test_s11_slow_signals_have_windows_of_ten_samples() -> None:
    found = one_channel(stream(20, rate_hz=1), np.array([96] * 10 + [96] * 9 + [95], np.int16))
    assert found["flat_share"] == 0.5


@pytest.mark.parametrize(("rate_hz", "line50", "line60"), [(103, None, None), (120, True, None), (250, True, True)])
def test_s11_line_noise_needs_the_rate(rate_hz: int, line50: bool | None, line60: bool | None) -> None:
    noise = np.random.default_rng(0).integers(-90, 90, 3 * rate_hz).astype(np.int16)
    found = one_channel(stream(len(noise), rate_hz), noise)
    assert (found["line50_share"] is not None, found["line60_share"] is not None) == (bool(line50), bool(line60))


@pytest.mark.parametrize("line_hz", [50, 60])
def test_s11_pure_line_noise_is_all_of_the_power(line_hz: int) -> None:
    t = np.arange(2500) / 250
    found = one_channel(
        stream(2500, 250, "int32"), np.round(1e6 * np.sin(2 * np.pi * line_hz * t)).astype(np.int32) + 4_000_000
    )
    assert found[f"line{line_hz}_share"] == pytest.approx(1.0, abs=1e-4)
    assert found[f"line{110 - line_hz}_share"] == pytest.approx(0.0, abs=1e-4)


def test_s11_line_noise_equals_scipy() -> None:
    rng, rate_hz = np.random.default_rng(1), 250
    t = np.arange(20 * rate_hz) / rate_hz
    signal = np.cumsum(rng.normal(0, 30, len(t))) + 300 * np.sin(2 * np.pi * 50 * t) + 5000
    samples = np.round(signal).astype(np.int16)
    hertz, power = scipy.signal.welch(samples, rate_hz, "hann", rate_hz, 0, detrend="constant")
    expected = power[np.abs(hertz - 50) <= 1].sum() / power[hertz >= 2].sum()
    found = one_channel(stream(len(samples), rate_hz), samples)["line50_share"]
    assert found == pytest.approx(expected, rel=1e-3)
    assert 0.05 < expected < 0.95


def test_s11_long_streams_take_evenly_spaced_windows_for_line_noise() -> None:
    """400 s: every sixth second is looked at, and only there is line noise here."""
    rate_hz, seconds = 250, 400
    t = np.arange(rate_hz) / rate_hz
    line, other = (np.round(900 * np.sin(2 * np.pi * hertz * t)).astype(np.int16) for hertz in (50, 20))
    samples = np.concatenate([line if second % 6 == 0 else other for second in range(seconds)])
    assert one_channel(stream(len(samples), rate_hz), samples)["line50_share"] == pytest.approx(1.0, abs=1e-4)


def test_s11_a_constant_channel_has_no_power() -> None:
    found = one_channel(stream(750, 250), np.full(750, 55, np.int16))
    assert (found["std"], found["flat_share"], found["line50_share"]) == (0.0, 1.0, None)


@pytest.mark.parametrize(("channels", "rate_hz"), [(4, 200), (12, 500), (1, 1000)])
def test_s11_blocks_do_not_matter_to_the_last_bit(channels: int, rate_hz: int) -> None:
    """BLAS rounds a large product otherwise than its parts, where it has threads."""
    n_samples = 100 * rate_hz
    samples = np.random.default_rng(0).integers(-30000, 30000, (channels, n_samples)).astype(np.int16)
    meta = stream(n_samples, rate_hz, channels=channels)
    whole = result(meta, samples)
    for step in (rate_hz // 3, 7 * rate_hz + 1, 60 * rate_hz):
        assert result(meta, samples, tuple(range(step, n_samples, step))) == whole


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
    dtype=st.sampled_from(["int16", "int32", "float32"]),
    missing=st.booleans(),
    seed=st.integers(0, 9),
)
def test_s11_blocks_do_not_matter_and_moments_equal_numpy(
    lengths: list[int], cuts: list[int], dtype: str, missing: bool, seed: int
) -> None:
    n, rng = sum(lengths), np.random.default_rng(seed)
    samples = rng.integers(-120, 120, (2, n)).astype(dtype)
    samples[1] = samples[1] // 60
    meta = stream(n, 200, dtype, tuple(lengths), channels=2, scale=0.1, missing_value=-7 if missing else None)
    whole = result(meta, samples)
    parts = result(meta, samples, tuple(sorted(cut for cut in cuts if cut < n)))
    for name in STATISTICS:
        rel = 1e-4 if name.startswith("line") else 1e-12  # spectra are float32
        for a, b in zip(whole[name], parts[name], strict=True):
            assert a == b if a is None or b is None else a == pytest.approx(b, rel=rel, abs=1e-9)
    for channel, row in enumerate(samples.astype(np.float64)):
        present = row[row != -7] if missing else row
        if len(present):
            assert whole["mean"][channel] == pytest.approx(present.mean() * 0.1, abs=1e-9)
            assert whole["std"][channel] == pytest.approx(present.std() * 0.1, abs=1e-9)
        assert whole["missing_share"][channel] == pytest.approx(1 - len(present) / n)


def test_s11_huge_floats_give_no_number_rather_than_a_wrong_one() -> None:
    samples = np.array([1e308, -1e308, 1e308] * 10, np.float64)
    found = one_channel(stream(30, dtype="float64", digital_min=None, digital_max=None), samples)
    assert found["std"] is None
    assert found["max"] == 1e308
