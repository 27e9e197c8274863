"""Which windows a stream reads, and when: shuffled by blocks, a pure function of seed, epoch and a few sizes. No I/O.

Windows are numbered in the order in which they lie in the store. A **block** is so many that follow each other, read
together. Blocks are shuffled and dealt to **lanes**; a lane mixes the windows of one **pool** of blocks after the
other. Every batch takes as many windows from each of ``lanes`` lanes, so that ranks that share a batch read different
blocks. With ``workers`` such sets of lanes, batches take them in turns, so that the workers of a ``DataLoader``,
which do so too, read different blocks as well. All of this belongs to the order and not to the run: how many ranks
and workers there are changes who reads a window, not which batch it is in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import ceil
from typing import NamedTuple, Protocol

import numpy as np

from harmonize.data.shuffle import Ints, key, permute
from harmonize.store.recent import Recent

_PAGE = 1024
"""Places of blocks that are worked out at once: one at a time takes a hundred times as long."""

Pool = tuple[int, int]
"""A lane, and which of its pools."""


class Piece(NamedTuple):
    """Windows that a batch takes from one pool, and the pool's blocks; None: from wherever (they do not share blocks by
    design)."""

    windows: Ints
    pool: Pool | None
    blocks: frozenset[int] = frozenset()


@dataclass(frozen=True)
class BlockOrder:
    """Every window once an epoch, shuffled by blocks.

    Parameters
    ----------
    n_windows
        How many there are.
    batch
        Windows of a batch over all ranks.
    block
        Windows of a block; the last one may be shorter.
    pool
        Blocks of a pool, about: pools of a lane are alike, but the first and the last, of half to three halves of
        the size, so that lanes begin new pools at different times and reading is spread evenly.
    lanes
        Lanes that a batch takes from; a divisor of ``batch``. Any number of ranks that divides it shares no block.
    workers
        Sets of lanes. Any number of workers that divides it shares no block.
    drop_last
        Leave out the last, short batch.
    """

    n_windows: int
    batch: int
    block: int
    pool: int
    lanes: int = 1
    workers: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        sizes = (self.n_windows, self.batch, self.block, self.pool, self.lanes, self.workers)
        if min(sizes) < 1 or self.batch % self.lanes:
            raise ValueError(f"{self}: all sizes must be above 0, and lanes a divisor of batch")

    @property
    def share(self) -> int:
        """Windows that a batch takes from each lane."""
        return self.batch // self.lanes

    @property
    def n_blocks(self) -> int:
        return -(-self.n_windows // self.block)

    @cached_property
    def _lane_blocks(self) -> Ints:
        """First block of each lane, and the end: (lanes * workers + 1,)."""
        n = self.lanes * self.workers
        return np.arange(n + 1, dtype=np.int64) * self.n_blocks // n

    @cached_property
    def _turns(self) -> int:
        """How often every lane can give its share: the short block may lie in any of them."""
        fewest = int(np.diff(self._lane_blocks).min()) * self.block - self._short
        return max(0, fewest) // self.share

    @property
    def _short(self) -> int:
        """By how many windows the last block is shorter."""
        return self.n_blocks * self.block - self.n_windows

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.n_windows // self.batch if self.drop_last else -(-self.n_windows // self.batch)

    @property
    def design_effect(self) -> float:
        """By what factor the variance of a batch's mean exceeds that of a batch drawn at random, if all windows of a
        block were alike and blocks were not: 1 + (how many others of its block a window expects to meet in its batch),
        less what it would meet in a random batch (Kish 1965). Of lanes with pools of ``pool`` blocks."""
        lane = self.n_windows // (self.lanes * self.workers)
        others = (self.share - 1) / max(1, min(self.pool * self.block, lane) - 1)
        at_random = (self.batch - 1) / max(1, self.n_windows - 1)
        return 1 + (self.block - 1) * max(0.0, min(1.0, others) - at_random)

    def pieces(
        self, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1, stride: int = 1
    ) -> Iterator[list[Piece]]:
        """A rank's part of every ``stride``-th batch from ``start`` on, by the pools it comes from.

        The last, short batch is filled up as ``share`` says, which also says what is refused.
        """
        epoch_order = _Epoch(self, seed, epoch)
        for step in range(start, len(self), stride):
            yield epoch_order.slots(*share(self.n_windows, self.batch, step, rank, world))

    def batches(
        self, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1, stride: int = 1
    ) -> Iterator[Ints]:
        """As ``pieces``, but the windows alone."""
        for found in self.pieces(seed, epoch, start, rank, world, stride):
            yield np.concatenate([piece.windows for piece in found])


class _Epoch:
    """One epoch of an order: the window at any place of it. Keeps the pool that each lane is at."""

    def __init__(self, order: BlockOrder, seed: int, epoch: int) -> None:
        self._order, self._made = order, key(seed, epoch, 4)
        # The short block, if any, goes anywhere among the others.
        self._short_at = int(permute(0, order.n_blocks, key(self._made, 0))) if order._short else order.n_blocks
        self._at: dict[int, tuple[int, int, Ints, frozenset[int]]] = {}
        self._pages = Recent[int, Ints](order.lanes * order.workers + 1)

    def slots(self, first: int, count: int) -> list[Piece]:
        """The windows of ``count`` places of the epoch from ``first`` on; below zero they count from its end."""
        order, found = self._order, list[Piece]()
        while count and first < 0:
            found += self.slots(first % order.n_windows, 1)
            first, count = first + 1, count - 1
        mixed = order._turns * order.batch * order.workers
        while count and first < mixed:
            step, slot = divmod(first, order.batch)
            turn, group = divmod(step, order.workers)
            lane, at = divmod(slot, order.share)
            n = min(count, order.share - at)
            found += self._of_lane(group * order.lanes + lane, turn * order.share + at, n)
            first, count = first + n, count - n
        if count:
            found += self._rest(np.arange(first - mixed, first - mixed + count))
        return found

    def _of_lane(self, lane: int, first: int, count: int) -> Iterator[Piece]:
        while count:
            pool, begin, windows, blocks = self._pool_at(lane, first)
            taken = windows[first - begin : first - begin + count]
            yield Piece(taken, (lane, pool), blocks)
            first, count = first + len(taken), count - len(taken)

    def _pool_at(self, lane: int, place: int) -> tuple[int, int, Ints, frozenset[int]]:
        """Number of the pool, its first place in the lane, its windows, shuffled, and their blocks."""
        kept = self._at.get(lane)
        if kept is None or not kept[1] <= place < kept[1] + len(kept[2]):
            base = self._start(self._bound(lane, 0))
            bounds = range(self._pools(lane) + 1)
            pool = bisect_right(bounds, place + base, key=lambda j: self._start(self._bound(lane, j))) - 1
            begin, stop = (self._start(self._bound(lane, one)) for one in (pool, pool + 1))
            mixed = np.argsort(key(self._made, 1, lane, pool, np.arange(stop - begin)), kind="stable")
            windows = self._windows(begin + mixed)
            blocks = frozenset(np.unique(windows // self._order.block).tolist())
            kept = self._at[lane] = pool, begin - base, windows, blocks
        return kept

    def _pools(self, lane: int) -> int:
        low, high = self._order._lane_blocks[lane : lane + 2].tolist()
        return max(1, round(int(high - low) / self._order.pool))

    def _bound(self, lane: int, pool: int) -> int:
        """Place among the shuffled blocks where a lane's pool begins."""
        low, high = self._order._lane_blocks[lane : lane + 2].tolist()
        pools = self._pools(lane)
        if pool in (0, pools):
            return int(high if pool else low)
        shift = (lane % self._order.lanes + 0.5) / self._order.lanes - 0.5
        return int(low + (pool + shift) * (high - low) / pools)

    def _start(self, block: int) -> int:
        """Windows in the shuffled blocks before a place among them."""
        return block * self._order.block - (self._order._short if block > self._short_at else 0)

    def _windows(self, place: Ints) -> Ints:
        """The windows at these places of the shuffled blocks, laid end to end."""
        size, short_at = self._order.block, self._short_at
        shift = np.where(place >= self._start(short_at + 1), self._order._short, 0) if self._order._short else 0
        at, inside = np.divmod(place + shift, size)
        full = at - (at > short_at)
        low = int(full.min()) // _PAGE
        numbers = range(low, int(full.max()) // _PAGE + 1)
        block = np.concatenate([self._pages(number, self._page) for number in numbers])
        block = np.where(at == short_at, self._order.n_blocks - 1, block[full - low * _PAGE])
        windows: Ints = block * size + inside
        return windows

    def _page(self, number: int) -> Ints:
        """Full blocks at ``_PAGE`` places of their shuffled order, and any block at the place behind the last."""
        full = self._order.n_windows // self._order.block
        places = np.arange(number * _PAGE, min((number + 1) * _PAGE, full + 1))
        return permute(np.minimum(places, max(0, full - 1)), max(1, full), key(self._made, 2))

    @cached_property
    def _rests(self) -> tuple[Ints, Ints]:
        """Where the windows begin that no turn of all lanes takes, and their running count, by lane."""
        bounds = np.array([self._start(int(block)) for block in self._order._lane_blocks])
        begin = bounds[:-1] + self._order._turns * self._order.share
        return begin, np.cumsum(bounds[1:] - begin)

    def _rest(self, place: Ints) -> Iterator[Piece]:
        begin, ends = self._rests
        mixed = permute(place, int(ends[-1]), key(self._made, 3))
        lanes = np.searchsorted(ends, mixed, side="right")
        inside = mixed - np.append(0, ends)[lanes] + begin[lanes]
        for lane, at in zip(lanes.tolist(), inside.tolist(), strict=True):
            yield from self._of_lane(lane, at - self._start(self._bound(lane, 0)), 1)


class Order(Protocol):
    """What a stream follows: ``BlockOrder``, or an ``InTurn``."""

    @property
    def batch(self) -> int:
        """Items of a batch over all ranks."""

    def __len__(self) -> int: ...

    def pieces(
        self, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1, stride: int = 1
    ) -> Iterator[list[Piece]]:
        """See ``BlockOrder.pieces``."""


class Plan(Protocol):
    """``harmonize.data.draws``: what the batches of a sampler are."""

    @property
    def batch(self) -> int: ...

    def __len__(self) -> int: ...

    def batches(self, seed: int, epoch: int, start: int, rank: int, world: int) -> Iterator[Ints]: ...


@dataclass(frozen=True)
class Sampled:
    """The batches of a sampler's plan, as an order."""

    plan: Plan

    @property
    def batch(self) -> int:
        return self.plan.batch

    def __len__(self) -> int:
        return len(self.plan)

    def pieces(
        self, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1, stride: int = 1
    ) -> Iterator[list[Piece]]:
        """See ``BlockOrder.pieces``."""
        for windows in islice(self.plan.batches(seed, epoch, start, rank, world), 0, None, stride):
            yield [Piece(windows, None)]


@dataclass(frozen=True)
class InTurn:
    """All windows by number, unshuffled. The last, short batch as in ``BlockOrder.pieces``."""

    n_windows: int
    batch: int
    drop_last: bool = False

    def __len__(self) -> int:
        return self.n_windows // self.batch if self.drop_last else -(-self.n_windows // self.batch)

    def pieces(
        self, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1, stride: int = 1
    ) -> Iterator[list[Piece]]:
        """See ``BlockOrder.pieces``."""
        for step in range(start, len(self), stride):
            low, count = share(self.n_windows, self.batch, step, rank, world)
            yield [Piece(np.arange(low, low + count) % self.n_windows, None)]


def share(n_windows: int, batch: int, step: int, rank: int, world: int) -> tuple[int, int]:
    """First place and number of a rank's part of a batch. The last, short batch is filled up with the windows in front
    of it until ranks can share it equally; a place below zero counts from the end. Raises ``ValueError`` where
    ``batch`` does not divide by ``world``."""
    if batch % world:
        raise ValueError(f"batches of {batch} cannot be shared equally by {world} ranks")
    end = min((step + 1) * batch, n_windows)
    part = -(-(end - step * batch) // world)
    return end - (world - rank) * part, part


_LANES = 8
"""Lanes of a batch, where its size has so large a power of two as a divisor: ranks of one machine."""
_BLOCKS = 4
"""Blocks that a lane has at least: of fewer there is little to shuffle."""
_CHUNKS = 8
"""A block of so many chunks is as good as any larger one: an eighth more is decoded than is used."""


def fit(
    n_windows: int,
    batch: int,
    window_bytes: float,
    per_chunk: float,
    memory: float,
    design_effect: float = 1.5,
    workers: int = 1,
    drop_last: bool = False,
) -> BlockOrder:
    """The order with the largest blocks, up to 8 chunks, whose pools fit ``memory`` bytes and keep ``design_effect``.

    ``window_bytes`` is the decoded size of a window, ``per_chunk`` how many windows begin in a decoded chunk. Where not
    even blocks of one window fit, these are taken: then there is nothing to trade.
    """
    whole = max(1, round(per_chunk))
    sizes = [whole * k for k in range(_CHUNKS, 0, -1)] + [whole >> k for k in range(1, whole.bit_length())]
    found = None
    for block in sizes if sizes[-1] == 1 else [*sizes, 1]:
        most = n_windows // (workers * block * _BLOCKS)
        lanes = next((n for n in (_LANES, 4, 2) if batch % n == 0 and n <= most), 1)
        fetch = max(1.0, (block - 1) / (design_effect - 1))
        pool = max(1, ceil(batch * fetch / (block * lanes)))
        found = BlockOrder(n_windows, batch, block, pool, lanes, workers, drop_last)
        held = min(pool * block * lanes * workers, n_windows) * window_bytes * (1 + per_chunk / block)
        if held <= memory and lanes <= most and found.design_effect <= design_effect:
            break
    assert found is not None
    return found
