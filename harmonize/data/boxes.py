"""Boxes of one array, read chunk by chunk: each chunk is decoded once, for all boxes that touch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from harmonize.store.calibrate import look_up
from harmonize.store.kernels import convert
from harmonize.store.sharded import ShardedArray
from harmonize_schemas import Image

ReadChunks = Callable[[Sequence[tuple[int, ...]]], Iterable[np.ndarray]]
"""Decoded chunks by their indices."""
Region = tuple[range, ...]
"""Indices along each axis of an array; a range may have steps."""


class Piece(NamedTuple):
    """What a chunk and a box share: places in the chunk, and in the box number ``box``."""

    box: int
    inside: tuple[slice, ...]
    outside: tuple[slice, ...]


def pieces(regions: Sequence[Region], chunk: Sequence[int]) -> dict[tuple[int, ...], list[Piece]]:
    """The chunks that boxes touch, in order, with the parts of boxes in each."""
    found: dict[tuple[int, ...], list[Piece]] = {}
    for box, region in enumerate(regions):
        for shared in product(*(_shared(r, size) for r, size in zip(region, chunk, strict=True))):
            index, inside, outside = zip(*shared, strict=True)
            found.setdefault(index, []).append(Piece(box, inside, outside))
    return dict(sorted(found.items()))


def _shared(wanted: range, size: int) -> list[tuple[int, slice, slice]]:
    """For each chunk along an axis: its number, what is wanted of it, and where that lies in the box."""
    out = []
    done = 0
    while done < len(wanted):
        number = wanted[done] // size
        low, high = number * size, (number + 1) * size
        n = min(len(wanted) - done, -((wanted[done] - high) // wanted.step))
        first = wanted[done] - low
        out.append((number, slice(first, first + (n - 1) * wanted.step + 1, wanted.step), slice(done, done + n)))
        done += n
    return out


def read_boxes(
    array: ShardedArray,
    regions: Sequence[Region],
    into: Sequence[np.ndarray],
    scale: np.floating[Any] | None = None,
    offset: np.floating[Any] | None = None,
    padding: tuple[int, int] | None = None,
    known: Sequence[np.ndarray] = (),
    read: ReadChunks | None = None,
) -> None:
    """Put the stored values of boxes, times ``scale`` plus ``offset`` (as ``store.kernels.convert``), into float32
    arrays of their shapes; or, as they are stored, into arrays of other types. Views may be flipped.

    Where ``padding`` is given, its lowest and highest value, ``known`` (bool, of the same shapes) becomes False at
    stored values of that range.
    ``read`` gives the decoded chunks in place of ``array.read_chunks``, which holds one at a time. Raises what that
    does.
    """
    plan = pieces(regions, array.chunk)
    indices = list(plan)
    targets: list[np.ndarray] = []
    sources: list[np.ndarray] = []
    for index, chunk in zip(indices, (read or array.read_chunks)(indices), strict=True):
        for box, inside, outside in plan[index]:
            part = chunk[inside]
            targets.append(into[box][outside])
            sources.append(part)
            if padding is not None:
                _outside(part, *padding, out=known[box][outside])
        if not array.is_mapped or index == indices[-1]:  # a mapped chunk takes no memory: all of them at once
            _put(targets, sources, scale, offset)
            targets, sources = [], []


def _put(
    targets: list[np.ndarray],
    sources: list[np.ndarray],
    scale: np.floating[Any] | None,
    offset: np.floating[Any] | None,
) -> None:
    if targets[0].dtype == np.float32:
        terms = [None if one is None else np.full((len(targets), 1), one) for one in (scale, offset)]
        convert(targets, sources, *terms)
        return
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


def _outside(stored: np.ndarray, low: int, high: int, out: np.ndarray) -> None:
    """Put into ``out`` whether stored values are below ``low`` or above ``high``."""
    if low == high:
        np.not_equal(stored, low, out=out)
    else:
        np.less(stored, low, out=out)
        out |= stored > high


def read_values(
    array: ShardedArray,
    image: Image,
    regions: Sequence[Region],
    values: Sequence[np.ndarray],
    known: Sequence[np.ndarray],
    read: ReadChunks | None = None,
) -> None:
    """Put the values of boxes of an image (stored * slope + intercept, zero where there is no data) into ``values``,
    float32 in stored axis order, and whether there is data into ``known``, bool; ``read`` as for ``read_boxes``.

    The arithmetic is float32 for dtypes of up to 16 bits, whose rounding is below 0.005 of a step (as
    ``store.calibrate``), else float64.
    """
    stored = np.dtype(image.dtype)
    alike = len({*zip(image.slopes, image.intercepts, strict=True)}) == 1
    identity = alike and (image.slopes[0], image.intercepts[0]) == (1.0, 0.0)
    real = np.float64 if stored.itemsize > 2 else np.float32
    if image.value_table is None and (alike or real is np.float32):
        slope, intercept = (
            (real(image.slopes[0]), real(image.intercepts[0])) if alike and not identity else (None, None)
        )
        read_boxes(array, regions, values, slope, intercept, image.padding, known, read)
        raw = values
    else:
        raw = [np.empty(one.shape, np.float64) for one in values]
        read_boxes(array, regions, raw, None, None, image.padding, known, read)
    for region, box, out, there in zip(regions, raw, values, known, strict=True):
        if not alike:
            _scale(box, image, region)
        if box is not out:
            out[...] = box if image.value_table is None else look_up(image.value_table, box)
        if image.padding is None and stored.kind != "f":
            there[...] = True
            continue
        if image.padding is None:
            np.equal(out, out, out=there)  # not NaN
        elif stored.kind == "f":
            there &= out == out
        if not there.all():
            out[~there] = 0


def _scale(box: np.ndarray, image: Image, region: Region) -> None:
    """In place: box * slope + intercept, where each plane has its own."""
    for column, operation in ((image.slopes, np.multiply), (image.intercepts, np.add)):
        planes = np.array(column, box.dtype).reshape(image.shape[:-2])
        operation(box, planes[np.ix_(*region[:-2])][..., None, None], out=box)
