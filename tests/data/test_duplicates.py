"""Duplicates: what counts as the same data, on signals made here."""

from fractions import Fraction

import numpy as np
import pytest

import harmonize as hz
from harmonize.data.duplicates import densest, find_duplicates
from harmonize.data.exact import exact_pairs
from harmonize.data.fingerprint import agreement, anchors, edge, n_trace, shifted, trace
from harmonize.ingest.rows import recording_row, stream_row
from harmonize.store import catalog, create_store
from harmonize.store.catalog import Batch
from harmonize.store.content import ChannelHashes
from harmonize.store.parts import SignalPart
from harmonize_schemas import Image
from stores import noise, recording, stream, write_image


def write(root, recordings, rate=100, **options) -> None:
    """Recordings by name, (names of channels, samples (channel, time)) each, hashed as converting does."""
    create_store(root, "key")
    batch = Batch()
    for name, (channels, samples) in recordings.items():
        one = recording(name, [stream(samples.shape[1], channels, rate, dtype=str(samples.dtype), **options)])
        part = SignalPart(root, f"part-{name}", one.streams, "lz4")
        part.write(0, 0, samples)
        part.close([one], [0])
        hashes = ChannelHashes(*(len(samples), str(samples.dtype)))
        hashes.update(samples)
        batch.recordings.append(recording_row(one, "state", 0, None))
        batch.streams.append(stream_row(one, 0, part.path, part.layout, 0, 0, hashes.hexdigests()))
    catalog.commit(root, batch)


def rhythm(seconds, rate=500, seed=0, channels=3):
    """Noise below 12 Hz, int16, (channel, time): a sum of tones with random phases, so that any rate is exact."""
    rng = np.random.default_rng(seed)
    hz_, phase = rng.uniform(0.5, 12, (channels, 200)), rng.uniform(0, 2 * np.pi, (channels, 200))
    t = np.arange(int(seconds * rate)) / rate
    wave = sum(np.cos(2 * np.pi * hz_[:, k, None] * t + phase[:, k, None]) for k in range(200))
    return np.round(300 * wave).astype(np.int16)


def pairs(frame):
    return [
        (a.removeprefix("test/"), b.removeprefix("test/")) for a, b in frame.select("recording_a", "recording_b").rows()
    ]


def test_exact_needs_all_channels_of_the_smaller_whatever_order_and_name(tmp_path) -> None:
    a, b, c, flat = *noise((3, 500)), np.full(500, 7, np.int16)
    root = tmp_path / "s.zarr"
    write(
        root,
        {
            "whole": (["C3", "C4", "Cz", "Fz"], np.array([a, b, c, flat])),
            "subset": (["x", "y"], np.array([c, a])),
            "half": (["C3", "C4"], np.array([a, b[::-1]])),
            "flat": (["C3", "C4"], np.array([flat, flat])),
            "flat2": (["C3"], np.array([flat])),
            "wide": (["C3", "C4", "Cz"], np.array([a, b, c]).astype(np.int32)),
            "other_flat": (["C3", "C4"], np.array([a, flat + 1])),
        },
    )
    found = exact_pairs(hz.open(root))
    assert pairs(found) == [
        ("half", "other_flat"),
        ("other_flat", "subset"),
        ("other_flat", "whole"),
        ("subset", "whole"),
    ]
    assert found["channels"].to_list() == [1, 1, 1, 2]
    assert found["overlap_s"].to_list() == [5.0] * 4


