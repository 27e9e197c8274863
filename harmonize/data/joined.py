"""Several data sets as one: over stores, corpora and layouts; other shapes are padded, or kept apart by the batch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import polars as pl
import torch

from harmonize.data.batch import NOTHING, BatchDataset, Placement, Sample, Wanted
from harmonize.data.domain_columns import DomainColumns
from harmonize.data.domains import UNKNOWN, Codes
from harmonize.data.reader import Chunks
from harmonize.data.stream_table import stream_table
from harmonize.data.windows import WindowDataset
from harmonize.store import Store, open_store
from harmonize.store.place import Place

_log = logging.getLogger(__name__)

_PADDING = {"scale": 1.0, "missing": float("nan"), "missing_mask": True}
"""What stands where a sample has nothing; 0 and False for all else."""
_BY_CHANNEL = ("signal", "channel_mask", "missing_mask", "scale", "offset", "missing")
"""What has a channel for its first axis."""


class JoinedDataset(BatchDataset):
    """The items of several data sets, one after the other, with codes that all share.

    Parameters
    ----------
    parts
        ``WindowDataset``s or ``PatchDataset``s, of one store or of several, without transforms. What they give must
        have the same names: all with the same ``target``, ``domains``, ``dtype`` and other choices of what is in a
        sample.
    pad
        True: all samples have one shape. Windows have the union of the parts' channels, in order of appearance
        (``channels``), False in ``channel_mask`` where a part lacks one, and the longest time; where parts differ in
        time, ``time_mask`` bool (time,) says which samples are there. Patches are padded at their ends, where ``mask``
        is False. Parts must then be all of windows or all of patches.
        False: batches are of one part each, in its own shape: take them with
        ``DomainBatchSampler(joined, ..., same="part")`` (or another column in which parts differ, as "layout" or
        "modality"). A mixed batch raises ``ValueError``.
    transform
        As for ``WindowDataset``.

    Samples are those of the parts and ``part``, int64, its number. Raises ``ValueError`` where parts do not go
    together.
    """

    def __init__(
        self, parts: Sequence[BatchDataset], pad: bool = True, transform: Callable[[Sample], Sample] | None = None
    ) -> None:
        if not parts:
            raise ValueError("there is no data set to join")
        if any(part.transform for part in parts):
            raise ValueError("give transform= to the joined data set, not to its parts")
        self.parts, self.pad = tuple(parts), pad
        if pad and len({part.content for part in parts}) > 1:
            raise ValueError("windows and patches do not share a batch: give pad=False, and a sampler with same='part'")
        row_sizes = [part.row_sizes() for part in parts]
        self._ends, self._row_ends = np.cumsum([len(part) for part in parts]), np.cumsum(np.concatenate(row_sizes))
        rows_of = np.repeat(np.arange(len(parts)), list(map(len, row_sizes)))
        number = Codes(tuple(map(str, range(len(parts)))), rows_of)
        super().__init__(_join_columns([part._domains for part in parts], number), transform)
        others = [{name: one for name, one in part.codes.items() if name not in self._domains.codes} for part in parts]
        if any(
            {name: one.names for name, one in each.items()} != {name: one.names for name, one in others[0].items()}
            for each in others
        ):
            raise ValueError("the data sets differ in label=")
        self._other_codes = others[0]
        self._row_sizes = np.concatenate(row_sizes)
        lists = [part.channels if isinstance(part, WindowDataset) else () for part in parts]
        self.channels: tuple[str, ...] = tuple(dict.fromkeys(name for one in lists for name in one))
        self._places = [torch.tensor([self.channels.index(name) for name in one], dtype=torch.int64) for one in lists]
        shapes = [part.shape for part in parts]
        if pad and len(set(map(len, shapes))) > 1:
            raise ValueError(f"patches of two and three dimensions do not share a batch: {shapes}")
        self._own = shapes
        largest = tuple(map(max, zip(*shapes, strict=False)))
        self._shape = (len(self.channels), *largest[1:]) if self.channels else largest
        self._uneven = len({shape[-1] for shape in shapes}) > 1 and bool(self.channels)

    @property
    def codes(self) -> dict[str, Codes]:
        """See ``BatchDataset.codes``; "part" is the number of the part, "label" the parts' own."""
        return super().codes | self._other_codes

    @property
    def content(self) -> str:
        """See ``BatchDataset.content``."""
        return self.parts[0].content

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a padded sample."""
        return self._shape

    def __len__(self) -> int:
        return int(self._ends[-1])

    def row_sizes(self) -> np.ndarray:
        """Items of each row: the rows of the parts, one part after the other."""
        return self._row_sizes

    def set_epoch(self, epoch: int) -> None:
        """See ``BatchDataset.set_epoch``."""
        for part in self.parts:
            part.set_epoch(epoch)

    def placement(self) -> Placement:
        """Part after part; sizes are those of the part with the most items, and the largest item."""
        found = [part.placement() for part in self.parts]
        before = np.cumsum([0, *(len(one.rank) for one in found[:-1])])
        return Placement(
            rank=np.concatenate([one.rank + first for one, first in zip(found, before, strict=True)]),
            item_bytes=max(one.item_bytes for one in found),
            per_chunk=found[int(np.argmax([len(part) for part in self.parts]))].per_chunk,
            fetch=any(one.fetch for one in found),
        )

    def fingerprint(self) -> str:
        """See ``BatchDataset.fingerprint``."""
        return hashlib.sha256("\n".join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    def _other_codes_of(self, field: str) -> Codes:
        return _join_codes([part.codes_of(field) for part in self.parts])

    def ahead(self, wanted: Wanted, near: Wanted) -> Callable[[], None]:
        """See ``BatchDataset.ahead``."""
        besides = self._wanted_by_part(near)
        with ExitStack() as reading:  # calls all, also where one raises: others wait for what each has claimed
            for one, own in self._wanted_by_part(wanted).items():
                reading.callback(self.parts[one].ahead(own, besides.get(one, NOTHING)))
            return reading.pop_all().close

    def _wanted_by_part(self, wanted: Wanted) -> dict[int, Wanted]:
        numbers, chunks = wanted
        return {
            one: (self._within(one, numbers[at]), [chunks[i] for i in at.tolist()])
            for one, at in self._by_part(numbers)
        }

    def _by_part(self, numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Parts, and at which places of ``numbers`` their items are."""
        part = np.searchsorted(self._ends, numbers, side="right")
        return [(int(one), np.flatnonzero(part == one)) for one in np.unique(part)]

    def _within(self, part: int, numbers: np.ndarray) -> np.ndarray:
        first: int = self._ends[part] - len(self.parts[part])
        return numbers - first

    def read(self, numbers: np.ndarray, chunks: Sequence[Chunks]) -> Sequence[Sample]:
        """See ``BatchDataset.read``."""
        groups = self._by_part(numbers)
        if len(groups) > 1 and not self.pad:
            raise ValueError("a batch of several parts: take batches with DomainBatchSampler(..., same='part'), or pad")
        wholes = []
        for one, at in groups:
            found = self.parts[one].read(self._within(one, numbers[at]), [chunks[i] for i in at.tolist()])
            wholes.append(self._own_columns(self.parts[one].collate(found)))
        if not self.pad or (len(groups) == 1 and self._is_whole(groups[0][0])):
            columns = wholes[0]
        else:
            columns = {
                name: self._merged(name, len(numbers), [(one, at, whole[name]) for (one, at), whole in
                                                        zip(groups, wholes, strict=True)])
                for name in wholes[0]
            }  # fmt: skip
        if self.pad and self._uneven:
            length = np.empty((len(numbers), 1), np.int64)
            for one, at in groups:
                length[at] = self._own[one][-1]
            columns["time_mask"] = torch.from_numpy(np.arange(self._shape[-1]) < length)
        return self._batch(columns, np.searchsorted(self._row_ends, numbers, side="right"))

    def _own_columns(self, whole: Sample) -> dict[str, Any]:
        """What a part's batch has beyond domains, which are the joined ones."""
        known = {"recording_id", *self._domains.codes, *self._domains.numbers}
        return {name: value for name, value in whole.items() if name not in known}

    def _is_whole(self, part: int) -> bool:
        """Whether a part's samples are of the joined shape as they are."""
        places = self._places[part]
        return self._own[part] == self._shape and bool((places == torch.arange(len(places))).all())

    def _merged(self, name: str, n: int, found: Sequence[tuple[int, np.ndarray, torch.Tensor]]) -> torch.Tensor:
        """One column of all parts' samples in a batch: (part, places in the batch, values)."""
        like = found[0][2]
        if name in _BY_CHANNEL or name == self.content or name == "mask":
            shape: tuple[int, ...] = self._shape[: like.dim() - 1]
        else:
            shape = tuple(like.shape[1:])
        out = torch.full((n, *shape), _PADDING.get(name, 0), dtype=like.dtype)
        for part, at, values in found:
            where = torch.from_numpy(at)
            if values.dtype != out.dtype or values.dim() != out.dim():
                raise ValueError(f"the data sets differ in {name!r}: {out.dtype} and {values.dtype}")
            if self.channels and name in _BY_CHANNEL:
                target = out[..., : values.shape[2]] if values.dim() == 3 else out
                target[where[:, None], self._places[part]] = values
            elif shape and values.shape[1:] != out.shape[1:]:
                inside = tuple(slice(0, size) for size in values.shape[1:])
                out[(slice(None), *inside)][where] = values
            else:
                out[where] = values
        return out


