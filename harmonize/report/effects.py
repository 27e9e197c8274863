"""How strongly two columns go together, as one number between 0 and 1. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


def crosstab(a: Ints, b: Ints, times: Ints | None = None) -> Ints:
    """Counts (values of a, values of b) of two columns of codes; values that do not occur are left out.

    ``times`` says how often each pair stands for itself; None: once.
    """
    _, rows = np.unique(a, return_inverse=True)
    _, columns = np.unique(b, return_inverse=True)
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    table = np.zeros(shape, np.int64)
    np.add.at(table, (rows, columns), 1 if times is None else times)
    return table


def cramers_v(table: Ints) -> float | None:
    """Cramér's V of a table of counts, corrected for bias (Bergsma 2013, J. Korean Stat. Soc. 42:323).

    0 is independence, 1 (or just below) says that one column follows from the other. None where a column has one value
    only, or n is too small for the correction. Without the correction, chance alone gives
    V = sqrt((r - 1)(c - 1) / ((n - 1) min(r - 1, c - 1))) and more for small n.
    """
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    r, c = table.shape
    n = int(table.sum())
    if min(r, c) < 2 or n < 2:
        return None
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    width = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return None if width <= 0 else float(np.sqrt(phi2 / width))


def omega(group: Ints, values: Reals) -> float | None:
    """The root of omega squared (Hays 1963), so that it reads like a correlation: how much of the spread of
    ``values`` lies between groups, corrected for chance. None where there is one group only, or no spread.
    """
    _, of, sizes = np.unique(group, return_inverse=True, return_counts=True)
    n, k = len(values), len(sizes)
    if k < 2 or n <= k:
        return None
    means = np.bincount(of, values) / sizes
    total = float(((values - values.mean()) ** 2).sum())
    within = float(((values - means[of]) ** 2).sum()) / (n - k)
    if total == 0:
        return None
    return float(np.sqrt(max(0.0, (total - within * (n - 1)) / (total + within))))


def in_words(strength: float) -> str:
    """Cohen's (1988) steps for correlations: 0.1, 0.3, 0.5; from 0.9 on one all but gives the other."""
    steps = ((0.1, "none to speak of"), (0.3, "weak"), (0.5, "moderate"), (0.9, "strong"))
    return next((word for limit, word in steps if strength < limit), "nearly one and the same")
