"""Which segmentation each image has, and its labels at the voxels of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from harmonize.data.domains import select, with_labels
from harmonize.data.reader import ArrayReader
from harmonize.store import Store
from harmonize.store.place import at_once
from harmonize.store.views import ImageView, read_document
from harmonize_schemas import Image


@dataclass(frozen=True)
class PatchLabels:
    """A segmentation for each row of a table of images, None where there is none: id, ``Image``, path of its array."""

    names: tuple[str | None, ...]
    images: tuple[Image | None, ...]
    paths: tuple[str, ...]

    def check(self, images: Sequence[Image]) -> None:
        """Raises ``ValueError`` where the place of an image, or of its segmentation, is unknown."""
        for name, own, image in zip(self.names, self.images, images, strict=True):
            if own is not None and (own.affine is None or image.affine is None):
                raise ValueError(f"{name}: its affine, or that of the image that it is of, is unknown")

    def at(self, reader: ArrayReader, row: int, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Numbers of segments, or a channel each, (x, y, z[, c]) at the voxels of a patch, nearest; zeros where the
        image has no segmentation. ``affine`` maps the patch's voxels to RAS+ mm."""
        image = self.images[row]
        if image is None:
            return np.zeros(tuple(shape), np.uint8)
        return ImageView(image, reader(self.paths[row])).on_grid(affine, shape)


def segmentations_for(store: Store, table: pl.DataFrame, condition: pl.Expr | str) -> PatchLabels:
    """The segmentation of each image of a table that meets a condition. Raises ``ValueError`` for several."""
    return _labels(store, table, _pairs(store, table, condition))


def with_segmentations(store: Store, table: pl.DataFrame, condition: pl.Expr | str) -> tuple[pl.DataFrame, PatchLabels]:
    """The images of a table that have a segmentation which meets a condition, and these segmentations.

    Raises ``ValueError`` where an image has several, or one whose segments overlap or are shares of voxels.
    """
    pairs = _pairs(store, table, condition)
    kept = table.join(pairs, on="recording_id", how="semi", maintain_order="left")
    found = _labels(store, kept, pairs)
    for name, image in zip(found.names, found.images, strict=True):
        if image is not None and image.segment_values != "label":
            raise ValueError(f"{name}: its segments overlap or are shares of voxels, so no voxel has one label")
    return kept, found


def _pairs(store: Store, table: pl.DataFrame, condition: pl.Expr | str) -> pl.DataFrame:
    """Images of a table (recording_id) with the segmentation of each that meets a condition, and its ``group``."""
    every = store.recordings.filter(pl.col("modality") == "segmentation")
    chosen = select(with_labels(every, store, condition), condition)
    chosen = chosen.select(segmentation="recording_id", group="image")
    pairs = store.segmentations.join(chosen, on="segmentation").join(table, on="recording_id", how="semi")
    if (twice := pairs["recording_id"].is_duplicated()).any():
        raise ValueError(
            f"{pairs['recording_id'].filter(twice)[0]} has several such segmentations: narrow the condition"
        )
    return pairs.select("recording_id", "segmentation", "group")


def _labels(store: Store, table: pl.DataFrame, pairs: pl.DataFrame) -> PatchLabels:
    found = table.select("recording_id").join(pairs, on="recording_id", how="left", maintain_order="left")
    groups = found["group"].to_list()
    documents = at_once(
        store.path, partial(read_document, store.path, row=None), [group for group in groups if group is not None]
    )
    left = iter(documents)
    images = [None if group is None else next(left).image for group in groups]
    return PatchLabels(tuple(found["segmentation"]), tuple(images), tuple(f"{group}/0" for group in groups))
