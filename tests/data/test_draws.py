"""The order of windows as a pure function: coverage, disjoint ranks, elasticity, resume, shares."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harmonize.data.draws import Coverage, Draws, inclusion, occurrence, tempered, tree

SIGNIFICANCE = 1e-3
rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(-1, 3), st.integers(-1, 4)),
                min_size=1, max_size=12).filter(lambda r: sum(one[0] for one in r) > 0)  # fmt: skip


def columns(table):
    return [np.array(column, np.int64) for column in zip(*table, strict=True)]


def windows_of(table):
    """(kind, group, unit) of each window, in the order of rows: the plain way."""
    return [(k, g, u) for size, k, g, u in table for _ in range(size)]


def epoch(plan, seed=0, number=0, start=0, rank=0, world=1):
    return [batch.tolist() for batch in plan.batches(seed, number, start, rank, world)]


def flat(lists):
    return [item for one in lists for item in one]


@given(rows)
def test_the_tree_holds_every_window_once_sorted_by_its_codes(table) -> None:
    made, plain = tree(*columns(table)), windows_of(table)
    order = made.window(np.arange(len(made))).tolist()
    assert sorted(order) == list(range(len(plain)))
    assert [plain[i] for i in order] == sorted(plain)
    assert made.unit_size.tolist() == [n for _, n in sorted(Counter(plain).items())]
    assert made.group_size.tolist() == [n for _, n in sorted(Counter((k, g) for k, g, _ in plain).items())]
    assert made.kind_size.tolist() == [n for _, n in sorted(Counter(k for k, *_ in plain).items())]


@given(rows, st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_coverage_gives_every_window_once(table, part, world, drop_last) -> None:
    table = [(size, 0, g, u) for size, _, g, u in table]
    made = tree(*columns(table))
    plan = Coverage(made, part * world, drop_last)
    ranks = [epoch(plan, 3, 1, 0, rank, world) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(plan)}
    for step in range(len(plan)):
        assert len({len(batches[step]) for batches in ranks}) == 1, "ranks have batches of one size"
    seen = Counter(window for batches in ranks for batch in batches for window in batch)
    if drop_last:
        assert set(seen.values()) <= {1}
        assert sum(seen.values()) == len(made) // (part * world) * part * world
    else:
        assert set(seen) == set(range(len(made)))
        assert sum(seen.values()) - len(made) < world, "filled up by less than one window a rank"


@given(rows, st.integers(1, 4))
def test_coverage_of_kinds_has_full_batches_of_one_kind(table, size) -> None:
    made, plain = tree(*columns(table)), windows_of(table)
    plan = Coverage(made, size, drop_last=False)
    batches = epoch(plan)
    if len({kind for kind, *_ in plain}) == 1:
        return
    assert len(batches) == len(plan) == sum(n // size for n in Counter(k for k, *_ in plain).values())
    assert all(len(batch) == size and len({plain[i][0] for i in batch}) == 1 for batch in batches)
    assert len({i for batch in batches for i in batch}) == size * len(batches)


def plans(table, size=12, per_batch=None, alpha=0.5, steps=9):
    return Draws(tree(*columns(table)), size, steps, alpha, per_batch)


@given(rows, st.integers(0, 8), st.sampled_from([None, 1]), st.floats(-1, 2))
@settings(deadline=None)
def test_elastic_and_resumable(table, start, per_batch, alpha) -> None:
    """The global batch is the same for 1, 2, 3, 4 ranks, and from any step on."""
    for plan in (plans(table, per_batch=per_batch, alpha=alpha), Coverage(tree(*columns(table)), 12, True)):
        whole = epoch(plan, 5, 2)
        assert len(whole) == len(plan)
        for world in (1, 2, 3, 4):
            parts = [epoch(plan, 5, 2, start, rank, world) for rank in range(world)]
            assert [flat(batch) for batch in zip(*parts, strict=True)] == whole[start:]


@given(rows)
@settings(deadline=None)
def test_draws_use_up_a_group_before_they_repeat(table) -> None:
    """With one unit a group: each group's draws are orders of all its windows, one after another."""
    table = [(size, 0, g, 0) for size, _, g, _ in table]
    plain = windows_of(table)
    by_group = defaultdict(list)
    for window in flat(epoch(plans(table, alpha=0.0))):
        by_group[plain[window][1]].append(window)
    sizes = Counter(g for _, g, _ in plain)
    for group, drawn in by_group.items():
        n = sizes[group]
        for low in range(0, len(drawn), n):
            assert len(set(drawn[low : low + n])) == len(drawn[low : low + n])


