"""PyTorch samplers over windows (or patches): proportional, tempered, n groups a batch, balanced, of one layout."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from harmonize.data.batch import BatchDataset
from harmonize.data.domains import UNKNOWN, Codes
from harmonize.data.draws import Coverage, Draws, tree
from harmonize.data.shuffle import Ints

Field = str | Codes | np.ndarray
"""What groups windows: a column of the data set's table, or integer codes (-1: unknown), one for each row of
that table (a stream, an image) or one for each window."""


class DomainBatchSampler(Sampler[list[int]]):
    """Batches of window numbers, for ``DataLoader(batch_sampler=...)``.

    Parameters
    ----------
    data
        A ``WindowDataset`` or ``PatchDataset``; or the number of windows, with fields given as codes.
    batch_size
        Windows of one rank. The global batch is ``batch_size * world_size``; it does not depend on how many
        ranks share it, and they take disjoint parts.
    field, alpha
        ``alpha`` None: every window once an epoch, shuffled, so groups come in proportion to their windows.
        A number: draws of groups of ``field`` with p ~ n^alpha (n: windows; 1 proportional, 0 uniform), and
        of windows in a group without replacement until all were drawn, then in a new order.
    groups_per_batch
        Every batch, and every rank's part of it, has exactly so many distinct groups of ``field``, equally
        often. A group can be in every batch but not more: shares above 1/n go to the others.
    balance
        A second field, such as ``"subject"``: inside a group all its values are drawn equally often, whatever
        the number of their windows.
    same
        A third field, such as ``"layout"``: all windows of a batch share its value; batches are full.
    unknown
        Windows whose code is unknown in any of the fields: a group of their own, or dropped.
    length
        Windows an epoch over all ranks where they are drawn; None: as many as there are.
    drop_last
        Where every window comes once: leave out the last, short batch. If it is kept, it is filled up with
        the epoch's first windows so that every rank has as many (at most ``world_size - 1``).
    rank, world_size
        None: those of ``torch.distributed``, or one process.

    A batch is a function of seed, epoch, step and rank. Every ``iter`` is one epoch; after a completed one comes
    the next, unless ``set_epoch`` says otherwise. Memory grows with rows, not windows.

    Raises
    ------
    ValueError
        Where the parts do not fit: an unknown column, codes of another length, no full batch, more groups a
        batch than there are.
    """

    def __init__(
        self,
        data: BatchDataset | int,
        batch_size: int,
        *,
        field: Field | None = None,
        alpha: float | None = None,
        groups_per_batch: int | None = None,
        balance: Field | None = None,
        same: Field | None = None,
        unknown: Literal["group", "drop"] = "group",
        seed: int = 0,
        length: int | None = None,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if alpha is None and (groups_per_batch, balance, length) != (None, None, None):
            raise ValueError("groups_per_batch=, balance= and length= need draws: give alpha= (1 is proportional)")
        if groups_per_batch is not None and same is not None:
            raise ValueError("groups_per_batch= and same= do not go together")
        if groups_per_batch is not None and (groups_per_batch < 1 or batch_size % groups_per_batch):
            raise ValueError(f"a batch of {batch_size} does not divide into {groups_per_batch} groups")
        self.rank, self.world_size = ranks(rank, world_size)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self._step = self._start = 0
        self._finished = False
        sizes, codes = _columns(data, [same, field, balance])
        if unknown == "drop":
            sizes = np.where((np.array(codes) == UNKNOWN).any(axis=0), 0, sizes)
        self._tree = tree(sizes, *codes)
        whole = batch_size * self.world_size
        if alpha is None:
            self.plan: Coverage | Draws = Coverage(self._tree, whole, drop_last)
            if (few := int((self._tree.kind_size < whole).sum())) and same is not None:
                warnings.warn(f"{few} values of same= have fewer windows than a batch and are never seen", stacklevel=2)
        else:
            groups = len(self._tree.group_size)
            if groups_per_batch is not None and groups_per_batch > groups:
                raise ValueError(f"{groups_per_batch} groups a batch, but there are {groups}")
            steps = (len(self._tree) if length is None else length) // whole
            self.plan = Draws(self._tree, whole, steps, float(alpha), groups_per_batch)
        if len(self.plan) == 0:
            raise ValueError(f"{len(self._tree)} windows make no batch of {whole}")
        settings = repr((whole, len(self.plan), alpha, groups_per_batch, drop_last, unknown, seed))
        columns = (np.ascontiguousarray(column, np.int64).tobytes() for column in (sizes, *codes))
        self.digest = hashlib.sha256(settings.encode() + b"".join(columns)).hexdigest()[:16]

    def __len__(self) -> int:
        """Batches an epoch, the same for every rank."""
        return len(self.plan)

    def __iter__(self) -> Iterator[list[int]]:
        if self._finished:
            self.epoch, self._finished = self.epoch + 1, False
        self._step, self._start = self._start, 0
        for batch in self.plan.batches(self.seed, self.epoch, self._step, self.rank, self.world_size):
            self._step += 1
            yield batch.tolist()
        self._finished = True

    @property
    def n_windows(self) -> int:
        """How many windows can come up."""
        return len(self._tree)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next ``iter`` gives; the one at hand keeps its place in a resumed run."""
        if epoch != self.epoch or self._finished:
            self.epoch, self._step, self._start, self._finished = epoch, 0, 0, False

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Where the order stands: a few numbers.

        ``step`` is the number of batches of this epoch that training has used; None: those handed out, which
        with the workers of a ``DataLoader`` is up to ``num_workers * prefetch_factor`` more.
        """
        return {"epoch": self.epoch, "step": self._step if step is None else step, "digest": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, also with another number of ranks if the global batch is as large.

        Raises ``ValueError`` where windows, fields, seed or global batch differ: the order would be another.
        """
        if state["digest"] != self.digest:
            raise ValueError("the state is of other windows, fields, seed or global batch size")
        done, self._start = divmod(int(state["step"]), len(self))
        self.epoch, self._step, self._finished = int(state["epoch"]) + done, self._start, False


