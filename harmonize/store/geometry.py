"""Layouts, chunks and shards: pure functions from shapes to names and sizes (DESIGN 5)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np

from harmonize_schemas import Image, SignalStream

CHUNK_BYTES = 512 * 1024
"""Aim for an inner chunk: large enough to compress, small enough to read one window from."""
SHARD_BYTES = 64 * 1024 * 1024
"""Aim for a shard: one file, written whole from one buffer."""
IMAGE_CHUNK = 32
"""Edge of an image's inner chunk in voxels. A random patch of 96^3 decodes 2.3 times its voxels from such cubes and 3.8
times from cubes of 64, and small cubes compress better (``python -m benchmarks.patches chunks``)."""
IMAGE_CHUNK_PLAIN, IMAGE_ROW = 64, 1024
"""Where chunks are not compressed they hold as many voxels as cubes of this edge, in whole rows of up to so many:
nothing is decoded, and what is copied are fewer and longer pieces."""


def layout_document(stream: SignalStream) -> dict[str, Any]:
    """What streams must share to be pooled: channel names and types in order, rate, dtype."""
    return {
        "rate_hz": str(stream.rate_hz),
        "dtype": stream.dtype,
        "channels": [{"name": channel.name, "type": channel.type} for channel in stream.channels],
    }


def layout_name(stream: SignalStream) -> str:
    """A readable name of the layout with a hash of all of it: ``ecg-12ch-500hz-int16-1f0c9a2b``.

    Channel names are not in the readable part: they come from the file.
    """
    digest = hashlib.sha256(json.dumps(layout_document(stream), sort_keys=True).encode()).hexdigest()[:8]
    kind = Counter(channel.type for channel in stream.channels).most_common(1)[0][0]
    rate = str(stream.rate_hz).replace("/", "_")
    return f"{kind.replace('_', '-')}-{len(stream.channels)}ch-{rate}hz-{stream.dtype}-{digest}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Shape of an array, its inner chunks and its shards; shards are whole numbers of chunks."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]


def signal_grid(n_channels: int, itemsize: int, lengths: Sequence[int]) -> Grid:
    """Grid of a part's ``samples`` (channel, time): all channels in a chunk of about ``CHUNK_BYTES``.

    Where all streams are equally long and short, a chunk holds a whole number of them, so that reading
    one decodes one chunk.
    """
    total, sample_bytes = sum(lengths), n_channels * itemsize
    chunk = max(1, CHUNK_BYTES // sample_bytes)
    if len(set(lengths)) == 1 and lengths[0] * sample_bytes <= 2 * CHUNK_BYTES:
        chunk = lengths[0] * max(1, chunk // lengths[0])
    chunk = min(chunk, total)
    per_shard = max(1, SHARD_BYTES // (chunk * sample_bytes))
    shard = chunk * min(per_shard, ceil(total / chunk))
    return Grid((n_channels, total), (n_channels, chunk), (n_channels, shard))


def image_grid(image: Image, compressed: bool = True) -> Grid:
    """Grid of an image (t, c, z, y, x): cubes as inner chunks (rows where they are not compressed), shards of whole
    (y, x) planes.

    Where the image is thin or flat, chunks are longer along the other axes, to hold as many voxels. A shard spans the
    plane and as much of z (then of t) as fits ``SHARD_BYTES``, so that it is written from consecutive planes.
    """
    before = sum(axis in "tc" for axis in image.axes)
    spatial = image.shape[before:]
    inner: tuple[int, ...]
    if compressed:
        inner = _even_chunk(spatial, IMAGE_CHUNK**3)
    else:
        row = min(spatial[-1], IMAGE_ROW)
        inner = (*_even_chunk(spatial[:-1], ceil(IMAGE_CHUNK_PLAIN**3 / row)), row)
    chunk = (*(1,) * before, *inner)
    shard = list(chunk)
    budget = SHARD_BYTES // (int(np.prod(chunk)) * np.dtype(image.dtype).itemsize)
    for axis in reversed(range(len(shard))):
        whole = ceil(image.shape[axis] / chunk[axis])
        times = whole if image.axes[axis] in "yx" else max(1, min(whole, budget))
        shard[axis] = chunk[axis] * times
        budget //= times
        if times < whole:
            break
    return Grid(image.shape, chunk, tuple(shard))


def _even_chunk(sizes: Sequence[int], voxels: int) -> tuple[int, ...]:
    """A chunk of at least so many voxels where there are as many, its edges one power of two or the whole axis."""
    edge = 1
    while True:
        chunk = tuple(min(edge, size) for size in sizes)
        if prod(chunk) >= voxels or max(sizes) <= edge:
            return chunk
        edge *= 2
