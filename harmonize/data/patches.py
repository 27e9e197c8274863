"""Patches of images as a map-style PyTorch data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import polars as pl
import torch

from harmonize.data.batch import BatchDataset, Placement, Sample
from harmonize.data.boxes import ReadChunks, read_values
from harmonize.data.buffers import Fresh
from harmonize.data.domain_columns import domain_columns
from harmonize.data.domains import Codes, select, with_labels
from harmonize.data.foreground import Foreground
from harmonize.data.patch_grid import (
    Spacing,
    VoxelGrid,
    check_orientation,
    grid_affine,
    spatial_sizes,
    stored_view,
    voxel_grid,
)
from harmonize.data.patch_labels import PatchLabels, segmentations_for, with_segmentations
from harmonize.data.patch_places import around, grid_starts, patch_keys, random_starts
from harmonize.data.patch_resample import Interpolation, Taps, interpolate, taps
from harmonize.data.reader import ArrayReader, Chunks
from harmonize.data.room import room
from harmonize.data.shuffle import uniform
from harmonize.store import Store, open_store
from harmonize.store.place import Place, at_once
from harmonize.store.views import read_document
from harmonize_schemas import Image

Sampling = Literal["grid", "random", "foreground"]
Triple = tuple[int, int, int]
Pair = tuple[int, int]


class PatchDataset(BatchDataset):
    """Boxes of every image of a store, by number: on a grid, at random, or around foreground.

    Parameters
    ----------
    store
        A ``Store``, or its path or URL.
    patch, stride
        Voxels along x, y, z; two numbers: patches of planes, whose samples have no z. ``stride`` None: patches
        that touch. The last patch of an axis is moved back so that it ends with the image; an image smaller than
        a patch is padded.
    where, target, domains, transform
        As for ``WindowDataset``.
    sampling
        "grid"; "random": ``per_image`` patches of each image, new ones each epoch (``set_epoch``), every start
        inside the image equally likely; "foreground": the same, but a share of them, ``foreground``, is laid
        around a voxel of the foreground, as ``patch // 2``, and moved inside the image where it reaches out.
        Foreground is what lies above ``threshold`` (in the image's unit; None: Otsu's, of each image), judged
        by every n-th voxel of the middle time point, 65,536 at most; the whole image is read for it once.
        A patch is a function of ``seed``, epoch and its number alone.
    spacing
        mm along x, y, z of a patch (None: as stored), resampled when read, from the voxels needed alone.
    orientation
        Directions that a patch's x, y, z run to, as "RAS", by exchanging and reversing axes; an oblique or
        sheared image stays that, and ``affine`` says so. None: as stored.
    interpolation
        "linear", which also takes means where voxels become larger (``patch_resample.taps``), or "nearest",
        for images of labels.
    frames
        Consecutive time points of a patch; 1: each by itself.
    labels
        A condition on ``recordings`` that picks a segmentation for each image, as "modality = 'segmentation'" (any) or
        "array_contains(segment_types, 'SCT:10200004')": samples get ``labels``; images without one are left out.
    anonymization_mask
        A condition on ``recordings`` that picks a segmentation of defaced voxels for each image that has one: inside
        its segments ``mask`` is False and ``image`` zero, as where there is no data.

    Samples are dicts: ``image`` float32 (frames * values a voxel, x, y, z), a frame's values together,
    value = stored * slope + intercept; ``mask`` bool of the same shape, False where the image has no data
    (outside it, padding voxels, NaN), where ``image`` is zero; ``labels`` int32 (x, y, z), where asked for: the number
    of the segment in which a voxel's centre lies (that of the nearest voxel of the segmentation), 0 in none;
    ``affine`` float64 (4, 4), patch voxel to RAS+ mm, NaN where unknown; ``start`` int64 (4,), the patch's first voxel
    (x, y, z) and its first time point, in the grid of the spacing and orientation asked for; codes, ``age``,
    ``recording_id`` and ``target`` as for ``WindowDataset``. In memory x is the fastest axis, as it is stored:
    ``image`` is a view with strides.

    Raises
    ------
    ValueError
        Where no image is chosen, or segmentations along with other images, where images differ in values a voxel,
        where an image's affine or spacing is unknown and must be known, where an image has several segmentations or
        one that is no map of labels, or for arguments that do not fit.
    """

    def __init__(
        self,
        store: Store | str | Place,
        patch: Triple | Pair = (64, 64, 64),
        stride: Triple | Pair | None = None,
        where: pl.Expr | str | None = None,
        target: str | None = None,
        domains: Sequence[str] = (),
        transform: Callable[[Sample], Sample] | None = None,
        *,
        sampling: Sampling = "grid",
        per_image: int = 1,
        foreground: float = 0.75,
        threshold: float | None = None,
        seed: int = 0,
        spacing: Spacing | None = None,
        orientation: str | None = None,
        interpolation: Interpolation = "linear",
        frames: int = 1,
        labels: pl.Expr | str | None = None,
        anonymization_mask: pl.Expr | str | None = None,
    ) -> None:
        _check(patch, stride, sampling, per_image, foreground, spacing, orientation, interpolation, frames)
        store = store if isinstance(store, Store) else open_store(store)
        self._opened, self._where = (store.path, store.version), where
        table = _images(store, where, target, *domains)
        self._labels: PatchLabels | None = None
        if labels is not None:
            table, self._labels = with_segmentations(store, table, labels)
        self._defaced: PatchLabels | None = None
        if anonymization_mask is not None:
            self._defaced = segmentations_for(store, table, anonymization_mask)
        if table.is_empty():
            raise ValueError("the store has no image that meets this condition")
        if table["modality"].n_unique() > 1 and "segmentation" in table["modality"]:
            raise ValueError(
                "segmentations are among the images: narrow with where=, as \"modality != 'segmentation'\""
            )
        self.patch, self.sampling, self.seed, self.frames = patch, sampling, seed, frames
        self._extent = np.array([*patch, *(1,) * (3 - len(patch)), frames], np.int64)
        self._interpolation: Interpolation = interpolation
        self._images, self._grids = _described(store, table, spacing, orientation)
        for found in (self._labels, self._defaced):
            if found is not None:
                found.check(self._images)
        self._paths = [f"{group}/0" for group in table["image"]]
        super().__init__(domain_columns(table, target, domains), transform)
        self._sizes = np.array(
            [(*grid.shape, _sizes(image)["t"]) for image, grid in zip(self._images, self._grids, strict=True)], np.int64
        )
        self._affines = np.array(list(map(grid_affine, self._images, self._grids)))
        self._starts: list[list[np.ndarray]] = []
        if sampling == "grid":
            steps = self._extent if stride is None else [*stride, *(1,) * (3 - len(stride)), frames]
            self._starts = [list(map(grid_starts, sizes, self._extent, steps)) for sizes in self._sizes]
            counts = [int(np.prod([len(axis) for axis in starts])) for starts in self._starts]
        else:
            counts = [per_image] * len(self._images)
        self._ends = np.cumsum(counts)
        self._root, self._reader = store.path, ArrayReader(store.path)
        self._share = foreground if sampling == "foreground" else 0.0
        self._foreground = Foreground(self._images, self._paths, self._reader, threshold)

    @property
    def content(self) -> str:
        """See ``BatchDataset.content``."""
        return "image"

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames * values a voxel, x, y, z) of a patch."""
        return self.frames * _sizes(self._images[0])["c"], *self.patch

    def row_sizes(self) -> np.ndarray:
        """Patches of each image."""
        return np.diff(self._ends, prepend=0)

    def _other_codes_of(self, field: str) -> Codes:
        rows = _images(open_store(*self._opened), self._where, field)
        if self._labels is not None:
            rows = rows.filter(pl.col("recording_id").is_in(self._domains.recording_id.tolist()))
        return self._codes_in(rows, field)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def placement(self) -> Placement:
        """See ``BatchDataset.placement``."""
        chunk = self._reader.chunk_shape(self._paths[0])
        # Of a patch laid at random, this much is in the chunks that it touches.
        sizes = dict.fromkeys("tzyx", 1) | dict(zip(self._images[0].axes, chunk, strict=True))
        touched = np.prod(self._extent + [sizes[axis] - 1 for axis in "xyzt"])
        item_bytes = touched * max(_sizes(image)["c"] * np.dtype(image.dtype).itemsize for image in self._images)
        return Placement(
            rank=np.argsort(np.argsort(self._paths, kind="stable")).astype(np.int64),
            item_bytes=float(item_bytes),
            per_chunk=float(np.prod(chunk) / np.prod(self._extent)),
        )

    def fingerprint(self) -> str:
        """See ``BatchDataset.fingerprint``."""
        drawn = (
            self.patch, self.frames, self.sampling, self.seed, self._share, self._foreground.threshold,
            self._interpolation, self._grids, self._labels and self._labels.names,
            self._defaced and self._defaced.names,
        )  # fmt: skip
        hashed = hashlib.sha256(repr(drawn).encode() + "\n".join(self._domains.recording_id).encode())
        for column in (self._ends, self._sizes, *(axis for axes in self._starts for axis in axes)):
            hashed.update(np.ascontiguousarray(column).tobytes() + b"|")
        return hashed.hexdigest()

    def read(self, numbers: np.ndarray, chunks: Sequence[Chunks]) -> Sequence[Sample]:
        """Patches by number, as views of one batch. Chunks are decoded once a batch; in a stream, once a pool."""
        rows = np.searchsorted(self._ends, numbers, side="right")
        start = self._places(numbers, rows)
        x, y, z = self._extent[:3].tolist()
        # As stored: time, channel, z, y, x.
        shape = (len(numbers), self.frames, _sizes(self._images[0])["c"], z, y, x)
        memory = chunks[0].memory if chunks else Fresh()
        image, mask = (room(shape, dtype, memory) for dtype in (torch.float32, torch.bool))
        images, masks = image.numpy(), mask.numpy()

        together: dict[tuple[int, int], list[int]] = {}
        for i, row in enumerate(rows.tolist()):
            together.setdefault((row, id(chunks[i])), []).append(i)

        def fill(ours: list[int]) -> None:
            row, kept = int(rows[ours[0]]), chunks[ours[0]]
            self._fill([images[i] for i in ours], [masks[i] for i in ours], row, start[ours], kept)

        at_once(self._root, fill, list(together.values()))
        affine = self._affines[rows]
        affine[:, :3, 3] += np.einsum("nij,nj->ni", affine[:, :3, :3], start[:, :3])
        if self._defaced is not None:
            self._leave_out(self._defaced, images, masks, rows, affine)
        turned = {"image": self._outward(image), "mask": self._outward(mask)}
        columns: dict[str, np.ndarray | torch.Tensor] = {**turned, "affine": affine, "start": start}
        if self._labels is not None:
            columns["labels"] = self._labels_of(self._labels, rows, affine)
        return self._batch(columns, rows)

    def _labels_of(self, labels: PatchLabels, rows: np.ndarray, affine: np.ndarray) -> torch.Tensor:
        """Labels (n, x, y, z) of patches whose voxels lie where ``affine`` says."""
        made = np.empty((len(rows), *self._extent[:3]), np.int32)

        def fill(i: int) -> None:
            made[i] = labels.at(self._reader, int(rows[i]), affine[i], self._extent[:3].tolist())

        at_once(self._root, fill, range(len(rows)))
        found = torch.from_numpy(made)
        return found if len(self.patch) == 3 else found[..., 0]

    def _leave_out(
        self, defaced: PatchLabels, images: np.ndarray, masks: np.ndarray, rows: np.ndarray, affine: np.ndarray
    ) -> None:
        """Take defaced voxels out of patches (n, time, channel, z, y, x), as where there is no data."""

        def leave_out(i: int) -> None:
            found = defaced.at(self._reader, int(rows[i]), affine[i], self._extent[:3].tolist())
            inside = (found.reshape(*self._extent[:3], -1) > 0).any(axis=-1).T
            images[i][..., inside], masks[i][..., inside] = 0, False

        at_once(self._root, leave_out, range(len(rows)))

    def _outward(self, stored: torch.Tensor) -> torch.Tensor:
        turned = stored.flatten(1, 2).permute(0, 1, 4, 3, 2)
        return turned if len(self.patch) == 3 else turned[..., 0]

    def _places(self, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """First voxel (x, y, z) and time point (n, 4) of each patch."""
        if self.sampling == "grid":
            starts = np.empty((len(numbers), 4), np.int64)
            for i, (number, row) in enumerate(zip(numbers, rows, strict=True)):
                axes = self._starts[row]
                at = np.unravel_index(number - (self._ends[row - 1] if row else 0), [len(axis) for axis in axes])
                starts[i] = [axis[k] for axis, k in zip(axes, at, strict=True)]
            return starts
        made = patch_keys(self.seed, int(self._epoch[0]), numbers)
        sizes = self._sizes[rows]
        starts = random_starts(made, sizes, self._extent)
        chosen = np.flatnonzero(uniform(made, 4) < self._share)
        at_once(self._root, self._foreground.count, np.unique(rows[chosen]).tolist())
        for i in chosen.tolist():
            row = int(rows[i])
            if self._foreground.count(row):
                voxel = self._foreground.voxel(row, float(uniform(made[i], 5)))
                starts[i, :3] = around(self._grids[row].locate(voxel), sizes[i, :3], self._extent[:3])
        return starts

    def _fill(
        self, images: list[np.ndarray], masks: list[np.ndarray], row: int, starts: np.ndarray, chunks: Chunks
    ) -> None:
        """Patches of one image into arrays (time, channel, z, y, x)."""
        image, grid = self._images[row], self._grids[row]
        counts = np.minimum(self._extent, self._sizes[row] - starts)
        for short in np.flatnonzero((counts < self._extent).any(axis=1)).tolist():
            images[short][...], masks[short][...] = 0, False
        plans = self._taps(row, starts, counts)
        views = [stored_view(box, image, grid, count) for box, count in zip(images, counts, strict=True)]
        known = [stored_view(box, image, grid, count) for box, count in zip(masks, counts, strict=True)]
        regions = [tuple(axis.wanted for axis in plan) for plan in plans]
        array, read = self._reader(self._paths[row]), self._through(row, chunks)
        if all(axis.exact for axis in grid.axes):
            read_values(array, image, regions, views, known, read)
            return
        shapes = [[len(axis) for axis in region] for region in regions]
        values = [np.empty(shape, np.float32) for shape in shapes]
        there = [np.empty(shape, bool) for shape in shapes]
        read_values(array, image, regions, values, there, read)
        for i, plan in enumerate(plans):
            views[i][...], known[i][...] = interpolate(values[i], there[i], [axis.weights for axis in plan])

    def _through(self, row: int, chunks: Chunks) -> ReadChunks | None:
        """How chunks are read that other batches will ask for too. From an object store each batch asks for its own,
        all at once."""
        path = self._paths[row]
        key, array = self._reader.key(path), self._reader(path)
        if not chunks.lasting or array.is_mapped or not self._reader.is_local:
            return None
        return lambda indices: (chunks((key, index), array.read_chunk) for index in indices)

    def _taps(self, row: int, starts: np.ndarray, counts: np.ndarray) -> list[list[Taps]]:
        """What each patch of an image needs of its stored axes."""
        image, grid = self._images[row], self._grids[row]
        stored, out = spatial_sizes(image), []
        found = {"c": Taps(range(_sizes(image)["c"]), None)}
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            for axis, at, n in zip(grid.axes, start[:3], count[:3], strict=True):
                found["xyz"[axis.stored]] = taps(axis, at, n, stored[axis.stored], self._interpolation)
            found["t"] = Taps(range(start[3], start[3] + count[3]), None)
            out.append([found[axis] for axis in image.axes])
        return out


def _images(store: Store, where: pl.Expr | str | None, *names: str | None) -> pl.DataFrame:
    images = store.recordings.filter(pl.col("image").is_not_null())
    return select(with_labels(images, store, where, *names), where).sort("recording_id")


def _described(
    store: Store, table: pl.DataFrame, spacing: Spacing | None, orientation: str | None
) -> tuple[list[Image], list[VoxelGrid]]:
    """The images of a table and the grids that their patches are counted in."""
    images, grids = [], []
    documents = at_once(store.path, partial(read_document, store.path, row=None), table["image"])
    for name, document in zip(table["recording_id"], documents, strict=True):
        image = document.image
        assert image is not None
        images.append(image)
        if _sizes(image)["c"] != _sizes(images[0])["c"]:
            raise ValueError(
                f"images differ in values a voxel ({table['recording_id'][0]}, {name}): narrow with where="
            )
        try:
            grids.append(voxel_grid(image, spacing, orientation))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return images, grids


def _sizes(image: Image) -> dict[str, int]:
    """Sizes by axis; 1 for an axis that is not there."""
    return dict.fromkeys("tczyx", 1) | dict(zip(image.axes, image.shape, strict=True))


def _check(
    patch: tuple[int, ...],
    stride: tuple[int, ...] | None,
    sampling: str,
    per_image: int,
    foreground: float,
    spacing: Spacing | None,
    orientation: str | None,
    interpolation: str,
    frames: int,
) -> None:
    """Raises ``ValueError`` for arguments that do not fit."""
    if len(patch) not in (2, 3) or min(*patch, *(stride or (1,)), per_image, frames) < 1:
        raise ValueError("patch= takes two or three numbers; these, stride=, per_image= and frames= are above 0")
    if stride is not None and (len(stride) != len(patch) or sampling != "grid"):
        raise ValueError("stride= has as many numbers as patch=, and is of sampling='grid'")
    if sampling not in ("grid", "random", "foreground"):
        raise ValueError(f"sampling={sampling!r} is none of 'grid', 'random', 'foreground'")
    if not 0 <= foreground <= 1:
        raise ValueError(f"foreground={foreground} is a share, from 0 to 1")
    if spacing is not None and (len(spacing) != 3 or not all(one is None or one > 0 for one in spacing)):
        raise ValueError("spacing= takes three numbers of mm above 0, or None for an axis to keep")
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f"interpolation={interpolation!r} is none of 'linear', 'nearest'")
    if orientation is not None:
        check_orientation(orientation)