@given(rows)
@settings(deadline=None)
def test_units_of_a_group_take_turns(table) -> None:
    table = [(size, 0, g, u) for size, _, g, u in table]
    plain = windows_of(table)
    by_group, by_unit = defaultdict(list), defaultdict(list)
    for window in flat(epoch(plans(table, alpha=0.0))):
        _, group, unit = plain[window]
        by_group[group].append(unit)
        by_unit[group, unit].append(window)
    units = {g: {u for _, h, u in plain if h == g} for g in by_group}
    for group, drawn in by_group.items():
        n = len(units[group])
        for low in range(0, len(drawn) - n + 1, n):
            assert set(drawn[low : low + n]) == units[group]
    for (group, unit), drawn in by_unit.items():
        n = sum((g, u) == (group, unit) for _, g, u in plain)
        assert all(len(set(drawn[low : low + n])) == len(drawn[low : low + n]) for low in range(0, len(drawn), n))


def test_tempered_by_hand() -> None:
    np.testing.assert_allclose(tempered(np.array([1, 4, 16]), 0.5), [1 / 7, 2 / 7, 4 / 7])
    np.testing.assert_allclose(tempered(np.array([1, 4, 15]), 1.0), [0.05, 0.2, 0.75])
    np.testing.assert_allclose(tempered(np.array([1, 4, 16]), 0.0), [1 / 3, 1 / 3, 1 / 3])


def test_inclusion_by_hand() -> None:
    """Two of three groups: 2p = 1.5, 0.3, 0.2; the first is always there, the rest 1 to share 3 to 2."""
    np.testing.assert_allclose(inclusion(np.array([0.75, 0.15, 0.1]), 2) / 2**40, [1, 0.6, 0.4], atol=1e-11)
    assert inclusion(np.array([1 / 3, 1 / 3, 1 / 3]), 3).tolist() == [2**40] * 3
    assert inclusion(np.array([0.2, 0.3, 0.5]), 2).sum() == 2 * 2**40


def test_occurrence_by_hand() -> None:
    assert occurrence(np.array([5, 3, 5, 5, 3])).tolist() == [0, 0, 1, 2, 1]


SIZES = np.array([2000, 500, 120, 30, 5])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_shares_follow_n_to_the_alpha(alpha) -> None:
    """Chi-square of independent draws against probabilities written out here (judge: scipy)."""
    plan = Draws(tree(SIZES, 0 * SIZES, np.arange(5), 0 * SIZES), 64, 400, alpha, None)
    drawn = np.searchsorted(np.cumsum(SIZES), np.concatenate(epoch(plan, 1)), side="right")
    expected = SIZES.astype(float) ** alpha / (SIZES.astype(float) ** alpha).sum() * 64 * 400
    assert stats.chisquare(np.bincount(drawn, minlength=5), expected).pvalue > SIGNIFICANCE


def test_batches_of_one_kind_keep_the_shares_of_groups() -> None:
    """Group 0 lies in both kinds, 1 in the first, 2 in the second; shares 1/3 each at alpha 0.

    Of kind 0: half of group 0's third and group 1's third, so half of all batches.
    """
    sizes, kind, group = np.array([50, 100, 50, 400]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2])
    plan = Draws(tree(sizes, kind, group, 0 * sizes), 8, 4000, 0.0, None)
    batches = np.array(epoch(plan, 2))
    row = np.searchsorted(np.cumsum(sizes), batches, side="right")
    assert (kind[row] == kind[row][:, :1]).all()
    # Draws of a batch share their kind, so single slots are tested: they are independent between batches.
    assert stats.chisquare(np.bincount(group[row[:, 0]]), [4000 / 3] * 3).pvalue > SIGNIFICANCE
    assert stats.binomtest(int((kind[row[:, 0]] == 0).sum()), 4000, 0.5).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("per_batch", [1, 2, 4, 5])
def test_distinct_groups_in_equal_numbers_and_true_shares(per_batch) -> None:
    """Every batch and every half of it has n groups, equally often; over steps each its inclusion probability."""
    steps, alpha, size = 4000, 0.3, 8 * per_batch
    plan = Draws(tree(SIZES, 0 * SIZES, np.arange(5), 0 * SIZES), size, steps, alpha, per_batch)
    batches = np.searchsorted(np.cumsum(SIZES), np.array(epoch(plan, 1)), side="right")
    for part in (batches[:, : size // 2], batches[:, size // 2 :]):
        counts = np.apply_along_axis(np.bincount, 1, part, minlength=5)
        assert set(np.unique(counts)) <= {0, 4}
        assert ((counts > 0).sum(axis=1) == per_batch).all()
    p = SIZES.astype(float) ** alpha / (SIZES.astype(float) ** alpha).sum()
    present = (counts > 0).sum(axis=0)
    if per_batch * p.max() <= 1:
        for seen, share in zip(present, per_batch * p, strict=True):
            assert stats.binomtest(int(seen), steps, share).pvalue > SIGNIFICANCE
    if per_batch == 5:
        assert present.tolist() == [steps] * 5


def test_epochs_and_seeds_differ_and_repeat() -> None:
    plan = Coverage(tree(*(np.array([1000]), *[np.zeros(1, np.int64)] * 3)), 10, False)
    first = epoch(plan, 1, 0)
    assert first == epoch(plan, 1, 0)
    assert first != epoch(plan, 1, 1)
    assert first != epoch(plan, 2, 0)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no window"):
        tree(*columns([(0, 0, 0, 0)]))