def windows_by_layout(
    stores: Store | str | Place | Sequence[Store | str | Place],
    window: float = 10.0,
    *,
    where: pl.Expr | str | None = None,
    pad: bool = False,
    transform: Callable[[Sample], Sample] | None = None,
    **options: Any,
) -> JoinedDataset:
    """Windows of all streams of one or several stores, a part for each layout of each store.

    ``options`` are those of ``WindowDataset``; without ``rate`` and ``channels`` each layout keeps its own, and with
    ``pad`` False batches keep its shape. Layouts without a window are left out, and logged. Raises ``ValueError`` where
    nothing is left, or as ``WindowDataset`` does.
    """
    parts: list[BatchDataset] = []
    several: Sequence[Any] = stores if isinstance(stores, list | tuple) else [stores]
    for one in several:
        store = one if isinstance(one, Store) else open_store(one)
        rows = stream_table(store, where, options.get("channels"), "layout").rows
        longest = rows.select("layout", most=pl.col("segment_samples").list.max() / pl.col("rate_hz"))
        for layout, seconds in longest.group_by("layout").agg(pl.col("most").max()).sort("layout").iter_rows():
            if seconds < window:
                _log.info("no window of %s s in layout %s, at most %.1f s long", window, layout, seconds)
                continue
            ours = pl.col("layout") == layout
            if where is not None:
                ours &= pl.sql_expr(where) if isinstance(where, str) else where
            parts.append(WindowDataset(store, window, where=ours, **options))
    if not parts:
        raise ValueError(f"no stream is as long as a window of {window} s")
    return JoinedDataset(parts, pad, transform)


