"""Writing shards of Zarr v3 arrays whole, in one pass; the counterpart of ``sharded``.

A shard is its inner chunks one after the other, then their places and a checksum (Zarr v3, ``sharding_indexed``).
zarr-python is the reference: tests read with it what is written here, and measure that it writes at less than half
the rate (``benchmarks.convert_edf``).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import zarr
from zarr.codecs import BloscCodec

from harmonize.store.geometry import Grid

Codec = Literal["lz4", "zstd", "none"]
_LEVELS = {"lz4": 5, "zstd": 3}
_ABSENT = 2**64 - 1


def _shuffle(dtype: np.dtype[Any]) -> Literal["bitshuffle", "shuffle"]:
    return "bitshuffle" if dtype.kind in "iu" else "shuffle"


def create_array(
    group: zarr.Group, name: str, grid: Grid, dtype: str, axes: Sequence[str], codec: Codec
) -> zarr.Array[Any]:
    """The array's metadata, without any shard; ``ShardWriter`` makes those."""
    kind = np.dtype(dtype)
    compressor = None
    if codec != "none":
        compressor = BloscCodec(cname=codec, clevel=_LEVELS[codec], shuffle=_shuffle(kind), typesize=kind.itemsize)
    return group.create_array(
        name,
        shape=grid.shape,
        chunks=grid.chunk,
        shards=grid.shard,
        dtype=dtype,
        fill_value=0,
        compressors=compressor,
        dimension_names=list(axes),
        config={"write_empty_chunks": True},  # for whoever writes with zarr: an absent chunk is an error
    )


class ShardWriter:
    """Writes the shards of one array below ``folder``, which ``create_array`` described."""

    def __init__(self, folder: Path, grid: Grid, dtype: str, codec: Codec) -> None:
        self.grid = grid
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._folder = folder / "c"
        self._encode = _encoder(codec, self.dtype)

    def write(self, index: tuple[int, ...], block: np.ndarray) -> None:
        """Shard ``index``: ``block`` holds all of its samples that lie inside the array.

        Chunks that reach beyond the array are filled up with zeros; those that lie beyond it are absent.
        """
        grid = self.grid
        per_shard = [shard // chunk for shard, chunk in zip(grid.shard, grid.chunk, strict=True)]
        table = np.full((*per_shard, 2), _ABSENT, "<u8")
        path = self._folder.joinpath(*map(str, index))
        path.parent.mkdir(parents=True, exist_ok=True)
        at = 0
        with path.open("xb", buffering=0) as file:
            inside = [range(-(-size // chunk)) for size, chunk in zip(block.shape, grid.chunk, strict=True)]
            for place in itertools.product(*inside):
                encoded = self._encode(self._chunk(block, place))
                _write_all(file.fileno(), encoded)
                table[place] = at, len(encoded)
                at += len(encoded)
            index_bytes = table.tobytes()
            _write_all(file.fileno(), index_bytes + google_crc32c.value(index_bytes).to_bytes(4, "little"))

    def _chunk(self, block: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
        sizes = self.grid.chunk
        piece = block[tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, sizes, strict=True))]
        if piece.shape == sizes:
            return np.ascontiguousarray(piece, self.dtype)
        whole = np.zeros(sizes, self.dtype)
        whole[tuple(map(slice, piece.shape))] = piece
        return whole


def _encoder(codec: Codec, dtype: np.dtype[Any]) -> Callable[[np.ndarray], Any]:
    if codec == "none":
        return lambda chunk: chunk.reshape(-1).view(np.uint8).data
    shuffle = {"bitshuffle": numcodecs.blosc.BITSHUFFLE, "shuffle": numcodecs.blosc.SHUFFLE}[_shuffle(dtype)]
    name = codec.encode()
    return lambda chunk: numcodecs.blosc.compress(chunk, name, _LEVELS[codec], shuffle, 0, dtype.itemsize)


def _write_all(descriptor: int, data: Any) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]
