"""Writing parts: pieces and planes in order, whole or not at all."""

import itertools
import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonize.store import geometry
from harmonize.store.calibrate import Calibration
from harmonize.store.geometry import Grid
from harmonize.store.parts import PlaneWriter, SampleWriter, SignalPart
from harmonize.store.shards import Codec, ShardWriter, create_array
from harmonize_schemas import Image
from stores import noise, recording, stream, write_image, write_signals


def made(folder, grid: Grid, dtype: str = "int16", codec: Codec = "lz4"):
    """The writer of an array's shards, and the array as zarr-python sees it."""
    group = zarr.create_group(folder, zarr_format=3)
    array = create_array(group, "a", grid, dtype, [f"d{i}" for i in range(len(grid.shape))], codec)
    return ShardWriter(folder / "a", grid, dtype, codec), array


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pieces_of_any_size_make_the_array(tmp_path_factory, data) -> None:
    n = data.draw(st.integers(1, 60))
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=6))})
    values = noise((3, n))
    shards, array = made(tmp_path_factory.mktemp("array"), Grid((3, n), (3, 4), (3, 12)))
    writer = SampleWriter(shards)
    for start, stop in itertools.pairwise(cuts):
        writer.write(start, values[:, start:stop])
    writer.close()
    np.testing.assert_array_equal(array[:], values)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_planes_in_blocks_of_any_size_make_the_image(tmp_path_factory, data) -> None:
    lead = tuple(data.draw(st.lists(st.integers(1, 5), max_size=3)))
    chunk = tuple(data.draw(st.integers(1, n)) for n in lead)
    split = data.draw(st.integers(0, max(0, len(lead) - 1)))
    # As image_grid makes them: single chunks before the axis that splits, whole axes behind it.
    shard = [c if i <= split else -(-n // c) * c for i, (n, c) in enumerate(zip(lead, chunk, strict=True))]
    shard = [1 if i < split else s for i, s in enumerate(shard)]
    chunk = tuple(1 if i < split else c for i, c in enumerate(chunk))
    values = noise((*lead, 4, 6))
    grid = Grid(values.shape, (*chunk, 2, 3), (*shard, 4, 6))
    shards, array = made(tmp_path_factory.mktemp("image"), grid)
    planes = values.reshape(-1, 4, 6)
    writer, at = PlaneWriter(shards), 0
    while at < len(planes):
        size = data.draw(st.integers(1, len(planes) - at))
        writer.write(at, planes[at : at + size])
        at += size
    writer.close()
    np.testing.assert_array_equal(array[...], values)


@pytest.mark.parametrize("planes", [4, 6])
def test_an_image_with_missing_planes_or_too_many_does_not_close(tmp_path, planes) -> None:
    shards, _ = made(tmp_path, Grid((5, 4, 6), (2, 4, 6), (2, 4, 6)))
    writer = PlaneWriter(shards)
    writer.write(0, noise((planes, 4, 6)))
    with pytest.raises(ValueError, match=f"{planes} of 5 planes written"):
        writer.close()


def test_a_part_with_missing_samples_does_not_close(tmp_path) -> None:
    one = stream(100)
    part = SignalPart(tmp_path, "p", [one, one], "lz4")
    part.write(0, 0, noise((2, 100)))
    with pytest.raises(ValueError, match="100 of 200 samples written"):
        part.close([recording("a", [one])] * 2, [0, 0])
    with pytest.raises(ValueError, match="more samples"):
        part.write(0, 50, noise((2, 51)))


def test_a_part_explains_itself_to_zarr_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(geometry, "SHARD_BYTES", 400)
    monkeypatch.setattr(geometry, "CHUNK_BYTES", 100)
    first, second = noise((2, 130), seed=1), noise((2, 70), seed=2)
    items = [(recording("a", [stream(130)]), first), (recording("b", [stream(70)]), second)]
    write_signals(tmp_path / "s.zarr", items)
    (folder,) = (tmp_path / "s.zarr").glob("signals/*/part*")
    group = zarr.open_group(folder, mode="r")
    assert group["row_size"][:].tolist() == [130, 70]
    np.testing.assert_array_equal(group["samples"][:], np.concatenate([first, second], axis=1))
    assert json.loads(group["recording"][1].item())["recording_id"] == "test/b"
    assert group.attrs["harmonize"]["layout"]["channels"][0] == {"name": "C3", "type": "eeg"}
    assert group["samples"].metadata.dimension_names == ("channel", "time")


def test_every_part_is_found_by_walking_from_the_root(tmp_path) -> None:
    """With zarr alone; what is no node of the hierarchy would be a warning, which is an error here."""
    root = tmp_path / "s.zarr"
    image = Image(
        axes=("y", "x"), shape=(4, 5), dtype="int16", affine=None, affine_source="unknown", spacing_mm=None, spacing_source="unknown"
    )  # fmt: skip
    for name in ("a", "b"):  # the second part finds its layout's group made already
        write_signals(root, [(recording(name, [stream(50)]), noise((2, 50)))])
    write_image(root, recording("i", image=image), noise((1, 4, 5)))
    opened = zarr.open_group(root, mode="r")
    found = [path for kind in ("signals", "images") for path, _ in opened[kind].members(max_depth=None)]
    assert sum(path.endswith("/samples") for path in found) == 2
    assert sum(path.endswith("/image/0") for path in found) == 1


def test_an_image_is_ome_zarr(tmp_path) -> None:
    affine = ((-2.0, 0.0, 0.0, 9.0), (0.0, 3.0, 0.0, 8.0), (0.0, 0.0, 4.0, 7.0), (0.0, 0.0, 0.0, 1.0))
    image = Image(
        axes=("t", "z", "y", "x"), shape=(2, 3, 4, 5), dtype="int16", affine=affine, affine_source="sform",
        spacing_mm=(2.0, 3.0, 4.0), spacing_source="affine", time_step_s=1.5,
    )  # fmt: skip
    values = noise((6, 4, 5))
    write_image(tmp_path / "s.zarr", recording("i", image=image, modality="mr"), values)
    (folder,) = (tmp_path / "s.zarr").glob("images/*/image")
    group = zarr.open_group(folder, mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (scales,) = ome["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["t", "z", "y", "x"]
    assert [axis["type"] for axis in scales["axes"]] == ["time", "space", "space", "space"]
    assert scales["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.5, 4.0, 3.0, 2.0]}]
    np.testing.assert_array_equal(group["0"][...].reshape(6, 4, 5), values)
    assert group.attrs["harmonize"]["affine_ijk_to_ras_mm"] == [list(row) for row in affine]


@pytest.mark.parametrize("sign", [1, -1], ids=["alike", "unlike"])
@given(st.sampled_from(["int8", "int16", "int32"]), st.floats(1e-6, 1e3), st.floats(-1e5, 1e5), st.integers(0, 99))
def test_calibration_is_exact_to_a_small_part_of_a_step(sign, dtype, scale, offset, seed) -> None:
    """Of channels with one scale and offset, which take a way of their own, and of channels that differ."""
    scales, offsets = np.array([scale, sign * scale]), np.array([offset, offset if sign == 1 else 0.0])
    digital = noise((2, 50), dtype, seed)
    digital[0, 0] = np.iinfo(dtype).min
    missing = np.array([float(np.iinfo(dtype).min), np.nan])
    values = Calibration(scales, offsets, missing)(digital)
    exact = digital.astype(np.float64) * scales[:, None] + offsets[:, None]
    assert np.isnan(values[0, 0])
    gone = digital == missing[:, None]
    # float32 has 24 bits: half a unit in the last place each for scale, product, offset and sum.
    tolerance = 4 * 2**-24 * (np.abs(digital.astype(np.float64)) * scale + abs(offset)) + np.finfo(np.float32).tiny
    assert (np.abs(values - exact) <= tolerance)[~gone].all()
    assert values.dtype == np.float32


@pytest.mark.parametrize(("dtype", "way"), [("uint8", "noshuffle"), ("int16", "bitshuffle"), ("float32", "shuffle")])
def test_how_samples_are_shuffled_before_they_are_compressed(tmp_path, dtype: str, way: str) -> None:
    """Also in the chunks themselves: bit 0 of a Blosc header's flags is a byte shuffle, bit 2 one of bits
    (c-blosc, README_CHUNK_FORMAT)."""
    shards, array = made(tmp_path, Grid((1, 4096), (1, 4096), (1, 4096)), dtype)
    writer = SampleWriter(shards)
    writer.write(0, np.arange(4096).reshape(1, -1).astype(dtype) // 16)
    writer.close()
    (file,) = (path for path in (tmp_path / "a" / "c").rglob("*") if path.is_file())
    assert file.read_bytes()[2] & 5 == {"noshuffle": 0, "shuffle": 1, "bitshuffle": 4}[way]
    (sharding,) = array.metadata.codecs
    assert sharding.codecs[1].shuffle.value == way
