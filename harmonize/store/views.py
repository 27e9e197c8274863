"""What a recording looks like to a reader: streams, an image, and their values."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from harmonize.store.calibrate import Calibration, look_up
from harmonize.store.errors import StoreError
from harmonize.store.object_path import answers
from harmonize.store.place import Place, open_group
from harmonize.store.sharded import ShardedArray
from harmonize_schemas import Channel, Image, Recording, SignalStream


def calibration(channels: Sequence[Channel]) -> Calibration:
    """The ``Calibration`` of channels."""
    missing = np.array([np.nan if c.missing_value is None else c.missing_value for c in channels], np.float64)
    scale = np.array([channel.scale for channel in channels], np.float64)
    offset = np.array([channel.offset for channel in channels], np.float64)
    return Calibration(scale, offset, missing)


class SignalView:
    """One stream of a recording; ``meta`` is its ``SignalStream``. Positions are samples, not seconds."""

    def __init__(self, meta: SignalStream, array: ShardedArray, start: int) -> None:
        self.meta = meta
        self._array, self._start = array, start

    @property
    def shape(self) -> tuple[int, int]:
        """(channels, samples)."""
        return len(self.meta.channels), self.meta.n_samples

    def digital(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Native samples (channel, time) from ``start`` to ``stop``. Raises ``IndexError`` outside."""
        stop = self.meta.n_samples if stop is None else stop
        if not 0 <= start <= stop <= self.meta.n_samples:
            raise IndexError(f"samples {start} to {stop} are not inside 0 to {self.meta.n_samples}")
        return self._array.read([(0, self.shape[0]), (self._start + start, self._start + stop)])

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 values (channel, time) in each channel's ``unit``; missing samples are NaN."""
        return calibration(self.meta.channels)(self.digital(start, stop))


class ImageView:
    """The image of a recording; ``meta`` is its ``Image``.

    Axes of what is read are x, y, z (then c, t where there are any), as nibabel orders them and as
    ``affine`` counts, whatever the stored order.
    """

    def __init__(self, meta: Image, array: ShardedArray) -> None:
        self.meta = meta
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along x, y, z (, c, t)."""
        return self.meta.shape[::-1]

    @property
    def affine(self) -> np.ndarray | None:
        """4x4 float64, voxel index to RAS+ mm; None when unknown."""
        return None if self.meta.affine is None else np.array(self.meta.affine, np.float64)

    def digital(self, box: Sequence[slice] | None = None) -> np.ndarray:
        """Native voxels of a box of slices without steps. Raises ``IndexError`` outside."""
        return self._array.read(self._region(box)[::-1]).T

    def _region(self, box: Sequence[slice] | None) -> list[tuple[int, int]]:
        box = [slice(None)] * len(self.shape) if box is None else list(box)
        if len(box) > len(self.shape) or any(part.step not in (None, 1) for part in box):
            raise IndexError(f"{len(box)} slices for an image of shape {self.shape}, or slices with steps")
        box += [slice(None)] * (len(self.shape) - len(box))
        region = []
        for part, size in zip(box, self.shape, strict=True):
            start, stop = part.start or 0, size if part.stop is None else part.stop
            if not 0 <= start <= stop <= size:
                raise IndexError(f"{start}:{stop} is not inside an axis of {size}")
            region.append((start, stop))
        return region

    def read(self, box: Sequence[slice] | None = None) -> np.ndarray:
        """float32 values (stored * slope + intercept, in ``meta.unit``); padding is NaN."""
        region = self._region(box)
        digital = self._array.read(region[::-1])
        values = (
            digital.astype(np.float64) if self.meta.value_table is None else look_up(self.meta.value_table, digital)
        )
        slopes, intercepts = np.array(self.meta.slopes), np.array(self.meta.intercepts)
        if len(slopes) > 1:
            planes = tuple(slice(*span) for span in region[::-1][:-2])
            slopes, intercepts = (
                v.reshape(self.meta.shape[:-2])[planes][..., None, None] for v in (slopes, intercepts)
            )
        values *= slopes
        values += intercepts
        if self.meta.padding is not None:
            low, high = self.meta.padding
            values[(digital >= low) & (digital <= high)] = np.nan
        result: np.ndarray = values.astype(np.float32)
        return result.T

    def on_grid(self, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Native voxels nearest to the points of another grid: (x, y, z, ...) of its ``shape`` (x, y, z), 0 outside.

        ``affine`` (4, 4) maps voxels of that grid to RAS+ mm, in the same frame of reference. For images of labels,
        which may not be mixed. Raises ``ValueError`` where this image has no affine or no axis z.
        """
        if self.affine is None or "z" not in self.meta.axes:
            raise ValueError("the place of the image is unknown")
        to = np.linalg.solve(self.affine, np.asarray(affine, np.float64))
        x, y, z = shape
        out = np.zeros((x, y, z, *self.shape[3:]), self.meta.dtype)
        corners = np.array([(i, j, k, 1) for i in (0, x - 1) for j in (0, y - 1) for k in (0, z - 1)]) @ to.T
        low, high = np.floor(corners.min(axis=0)[:3]) - 1, np.ceil(corners.max(axis=0)[:3]) + 2
        start = np.clip(low, 0, self.shape[:3]).astype(np.int64)
        stop = np.clip(high, 0, self.shape[:3]).astype(np.int64)
        if np.any(stop <= start):
            return out
        box = self.digital([slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)])
        plane = np.stack(np.meshgrid(np.arange(x), np.arange(y), indexing="ij"), axis=-1)
        first = plane @ to[:3, :2].T + to[:3, 3] - start
        for k in range(z):
            # half-way points go to the higher index, whatever the affines' rounding
            index = np.floor(first + k * to[:3, 2] + (0.5 + 1e-6)).astype(np.int64)
            inside = np.all((index >= 0) & (index < box.shape[:3]), axis=-1)
            out[:, :, k][inside] = box[tuple(index[inside].T)]
        return out


