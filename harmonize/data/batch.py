"""What map-style data sets share: samples that are views of one batch, so that nothing is copied again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import polars as pl
import torch
from torch.utils.data import Dataset, default_collate

from harmonize.data.domain_columns import DomainColumns
from harmonize.data.domains import Codes, encode
from harmonize.data.reader import Chunks

Sample = dict[str, Any]
Wanted = tuple[np.ndarray, Sequence[Chunks]]
"""Items by number, and where the decoded chunks of each are kept."""
NOTHING: Wanted = np.empty(0, np.int64), ()


class Batch(Sequence[Sample]):
    """Samples that are views of one batch, made when first looked at: ``collate`` takes the whole as it is,
    and 64 dicts of views cost as much as reading the windows."""

    def __init__(self, whole: Sample, size: int) -> None:
        self.whole = whole
        self._size = size
        self._samples: list[Sample] | None = None

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if self._samples is None:
            self._samples = [{key: value[i] for key, value in self.whole.items()} for i in range(self._size)]
        return self._samples[index]


class Placement(NamedTuple):
    """How the items of a data set lie in its store, for a stream to choose an order."""

    rank: np.ndarray
    """int64 (row,): at which place each row comes when rows are sorted as they lie."""
    item_bytes: float
    """Decoded bytes that an item is made of, at most."""
    per_chunk: float
    """How many items begin in a decoded chunk."""
    fetch: bool = False
    """Whether whole blocks are better asked for at once (``BatchDataset.ahead``): each request waits for an answer."""


class BatchDataset(Dataset[Sample], ABC):
    """A data set that is read by the batch; a single sample is a batch of one."""

    def __init__(self, domains: DomainColumns, transform: Callable[[Sample], Sample] | None) -> None:
        self._domains = domains
        self.transform = transform
        # Shared, so that it reaches workers that stay from one epoch to the next.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def codes(self) -> dict[str, Codes]:
        """Names of the integer codes: ``ds.codes["site"][0]``."""
        return self._domains.codes

    def codes_of(self, field: str) -> Codes:
        """Codes of a column, one for each row (a stream, an image), for samplers.

        The domains among ``codes``, or any other of the table that ``where`` is asked of; those are read from the
        store again, so that nothing is held for them. Raises ``ValueError`` for an unknown column.
        """
        return self._domains.codes[field] if field in self._domains.codes else self._other_codes_of(field)

    @abstractmethod
    def _other_codes_of(self, field: str) -> Codes:
        """Codes of a column that is not among the domains."""

    def _codes_in(self, rows: pl.DataFrame, field: str) -> Codes:
        """Codes of a column of the table that this data set was made of, read again."""
        if field not in rows.columns or rows[field].dtype.is_nested():
            raise ValueError(f"no column {field!r} to group by; there are {sorted(rows.columns)}")
        if rows["recording_id"].to_list() != self._domains.recording_id.tolist():
            raise ValueError("the store was changed since the data set was made")
        return encode(rows[field])

    @abstractmethod
    def row_sizes(self) -> np.ndarray:
        """Items of each row; items are numbered row after row."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of what is drawn at random, where anything is; workers that are running follow. A stream
        does so by itself."""
        self._epoch[0] = epoch

    @property
    @abstractmethod
    def content(self) -> str:
        """The name of what a sample holds: "signal" or "image"."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of a sample's signal (channel, time) or image."""

    @abstractmethod
    def placement(self) -> Placement:
        """How items lie in the store."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of which items there are: equal where numbers mean the same items."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, numbers: np.ndarray, chunks: Sequence[Chunks]) -> Sequence[Sample]:
        """Samples by number, int64 (sample,), as views of one batch; ``chunks`` says for each where its decoded chunks
        are kept, so that batches of a stream can share them."""

    def ahead(self, wanted: Wanted, near: Wanted) -> Callable[[], None]:
        """Claim all that these items are made of (``Chunks.claim``); what is given back reads it, in as few requests
        as may be, and must be called. What ``near`` are made of is read with it as far as it lies in the same shards.
        """
        return lambda: None

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Samples that are views of one batch."""
        return self.read(np.asarray(indices, np.int64), [Chunks()] * len(indices))

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.__getitems__([index % len(self)])[0]

    def collate(self, samples: Sequence[Sample]) -> Sample:
        """For ``DataLoader(collate_fn=ds.collate)``: hands the batch over without another copy."""
        if isinstance(samples, Batch):
            return samples.whole
        whole: Sample = default_collate(list(samples))
        return whole

    def _batch(self, columns: Mapping[str, np.ndarray | torch.Tensor], rows: np.ndarray) -> Sequence[Sample]:
        """Arrays and the domain columns of ``rows`` as samples; tensors share the arrays' memory."""
        whole: Sample = {
            name: column if isinstance(column, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(column))
            for name, column in {**columns, **self._domains.gather(rows)}.items()
        }
        whole["recording_id"] = self._domains.recording_id[rows].tolist()
        batch = Batch(whole, len(rows))
        return [self.transform(sample) for sample in batch] if self.transform else batch
