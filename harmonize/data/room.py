"""Room for batches."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch.utils.data import get_worker_info


def room(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor without values. In a worker of a ``DataLoader`` it lies in shared memory, where a batch must go to reach
    the main process, so that it is not copied there (as torch's ``default_collate`` does). Else NumPy makes it, which
    asks the system for huge pages: filling a large one for the first time takes a third of the time."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(tuple(shape), torch.empty(0, dtype=dtype).numpy().dtype))
    storage = torch.UntypedStorage._new_shared(prod(shape) * dtype.itemsize)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload, no-any-return]
