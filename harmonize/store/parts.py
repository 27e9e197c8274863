"""Writing parts: one immutable Zarr group each, of exact final size, written by one task (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import ContainsGroupError

from harmonize.store.geometry import image_grid, layout_document, layout_name, signal_grid
from harmonize.store.place import Place
from harmonize.store.shards import Codec, ShardFile, ShardWriter, create_array
from harmonize.store.staging import stage
from harmonize_schemas import Image, Recording, SignalStream

DOCUMENTS_PER_CHUNK = 64


class SampleWriter:
    """Fills an array (channel, time) with consecutive pieces; memory holds one inner chunk.

    ``close`` raises ``ValueError`` when samples are missing.
    """

    def __init__(self, shards: ShardWriter) -> None:
        self._shards = shards
        self._n_channels, self._size = shards.grid.shape
        self._chunk = np.empty(shards.grid.chunk, shards.dtype)
        self._done = 0
        self._shard: ShardFile | None = None

    def write(self, start: int, piece: np.ndarray) -> None:
        """Put ``piece`` (channel, time) at sample ``start``, which must be the next one."""
        if start != self._done or start + piece.shape[1] > self._size:
            raise ValueError(f"samples {start} to {start + piece.shape[1]} of {self._size} came after {self._done}")
        width = self._chunk.shape[1]
        at = 0
        while at < piece.shape[1]:
            filled = self._done % width
            n = min(width - filled, piece.shape[1] - at)
            self._chunk[:, filled : filled + n] = piece[:, at : at + n]
            self._done += n
            at += n
            if filled + n == width or self._done == self._size:
                self._chunk[:, filled + n :] = 0
                self._flush((self._done - 1) // width)

    def _flush(self, chunk: int) -> None:
        per_shard = self._shards.grid.shard[1] // self._shards.grid.chunk[1]
        shard, place = divmod(chunk, per_shard)
        if self._shard is None:
            self._shard = self._shards.begin((0, shard))
        self._shard.append((0, place), self._chunk)
        if place == per_shard - 1 or self._done == self._size:
            self._shard.close()
            self._shard = None

    def abandon(self) -> None:
        """Let go of a shard that will not be finished."""
        if self._shard is not None:
            self._shard.abandon()

    def close(self) -> None:
        """Check that everything was written."""
        if self._done != self._size:
            raise ValueError(f"{self._done} of {self._size} samples written")


def _part_group(folder: Path, attributes: dict[str, Any]) -> zarr.Group:
    """A new group, in a parent that is a group too, so that a reader who walks from the root finds it."""
    if not (folder.parent / "zarr.json").exists():
        # Another task may make the parent at the same moment, and is as welcome.
        with suppress(ContainsGroupError):
            zarr.open_group(folder.parent, mode="a", zarr_format=3)
    return zarr.create_group(folder, zarr_format=3, attributes=attributes)


class SignalPart:
    """A part of pooled streams of one layout: ``samples``, ``row_size``, ``stream``, ``recording``. At most one
    stream of a recording, so that streams which a converter reads side by side are each written in order."""

    def __init__(self, root: Place, part_id: str, streams: Sequence[SignalStream], codec: Codec) -> None:
        first = streams[0]
        self.layout = layout_name(first)
        self.path = f"signals/{self.layout}/{part_id}"
        self._stage = stage(root, self.path)
        self.folder = self._stage.folder
        lengths = [stream.n_samples for stream in streams]
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        grid = signal_grid(len(first.channels), np.dtype(first.dtype).itemsize, lengths)
        attributes = {"harmonize": {"layout": layout_document(first)}}
        self._group = _part_group(self.folder, attributes)
        create_array(self._group, "samples", grid, first.dtype, ("channel", "time"), codec)
        self._writer = SampleWriter(ShardWriter(self.folder / "samples", grid, first.dtype, codec, self._stage.sealed))
        rows = self._group.create_array(
            "row_size", shape=(len(lengths),), dtype="int64", dimension_names=["stream"],
            attributes={"sample_dimension": "time"},
        )  # fmt: skip
        rows[:] = np.asarray(lengths)

    def write(self, row: int, start: int, samples: np.ndarray) -> None:
        """Native samples (channel, time) of the ``row``-th stream from its sample ``start``: rows and samples in
        order."""
        if start + samples.shape[1] > self.starts[row + 1] - self.starts[row]:
            raise ValueError("more samples than the stream declares")
        self._writer.write(self.starts[row] + start, samples)

    def abandon(self) -> None:
        """Let go of the files of a part that will not be finished and is to be deleted."""
        self._writer.abandon()

    def close(self, recordings: Sequence[Recording | str], indices: Sequence[int]) -> None:
        """Add each row's document (or its JSON) and its index among the recording's streams, and make the part last."""
        self._writer.close()
        n = len(recordings)
        index = self._group.create_array("stream", shape=(n,), dtype="int32", dimension_names=["stream"])
        index[:] = np.asarray(indices, np.int32)
        documents = self._group.create_array(
            "recording",
            shape=(n,),
            chunks=(min(n, DOCUMENTS_PER_CHUNK),),
            dtype="str",
            dimension_names=["stream"],
        )
        texts = [one if isinstance(one, str) else one.model_dump_json() for one in recordings]
        documents[:] = np.array(texts, dtype=object)
        self._stage.finish()

    def discard(self) -> None:
        """Take away what was written."""
        self._stage.discard()


class PlaneWriter:
    """Writes an image array from consecutive planes, in units that are whole shards."""

    def __init__(self, shards: ShardWriter) -> None:
        self._shards = shards
        lead, shard = shards.grid.shape[:-2] or (1,), shards.grid.shard[:-2] or (1,)
        split = [axis for axis, (n, s) in enumerate(zip(lead, shard, strict=True)) if s < n]
        self._lead = lead
        self._axis = split[-1] if split else 0
        """The axis along which shards split; axes behind it are whole in every shard."""
        self._inner = int(np.prod(lead[self._axis + 1 :]))
        self._step = min(shard[self._axis], lead[self._axis])
        self._held = np.empty((self._step * self._inner, *shards.grid.shape[-2:]), shards.dtype)
        """Planes of the shard that is begun, the first ``_filled``."""
        self._filled = self._done = 0

    def write(self, start: int, planes: np.ndarray) -> None:
        """Planes (n, y, x) from plane ``start`` on, which must be the next one."""
        if start != self._done + self._filled:
            raise ValueError(f"plane {start} came out of order")
        at = 0
        while at < len(planes):
            due = self._due()
            n = min(due - self._filled, len(planes) - at)
            self._held[self._filled : self._filled + n] = planes[at : at + n]
            self._filled += n
            at += n
            if self._filled == due:
                self._flush(due)

    def _due(self) -> int:
        at = self._done // self._inner % self._lead[self._axis]
        return min(self._step, self._lead[self._axis] - at) * self._inner

    def _flush(self, n: int) -> None:
        first = [int(i) for i in np.unravel_index(self._done, self._lead)]
        axes = self._lead[self._axis + 1 :]
        block = self._held[:n].reshape((1,) * self._axis + (n // self._inner, *axes, *self._held.shape[1:]))
        steps = [*(1,) * self._axis, self._step, *axes]
        index = (*(at // step for at, step in zip(first, steps, strict=True)), 0, 0)
        flat = len(self._shards.grid.shape) == 2
        self._shards.write(index[1:] if flat else index, block[0] if flat else block)
        self._filled = 0
        self._done += n

    def close(self) -> None:
        """Check that every plane was written."""
        if self._filled or self._done != int(np.prod(self._lead)):
            raise ValueError(f"{self._done + self._filled} of {int(np.prod(self._lead))} planes written")


class ImagePart:
    """One image as an OME-Zarr 0.5 multiscale group with the array "0" in acquired voxel order."""

    def __init__(self, root: Place, part_id: str, name: str, image: Image, codec: Codec) -> None:
        self.path = f"images/{part_id}/{name}"
        self._stage = stage(root, self.path)
        self.folder = self._stage.folder
        self._image = image
        self._group = _part_group(self.folder, {})
        grid = image_grid(image, compressed=codec != "none")
        create_array(self._group, "0", grid, image.dtype, image.axes, codec)
        self._writer = PlaneWriter(ShardWriter(self.folder / "0", grid, image.dtype, codec, self._stage.sealed))

    def write(self, start: int, planes: np.ndarray) -> None:
        """Planes (n, y, x) in C order of the axes before them, from plane ``start``; in order."""
        self._writer.write(start, planes)

    def close(self, recording: Recording) -> None:
        """Add the document, the affine and the OME metadata, and make the part last."""
        self._writer.close()
        self._group.attrs.put(  # at once: ``update`` writes the file again for each
            {
                "ome": ome_metadata(self._image),
                "harmonize": {
                    "recording": recording.model_dump(mode="json"),
                    "affine_ijk_to_ras_mm": self._image.affine,
                },
            }
        )
        self._stage.finish()

    def discard(self) -> None:
        """Take away what was written."""
        self._stage.discard()


def ome_metadata(image: Image) -> dict[str, Any]:
    """The "ome" attribute (OME-NGFF 0.5, multiscales). OME knows scale only; the affine is beside it."""
    kinds = {"t": ("time", "second"), "c": ("channel", None), "z": ("space", "millimeter")}
    kinds |= {"y": kinds["z"], "x": kinds["z"]}
    spacing = dict(zip("xyz", image.spacing_mm or (1.0, 1.0, 1.0), strict=False))  # two without a z axis
    known = {
        "x": image.spacing_mm,
        "y": image.spacing_mm,
        "z": image.spacing_mm,
        "t": image.time_step_s,
        "c": None,
    }
    axes = []
    for axis in image.axes:
        kind, unit = kinds[axis]
        axes.append({"name": axis, "type": kind} | ({"unit": unit} if unit and known[axis] else {}))
    scale = [spacing.get(axis, (image.time_step_s or 1.0) if axis == "t" else 1.0) for axis in image.axes]
    transform = [{"type": "scale", "scale": scale}]
    dataset = {"path": "0", "coordinateTransformations": transform}
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
