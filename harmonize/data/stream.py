"""Streams of batches: shuffled by blocks or by a sampler, read ahead in threads, resumed to the sample."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import polars as pl
import torch
from torch.utils.data import IterableDataset, get_worker_info

from harmonize.data.ahead import ahead
from harmonize.data.annotations import Events
from harmonize.data.batch import NOTHING, BatchDataset, Sample, Wanted
from harmonize.data.buffers import Buffers
from harmonize.data.draws import tree
from harmonize.data.order import BlockOrder, InTurn, Order, Piece, Pool, Sampled, fit
from harmonize.data.position import Position
from harmonize.data.reader import Chunks
from harmonize.data.samplers import DomainBatchSampler, ranks
from harmonize.data.shuffle import Ints
from harmonize.data.window_labels import WindowLabel
from harmonize.data.windows import Starts, WindowDataset
from harmonize.store import Store
from harmonize.store.place import Place

_log = logging.getLogger(__name__)


class BatchStream(IterableDataset[Sample]):
    """Batches of a map-style data set, one after the other, for ``DataLoader(stream, batch_size=None)`` or a loop.

    Parameters
    ----------
    data
        A ``WindowDataset`` or ``PatchDataset``.
    batch_size
        Items of one rank. The global batch, ``batch_size * world_size``, does not depend on how many ranks and
        workers share it.
    shuffle
        By blocks (see ``BlockOrder``), whose sizes are chosen for a design effect of at most 1.5 within ``memory``, and
        logged (``harmonize.data.stream``, INFO). False: by number.
    seed
        An epoch's order is a function of seed, epoch and ``order``.
    sampler
        Take the batches of this sampler instead; it has batch size, seed and ranks.
    order
        A ``BlockOrder`` instead of the one chosen.
    memory
        Bytes of decoded chunks that one rank may hold, over all its workers. Batches come on top.
    threads, prefetch
        Threads that read, 0: none; and batches that they are ahead. One is enough in each of several workers, and
        costs a training step as fast as the stream some waiting.
    workers
        For how many workers of a ``DataLoader`` the order is made: with that many (or a divisor) none decodes what
        another does. It belongs to the order.
    drop_last
        Leave out the last, short batch. If it is kept, ranks get equal parts of it, filled up with windows seen
        before where it does not divide (at most ``world_size - 1``).
    rank, world_size
        None: those of ``torch.distributed``, or one process.
    device
        Batches arrive there: pinned by the thread that read them and copied without blocking, where it is a GPU.

    Every iteration is the next epoch, with and without workers; ``set_epoch`` and ``load_state_dict`` choose another.
    Nothing is open before the first batch is read, so workers may be forked or spawned.

    Raises
    ------
    ValueError
        Where batches cannot be shared equally by the ranks, or a sampler is given with an order.
    """

    def __init__(
        self,
        data: BatchDataset,
        batch_size: int = 64,
        shuffle: bool = True,
        seed: int = 0,
        *,
        sampler: DomainBatchSampler | None = None,
        order: BlockOrder | None = None,
        memory: int = 2**30,
        threads: int = 2,
        prefetch: int = 4,
        workers: int = 1,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if sampler is not None and order is not None:
            raise ValueError("give a sampler or an order, not both")
        self.data = data
        self.threads, self.prefetch, self.device = threads, prefetch, None if device is None else torch.device(device)
        self.seed = seed if sampler is None else sampler.seed
        self.rank, self.world_size = ranks(rank, world_size) if sampler is None else (sampler.rank, sampler.world_size)
        self._sampler = sampler
        self._placement = data.placement()
        sizes = data.row_sizes()
        nothing = np.zeros(len(sizes), np.int64)
        self._placed = tree(sizes, nothing, nothing, self._placement.rank)
        whole = batch_size * self.world_size
        if sampler is not None:
            self.order: Order = Sampled(sampler.plan)
        elif not shuffle:
            self.order = InTurn(len(data), whole, drop_last)
        elif order is not None:
            if order.n_windows != len(data):
                raise ValueError(f"the order is of {order.n_windows} items, the data set has {len(data)}")
            self.order = order
        else:
            item_bytes, per_chunk = self._placement.item_bytes, self._placement.per_chunk
            budget = memory * self.world_size
            self.order = fit(len(data), whole, item_bytes, per_chunk, budget, workers=workers, drop_last=drop_last)
            _log.info("%s: design effect %.2f", self.order, self.order.design_effect)
        if self.order.batch % self.world_size:
            raise ValueError(f"batches of {self.order.batch} cannot be shared equally by {self.world_size} ranks")
        self._position = Position()
        self._own: tuple[int, int] | None = None  # of a worker that was told where to go on
        self._at: tuple[int, int] | None = None
        self._memory: tuple[int, Buffers] | None = None  # of a process; kept from epoch to epoch

    def __len__(self) -> int:
        """Batches an epoch, the same for every rank."""
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; one that was set to go on within this epoch still does."""
        if epoch != self._position.peek()[0]:
            self._position.set(epoch)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        number, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch, first = self._position.take()
        first += number
        if self._own is not None:
            (epoch, first), self._own = self._own, None
            self._position.follow(epoch)
        self._at = epoch, first
        self.data.set_epoch(epoch)
        return self._batches(epoch, first, stride)

    def _batches(self, epoch: int, first: int, stride: int) -> Iterator[Sample]:
        if self._memory is None or self._memory[0] != os.getpid():
            self._memory = os.getpid(), Buffers()
        kept = _Kept(self._memory[1])
        pieces = self.order.pieces(self.seed, epoch, first, self.rank, self.world_size, stride)
        steps = count(first, stride)
        plans = (self._planned(found, kept) for found in pieces)
        for batch in ahead(plans, self._read, self.threads, self.prefetch) if self.threads else map(self._read, plans):
            self._at = epoch, next(steps) + stride
            yield self._arrived(batch)
        self._at = epoch + 1, first % stride

    def _planned(self, pieces: list[Piece], kept: _Kept) -> _Plan:
        chunks = [one for piece in pieces for one in [kept.of(piece.pool)] * len(piece.windows)]
        numbers = np.concatenate([piece.windows for piece in pieces])
        if not isinstance(self.order, BlockOrder):
            return _Plan(numbers, chunks)
        fetch = None
        if self._placement.fetch:
            begun, others = kept.new_blocks(pieces, self.order)
            # Claimed while one thread plans: what the next batch finds on its way it does not ask for again.
            fetch = self.data.ahead(self._all(begun, self.order), self._all(others, self.order)) if begun else None
        return _Plan(self._placed.window(numbers), chunks, fetch)

    def _all(self, blocks: list[tuple[int, Chunks]], order: BlockOrder) -> Wanted:
        """All items of blocks, and where the chunks of each are kept."""
        size, n = order.block, order.n_windows
        windows = [np.arange(block * size, min((block + 1) * size, n)) for block, _ in blocks]
        chunks = [kept for (_, kept), one in zip(blocks, windows, strict=True) for _ in range(len(one))]
        return self._placed.window(np.concatenate([NOTHING[0], *windows])), chunks

    def _read(self, plan: _Plan) -> Sample:
        if plan.fetch is not None:
            plan.fetch()
        batch = self.data.collate(self.data.read(plan.numbers, plan.chunks))
        if self.device is None or self.device.type != "cuda":
            return batch
        return _each_tensor(batch, torch.Tensor.pin_memory)

    def _arrived(self, batch: Sample) -> Sample:
        device = self.device
        return batch if device is None else _each_tensor(batch, lambda one: one.to(device, non_blocking=True))

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Where the stream stands: a few numbers, whatever was read.

        ``step`` is how many batches of this epoch training has used; None: those handed out by this copy, which in
        the main process of a ``DataLoader`` with workers is none (``StatefulDataLoader`` asks the workers).
        """
        epoch, at = self._position.peek() if self._at is None else self._at
        order = asdict(self.order) if isinstance(self.order, BlockOrder) else None
        state = {"epoch": epoch, "step": at if step is None else step, "order": order, "digest": self._digest}
        if get_worker_info() is not None:
            state["worker"] = True
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: the next iteration is the rest of its epoch. Also with other numbers of ranks and
        workers, if the global batch is as large; block sizes are taken from the state.

        Raises ``ValueError`` where windows, seed, global batch or sampler differ: the order would be another.
        """
        if state["digest"] != self._digest:
            raise ValueError(
                f"the state is of other windows, another seed, sampler, or global batch size (here {self.order.batch})"
            )
        if state["order"] is not None:
            self.order = BlockOrder(**state["order"])
        epoch, step = int(state["epoch"]), int(state["step"])
        if state.get("worker") and get_worker_info() is not None:
            self._own = epoch, step
        else:
            self._position.set(epoch, step)
        self._at = None

    @cached_property
    def _digest(self) -> str:
        """What the order depends on besides epoch and step."""
        if self._sampler is not None:
            return self._sampler.digest
        kind = "blocks" if isinstance(self.order, BlockOrder) else "in turn"
        hashed = hashlib.sha256(repr((kind, self.seed, self.order.batch, len(self))).encode())
        for column in (self.data.row_sizes(), self._placement.rank):
            hashed.update(np.ascontiguousarray(column, "<i8").tobytes())
        hashed.update(self.data.fingerprint().encode())
        return hashed.hexdigest()[:16]


