"""Boxes read chunk by chunk against the whole array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import harmonize as hz
from harmonize.data.boxes import pieces, read_boxes, read_values
from harmonize.store import geometry
from harmonize.store.sharded import ShardedArray
from harmonize_schemas import Image, ValueTable
from stores import noise, recording, write_image

SHAPE, CHUNK = (7, 9, 11), (2, 4, 3)


@st.composite
def regions(draw):
    """Boxes inside an array of SHAPE, with steps."""
    out = []
    for size in SHAPE:
        start = draw(st.integers(0, size - 1))
        out.append(range(start, draw(st.integers(start + 1, size)), draw(st.integers(1, 4))))
    return tuple(out)


@given(st.lists(regions(), min_size=1, max_size=4))
def test_pieces_make_up_the_boxes(wanted) -> None:
    whole = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    padded = np.full([-(-n // c) * c for n, c in zip(SHAPE, CHUNK, strict=True)], -1)
    padded[tuple(map(slice, SHAPE))] = whole
    found = [np.full([len(axis) for axis in region], -2) for region in wanted]
    plan = pieces(wanted, CHUNK)
    assert list(plan) == sorted(plan)
    for index, parts in plan.items():
        chunk = padded[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, CHUNK, strict=True))]
        for box, inside, outside in parts:
            assert (found[box][outside] == -2).all(), "no voxel twice"
            found[box][outside] = chunk[inside]
    for region, values in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(values, whole[np.ix_(*region)])


def test_a_chunk_is_decoded_once_for_all_boxes(tmp_path, monkeypatch) -> None:
    array, values = stored(tmp_path, monkeypatch)
    asked = []
    read_chunks = ShardedArray.read_chunks

    def counted(self, indices):
        asked.extend(indices)
        return read_chunks(self, indices)

    monkeypatch.setattr(ShardedArray, "read_chunks", counted)
    boxes = [(range(0, 5), range(0, 5), range(0, 5)), (range(3, 7), range(4, 8), range(2, 6))]
    into = [np.empty([len(axis) for axis in box], np.float32) for box in boxes]
    read_boxes(array, boxes, [into[0], into[1][::-1]])
    np.testing.assert_array_equal(into[0], values[:5, :5, :5])
    np.testing.assert_array_equal(into[1], values[3:7, 4:8, 2:6][::-1])
    assert len(asked) == len(set(asked)) == 8, "chunks of 4: two along each axis, of 4 (7), 9 and 11 voxels"


def image_of(shape, dtype="int16", **fields) -> Image:
    axes = ("t", "z", "y", "x")[-len(shape) :]
    plain = {"affine": None, "affine_source": "unknown", "spacing_mm": None, "spacing_source": "unknown"}
    return Image(axes=axes, shape=shape, dtype=dtype, **(plain | fields))


def stored(tmp_path, monkeypatch, image=None, values=None):
    monkeypatch.setattr(geometry, "IMAGE_CHUNK", 4)
    image = image_of(SHAPE) if image is None else image
    values = noise(image.shape) if values is None else values
    write_image(tmp_path / "s.zarr", recording("i", image=image), values.reshape(-1, *image.shape[-2:]))
    (group,) = (tmp_path / "s.zarr").glob("images/*/image")
    return ShardedArray(group / "0"), values


SLOPES = tuple(0.25 * (i + 1) for i in range(14))
CASES = {
    "int16": (image_of((2, *SHAPE)), 1),
    "scaled": (image_of((2, *SHAPE), slopes=(0.5,), intercepts=(-3.0,)), 1),
    "a pair for each plane": (image_of((2, *SHAPE), slopes=SLOPES, intercepts=SLOPES[::-1]), 1),
    "padding": (image_of((2, *SHAPE), slopes=(2.0,), intercepts=(10.0,), padding_value=3), 4),
    "a range of padding": (image_of((2, *SHAPE), slopes=(2.0,), padding_value=3, padding_limit=1), 6),
    "a range of padding of floats": (image_of((2, *SHAPE), "float32", padding_value=-50, padding_limit=50), 4),
    "table": (image_of((2, *SHAPE), value_table=ValueTable(first=-9, values=(5, 3, 65535)), padding_value=3), 4),
    "uint8": (image_of((2, *SHAPE), "uint8", slopes=(0.5,)), 1),
    "int32, a pair for each plane": (image_of((2, *SHAPE), "int32", slopes=SLOPES, intercepts=SLOPES[::-1]), 1),
    "int32, more digits than float32 has": (image_of((2, *SHAPE), "int32", slopes=(0.5,), intercepts=(-1e9,)), 1),
    "float32": (image_of((2, *SHAPE), "float32"), 1),
    "float64, padding": (image_of((2, *SHAPE), "float64", slopes=(3.0,), padding_value=2), 4),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_reference_reader(tmp_path, monkeypatch, case) -> None:
    image, few = CASES[case]
    if np.dtype(image.dtype).kind == "f":
        values = np.random.default_rng(0).normal(0, 100, image.shape).astype(image.dtype)
        values[0, 1, 2, :5] = [np.nan, 2, np.nan, 2, np.nan]
    else:
        values = noise(image.shape, image.dtype)
    if few > 1:
        values[1] = np.random.default_rng(1).integers(0, few, SHAPE)
    array, _ = stored(tmp_path, monkeypatch, image, values)
    wanted = [(range(0, 2), range(7), range(9), range(11)), (range(1, 2), range(1, 6, 2), range(2, 9, 3), range(0, 11))]
    out = [np.empty([len(axis) for axis in region], np.float32) for region in wanted]
    known = [np.empty(one.shape, bool) for one in out]
    read_values(array, image, wanted, out, known)
    whole = hz.open(tmp_path / "s.zarr")["test/i"].image.read().T
    for region, ours, there in zip(wanted, out, known, strict=True):
        expected = whole[np.ix_(*region)]
        np.testing.assert_array_equal(there, ~np.isnan(expected))
        np.testing.assert_array_equal(ours, np.nan_to_num(expected))
    whole = image.padding is None and np.dtype(image.dtype).kind != "f"
    assert known[0].all() == whole