class DomainSampler(Sampler[int]):
    """The windows of a ``DomainBatchSampler`` one by one, for ``DataLoader(sampler=..., batch_size=...)`` with
    the same batch size. Everything else is the batch sampler's: ``sampler.batches``."""

    def __init__(self, batches: DomainBatchSampler) -> None:
        self.batches = batches

    def __len__(self) -> int:
        sampler = self.batches
        full = len(sampler) * sampler.batch_size
        if isinstance(plan := sampler.plan, Coverage) and len(plan) > int(plan.full.sum()):
            rest = sampler.n_windows % plan.batch
            return full - sampler.batch_size + -(-rest // sampler.world_size)
        return full

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches:
            yield from batch

    def set_epoch(self, epoch: int) -> None:
        """As for the batch sampler."""
        self.batches.set_epoch(epoch)

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """As for the batch sampler; a batch that was begun counts as handed out."""
        return self.batches.state_dict(step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As for the batch sampler."""
        self.batches.load_state_dict(state)


def ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size as given; None: those of ``torch.distributed``, or one process. Raises ``ValueError``."""
    if rank is None and world_size is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of world_size {world_size}: give both, rank below world_size")
    return rank, world_size


def _columns(data: BatchDataset | int, fields: list[Field | None]) -> tuple[Ints, list[Ints]]:
    """Windows of each row, and codes of each field by row. All by window where a field is by window."""
    sizes = np.ones(data, np.int64) if isinstance(data, int) else data.row_sizes()
    codes = [_codes(data, field, len(sizes)) for field in fields]
    n = int(sizes.sum())
    lengths = {len(one) for one in codes} - {len(sizes)}
    if not lengths:
        return sizes, codes
    if lengths != {n}:
        raise ValueError(f"codes of length {lengths}: there are {len(sizes)} rows with {n} windows")
    by_window = [one if len(one) == n else np.repeat(one, sizes) for one in codes]
    return np.ones(n, np.int64), by_window


def _codes(data: BatchDataset | int, field: Field | None, n_rows: int) -> Ints:
    if field is None:
        return np.zeros(n_rows, np.int64)
    if isinstance(field, str):
        if isinstance(data, int):
            raise ValueError(f"field {field!r} needs a data set; give its codes as an array")
        field = data.codes_of(field)
    return np.asarray(field.codes if isinstance(field, Codes) else field, np.int64)
