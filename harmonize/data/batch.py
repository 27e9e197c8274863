"""Samples that are views of one batch, so that a DataLoader need not copy them again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

Sample = dict[str, Any]


class Batch(list[Sample]):
    """A list of samples which also holds the whole batch that they are views of."""

    def __init__(self, whole: Sample, size: int) -> None:
        super().__init__({key: value[i] for key, value in whole.items()} for i in range(size))
        self.whole = whole


def collate(samples: list[Sample]) -> Sample:
    """The batch of ``samples`` without a copy where they came from ``__getitems__``."""
    if isinstance(samples, Batch):
        return samples.whole
    whole: Sample = default_collate(samples)
    return whole


def tensors(columns: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
