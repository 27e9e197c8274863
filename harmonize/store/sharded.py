"""Reading sharded Zarr v3 arrays chunk by chunk: from mapped files, or from ranges of objects.

zarr-python is the reference (tests compare the two); this exists because a training loop asks for
thousands of windows a second and because an absent chunk must be an error (DESIGN 5).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from math import prod
from operator import floordiv, mod, mul
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numcodecs
import numpy as np

from harmonize.store import kernels
from harmonize.store.errors import CorruptShardError, MissingChunkError, StoreError
from harmonize.store.place import Place
from harmonize.store.recent import Recent
from harmonize.store.shard_bytes import ShardBytes, open_shard

_ABSENT = 2**64 - 1
_CRC_BYTES = 4
_OPEN_SHARDS = 64

Decode = Callable[[memoryview], bytes]
_BLOSC: Decode = numcodecs.blosc.decompress
_ZSTD: Decode = numcodecs.zstd.decompress
Empty = Callable[[tuple[int, ...], np.dtype], np.ndarray]


def _decoder(codecs: Sequence[dict[str, Any]]) -> Decode | None:
    names = [codec["name"] for codec in codecs]
    if names[:1] != ["bytes"] or codecs[0].get("configuration", {}).get("endian", "little") != "little":
        raise StoreError(f"chunks must start from little-endian bytes, found codecs {names}")
    match names[1:]:
        case []:
            return None
        case ["blosc"]:
            return _BLOSC
        case ["zstd"]:
            return _ZSTD
    raise StoreError(f"no fast reader for the codecs {names}")


class _Shard(NamedTuple):
    """A shard, its table (start and size of each chunk), and of a mapped one the chunks looked at, as arrays."""

    bytes: ShardBytes
    table: list[int]
    views: list[np.ndarray | None]


class ShardedArray:
    """A sharded Zarr v3 array, read-only, by inner chunks.

    Attributes: ``shape``, ``dtype``, ``chunk`` (shape of an inner chunk), ``shard`` (shape of a shard), ``is_mapped``:
    chunks are views of mapped files, for which nothing is read or decoded; ``is_blosc``: they are decoded by Blosc.
    Holds at most 64 open shards (mapped, or their indices). Threads may share it,
    processes not: open it again after a fork.
    """

    def __init__(self, path: Place) -> None:
        self._path = path
        try:
            meta = json.loads((path / "zarr.json").read_bytes())
        except FileNotFoundError:
            raise StoreError(f"there is no array at {path.name}") from None
        sharding = meta["codecs"][0]
        if len(meta["codecs"]) != 1 or sharding["name"] != "sharding_indexed":
            raise StoreError("the array is not sharded")
        config = sharding["configuration"]
        index = [codec["name"] for codec in config["index_codecs"]]
        if index != ["bytes", "crc32c"] or config.get("index_location", "end") != "end":
            raise StoreError(f"unknown shard index: codecs {index}")
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        self.chunk: tuple[int, ...] = tuple(config["chunk_shape"])
        self.shard: tuple[int, ...] = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        self._per_shard = tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))
        self._steps = tuple(prod(self._per_shard[axis + 1 :]) for axis in range(len(self._per_shard)))
        self._separator = meta["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
        self._decode = _decoder(config["codecs"])
        self.is_blosc = self._decode is _BLOSC
        self.is_mapped = self._decode is None and isinstance(path, Path)
        self._shards = Recent[tuple[int, ...], _Shard](_OPEN_SHARDS)

    def _open_shard(self, key: tuple[int, ...]) -> _Shard:
        file = self._path / "c" / self._separator.join(map(str, key))
        index_bytes = 16 * int(np.prod(self._per_shard))
        try:
            shard = open_shard(file, index_bytes + _CRC_BYTES)
        except FileNotFoundError:
            raise MissingChunkError(f"shard {key} of {self._name} is not there") from None
        raw = shard.tail
        if len(raw) < index_bytes + _CRC_BYTES:
            raise CorruptShardError(f"shard {key} of {self._name} is shorter than its index")
        if google_crc32c.value(raw[:-_CRC_BYTES]) != int.from_bytes(raw[-_CRC_BYTES:], "little"):
            raise CorruptShardError(f"the index of shard {key} of {self._name} fails its checksum")
        table = np.frombuffer(raw, "<u8", count=index_bytes // 8).tolist()
        return _Shard(shard, table, [None] * (len(table) // 2) if self.is_mapped else [])

    @property
    def _name(self) -> str:
        return "/".join(self._path.parts[-4:])

    def shard_of(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """The shard that holds a chunk."""
        return tuple(map(floordiv, index, self._per_shard))

    def read_chunk(self, index: tuple[int, ...], empty: Empty = np.empty) -> np.ndarray:
        """One decoded inner chunk; see ``read_chunks``. Its memory comes from ``empty``, unless it is stored as it is
        and mapped."""
        shard, table, views = self._shards(self.shard_of(index), self._open_shard)
        place = self._place(index)
        if views and (known := views[place]) is not None:
            return known
        data = shard.ranges([self._span(index, place, table, shard.size)])[0]
        found = self.decoded(Encoded(self, index, data), empty)
        if views:
            views[place] = found
        return found

    def read_chunks(self, indices: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
        """Decoded inner chunks in the order given, of the full chunk shape (padding included at the array's end).

        Chunks of one shard that follow each other are fetched together. Raises ``MissingChunkError`` where the shard
        does not hold one, ``CorruptShardError`` where one does not decode.
        """
        return map(self.read_chunk, indices) if self.is_mapped else map(self.decoded, self.encoded(indices))

    def encoded(self, indices: Sequence[tuple[int, ...]]) -> Iterator[Encoded]:
        """Inner chunks as they are stored, for ``decode``; else as ``read_chunks``."""
        for key, group in itertools.groupby(indices, self.shard_of):
            shard, table, _ = self._shards(key, self._open_shard)
            inside = list(group)
            spans = [self._span(index, self._place(index), table, shard.size) for index in inside]
            for index, data in zip(inside, shard.ranges(spans), strict=True):
                yield Encoded(self, index, data)

    def decoded(self, one: Encoded, empty: Empty = np.empty) -> np.ndarray:
        """A chunk of this array as ``decode`` gives it."""
        if self.is_blosc:
            return decode([one], empty)[0]
        try:
            data = one.data if self._decode is None else self._decode(one.data)
            found = np.frombuffer(data, self.dtype).reshape(self.chunk)
        except (RuntimeError, ValueError) as error:
            raise self.damaged(one.at) from error
        if self._decode is None:
            return found
        out = empty(self.chunk, self.dtype)
        out[...] = found
        return out

    def damaged(self, index: tuple[int, ...]) -> CorruptShardError:
        """The error of a chunk that cannot be decoded, or not to its size."""
        return CorruptShardError(f"chunk {index} of {self._name} does not decode")

    def _place(self, index: tuple[int, ...]) -> int:
        """Which chunk of its shard it is."""
        return sum(map(mul, map(mod, index, self._per_shard), self._steps))

    def _span(self, index: tuple[int, ...], place: int, table: list[int], shard_bytes: int) -> tuple[int, int]:
        """Where a chunk lies in its shard: its first byte and its size."""
        start, size = table[2 * place], table[2 * place + 1]
        if start == _ABSENT:
            raise MissingChunkError(f"chunk {index} of {self._name} is not there")
        if start + size > shard_bytes:
            raise CorruptShardError(f"chunk {index} of {self._name} lies outside its shard")
        return start, size

    def read(self, region: Sequence[tuple[int, int]]) -> np.ndarray:
        """A box, as (start, stop) for each axis. Raises ``IndexError`` outside the array."""
        for (start, stop), size in zip(region, self.shape, strict=True):
            if not 0 <= start <= stop <= size:
                raise IndexError(f"{tuple(region)} is not inside {self.shape}")
        out = np.empty([stop - start for start, stop in region], self.dtype)
        if out.size == 0:
            return out
        spans = [range(a // c, -(-b // c)) for (a, b), c in zip(region, self.chunk, strict=True)]
        wanted = list(itertools.product(*spans))
        for index, chunk in zip(wanted, self.read_chunks(wanted), strict=True):
            inside, outside = [], []
            for i, c, (a, b) in zip(index, self.chunk, region, strict=True):
                low, high = max(a, i * c), min(b, (i + 1) * c)
                inside.append(slice(low - i * c, high - i * c))
                outside.append(slice(low - a, high - a))
            out[tuple(outside)] = chunk[tuple(inside)]
        return out


class Encoded(NamedTuple):
    """An inner chunk as it is stored."""

    array: ShardedArray
    at: tuple[int, ...]
    data: memoryview


def decode(chunks: Sequence[Encoded], empty: Empty) -> list[np.ndarray]:
    """Decoded chunks, of any arrays, in memory from ``empty``: those of Blosc in one call, in which other threads run.

    Raises ``CorruptShardError`` where one does not decode.
    """
    if not all(one.array.is_blosc for one in chunks):
        return [one.array.decoded(one, empty) for one in chunks]
    out = [empty(one.array.chunk, one.array.dtype) for one in chunks]
    done = kernels.decode(out, [one.data for one in chunks])
    if done < len(chunks):
        raise chunks[done].array.damaged(chunks[done].at)
    return out
