"""Where patches start."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harmonize.data.foreground import LOOKED_AT, every_nth
from harmonize.data.patch_places import around, grid_starts, otsu, patch_keys, random_starts


@given(st.integers(1, 100), st.integers(1, 40), st.integers(1, 40))
def test_a_grid_covers_the_axis(size, patch, stride) -> None:
    starts = grid_starts(size, patch, min(stride, patch))
    covered = np.zeros(size, bool)
    for start in starts:
        covered[start : start + patch] = True
        assert start == 0 or start + patch <= size
    assert covered.all()
    assert len(set(starts)) == len(starts)


def test_random_starts_are_each_as_likely_and_inside() -> None:
    numbers = np.arange(20_000)
    sizes = np.tile([12, 5, 3, 1], (len(numbers), 1))
    starts = random_starts(patch_keys(3, 1, numbers), sizes, np.array([8, 5, 6, 1]))
    for column, room in enumerate((5, 1, 1, 1)):
        counts = np.bincount(starts[:, column], minlength=room)
        assert len(counts) == room
        # five standard deviations of a binomial count
        assert (abs(counts - 20_000 / room) <= 5 * np.sqrt(20_000 / room * (1 - 1 / room))).all()
    again = random_starts(patch_keys(3, 1, numbers[777:779]), sizes[:2], np.array([8, 5, 6, 1]))
    np.testing.assert_array_equal(again, starts[777:779])
    for other in (patch_keys(4, 1, numbers), patch_keys(3, 2, numbers)):
        same = (random_starts(other, sizes, np.array([8, 5, 6, 1]))[:, 0] == starts[:, 0]).mean()
        assert 0.18 < same < 0.22, "1 in 5 by chance"


def test_patches_around_a_voxel_by_hand() -> None:
    sizes, patch = np.array([10, 10, 3]), np.array([4, 5, 4])
    assert around(np.array([5.0, 5.0, 1.0]), sizes, patch).tolist() == [3, 3, 0]
    assert around(np.array([0.0, 9.0, 2.0]), sizes, patch).tolist() == [0, 5, 0], "moved inside"


def slow_otsu(values: np.ndarray) -> float:
    """The split of sorted values with the least variance inside classes, by trying all."""
    values = np.sort(values)
    spread = [k * values[:k].var() + (len(values) - k) * values[k:].var() for k in range(1, len(values))]
    k = 1 + int(np.argmin(spread))
    return float(values[k - 1] + values[k]) / 2


def test_otsu_splits_as_the_definition_does() -> None:
    rng = np.random.default_rng(0)
    for low, high, n in ((0, 100, 300), (-1000, 40, 50), (5, 9, 1000)):
        values = np.concatenate([rng.normal(low, (high - low) / 12, n), rng.normal(high, (high - low) / 8, 400)])
        ours, theirs = (values > otsu(values)).sum(), (values > slow_otsu(values)).sum()
        assert abs(ours - theirs) <= len(values) * 0.01
    for seed in range(5):  # classes that overlap: the threshold itself
        rng = np.random.default_rng(seed)
        values = np.concatenate([rng.uniform(0, 60, 3000), rng.uniform(40, 120, 2000)])
        assert abs(otsu(values) - slow_otsu(values)) < 120 / 256 * 2
    assert np.isnan(otsu(np.full(10, 3.0)))
    rare = np.r_[np.zeros(9999), 1.0]
    assert 0 <= otsu(rare) < 1


@given(st.tuples(*[st.integers(1, 600)] * 3))
def test_voxels_looked_at_are_few_and_inside(sizes) -> None:
    looked_at = every_nth(sizes)
    assert np.prod([len(axis) for axis in looked_at]) <= LOOKED_AT
    for axis, size in zip(looked_at, reversed(sizes), strict=True):
        assert axis[0] >= 0
        assert axis[-1] < size
        assert axis[0] <= axis.step // 2
        assert size - 1 - axis[-1] < axis.step
    if np.prod(sizes) <= LOOKED_AT:
        assert [len(axis) for axis in looked_at] == list(reversed(sizes))
