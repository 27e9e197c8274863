"""Keyed numbers and permutations: judged by counting, by scipy and by SplitMix64's published output."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harmonize.data.shuffle import key, mix, permute, uniform

SIGNIFICANCE = 1e-3
"""Keys are fixed, so a test that passes passes always."""


def test_mix_is_splitmix64() -> None:
    """The first numbers of SplitMix64 from the state 1234567, as Rosetta Code lists them."""
    states = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mix(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


@given(st.integers(1, 500), st.integers(0, 2**63 - 1))
def test_a_permutation_of_any_size(size, seed) -> None:
    assert sorted(permute(np.arange(size), size, key(seed)).tolist()) == list(range(size))


def test_elements_do_not_depend_on_their_company() -> None:
    sizes, keys = np.array([3, 10**9, 1, 70]), key(1, np.arange(4))
    together = permute(np.array([2, 123456789, 0, 69]), sizes, keys)
    alone = [int(permute(at, int(sizes[i]), keys[i])) for i, at in enumerate((2, 123456789, 0, 69))]
    assert together.tolist() == alone
    assert (together < sizes).all()


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_are_equally_likely(size) -> None:
    drawn = permute(np.arange(size)[None], size, key(5, np.arange(30000))[:, None])
    orders = {order: number for number, order in enumerate(itertools.permutations(range(size)))}
    counts = np.bincount([orders[tuple(row)] for row in drawn.tolist()], minlength=len(orders))
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def test_neighbours_and_single_places_of_larger_orders_are_independent() -> None:
    drawn = permute(np.arange(400)[None], 400, key(9, np.arange(2000))[:, None])
    pairs = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=8)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > SIGNIFICANCE
    for place in (0, 1, 399):
        assert stats.chisquare(np.histogram(drawn[:, place], bins=20)[0]).pvalue > SIGNIFICANCE
    r = np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]
    # Without replacement neighbours correlate by -1/(n - 1); the standard error is 1/sqrt(pairs).
    assert abs(r + 1 / 399) < 4 / np.sqrt(2000 * 399)


def test_uniform_numbers() -> None:
    numbers = uniform(key(4), np.arange(100_000))
    assert stats.kstest(numbers, "uniform").pvalue > SIGNIFICANCE
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 4 / np.sqrt(100_000)
