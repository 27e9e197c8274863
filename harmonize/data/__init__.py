"""PyTorch data sets and samplers over a store (extra ``[torch]``).

Names are imported when first asked for, so that the parts without torch (index, domains) load without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmonize.data.joined import JoinedDataset, windows_by_layout
    from harmonize.data.patches import PatchDataset
    from harmonize.data.samplers import DomainBatchSampler, DomainSampler
    from harmonize.data.stream import BatchStream, WindowStream
    from harmonize.data.window_labels import WindowLabel
    from harmonize.data.windows import WindowDataset, decode

__all__ = [
    "BatchStream",
    "DomainBatchSampler",
    "DomainSampler",
    "JoinedDataset",
    "PatchDataset",
    "WindowDataset",
    "WindowLabel",
    "WindowStream",
    "decode",
    "windows_by_layout",
]

_MODULES = {
    "BatchStream": "stream",
    "DomainBatchSampler": "samplers",
    "DomainSampler": "samplers",
    "JoinedDataset": "joined",
    "PatchDataset": "patches",
    "WindowDataset": "windows",
    "WindowLabel": "window_labels",
    "WindowStream": "stream",
    "decode": "windows",
    "windows_by_layout": "joined",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"harmonize.data.{_MODULES[name]}"), name)
