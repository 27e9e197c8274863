"""Layout names and grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize.store.geometry import CHUNK_BYTES, SHARD_BYTES, image_grid, layout_name, signal_grid
from harmonize_schemas import Image
from stores import stream


def test_layout_is_names_types_order_rate_and_dtype_only() -> None:
    one = layout_name(stream(100, ("C3", "C4")))
    assert one == layout_name(stream(7, ("C3", "C4"), scale=3.0))
    assert one.startswith("eeg-2ch-100hz-int16-")
    others = [stream(9, ("C4", "C3")), stream(9, ("C3", "C4"), 101), stream(9, ("C3", "C4"), dtype="int32")]
    assert len({one, *map(layout_name, others)}) == 4


@given(st.integers(1, 300), st.sampled_from([2, 4]), st.lists(st.integers(1, 10**7), min_size=1, max_size=5))
def test_signal_grids_are_whole_and_bounded(channels, itemsize, lengths) -> None:
    grid = signal_grid(channels, itemsize, lengths)
    assert grid.shape == (channels, sum(lengths))
    assert grid.chunk[0] == grid.shard[0] == channels
    assert grid.shard[1] % grid.chunk[1] == 0
    assert grid.chunk[1] <= sum(lengths)
    assert grid.chunk[1] * channels * itemsize <= max(2 * CHUNK_BYTES, channels * itemsize)
    assert grid.shard[1] * channels * itemsize <= max(SHARD_BYTES, grid.chunk[1] * channels * itemsize)


def test_short_records_are_whole_in_a_chunk() -> None:
    grid = signal_grid(12, 2, [5000] * 1000)
    assert grid.chunk[1] % 5000 == 0
    assert 0.25e6 <= grid.chunk[1] * 24 <= 1.1e6


@given(
    st.sampled_from([("y", "x"), ("z", "y", "x"), ("t", "z", "y", "x"), ("t", "c", "z", "y", "x")]),
    st.lists(st.integers(1, 700), min_size=5, max_size=5),
)
def test_image_grids_are_whole_and_bounded(axes, sizes) -> None:
    shape = tuple(sizes[: len(axes)])
    image = Image(
        axes=axes, shape=shape, dtype="int16", affine=None, affine_source="unknown", spacing_mm=None, spacing_source="unknown"
    )  # fmt: skip
    grid = image_grid(image)
    assert all(s % c == 0 for s, c in zip(grid.shard, grid.chunk, strict=True))
    assert grid.shard[-1] >= shape[-1]
    assert grid.shard[-2] >= shape[-2]
    plane_row = int(np.prod(grid.chunk[:-2])) * grid.shard[-1] * grid.shard[-2] * 2
    assert int(np.prod(grid.shard)) * 2 <= max(SHARD_BYTES, plane_row)
    split = [i for i, (s, n) in enumerate(zip(grid.shard, shape, strict=True)) if s < n]
    assert all(grid.chunk[i] == grid.shard[i] for i in range(split[-1] if split else 0)), "axes before the split"


@pytest.mark.parametrize(
    ("axes", "shape", "compressed", "chunk"),
    [
        (("z", "y", "x"), (190, 256, 188), True, (32, 32, 32)),
        (("z", "y", "x"), (190, 256, 188), False, (64, 64, 188)),
        (("z", "y", "x"), (200, 512, 512), False, (32, 32, 512)),
        (("y", "x"), (3000, 2000), False, (256, 1024)),
        (("z", "y", "x"), (300, 300, 1), False, (300, 300, 1)),
        (("c", "y", "x"), (3, 40, 50), False, (1, 40, 50)),
        (("z", "y", "x"), (5, 400, 300), True, (5, 128, 128)),
        (("y", "x"), (3000, 2000), True, (256, 256)),
        (("y", "x"), (20, 2000), True, (20, 2000)),
        (("t", "c", "z", "y", "x"), (9, 3, 10, 40, 40), True, (1, 1, 10, 40, 40)),
    ],
)
def test_image_chunks_hold_about_as_many_voxels(axes, shape, compressed, chunk) -> None:
    """Cubes where they are compressed, rows where they are not."""
    image = Image(
        axes=axes, shape=shape, dtype="int16", affine=None, affine_source="unknown", spacing_mm=None, spacing_source="unknown"
    )  # fmt: skip
    assert image_grid(image, compressed).chunk == chunk
