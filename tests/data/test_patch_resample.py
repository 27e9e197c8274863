"""Weights along an axis, against scipy, torch and by hand."""

import numpy as np
import scipy.ndimage
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from harmonize.data.patch_grid import GridAxis
from harmonize.data.patch_resample import interpolate, taps


def axis_of(size: int, count: int, step: float) -> GridAxis:
    return GridAxis(count, 0, (size - 1) / 2 - step * (count - 1) / 2, step)


def resampled(values: np.ndarray, axis: GridAxis, interpolation="linear", start=0, count=None) -> np.ndarray:
    """One axis of voxels, in the grid's order."""
    one = taps(axis, start, axis.size if count is None else count, len(values), interpolation)
    stored = values[one.wanted.start : one.wanted.stop].astype(np.float32)
    out, known = interpolate(stored, np.ones(stored.shape, bool), [one.weights])
    assert known.all()
    return out if axis.step > 0 else out[::-1]


VALUES = np.random.default_rng(0).normal(0, 100, 40)


@given(st.integers(1, 40), st.floats(0.2, 1), st.sampled_from([-1, 1]), st.data())
def test_finer_grids_are_scipys_linear_interpolation(size, step, sign, data) -> None:
    count = max(1, round(size / step))
    axis = axis_of(size, count, step * sign)
    judge = scipy.ndimage.affine_transform(
        VALUES[:size], [axis.step], [axis.first], output_shape=(count,), order=1, mode="nearest"
    )
    np.testing.assert_allclose(resampled(VALUES[:size], axis), judge, atol=1e-3)
    start = data.draw(st.integers(0, count - 1))
    part = data.draw(st.integers(1, count - start))
    np.testing.assert_allclose(
        resampled(VALUES[:size], axis, "linear", start, part), judge[start : start + part], atol=1e-3
    )


@given(st.integers(1, 40), st.floats(0.2, 4))
def test_nearest_is_scipys(size, step) -> None:
    axis = axis_of(size, max(1, round(size / step)), step)
    at = axis.first + axis.step * np.arange(axis.size)
    assume(np.abs((at + 0.5) % 1).min() > 1e-6)
    assume(np.abs((at + 0.5) % 1 - 1).min() > 1e-6)
    judge = scipy.ndimage.affine_transform(
        VALUES[:size], [axis.step], [axis.first], output_shape=(axis.size,), order=0, mode="nearest"
    )
    np.testing.assert_array_equal(resampled(VALUES[:size], axis, "nearest"), judge.astype(np.float32))


@given(st.integers(1, 12), st.sampled_from([1, 1.25, 1.5, 2, 2.5, 3]))
def test_coarser_grids_are_torchs_antialiased_interpolation(count, step) -> None:
    size = count * step
    assume(size == int(size) and size <= 40)
    values = VALUES[: int(size)]
    plane = torch.from_numpy(values)[None, None, None]
    judge = torch.nn.functional.interpolate(plane, (1, count), mode="bilinear", antialias=True)[0, 0, 0].numpy()
    np.testing.assert_allclose(resampled(values, axis_of(int(size), count, step)), judge, atol=1e-3)


def test_weights_by_hand() -> None:
    # Voxels of twice the size: centres at 0.5, 2.5; a triangle of half-width 2 reaches 1.5 voxels each way.
    one = taps(axis_of(4, 2, 2.0), 0, 2, 4, "linear")
    assert one.wanted == range(0, 4)
    first = np.array([0.75, 0.75, 0.25]) / 1.75
    np.testing.assert_allclose(one.weights, [[*first, 0], [0, *first[::-1]]], rtol=1e-6)
    # Voxels of half the size, the last two: at 2.75 and 3.25 of 0 to 3; beyond the last centre its value holds.
    one = taps(axis_of(4, 8, 0.5), 6, 2, 4, "linear")
    np.testing.assert_allclose(one.weights, [[0.25, 0.75], [0, 1]], rtol=1e-6)
    assert one.wanted == range(2, 4)
    assert taps(axis_of(9, 9, -1.0), 1, 3, 9, "linear").wanted == range(5, 8), "turned: voxels 7, 6, 5"


def test_only_known_voxels_count() -> None:
    values, known = np.array([[8.0, 0.0, 0.0, 4.0]], np.float32), np.array([[True, False, False, True]])
    weights = np.array([[0.5, 0.5, 0, 0], [0.4, 0.6, 0, 0], [0, 0, 0.2, 0.8], [0.25, 0.25, 0.25, 0.25]], np.float32)
    out, there = interpolate(values, known, [weights])
    assert there.tolist() == [[True, False, True, True]]
    np.testing.assert_allclose(out, [[8, 0, 4, 6]], rtol=1e-6)


def test_axes_are_weighted_one_by_one() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    z, y, x = (rng.random((n, m)).astype(np.float32) for n, m in ((6, 3), (2, 4), (7, 5)))
    expected = np.einsum("tzyx,kz,jy,ix->tkji", values.astype(np.float64), z, y, x)
    out, _ = interpolate(values, np.ones(values.shape, bool), [None, z, y, x])
    np.testing.assert_allclose(out, expected, atol=1e-4)
    out, _ = interpolate(values, np.ones(values.shape, bool), [None, None, y, None])
    np.testing.assert_allclose(out, np.einsum("tzyx,jy->tzjx", values, y), atol=1e-5)
