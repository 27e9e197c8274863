"""Which windows make each batch: pure functions of seed, epoch, step, rank and world size. No torch.

Windows come in rows (a stream, an image), and what groups them is known by row, so memory grows with rows.
Every batch here is the global one, the same for every number of ranks; a rank takes its part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonize.data.shuffle import Ints, Words, key, permute, uniform

Reals = npt.NDArray[np.float64]

CHUNK = 65536
"""About how many draws are worked out at once."""
ORDER_STEPS = 64
"""For how many batches ``groups_per_batch`` keeps one order of the groups."""
_ONE = 2**40


@dataclass(frozen=True)
class Tree:
    """Windows sorted kind, group, unit, row. Windows of a kind, group or unit are consecutive places.

    A **kind** is what all windows of a batch may have to share (a layout), a **group** what is drawn with
    tempered probabilities (a site), a **unit** what is drawn equally often in a group (a subject).

    ``first``, ``size``, ``ends`` (row,): the number of a row's first window, how many it has, their running
    count. ``unit_start``, ``unit_size`` (unit,): places. ``group_unit``, ``group_units`` (group,): first unit
    and their number; ``group_size`` and ``group_code`` (group,): windows, and the code of the field.
    ``kind_start``, ``kind_size`` (kind,): places; ``kind_group`` (kind + 1,): first group of each kind.
    """

    first: Ints
    size: Ints
    ends: Ints
    unit_start: Ints
    unit_size: Ints
    group_unit: Ints
    group_units: Ints
    group_size: Ints
    group_code: Ints
    kind_start: Ints
    kind_size: Ints
    kind_group: Ints

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def window(self, place: Ints) -> Ints:
        """The numbers of the windows at these places, by bisection over rows."""
        row = np.searchsorted(self.ends, place, side="right")
        window: Ints = self.first[row] + place - (self.ends[row] - self.size[row])
        return window

    def nth(self, group: Ints, ordinal: Ints, made: Words) -> Ints:
        """The ``ordinal``-th window drawn from each group: every unit in turn, in an order shuffled anew for
        each round, and of each unit every window in turn, likewise."""
        cycle, turn = np.divmod(ordinal, self.group_units[group])
        unit = self.group_unit[group] + permute(turn, self.group_units[group], key(made, 0, group, cycle))
        cycle, turn = np.divmod(cycle, self.unit_size[unit])
        place = self.unit_start[unit] + permute(turn, self.unit_size[unit], key(made, 1, unit, cycle))
        return self.window(place)


def _starts(changed: npt.NDArray[np.bool_]) -> Ints:
    return np.flatnonzero(np.append(True, changed)).astype(np.int64)


def tree(sizes: Ints, kind: Ints, group: Ints, unit: Ints) -> Tree:
    """Sort rows of ``sizes`` windows by their codes, all (row,); rows without windows are left out.

    Raises ``ValueError`` where no window is left.
    """
    number = np.cumsum(sizes) - sizes
    kept = np.flatnonzero(sizes > 0)
    if not len(kept):
        raise ValueError("there is no window to draw")
    order = kept[np.lexsort((unit[kept], group[kept], kind[kept]))]
    size = sizes[order].astype(np.int64)
    ends = np.cumsum(size)
    begins = ends - size
    new_kind = np.diff(kind[order]) != 0
    new_group = new_kind | (np.diff(group[order]) != 0)
    new_unit = new_group | (np.diff(unit[order]) != 0)
    kinds, groups, units = _starts(new_kind), _starts(new_group), _starts(new_unit)

    def lengths(rows: Ints) -> Ints:
        return np.diff(np.append(begins[rows], ends[-1]))

    group_unit = np.searchsorted(units, groups)
    return Tree(
        first=number[order], size=size, ends=ends,
        unit_start=begins[units], unit_size=lengths(units),
        group_unit=group_unit, group_units=np.diff(np.append(group_unit, len(units))),
        group_size=lengths(groups), group_code=group[order][groups],
        kind_start=begins[kinds], kind_size=lengths(kinds),
        kind_group=np.append(np.searchsorted(groups, kinds), len(groups)),
    )  # fmt: skip


def tempered(sizes: Ints, alpha: float) -> Reals:
    """Probabilities of groups, p ~ n^alpha: 1 in proportion to their windows, 0 all equal."""
    weights = np.exp(alpha * (np.log(sizes) - np.log(sizes).max()))
    p: Reals = weights / weights.sum()
    return p


def inclusion(p: Reals, n: int) -> Ints:
    """How often each group is among the ``n`` distinct groups of a batch, in units of 2**-40; they sum to n.

    n * p, but never above 1: what a group exceeds goes to the others in proportion to their p.
    """
    wanted, free = n * p, np.ones(len(p), bool)
    while (over := free & (wanted >= 1)).any():
        free &= ~over
        wanted[over] = 1.0
        rest = n - (~free).sum()
        if free.any():
            wanted[free] = rest * p[free] / p[free].sum()
    shares = np.minimum(np.floor(wanted * _ONE), _ONE).astype(np.int64)
    room = np.flatnonzero(shares < _ONE)
    shares[room[: n * _ONE - int(shares.sum())]] += 1
    return shares


@dataclass(frozen=True)
class Coverage:
    """Every window once an epoch, shuffled. With several kinds each batch is full and of one kind, batches of
    all kinds shuffled; the windows that fill no batch are others in each epoch."""

    tree: Tree
    batch: int
    drop_last: bool

    @property
    def full(self) -> Ints:
        """Full batches of each kind."""
        return self.tree.kind_size // self.batch

    def __len__(self) -> int:
        rest = len(self.tree.kind_size) == 1 and int(self.tree.kind_size[0]) % self.batch
        return int(self.full.sum()) + bool(rest and not self.drop_last)

    def batches(self, seed: int, epoch: int, start: int, rank: int, world: int) -> Iterator[Ints]:
        """A rank's batches from step ``start`` on. The last, short batch is filled up with the epoch's first
        windows until it can be shared equally."""
        made, part = key(seed, epoch, 2), self.batch // world
        ends = np.cumsum(self.full)
        total = int(self.full.sum())
        steps = max(1, CHUNK // part)
        slots = np.arange(rank * part, (rank + 1) * part)
        for low in range(start, total, steps):
            number = permute(np.arange(low, min(low + steps, total)), total, key(made, 0))
            kind = np.searchsorted(ends, number, side="right")
            within = number - (ends[kind] - self.full[kind])
            position = within[:, None] * self.batch + slots
            yield from self._windows(kind[:, None], position, made)
        if start < len(self) and total < len(self):
            rest = int(self.tree.kind_size[0]) - total * self.batch
            part = -(-rest // world)
            position = total * self.batch + np.arange(rank * part, (rank + 1) * part)
            yield self._windows(np.zeros(part, np.int64), position % len(self.tree), made)

    def _windows(self, kind: Ints, position: Ints, made: Words) -> Ints:
        place = self.tree.kind_start[kind] + permute(position, self.tree.kind_size[kind], key(made, 1, kind))
        return self.tree.window(place)


@dataclass(frozen=True)
class Draws:
    """Draws of groups with p ~ n^alpha, and of windows in a group without replacement until all were drawn.

    ``per_batch`` None: each draw is independent. ``per_batch`` n: every batch has n distinct groups, equally
    often, by systematic sampling (Madow 1949) over a shuffled order of the groups, which gives every group
    exactly its share. With several kinds, a batch is of one kind, and a group keeps its share over all
    batches. ``steps``: batches an epoch; within-group order starts anew in each epoch.
    """

    tree: Tree
    batch: int
    steps: int
    alpha: float
    per_batch: int | None

    def __len__(self) -> int:
        return self.steps

    @property
    def p(self) -> Reals:
        """Probability of each (kind, group): that of the group, shared among its kinds by their windows."""
        codes, of = np.unique(self.tree.group_code, return_inverse=True)
        total = np.bincount(of, weights=self.tree.group_size, minlength=len(codes))
        p: Reals = tempered(total, self.alpha)[of] * self.tree.group_size / total[of]
        return p

    def batches(self, seed: int, epoch: int, start: int, rank: int, world: int) -> Iterator[Ints]:
        """A rank's batches from step ``start`` on. How often each group came before is counted by drawing
        again, without reading windows: about 50 ns a draw."""
        made, part = key(seed, epoch, 3), self.batch // world
        seen = np.zeros(len(self.tree.group_size), np.int64)
        size = max(1, CHUNK // self.batch)
        for low in range(0, self.steps, size):
            steps = np.arange(low, min(low + size, self.steps))
            group = self._groups(steps, made)
            if steps[-1] >= start:
                mine = slice(rank * part, (rank + 1) * part)
                ordinal = (seen[group] + occurrence(group.ravel()).reshape(group.shape))[steps >= start, mine]
                yield from self.tree.nth(group[steps >= start, mine], ordinal, key(made, 1))
            seen += np.bincount(group.ravel(), minlength=len(seen))

    def _groups(self, steps: Ints, made: Words) -> Ints:
        """Group of each draw, (step, slot)."""
        if self.per_batch is not None:
            return np.tile(self._distinct(steps, self.per_batch, made), self.batch // self.per_batch)
        ends = np.cumsum(self.p)
        kind_ends = np.append(0.0, ends)[self.tree.kind_group] / ends[-1]
        draw = uniform(key(made, 0), steps[:, None] * self.batch + np.arange(self.batch))
        if len(self.tree.kind_size) == 1:
            return _find(ends / ends[-1], draw)
        kind = _find(kind_ends[1:], uniform(key(made, 2), steps))[:, None]
        low, high = kind_ends[kind], kind_ends[kind + 1]
        group = _find(ends / ends[-1], low + draw * (high - low))
        # Rounding at the edge of a kind must not lead into the next.
        return np.clip(group, self.tree.kind_group[kind], self.tree.kind_group[kind + 1] - 1)

    def _distinct(self, steps: Ints, n: int, made: Words) -> Ints:
        """``n`` distinct groups for each step, (step, n)."""
        shares = inclusion(self.p, n)
        points = (uniform(key(made, 0), steps) * _ONE).astype(np.int64)[:, None] + np.arange(n) * _ONE
        found = np.empty(points.shape, np.int64)
        for block in np.unique(steps // ORDER_STEPS):
            here = steps // ORDER_STEPS == block
            order = np.argsort(key(made, 2, int(block), np.arange(len(shares))))
            found[here] = order[np.searchsorted(np.cumsum(shares[order]), points[here], side="right")]
        return found


def _find(ends: Reals, draw: Reals) -> Ints:
    return np.minimum(np.searchsorted(ends, draw, side="right"), len(ends) - 1)


def occurrence(codes: Ints) -> Ints:
    """For each element how many equal ones stand before it: [5, 3, 5, 5] -> [0, 0, 1, 2]."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    first = np.searchsorted(ordered, ordered, side="left")
    count = np.empty(len(codes), np.int64)
    count[order] = np.arange(len(codes)) - first
    return count
