"""The order of a stream: every window once, whoever reads it, and as random as it says."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harmonize.data.order import BlockOrder, InTurn, fit


@st.composite
def orders(draw: st.DrawFn) -> BlockOrder:
    lanes = draw(st.sampled_from([1, 2, 3, 4, 8]))
    return BlockOrder(
        n_windows=draw(st.integers(1, 700)),
        batch=lanes * draw(st.integers(1, 9)),
        block=draw(st.integers(1, 20)),
        pool=draw(st.integers(1, 6)),
        lanes=lanes,
        workers=draw(st.integers(1, 4)),
        drop_last=draw(st.booleans()),
    )


def whole(order: BlockOrder, seed: int, epoch: int) -> list[list[int]]:
    return [batch.tolist() for batch in order.batches(seed, epoch)]


@settings(deadline=None)
@given(orders(), st.integers(0, 2**32), st.integers(0, 3))
def test_every_window_comes_once(order: BlockOrder, seed: int, epoch: int) -> None:
    batches = whole(order, seed, epoch)
    assert len(batches) == len(order)
    assert all(len(batch) == order.batch for batch in batches[:-1])
    seen = sorted(window for batch in batches for window in batch)
    if order.drop_last:
        assert len(set(seen)) == len(seen) == order.n_windows // order.batch * order.batch
        assert set(seen) <= set(range(order.n_windows))
    else:
        assert seen == list(range(order.n_windows))


@settings(deadline=None)
@given(orders(), st.integers(1, 12), st.data())
def test_ranks_share_every_batch(order: BlockOrder, world: int, data: st.DataObject) -> None:
    """Disjoint parts, laid end to end, are the batch; the last, short one is filled up with windows already seen."""
    assume(order.batch % world == 0)
    start = data.draw(st.integers(0, max(0, len(order) - 1)))
    expected = whole(order, 5, 1)[start:]
    parts = [list(order.batches(5, 1, start, rank, world)) for rank in range(world)]
    assert {len(one) for one in parts} == {len(expected)}
    for step, batch in enumerate(expected):
        given_ = [window for part in parts for window in part[step].tolist()]
        assert len({len(part[step]) for part in parts}) == 1
        assert given_[len(given_) - len(batch) :] == batch
        assert len(given_) - len(batch) < world


@settings(deadline=None)
@given(orders(), st.integers(1, 5))
def test_workers_take_batches_in_turns(order: BlockOrder, stride: int) -> None:
    expected = whole(order, 2, 0)
    found: list[list[int]] = [[]] * len(expected)
    for worker in range(stride):
        for turn, batch in enumerate(order.batches(2, 0, start=worker, stride=stride)):
            found[worker + turn * stride] = batch.tolist()
    assert found == expected


@settings(deadline=None)
@given(orders(), st.integers(0, 2**32))
def test_an_order_is_a_function_of_seed_and_epoch(order: BlockOrder, seed: int) -> None:
    first = whole(order, seed, 0)
    assert whole(order, seed, 0) == first
    if order.n_windows > 20 and order.n_blocks > 4 and len(first):
        assert whole(order, seed, 1) != first
        assert whole(order, seed + 1, 0) != first


@settings(deadline=None)
@given(orders())
def test_ranks_and_workers_that_divide_read_different_blocks(order: BlockOrder) -> None:
    """But for the last batches, which take what no full turn of the lanes holds."""
    steps = order._turns * order.workers
    readers = [
        {int(window) // order.block for batch in list(order.batches(1, 1, worker, lane, order.lanes, order.workers))
         [: order._turns] for window in batch}
        for worker in range(order.workers) for lane in range(order.lanes)
    ]  # fmt: skip
    assume(steps)
    for one, blocks in enumerate(readers):
        for others in readers[:one]:
            assert not blocks & others


@settings(deadline=None)
@given(orders())
def test_a_pool_is_what_its_pieces_come_from(order: BlockOrder) -> None:
    """Its blocks are whole, its size is bounded, and a lane does not go back to a pool it left."""
    pools: dict[tuple[int, int], list[int]] = {}
    newest: dict[int, int] = {}
    whole: dict[tuple[int, int], frozenset[int]] = {}
    for step, pieces in enumerate(order.pieces(3, 2)):
        for windows, pool, blocks in pieces:
            assert pool is not None
            lane, number = pool
            whole.setdefault(pool, blocks)
            assert blocks == whole[pool]
            if step < order._turns * order.workers:
                assert number >= newest.get(lane, 0)
                newest[lane] = number
            pools.setdefault(pool, []).extend(windows.tolist())
    if not order.drop_last:
        of = {pool: {window // order.block for window in windows} for pool, windows in pools.items()}
        assert of == whole
        assert sum(map(len, of.values())) == order.n_blocks
    for windows in pools.values():
        # Half to three halves of the size, and lanes are not cut into pools evenly.
        assert len({window // order.block for window in windows}) <= 2 * 1.5 * order.pool + 1


def test_short_block_is_not_always_last() -> None:
    order = BlockOrder(95, 10, 10, 3)
    places = {next(i for i, batch in enumerate(whole(order, seed, 0)) if 94 in batch) for seed in range(40)}
    assert len(places) > 5


def test_every_window_may_come_anywhere() -> None:
    """Mean place of each window over many seeds: uniform within five standard errors."""
    order = BlockOrder(60, 6, 5, 3, lanes=2)
    n = 2000
    places = np.zeros(60)
    for seed in range(n):
        places[np.concatenate(list(order.batches(seed, 0)))] += np.arange(60)
    error = np.sqrt((60**2 - 1) / 12 / n)
    assert np.abs(places / n - 29.5).max() < 5 * error


@pytest.mark.parametrize("lanes", [1, 4, 8])
@pytest.mark.parametrize(("block", "pool"), [(16, 8), (16, 30), (8, 16)])
def test_design_effect_is_what_blocks_that_differ_would_show(lanes: int, block: int, pool: int) -> None:
    """Of values that are alike in a block and random between blocks: the variance of batch means beside that of batches
    drawn at random. 1,000 batches tell it within some 10 %."""
    order = BlockOrder(64_000, 64, block, max(1, pool // lanes), lanes)
    value = np.random.default_rng(0).normal(size=order.n_blocks)
    value -= value.mean()
    means = [value[batch // block].mean() for batch in order.batches(0, 0)]
    expected = value.var() / 64
    assert np.var(means) / expected == pytest.approx(order.design_effect, rel=0.2)


@settings(deadline=None)
@given(
    n=st.integers(1, 10**7), batch=st.sampled_from([1, 6, 32, 64, 256]), size=st.floats(1e2, 1e7),
    per_chunk=st.floats(0.01, 300), memory=st.floats(1e6, 1e10), workers=st.sampled_from([1, 4]),
)  # fmt: skip
def test_fitted_order_keeps_to_its_bounds(
    n: int, batch: int, size: float, per_chunk: float, memory: float, workers: int
) -> None:
    order = fit(n, batch, size, per_chunk, memory, workers=workers)
    assert (order.n_windows, order.batch, order.workers) == (n, batch, workers)
    assert order.design_effect <= 1.5 + 1e-9
    held = min(order.pool * order.block * order.lanes * workers, n) * size * (1 + per_chunk / order.block)
    assert held <= memory or order.block == 1
    assert order.block <= 8 * max(1, round(per_chunk))


def test_default_blocks_of_ten_second_windows() -> None:
    """20 channels of int16 at 256 Hz, chunks of 512 kB, a gigabyte: blocks of eight chunks."""
    order = fit(1_000_000, 64, 20 * 2560 * 2, 13107 / 2560, 2**30)
    assert order == BlockOrder(1_000_000, 64, block=40, pool=16, lanes=8)
    assert order.design_effect == pytest.approx(1.43, abs=0.01)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        BlockOrder(0, 4, 1, 1)
    with pytest.raises(ValueError, match="divisor"):
        BlockOrder(10, 6, 1, 1, lanes=4)
    with pytest.raises(ValueError, match="shared equally by 4 ranks"):
        next(BlockOrder(10, 6, 1, 1).batches(0, 0, 0, 0, 4))


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 9))
def test_in_turn(n: int, batch: int) -> None:
    found = [pieces[0].windows.tolist() for pieces in InTurn(n, batch).pieces(0, 0)]
    assert list(chain.from_iterable(found)) == list(range(n))
    assert len(found) == len(InTurn(n, batch))
