"""Effect sizes against scipy and against tables worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats.contingency import association

from harmonize.report.effects import cramers_v, crosstab, in_words, omega


def test_a_table_worked_by_hand() -> None:
    """[[30, 10], [10, 30]]: expected 20 everywhere, chi2 = 4 * 100 / 20 = 20, phi2 = 20 / 80 = 0.25.

    Corrected: 0.25 - 1/79 = 0.2373418; r = c = 2 - 1/79 = 1.9873418; V = sqrt(0.2373418 / 0.9873418).
    """
    assert cramers_v(np.array([[30, 10], [10, 30]])) == pytest.approx(0.4902903, abs=1e-7)


def test_what_determines_each_other_has_strength_one() -> None:
    assert cramers_v(np.diag([10, 20, 30])) == pytest.approx(1.0)
    assert omega(np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 5.0, 5.0])) == pytest.approx(1.0)


def test_independence_is_zero_where_the_plain_v_is_not() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, 200), rng.integers(0, 8, 200)
    assert association(crosstab(a, b), method="cramer") > 0.15
    assert cramers_v(crosstab(a, b)) < 0.1


@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=2, max_size=5))
def test_the_correction_is_bergsmas_of_scipys_v(rows) -> None:
    """From scipy's uncorrected V the formulas of Bergsma (2013), equations 4 and 8, in their own words."""
    table = np.array(rows)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2 or table.sum() < 20:
        return
    (r, c), n = table.shape, table.sum()
    phi2 = association(table, method="cramer", correction=False) ** 2 * (min(r, c) - 1)
    corrected = max(0, phi2 - (r - 1) * (c - 1) / (n - 1))
    wide, high = c - (c - 1) ** 2 / (n - 1), r - (r - 1) ** 2 / (n - 1)
    assert cramers_v(np.array(rows)) == pytest.approx(np.sqrt(corrected / min(high - 1, wide - 1)), abs=1e-9)


def test_omega_from_scipys_f() -> None:
    """omega2 = (F - 1)(k - 1) / ((F - 1)(k - 1) + n)."""
    rng = np.random.default_rng(1)
    group = rng.integers(0, 4, 120)
    values = rng.normal(size=120) + 0.7 * group
    f = stats.f_oneway(*(values[group == g] for g in range(4))).statistic
    assert omega(group, values) == pytest.approx(np.sqrt((f - 1) * 3 / ((f - 1) * 3 + 120)))
    assert omega(group, rng.permutation(values)) < 0.2


def test_nothing_to_compare() -> None:
    assert cramers_v(np.array([[5, 0], [7, 0]])) is None
    assert omega(np.zeros(9, int), np.arange(9.0)) is None
    assert omega(np.arange(3), np.ones(3)) is None
    assert omega(np.array([0, 0, 1, 1]), np.ones(4)) is None


def test_words() -> None:
    assert [in_words(x) for x in (0.0, 0.1, 0.3, 0.5, 0.95)] == [
        "none to speak of", "weak", "moderate", "strong", "nearly one and the same",
    ]  # fmt: skip
