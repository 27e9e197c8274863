"""Patches: coverage, padding, values, world coordinates."""

import numpy as np
import pytest

import harmonize as hz
from harmonize.data import BatchStream, PatchDataset
from harmonize.data.order import BlockOrder
from harmonize.store.sharded import ShardedArray
from harmonize_schemas import Image
from stores import noise, recording, stream, write_image, write_signals

AFFINE = ((-2.0, 0.1, 0.0, 90.0), (0.0, 3.0, 0.2, -80.0), (0.0, 0.0, 4.0, 70.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "s.zarr"
    first = Image(
        axes=("z", "y", "x"), shape=(9, 10, 11), dtype="int16", affine=AFFINE, affine_source="sform",
        spacing_mm=(2.0, 3.0, 4.0), spacing_source="affine", slopes=(0.5,), intercepts=(-3.0,), padding_value=77,
    )  # fmt: skip
    planes = noise((9, 10, 11))
    planes[0, 0, 0] = 77
    write_image(root, recording("a", image=first, site="A", modality="ct"), planes)
    second = first.model_copy(
        update={"axes": ("t", "z", "y", "x"), "shape": (2, 3, 4, 5), "affine": None, "affine_source": "unknown"}
    )
    write_image(root, recording("b", image=second, site="B", modality="mr"), noise((6, 4, 5), seed=9))
    return root


def test_patches_equal_the_reference_reader(store) -> None:
    opened, ds = hz.open(store), PatchDataset(store, patch=(4, 5, 6))
    seen = {"test/a": 0, "test/b": 0}
    for sample in ds.__getitems__(range(len(ds))):
        name = sample["recording_id"]
        seen[name] += 1
        x, y, z, t = sample["start"].tolist()
        whole = opened[name].image.read()
        whole = whole[..., None] if whole.ndim == 3 else whole
        expected = whole[x : x + 4, y : y + 5, z : z + 6, t]
        inside = tuple(slice(0, n) for n in expected.shape)
        image, mask = sample["image"][0].numpy(), sample["mask"][0].numpy()
        np.testing.assert_array_equal(mask[inside], ~np.isnan(expected))
        np.testing.assert_array_equal(image[inside], np.nan_to_num(expected))
        assert mask.sum() == (~np.isnan(expected)).sum()
        assert not image[~mask].any()
    assert seen == {"test/a": 3 * 2 * 2, "test/b": 2 * 1 * 1 * 2}


def test_a_patch_knows_where_it_is_in_the_world(store) -> None:
    ds = PatchDataset(store, patch=(4, 5, 6), where="modality = 'ct'")
    for sample in ds.__getitems__([0, 5, len(ds) - 1]):
        corner = np.array(AFFINE) @ [*sample["start"][:3].tolist(), 1]
        np.testing.assert_allclose((sample["affine"].numpy() @ [0, 0, 0, 1]), corner)
        step = np.array(AFFINE) @ [*(sample["start"][:3] + 1).tolist(), 1]
        np.testing.assert_allclose((sample["affine"].numpy() @ [1, 1, 1, 1]), step)
    assert np.isnan(PatchDataset(store, where="modality = 'mr'")[0]["affine"].numpy()).all()


def test_no_patches_are_an_empty_batch(store) -> None:
    assert len(PatchDataset(store, patch=(4, 5, 6)).__getitems__([])) == 0


def test_codes_batches_and_refusals(store, tmp_path) -> None:
    ds = PatchDataset(store, patch=(8, 8, 8), stride=(4, 4, 4))
    batch = ds.collate(ds.__getitems__([0, len(ds) - 1]))
    assert batch["image"].shape == (2, 1, 8, 8, 8)
    assert [ds.codes["site"][int(code)] for code in batch["site"]] == ["A", "B"]
    with pytest.raises(IndexError):
        ds[len(ds)]
    write_signals(tmp_path / "signals.zarr", [(recording("s", [stream(9)]), noise((2, 9)))])
    with pytest.raises(ValueError, match="no image"):
        PatchDataset(tmp_path / "signals.zarr")


def test_a_stream_of_patches_decodes_a_chunk_once_a_pool(tmp_path, monkeypatch) -> None:
    """One image of 64 chunks, one pool: 40 patches, each of which touches 8 to 27 chunks, in batches of 4."""
    monkeypatch.setattr("harmonize.store.geometry.IMAGE_CHUNK", 8)
    image = Image(
        axes=("z", "y", "x"), shape=(32, 32, 32), dtype="int16", affine=AFFINE, affine_source="sform",
        spacing_mm=(2.0, 3.0, 4.0), spacing_source="affine", slopes=(0.5,), intercepts=(-3.0,),
    )  # fmt: skip
    planes = noise((32, 32, 32))
    write_image(tmp_path / "s.zarr", recording("a", image=image, modality="mr"), planes)
    read = []
    plain = ShardedArray.read_chunk
    monkeypatch.setattr(ShardedArray, "read_chunk", lambda self, *args: read.append(args[0]) or plain(self, *args))
    data = PatchDataset(tmp_path / "s.zarr", patch=(10, 10, 10), sampling="random", per_image=40)
    order = BlockOrder(n_windows=40, batch=4, block=40, pool=1)
    values = planes.astype(np.float32) * np.float32(0.5) - np.float32(3.0)
    seen = 0
    for batch in BatchStream(data, order=order, batch_size=4, threads=2):
        for image_, start in zip(batch["image"][:, 0].numpy(), batch["start"].tolist(), strict=True):
            x, y, z, _ = start
            np.testing.assert_array_equal(image_, values[z : z + 10, y : y + 10, x : x + 10].T)
            seen += 1
    assert seen == 40
    assert len(read) == len(set(read)) <= 64
