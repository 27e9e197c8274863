"""What map-style data sets share: samples that are views of one batch, so that nothing is copied again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from harmonize.data.domain_columns import DomainColumns
from harmonize.data.domains import Codes

Sample = dict[str, Any]


class Batch(list[Sample]):
    """A list of samples which also holds the whole batch that they are views of."""

    def __init__(self, whole: Sample, size: int) -> None:
        super().__init__({key: value[i] for key, value in whole.items()} for i in range(size))
        self.whole = whole


class BatchDataset(Dataset[Sample], ABC):
    """A data set that is read by the batch; a single sample is a batch of one."""

    def __init__(self, domains: DomainColumns, transform: Callable[[Sample], Sample] | None) -> None:
        self._domains = domains
        self.transform = transform

    @property
    def codes(self) -> dict[str, Codes]:
        """Names of the integer codes: ``ds.codes["site"][0]``."""
        return self._domains.codes

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Samples that are views of one batch."""

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.__getitems__([index % len(self)])[0]

    def collate(self, samples: list[Sample]) -> Sample:
        """For ``DataLoader(collate_fn=ds.collate)``: hands the batch over without another copy."""
        if isinstance(samples, Batch):
            return samples.whole
        whole: Sample = default_collate(samples)
        return whole

    def _batch(self, columns: dict[str, np.ndarray], rows: np.ndarray) -> list[Sample]:
        """Arrays and the domain columns of ``rows`` as samples; tensors share the arrays' memory."""
        whole: Sample = {
            name: torch.from_numpy(np.ascontiguousarray(column))
            for name, column in (columns | self._domains.gather(rows)).items()
        }
        whole["recording_id"] = self._domains.recording_id[rows].tolist()
        batch = Batch(whole, len(rows))
        return [self.transform(sample) for sample in batch] if self.transform else batch
