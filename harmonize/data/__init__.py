"""PyTorch data sets over a store (extra ``[torch]``)."""

from harmonize.data.patches import PatchDataset
from harmonize.data.windows import WindowDataset

__all__ = ["PatchDataset", "WindowDataset"]