def test_streams_too_short_to_tell_are_no_evidence(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write(root, {name: (["C3"], noise((1, 99))) for name in "ab"})
    assert exact_pairs(hz.open(root)).is_empty()


def test_equal_images_pair_and_flat_ones_do_not(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    image = Image(
        axes=("z", "y", "x"), shape=(2, 3, 4), dtype="int16", affine=None, affine_source="unknown", spacing_mm=None,
        spacing_source="unknown",
    )  # fmt: skip
    voxels = {"a": noise((2, 3, 4)), "b": noise((2, 3, 4)), "zero": np.zeros((2, 3, 4), np.int16)}
    for name in ("a", "b", "zero", "zero2"):
        planes = voxels[name.rstrip("2")]
        write_image(root, recording(name, image=image), planes)
        row = hz.open(root).recordings.filter(recording_id=f"test/{name}").drop("commit").row(0, named=True)
        catalog.commit(root, Batch(recordings=[row | {"content": str(hash(planes.tobytes()))}]))
    assert pairs(find_duplicates(hz.open(root))) == [("a", "b")]


COPIES = {
    "rescaled, inverted, offset": lambda: (rhythm(12) * -0.4 + 900, 500),
    "another rate": lambda: (rhythm(12, 200), 200),
    "a rate of no round ratio": lambda: (rhythm(12, 257), 257),
    "the lowest rate": lambda: (rhythm(12, 50), 50),
    "cropped between samples of the trace": lambda: (rhythm(12)[:, 1501:5501], 500),
    "coarse steps": lambda: (np.round(rhythm(12) / 100), 500),
    "two channels, reordered": lambda: (rhythm(12)[[2, 0]], 500),
    "one channel": lambda: (rhythm(12)[[1]], 500),
}


@pytest.mark.parametrize("how", COPIES)
def test_near_finds_a_copy(tmp_path, how) -> None:
    root = tmp_path / "s.zarr"
    samples, rate = COPIES[how]()
    write(root, {"a": (["C3", "C4", "Cz"], rhythm(12)), "other": (["C3", "C4", "Cz"], rhythm(12, seed=1))}, 500)
    write(root, {"z": ([f"X{i}" for i in range(len(samples))], np.round(samples).astype(np.int32))}, rate)
    found = find_duplicates(hz.open(root))
    assert pairs(found) == [("a", "z")]
    row = found.row(0, named=True)
    assert row["kind"] == "near"
    assert row["similarity"] > 0.99
    assert row["channels"] == len(samples)
    assert row["lag_s"] == pytest.approx(1501 / 500 if "cropped" in how else 0, abs=0.003)
    assert row["overlap_s"] >= (6 if "cropped" in how else 10)


def test_gaps_and_missing_samples_and_triggers_do_not_mislead(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    whole = rhythm(40, seed=3)
    cut = np.concatenate([whole[:, 2000:8000], whole[:, 9000:15000]], axis=1)
    cut[:, 1000:1200] = -32768
    write(root, {"a": (["C3", "C4", "Cz"], whole)}, 500)
    write(root, {"b": (["C3", "C4", "Cz"], cut)}, 500, segments=[(0, 6000, 5.0), (6000, 6000, 19.0)], missing=-32768)
    found = find_duplicates(hz.open(root))
    assert pairs(found) == [("a", "b")]
    # b's first sample is a's at 4 s and has onset 5 s; its second run begins at a's 18 s, with onset 19 s
    assert found["lag_s"][0] == pytest.approx(-1.0, abs=0.003)


def test_one_equal_artefact_in_noise_is_no_duplicate(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    step = np.zeros(5000)
    step[2500:2600] = 20000
    noisy = {n: (["C3"], (rhythm(10, seed=i, channels=1) / 50 + step).astype(np.int16)) for i, n in enumerate("ab")}
    write(root, noisy, 500)
    assert find_duplicates(hz.open(root)).is_empty()


def test_long_recordings_are_read_in_chunks(tmp_path) -> None:
    """1300 s: three chunks; the copy begins inside the first."""
    root = tmp_path / "s.zarr"
    rng = np.random.default_rng(0)
    slow = np.convolve(rng.normal(0, 1, 130_000), np.hanning(11), "same") * 500
    write(root, {"a": (["C3"], slow[None].astype(np.int16))})
    write(root, {"b": (["C3"], (slow[None, 30_000:100_000] / 3).astype(np.int16))})
    found = find_duplicates(hz.open(root))
    assert pairs(found) == [("a", "b")]
    assert found["lag_s"][0] == pytest.approx(300, abs=0.003)
    assert 690 < found["overlap_s"][0] <= 700


def test_a_trace_is_the_same_read_in_pieces() -> None:
    for rate in (Fraction(100), Fraction(128), Fraction(500)):
        samples = rhythm(30, int(rate)).astype(np.float64)

        def read(start, stop, samples=samples):
            return samples[:, start:stop]

        n = n_trace(samples.shape[1], rate)
        whole = trace(read, samples.shape[1], rate, 0, n)
        margin = edge(rate)
        assert np.isnan(whole[:, :margin]).all()
        assert np.isfinite(whole[:, margin : n - margin]).all()
        pieces = [trace(read, samples.shape[1], rate, low, min(n, low + 777)) for low in range(0, n, 777)]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=0.05 * whole[:, margin:-margin].std())


def test_a_trace_passes_its_band_without_delay() -> None:
    t = np.arange(5000) / 500
    tone = np.cos(2 * np.pi * 5 * t)[None] * 1000
    out = trace(lambda a, b: tone[:, a:b] + 1e6, 5000, Fraction(500), 0, 1000)[0, 100:900]
    expected = np.cos(2 * np.pi * 5 * np.arange(100, 900) / 100)
    gain = np.exp(-0.5 * (2 * np.pi * 5 * 0.015) ** 2) - np.exp(-0.5 * (2 * np.pi * 5 * 0.12) ** 2)  # of two Gaussians
    np.testing.assert_allclose(out / 1000, gain * expected, atol=0.01)


def test_shifting_between_samples() -> None:
    t = np.arange(400)
    wave = np.cos(2 * np.pi * t / 25).astype(np.float32)[None]
    moved = shifted(wave, 100.37, 50)[0]
    np.testing.assert_allclose(moved, np.cos(2 * np.pi * (100.37 + np.arange(50)) / 25), atol=2e-3)
    assert np.isnan(shifted(wave, 398.5, 10)[0, 3:]).all()
    np.testing.assert_allclose(shifted(wave, 100 - 1e-14, 50), shifted(wave, 100, 50), atol=1e-6)
    assert np.isfinite(shifted(wave, 2 - 1e-16, 390)).all()
    assert np.isnan(shifted(wave, -1e-17, 390)[0, 0])


def test_agreement_is_pearson_s_r_block_by_block() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 300)).astype(np.float32)
    b[1, 250] = np.nan
    b[2, :100] = 4
    sums, counts = agreement(a, b)
    assert counts.tolist() == [[3, 2, 2]] * 3
    blocks = [np.corrcoef(a[0, k : k + 100], b[0, k : k + 100])[0, 1] for k in (0, 100, 200)]
    assert sums[0, 0] == pytest.approx(sum(blocks), abs=1e-5)


def test_anchors_of_an_inverted_signal_are_the_same() -> None:
    samples = rhythm(12, 100).astype(np.float32)
    one, other = anchors(samples, 40), anchors(-2 * samples, 40)
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_allclose(one.at, other.at)


def test_the_densest_lag() -> None:
    assert densest(np.array([5.0, 100.1, 99.9, 100.0, -30.0])) == pytest.approx(100.0)
    assert densest(np.array([5.0, 10.0, 20.0])) is None
