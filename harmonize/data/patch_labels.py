"""Which segmentation each image has, and its labels at the voxels of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from harmonize.data.domains import select
from harmonize.data.reader import ArrayReader
from harmonize.store import Store
from harmonize.store.place import at_once
from harmonize.store.views import ImageView, read_document
from harmonize_schemas import Image


@dataclass(frozen=True)
class PatchLabels:
    """A segmentation for each row of a table of images: its id, its ``Image`` and the path of its array."""

    names: tuple[str, ...]
    images: tuple[Image, ...]
    paths: tuple[str, ...]

    def at(self, reader: ArrayReader, row: int, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Numbers of segments (x, y, z) at the voxels of a patch, nearest; ``affine`` maps these to RAS+ mm."""
        return ImageView(self.images[row], reader(self.paths[row])).on_grid(affine, shape)


def with_segmentations(store: Store, table: pl.DataFrame, condition: pl.Expr | str) -> tuple[pl.DataFrame, PatchLabels]:
    """The images of a table that have a segmentation which meets a condition, and these segmentations.

    Raises ``ValueError`` where an image has several, or one whose segments overlap or are shares of voxels.
    """
    chosen = select(store.recordings.filter(pl.col("modality") == "segmentation"), condition)
    chosen = chosen.select(segmentation="recording_id", _group="image")
    pairs = store.segmentations.join(chosen, on="segmentation").join(table, on="recording_id", how="semi")
    if (twice := pairs["recording_id"].is_duplicated()).any():
        raise ValueError(f"{pairs['recording_id'].filter(twice)[0]} has several segmentations: narrow with labels=")
    kept = table.join(pairs, on="recording_id", maintain_order="left")
    groups = kept["_group"].to_list()
    documents = at_once(store.path, partial(read_document, store.path, row=None), groups)
    images = [document.image for document in documents]
    for name, image in zip(kept["segmentation"], images, strict=True):
        if image is None or image.segment_values != "label":
            raise ValueError(f"{name}: its segments overlap or are shares of voxels, so no voxel has one label")
        if image.affine is None:
            raise ValueError(f"{name}: its affine is unknown")
    labels = PatchLabels(
        tuple(kept["segmentation"]), tuple(image for image in images if image), tuple(f"{one}/0" for one in groups)
    )
    return kept.drop("segmentation", "_group"), labels
