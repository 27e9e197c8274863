"""Patches of images as a map-style PyTorch data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import polars as pl

from harmonize.data.batch import BatchDataset, Placement, Sample
from harmonize.data.domain_columns import domain_columns
from harmonize.data.domains import select, with_labels
from harmonize.data.reader import ArrayReader, Chunks
from harmonize.store import Store, open_store
from harmonize.store.place import Place, at_once
from harmonize.store.views import ImageView, read_document
from harmonize_schemas import Image

Triple = tuple[int, int, int]


def grid_starts(size: int, patch: int, stride: int) -> np.ndarray:
    """Starts of patches that cover an axis; the last is moved back to end with it."""
    if size <= patch:
        return np.zeros(1, np.int64)
    starts = np.arange(0, size - patch + 1, stride)
    return starts if starts[-1] == size - patch else np.append(starts, size - patch)


class PatchDataset(BatchDataset):
    """Boxes on a grid over every image of a store, by number.

    Parameters
    ----------
    store
        A ``Store``, or its path or URL.
    patch, stride
        Voxels along x, y, z; ``stride`` None: patches that touch. The last patch of an axis is moved back
        so that it ends with the image; an image smaller than a patch is padded.
    where, target, domains, transform
        As for ``WindowDataset``.

    Samples are dicts: ``image`` float32 (1, x, y, z), value = stored * slope + intercept; ``mask`` bool of
    the same shape, False where the image has no data (outside it, or padding voxels), where ``image`` is
    zero; ``affine`` float64 (4, 4), patch voxel to RAS+ mm, NaN where unknown; ``start`` int64 (4,), the
    patch's first voxel (x, y, z) and its time; codes, ``age``, ``recording_id`` and ``target`` as for
    ``WindowDataset``. Every time point of an image is patched by itself.

    Raises ``ValueError`` where no image is chosen.
    """

    def __init__(
        self,
        store: Store | str | Place,
        patch: Triple = (64, 64, 64),
        stride: Triple | None = None,
        where: pl.Expr | str | None = None,
        target: str | None = None,
        domains: Sequence[str] = (),
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        store = store if isinstance(store, Store) else open_store(store)
        self._opened, self._where = (store.path, store.version), where
        table = _images(store, where, target, *domains)
        if table.is_empty():
            raise ValueError("the store has no image that meets this condition")
        self.patch = patch
        self._images: list[Image] = []
        documents = at_once(store.path, partial(read_document, store.path, row=None), table["image"])
        for name, document in zip(table["recording_id"], documents, strict=True):
            image = document.image
            if image is None or "c" in image.axes:
                raise ValueError(f"{name} has several values a voxel, which patches cannot hold yet")
            self._images.append(image)
        self._groups = [f"{group}/0" for group in table["image"]]
        super().__init__(domain_columns(table, target, domains), transform)
        self._starts = [self._grid(image, patch if stride is None else stride) for image in self._images]
        counts = [int(np.prod([len(axis) for axis in starts])) for starts in self._starts]
        self._ends = np.cumsum(counts)
        self._root, self._reader = store.path, ArrayReader(store.path)

    def row_sizes(self) -> np.ndarray:
        """Patches of each image."""
        return np.diff(self._ends, prepend=0)

    def placement(self) -> Placement:
        """See ``BatchDataset.placement``."""
        chunk = self._reader.chunk_shape(self._groups[0])
        item_bytes = [np.prod(self.patch) * np.dtype(image.dtype).itemsize for image in self._images]
        return Placement(
            rank=np.argsort(np.argsort(self._groups, kind="stable")).astype(np.int64),
            item_bytes=float(max(item_bytes)),
            per_chunk=float(np.prod(chunk) / np.prod(self.patch)),
        )

    def fingerprint(self) -> str:
        """See ``BatchDataset.fingerprint``."""
        hashed = hashlib.sha256("\n".join(self._domains.recording_id).encode())
        for axes in self._starts:
            for starts in axes:
                hashed.update(starts.tobytes() + b"|")
        return hashed.hexdigest()

    def _rows(self, field: str) -> pl.DataFrame:
        return _images(open_store(*self._opened), self._where, field)

    def _grid(self, image: Image, stride: Triple) -> tuple[np.ndarray, ...]:
        x, y, z, t = _sizes(image)
        spatial = [grid_starts(n, p, s) for n, p, s in zip((x, y, z), self.patch, stride, strict=True)]
        return (*spatial, np.arange(t))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, wanted: np.ndarray, chunks: Sequence[Chunks]) -> Sequence[Sample]:
        """Patches by number; see ``BatchDataset.read``."""
        rows = np.searchsorted(self._ends, wanted, side="right")
        shape = (len(wanted), 1, *self.patch)
        image, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        start, affine = np.zeros((len(wanted), 4), np.int64), np.full((len(wanted), 4, 4), np.nan)

        def fill(i: int) -> None:
            row = int(rows[i])
            starts = self._starts[row]
            number = wanted[i] - (self._ends[row - 1] if row else 0)
            at = np.unravel_index(number, [len(axis) for axis in starts])
            start[i] = [axis[k] for axis, k in zip(starts, at, strict=True)]
            self._fill(image[i, 0], mask[i, 0], row, start[i])
            if (full := self._images[row].affine) is not None:
                affine[i] = full
                affine[i, :3, 3] = np.asarray(full)[:3] @ [*start[i, :3], 1]

        at_once(self._root, fill, np.argsort(wanted, kind="stable").tolist())
        columns = {"image": image, "mask": mask, "affine": affine, "start": start}
        return self._batch(columns, rows)

    def _fill(self, image: np.ndarray, mask: np.ndarray, row: int, start: np.ndarray) -> None:
        meta = self._images[row]
        sizes = _sizes(meta)
        box = [slice(int(a), int(min(a + p, n))) for a, p, n in zip(start, self.patch, sizes[:3], strict=False)]
        where = {"x": box[0], "y": box[1], "z": box[2], "t": slice(int(start[3]), int(start[3]) + 1)}
        view = ImageView(meta, self._reader(self._groups[row]))
        values = view.read([where[axis] for axis in reversed(meta.axes)])
        extent = tuple(part.stop - part.start for part in box)
        known = ~np.isnan(values.reshape(extent))
        inside = tuple(slice(0, n) for n in extent)
        image[inside] = np.where(known, values.reshape(extent), 0)
        mask[inside] = known


def _images(store: Store, where: pl.Expr | str | None, *names: str | None) -> pl.DataFrame:
    images = store.recordings.filter(pl.col("image").is_not_null())
    return select(with_labels(images, store, where, *names), where).sort("recording_id")


def _sizes(image: Image) -> tuple[int, int, int, int]:
    """Sizes along x, y, z, t; 1 for an axis that is not there."""
    sizes = dict(zip(image.axes, image.shape, strict=True))
    return sizes["x"], sizes["y"], sizes.get("z", 1), sizes.get("t", 1)
