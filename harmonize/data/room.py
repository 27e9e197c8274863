"""Room for batches."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch.utils.data import get_worker_info

from harmonize.data.buffers import Fresh


def room(shape: Sequence[int], dtype: torch.dtype, memory: Fresh) -> torch.Tensor:
    """A tensor without values. In a worker of a ``DataLoader`` it lies in shared memory, where a batch must go to reach
    the main process, so that it is not copied there (as torch's ``default_collate`` does). Else it lies in ``memory``:
    NumPy's, which asks the system for huge pages, so that filling a large one for the first time takes a third of the
    time; or that of a stream, which was filled before."""
    if get_worker_info() is None:
        return torch.from_numpy(memory.empty(tuple(shape), torch.empty(0, dtype=dtype).numpy().dtype))
    storage = torch.UntypedStorage._new_shared(prod(shape) * dtype.itemsize)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload, no-any-return]