class _Plan(NamedTuple):
    """Numbers of a batch, where each keeps its chunks, and what is to be called before they are read."""

    numbers: Ints
    chunks: Sequence[Chunks]
    fetch: Callable[[], None] | None = None


class _Kept:
    """Where the chunks of pools are kept: of each lane the newest pool's. Those of the one before go when the last
    batch that reads from it is done. Batches without pools keep theirs for themselves."""

    def __init__(self, memory: Buffers) -> None:
        self._memory = memory
        self._pools: dict[int, tuple[Pool, Chunks]] = {}
        self._blocks: dict[int, tuple[Pool, set[int]]] = {}

    def of(self, pool: Pool | None) -> Chunks:
        if pool is None:
            return Chunks(self._memory)
        lane = pool[0]
        if lane not in self._pools or self._pools[lane][0] != pool:
            self._pools[lane] = pool, Chunks(self._memory, lasting=True)
        return self._pools[lane][1]

    def new_blocks(
        self, pieces: list[Piece], order: BlockOrder
    ) -> tuple[list[tuple[int, Chunks]], list[tuple[int, Chunks]]]:
        """Blocks that a batch takes the first windows from, others of their pools that none was taken from yet, and
        where each keeps its chunks."""
        begun, others = [], []
        for windows, pool, blocks in pieces:
            if pool is None:
                continue
            known = self._blocks.get(pool[0])
            if known is None or known[0] != pool:
                known = self._blocks[pool[0]] = pool, set()
            new = set((windows // order.block).tolist()) - known[1]
            known[1].update(new)
            begun += [(block, self.of(pool)) for block in sorted(new)]
            others += [(block, self.of(pool)) for block in sorted(blocks - known[1])]
        return begun, others


def _each_tensor(batch: Sample, work: Callable[[torch.Tensor], torch.Tensor]) -> Sample:
    return {name: work(value) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


class WindowOptions(TypedDict, total=False):
    """What ``WindowDataset`` takes besides ``store``, ``window`` and ``seed``."""

    stride: float | None
    rate: Any
    channels: Any
    where: pl.Expr | str | None
    target: str | None
    domains: Any
    transform: Callable[[Sample], Sample] | None
    dtype: torch.dtype | None
    reference: Any
    normalize: Any
    missing: Any
    starts: Starts
    events: Events | None
    offset: float
    label: WindowLabel | None


class StreamOptions(TypedDict, total=False):
    """What ``BatchStream`` takes besides ``data``, ``batch_size``, ``shuffle`` and ``seed``."""

    sampler: DomainBatchSampler | None
    order: BlockOrder | None
    memory: int
    threads: int
    prefetch: int
    workers: int
    drop_last: bool
    rank: int | None
    world_size: int | None
    device: torch.device | str | None


class _Options(WindowOptions, StreamOptions, total=False):
    pass


class WindowStream(BatchStream):
    """A ``BatchStream`` of a store's windows: takes what ``WindowDataset`` and ``BatchStream`` take.

    ``store`` may also be a ``WindowDataset``, such as that of a sampler; ``window`` and its other arguments then are
    its own. ``seed`` is that of the order and of random starts.
    """

    def __init__(
        self,
        store: WindowDataset | Store | str | Place,
        window: float = 10.0,
        batch_size: int = 64,
        shuffle: bool = True,
        seed: int = 0,
        **options: Unpack[_Options],
    ) -> None:
        ours = {name: options.pop(name) for name in StreamOptions.__annotations__ if name in options}  # type: ignore[misc]
        if isinstance(store, WindowDataset):
            if options:
                raise ValueError(f"{sorted(options)} belong to the data set, which is given")
            data = store
        else:
            data = WindowDataset(store, window, seed=seed, **options)  # type: ignore[misc]
        super().__init__(data, batch_size, shuffle, seed, **ours)