def _join_codes(codes: Sequence[Codes]) -> Codes:
    """Codes over all names, in sorted order."""
    names = sorted({name for one in codes for name in one.names})
    return Codes(tuple(names), np.concatenate([_translated(one, names)[one.codes] for one in codes]))


def _translated(codes: Codes, names: Sequence[str]) -> np.ndarray:
    """For each code, and for -1 at the end, the code among ``names``."""
    place = {name: at for at, name in enumerate(names)}
    return np.array([*(place[name] for name in codes.names), UNKNOWN], np.int64)


def _join_columns(parts: Sequence[DomainColumns], number: Codes) -> DomainColumns:
    """Columns of all parts, and "part". Raises ``ValueError`` where they have different ones."""
    fields = [(sorted(one.codes), sorted(one.numbers), [v.ndim for v in one.numbers.values()]) for one in parts]
    if any(one != fields[0] for one in fields):
        raise ValueError("the data sets differ in target= or domains=, or targets in kind")
    codes = {name: _join_codes([one.codes[name] for one in parts]) for name in parts[0].codes}
    numbers = {}
    for name in parts[0].numbers:
        columns = [one.numbers[name] for one in parts]
        if columns[0].ndim == 2:  # of a multi-label
            columns = [_spread(one.numbers[name], one.codes[name], codes[name].names) for one in parts]
        numbers[name] = np.concatenate(columns)
    recording_id = np.concatenate([one.recording_id for one in parts])
    return DomainColumns(recording_id, {**codes, "part": number}, numbers)


def _spread(hot: np.ndarray, codes: Codes, names: Sequence[str]) -> np.ndarray:
    """Zeros and ones (row, name) over more names; rows of NaN stay that."""
    out = np.zeros((len(hot), len(names)), np.float32)
    out[np.isnan(hot).any(axis=1)] = np.nan
    out[:, _translated(codes, names)[:-1]] = hot
    return out
