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
LEVELS = {"lz4": 5, "zstd": 3}
_ABSENT = 2**64 - 1


def _shuffle(dtype: np.dtype[Any]) -> Literal["bitshuffle", "shuffle", "noshuffle"]:
    """Samples of one byte lie best as they are: real volumes are a third smaller than with their bits shuffled, and
    decoded two to four times as fast (``python -m benchmarks.codecs``)."""
    if dtype.itemsize == 1:
        return "noshuffle"
    return "bitshuffle" if dtype.kind in "iu" else "shuffle"


def create_array(
    group: zarr.Group, name: str, grid: Grid, dtype: str, axes: Sequence[str], codec: Codec
) -> zarr.Array[Any]:
    """The array's metadata, without any shard; ``ShardWriter`` makes those."""
    kind = np.dtype(dtype)
    compressor = None
    if codec != "none":
        compressor = BloscCodec(cname=codec, clevel=LEVELS[codec], shuffle=_shuffle(kind), typesize=kind.itemsize)
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
    """Writes the shards of one array below ``folder``, which ``create_array`` described, each in one pass."""

    def __init__(
        self, folder: Path, grid: Grid, dtype: str, codec: Codec, sealed: Callable[[Path], None] = lambda _: None
    ) -> None:
        """``sealed`` is called with the file of each shard that is finished."""
        self.grid = grid
        self._sealed = sealed
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._folder = folder / "c"
        self._encode = _encoder(codec, self.dtype)

    def begin(self, index: tuple[int, ...]) -> ShardFile:
        """A shard to fill chunk by chunk. Raises ``FileExistsError`` where it was begun before."""
        per_shard = [shard // chunk for shard, chunk in zip(self.grid.shard, self.grid.chunk, strict=True)]
        return ShardFile(self._folder.joinpath(*map(str, index)), per_shard, self._encode, self._sealed)

    def write(self, index: tuple[int, ...], block: np.ndarray) -> None:
        """Shard ``index``: ``block`` holds all of its samples that lie inside the array.

        Chunks that reach beyond the array are filled up with zeros; those that lie beyond it are absent.
        """
        with self.begin(index) as shard:
            inside = [range(-(-size // chunk)) for size, chunk in zip(block.shape, self.grid.chunk, strict=True)]
            for place in itertools.product(*inside):
                shard.append(place, self._chunk(block, place))

    def _chunk(self, block: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
        sizes = self.grid.chunk
        piece = block[tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, sizes, strict=True))]
        if piece.shape == sizes:
            return np.ascontiguousarray(piece, self.dtype)
        whole = np.zeros(sizes, self.dtype)
        whole[tuple(map(slice, piece.shape))] = piece
        return whole


class ShardFile:
    """One shard on its way to disk: chunks in any order, each once; ``close`` adds their places."""

    def __init__(
        self,
        path: Path,
        per_shard: Sequence[int],
        encode: Callable[[np.ndarray], Any],
        sealed: Callable[[Path], None] = lambda _: None,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._sealed = path, sealed
        self._file = path.open("xb", buffering=0)
        self._table = np.full((*per_shard, 2), _ABSENT, "<u8")
        self._encode, self._at = encode, 0

    def append(self, place: tuple[int, ...], chunk: np.ndarray) -> None:
        """A whole contiguous chunk at its ``place`` in the shard."""
        encoded = self._encode(chunk)
        _write_all(self._file.fileno(), encoded)
        self._table[place] = self._at, len(encoded)
        self._at += len(encoded)

    def close(self) -> None:
        """Write the index and its checksum."""
        index = self._table.tobytes()
        try:
            _write_all(self._file.fileno(), index + google_crc32c.value(index).to_bytes(4, "little"))
        finally:
            self._file.close()
        self._sealed(self._path)

    def abandon(self) -> None:
        """Close it unfinished: a file that is deleted while it is open keeps its room on the disk."""
        self._file.close()

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abandon()


def _encoder(codec: Codec, dtype: np.dtype[Any]) -> Callable[[np.ndarray], Any]:
    if codec == "none":
        return lambda chunk: chunk.reshape(-1).view(np.uint8).data
    shuffle = getattr(numcodecs.blosc, _shuffle(dtype).upper())
    name = codec.encode()
    return lambda chunk: numcodecs.blosc.compress(chunk, name, LEVELS[codec], shuffle, 0, dtype.itemsize)


def _write_all(descriptor: int, data: Any) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]