@dataclass(frozen=True)
class RecordingView:
    """One recording: ``meta`` (the ``Recording`` document), ``signals`` by stream name, ``image``."""

    meta: Recording
    signals: dict[str, SignalView]
    image: ImageView | None

    def to_mne(self, stream: str | None = None) -> Any:
        """A stream as ``mne.io.RawArray``; see ``harmonize.interop.convert``."""
        return _interop("to_mne", self, stream)

    def to_nibabel(self) -> Any:
        """The image as ``nibabel.Nifti1Image``; see ``harmonize.interop.convert``."""
        return _interop("to_nibabel", self)

    def to_xarray(self, stream: str | None = None) -> Any:
        """A stream or the image as ``xarray.DataArray``; see ``harmonize.interop.convert``."""
        return _interop("to_xarray", self, stream)


def _interop(name: str, *arguments: Any) -> Any:
    # By name at call time: interop stands above the store and pulls in large libraries.
    return getattr(importlib.import_module("harmonize.interop.convert"), name)(*arguments)


def read_document(root: Place, part: str, row: int | None) -> Recording:
    """The Recording document that a part (row given) or an image group (None) holds."""
    if row is None:
        harmonize: Any = open_group(root / part).attrs["harmonize"]
        return Recording.model_validate_json(json.dumps(harmonize["recording"]))
    return Recording.model_validate_json(read_documents(root, part, [row])[0])


def read_documents(root: Place, part: str, rows: Sequence[int]) -> list[str]:
    """The Recording documents of some rows of a part, as JSON."""
    with answers(root):
        documents = open_group(root / part).get("recording")
        if not isinstance(documents, zarr.Array):
            raise StoreError(f"{part} holds no recordings")
        texts: Any = documents[:] if len(rows) > 1 else {rows[0]: documents[rows[0]]}
    return [str(texts[row]) for row in rows]
