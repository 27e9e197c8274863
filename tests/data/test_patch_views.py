"""Patches of another orientation, spacing, sampling or dimension: values and world coordinates."""

from collections import Counter

import nibabel
import nibabel.processing
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.utils.data import DataLoader, get_worker_info

import harmonize as hz
from harmonize.data import PatchDataset
from harmonize.ingest import ProjectKey
from harmonize.store import geometry
from harmonize_schemas import Image
from realdata import DATA, needs_data
from stores import noise, recording, write_image

# x runs to the left, y up, z to the front; 1, 2 and 3 mm.
LIA = ((-1.0, 0.0, 0.0, 20.0), (0.0, 0.0, 3.0, -30.0), (0.0, 2.0, 0.0, 5.0), (0.0, 0.0, 0.0, 1.0))
SIZES = (14, 11, 9)
BRIGHT = (4, 7, 2)
WORLD_MM = (20 - 4, -30 + 3 * 2, 5 + 2 * 7)


def image_of(shape, affine=LIA, axes="tczyx", dtype="int16", **fields) -> Image:
    found = "sform" if affine is not None else "unknown"
    spacing = {"spacing_mm": None, "spacing_source": "unknown"} | fields
    return Image(
        axes=tuple(axes)[-len(shape) :], shape=shape, dtype=dtype, affine=affine, affine_source=found, **spacing
    )  # fmt: skip


def add(root, name, image, values, **domain) -> None:
    write_image(root, recording(name, image=image, modality="mr", **domain), values.reshape(-1, *image.shape[-2:]))


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(geometry, "IMAGE_CHUNK", 4)


@pytest.fixture
def bright(tmp_path, small_chunks):
    """One bright voxel, at a known place in the world."""
    values = np.zeros(SIZES[::-1], np.int16)
    values[BRIGHT[::-1]] = 1000
    add(tmp_path / "s.zarr", "bright", image_of(SIZES[::-1], axes="zyx"), values)
    return tmp_path / "s.zarr"


def world(sample, voxel) -> np.ndarray:
    return (sample["affine"].numpy() @ [*voxel, 1])[:3]


@pytest.mark.parametrize("orientation", [None, "RAS", "LPS", "LIA", "SPR", "AIR"])
@pytest.mark.parametrize("spacing", [None, (1, 2, 3), (0.5, 0.5, 0.5), (0.5, 2.0, None), (2.0, 3.0, 4.5)])
def test_a_bright_voxel_is_where_it_was(bright, orientation, spacing) -> None:
    cases = [
        {"patch": (6, 7, 6), "stride": (3, 3, 3)},
        {"patch": (6, 60, 6), "stride": (3, 3, 3)},
        {"patch": (30, 30, 30)},
        {"patch": (9, 8, 10), "sampling": "random", "per_image": 200, "seed": 3},
    ]
    native = spacing is None or (orientation is None and spacing == (1, 2, 3))
    for case in cases:
        ds = PatchDataset(bright, orientation=orientation, spacing=spacing, **case)
        seen = 0
        for sample in ds.__getitems__(range(len(ds))):
            image, affine = sample["image"][0].numpy(), sample["affine"].numpy()
            at = np.unravel_index(image.argmax(), image.shape)
            if orientation is not None:
                assert nibabel.aff2axcodes(affine) == tuple(orientation)
            if native and image[at]:
                assert image[at] == 1000
                np.testing.assert_allclose(world(sample, at), WORLD_MM, atol=1e-9)
                seen += 1
            elif image[at] and all(0 < i < n - 1 for i, n in zip(at, image.shape, strict=True)):
                half_mm = np.linalg.norm(affine[:3, :3], axis=0) / 2  # the brightest is the nearest along each axis
                off_mm = np.linalg.solve(affine[:3, :3], world(sample, at) - WORLD_MM) * half_mm * 2
                assert (np.abs(off_mm) <= half_mm + 1e-9).all()
                seen += 1
        assert seen > 0, case


def oblique(seed: int) -> tuple[tuple[float, ...], ...]:
    turn = Rotation.from_euler("xyz", [7, -12, 18], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array(LIA)[:3, :3]
    affine[:3, 3] = 10 * np.random.default_rng(seed).normal(size=3)
    return tuple(map(tuple, affine.tolist()))


def assembled(ds: PatchDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The whole grid of the data set's one image, its mask and its affine, from patches that cover it."""
    shape = tuple(int(n) for n in ds._sizes[0, :3])
    whole, known = np.full(shape, np.nan), np.zeros(shape, bool)
    for sample in ds.__getitems__(range(len(ds))):
        x, y, z, _ = sample["start"].tolist()
        inside = tuple(min(p, n - s) for p, n, s in zip(ds.patch, shape, (x, y, z), strict=True))
        box = tuple(slice(s, s + n) for s, n in zip((x, y, z), inside, strict=True))
        cut = tuple(map(slice, inside))
        whole[box], known[box] = sample["image"][0].numpy()[cut], sample["mask"][0].numpy()[cut]
        assert sample["mask"].sum() == known[box].sum(), "nothing is known outside the image"
        if (x, y, z) == (0, 0, 0):
            affine = sample["affine"].numpy()
    return whole, known, affine


@pytest.mark.parametrize("orientation", [None, "RAS", "PSL"])
@pytest.mark.parametrize(("spacing", "interpolation"), [
    (None, "linear"), ((0.7, 0.9, 1.0), "linear"), ((0.7, None, 0.61), "linear"), ((1.3, 1.3, 1.3), "nearest"),
])  # fmt: skip
def test_values_are_nibabels(tmp_path, small_chunks, orientation, spacing, interpolation) -> None:
    """``resample_from_to`` onto the affine that we say: values and affine agree, or both are wrong alike."""
    values, affine = noise(SIZES[::-1]), oblique(1)
    add(tmp_path / "s.zarr", "i", image_of(SIZES[::-1], affine, axes="zyx", slopes=(0.01,), intercepts=(5.0,)), values)
    ds = PatchDataset(
        tmp_path / "s.zarr", (6, 7, 5), (5, 7, 4), orientation=orientation, spacing=spacing, interpolation=interpolation
    )
    ours, known, grid = assembled(ds)
    assert known.all()
    source = nibabel.Nifti1Image(values.T * 0.01 + 5, np.array(affine))
    order = {"linear": 1, "nearest": 0}[interpolation]
    judge = nibabel.processing.resample_from_to(source, (ours.shape, grid), order=order, mode="nearest")
    np.testing.assert_allclose(ours, judge.get_fdata(), atol=2e-3)
    if orientation == "RAS" and spacing is None:
        canonical = nibabel.as_closest_canonical(source)
        np.testing.assert_allclose(grid, canonical.affine, atol=1e-9)
        np.testing.assert_allclose(ours, canonical.get_fdata(), atol=1e-4)
    for axis, wanted in enumerate(spacing or ()):
        if wanted is not None:
            assert np.linalg.norm(grid[:3, axis]) == pytest.approx(wanted)


def test_a_finer_patch_of_a_linear_image_holds_world_coordinates(tmp_path, small_chunks) -> None:
    """Voxels that hold their own place in the world: what is interpolated must be the place that the affine says."""
    z, y, x = np.indices(SIZES[::-1])
    affine = np.array(oblique(2))
    for axis, name in enumerate("xyz"):
        place = affine[axis, 0] * x + affine[axis, 1] * y + affine[axis, 2] * z + affine[axis, 3]
        add(tmp_path / "s.zarr", name, image_of(SIZES[::-1], oblique(2), "zyx", "float32"), place.astype(np.float32))
    ds = PatchDataset(
        tmp_path / "s.zarr", (4, 4, 4), sampling="random", per_image=50, spacing=(0.8, 0.6, 0.9), orientation="RAS"
    )
    seen = Counter()
    for sample in ds.__getitems__(range(len(ds))):
        axis = "xyz".index(sample["recording_id"][-1])
        start = sample["start"].numpy()[:3]
        if (start < 3).any() or (start + 4 > ds._sizes[0, :3] - 3).any():
            continue  # the last voxel's value holds beyond its centre
        voxels = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1)
        expected = voxels @ sample["affine"].numpy()[axis, :3] + sample["affine"].numpy()[axis, 3]
        np.testing.assert_allclose(sample["image"][0].numpy(), expected, atol=1e-3)
        seen[axis] += 1
    assert min(seen[axis] for axis in range(3)) > 3


def test_padding_is_not_mixed_into_resampled_voxels(tmp_path, small_chunks) -> None:
    values = np.full((6, 6, 6), 100, np.int16)
    values[:, :, :3] = -2000
    image = image_of((6, 6, 6), tuple(map(tuple, np.eye(4).tolist())), "zyx", padding_value=-2000)
    add(tmp_path / "s.zarr", "i", image, values)
    ours, known, _ = assembled(PatchDataset(tmp_path / "s.zarr", (4, 4, 4), spacing=(0.5, 0.5, 0.5)))
    # x of 0.5 mm voxels: -0.25, 0.25, ..., 2.25 (three quarters padding), 2.75 (one quarter), ...
    assert known[:, 0, 0].tolist() == [False] * 6 + [True] * 6
    assert set(np.unique(ours[known])) == {100.0}
    assert set(np.unique(ours[~known])) == {0.0}


def test_planes_times_and_colours(tmp_path, small_chunks) -> None:
    root = tmp_path / "s.zarr"
    colours, times, plane = noise((3, 10, 9), "uint8"), noise((5, 6, 10, 9), seed=1), noise((10, 9), seed=2)
    add(root, "colour", image_of((3, 10, 9), None, "cyx", "uint8"), colours, site="C")
    add(root, "times", image_of((5, 6, 10, 9), LIA, "tzyx"), times, site="T")
    add(root, "plane", image_of((10, 9), None, "yx"), plane, site="P")
    with pytest.raises(ValueError, match=r"values a voxel \(test/colour, test/plane\)"):
        PatchDataset(root)
    one = PatchDataset(root, (4, 10), where="site = 'C'")
    assert len(one) == 3
    assert one[1]["image"].shape == one[1]["mask"].shape == (3, 4, 10)
    np.testing.assert_array_equal(one[1]["image"].numpy(), colours.transpose(0, 2, 1)[:, 4:8])
    ds = PatchDataset(root, (9, 10), where="site != 'C'")  # planes of both: 1 of one, 6 at 5 times of the other
    assert [int(n) for n in ds.row_sizes()] == [1, 30]
    np.testing.assert_array_equal(ds[0]["image"][0].numpy(), plane.T)
    for sample in ds.__getitems__(range(1, 31)):
        _, _, z, t = sample["start"].tolist()
        np.testing.assert_array_equal(sample["image"][0].numpy(), times[t, z].T)
        np.testing.assert_allclose(world(sample, (2, 3, 0)), np.array(LIA)[:3] @ [2, 3, z, 1])
    ds = PatchDataset(root, (9, 6), where="site = 'T'", orientation="RAS")  # x, z, y as stored, x the other way
    assert [int(n) for n in ds.row_sizes()] == [10 * 5]
    for sample in ds.__getitems__(range(50)):
        _, _, y, t = sample["start"].tolist()
        np.testing.assert_array_equal(sample["image"][0].numpy(), times[t, :, y, ::-1].T)
        np.testing.assert_allclose(world(sample, (2, 3, 0)), np.array(LIA)[:3] @ [8 - 2, y, 3, 1])
    ds = PatchDataset(root, (9, 10, 4), where="site = 'T'", frames=2)
    assert [sample["start"].tolist()[2:] for sample in ds.__getitems__(range(6))] == [
        [0, 0], [0, 2], [0, 3], [2, 0], [2, 2], [2, 3],
    ]  # fmt: skip
    np.testing.assert_array_equal(ds[5]["image"].numpy(), times[3:5, 2:6].transpose(0, 3, 2, 1))
    late = PatchDataset(root, (9, 10, 4), where="site = 'T'", frames=7)[0]
    assert late["mask"].numpy().all(axis=(1, 2, 3)).tolist() == [True] * 5 + [False] * 2
    assert not late["image"][5:].any()


def test_random_patches_follow_from_seed_epoch_and_number(bright) -> None:
    def starts(ds, numbers) -> list[list[int]]:
        return [sample["start"].tolist() for sample in ds.__getitems__(numbers)]

    ds = PatchDataset(bright, (3, 3, 3), sampling="random", per_image=40, seed=5)
    assert len(ds) == 40
    first = starts(ds, range(40))
    assert starts(ds, [17, 3]) == [first[17], first[3]]
    ds.set_epoch(1)
    second = starts(ds, range(40))
    assert second != first
    assert starts(PatchDataset(bright, (3, 3, 3), sampling="random", per_image=40, seed=6), range(40)) != first
    ds.set_epoch(0)
    assert starts(ds, range(40)) == first
    plain = next(iter(DataLoader(ds, batch_size=40)))
    assert plain["start"].tolist() == first
    torch.testing.assert_close(plain["image"], ds.collate(ds.__getitems__(range(40)))["image"])
    for context in ("fork", "spawn"):
        loader = DataLoader(
            ds, batch_size=8, num_workers=1, collate_fn=ds.collate, persistent_workers=True,
            multiprocessing_context=context,
        )  # fmt: skip
        for epoch, expected in ((0, first), (1, second)):
            ds.set_epoch(epoch)
            assert torch.cat([batch["start"] for batch in loader]).tolist() == expected, "workers that stay follow"


def _where(sample) -> dict:
    return sample | {"shared": sample["image"].is_shared(), "worker": get_worker_info() is not None}


def test_a_worker_fills_shared_memory(bright) -> None:
    ds = PatchDataset(bright, (20, 20, 20), transform=_where)
    assert (ds[0]["shared"], ds[0]["worker"]) == (False, False)
    (sample,) = DataLoader(ds, batch_size=None, num_workers=1)
    assert (sample["shared"], sample["worker"]) == (True, True)
    torch.testing.assert_close(sample["image"], ds[0]["image"])


def ball(sizes, centre, radius, seed=0) -> np.ndarray:
    """(z, y, x) int16: noise around 0, and around 500 inside a ball."""
    z, y, x = np.indices(sizes[::-1])
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius**2
    return (np.where(inside, 500, 0) + np.random.default_rng(seed).normal(0, 20, inside.shape)).astype(np.int16)


@pytest.mark.parametrize("options", [{}, {"orientation": "SPR"}, {"threshold": 250.0}])
def test_patches_around_foreground(tmp_path, small_chunks, options) -> None:
    sizes = (60, 50, 40)  # 120,000 voxels: every second along each axis is looked at
    add(tmp_path / "s.zarr", "i", image_of(sizes[::-1], axes="zyx"), ball(sizes, (30, 25, 20), 7))
    ds = PatchDataset(
        tmp_path / "s.zarr", (8, 8, 8), sampling="foreground", foreground=1.0, per_image=200, seed=1, **options
    )
    assert all(sample["image"][0, 4, 4, 4] > 250 for sample in ds.__getitems__(range(200)))
    half = PatchDataset(
        tmp_path / "s.zarr", (8, 8, 8), sampling="foreground", foreground=0.5, per_image=1000, seed=1, **options
    )
    inside = [bool(sample["image"][0, 4, 4, 4] > 250) for sample in half.__getitems__(range(1000))]
    hits = sum(inside)
    # A random centre lies in the ball with 1437 / (53 * 43 * 33): 0.02.
    assert abs(hits - 1000 * (0.5 + 0.5 * 0.02)) < 5 * np.sqrt(250)
    others = [s["start"].numpy()[:3] for s, hit in zip(half.__getitems__(range(1000)), inside, strict=True) if not hit]
    room = half._sizes[0, :3] - 8
    # Means of about 500 uniform numbers: a standard error of 0.29 / sqrt(500) = 0.013 of the room.
    np.testing.assert_allclose(np.mean(others, axis=0) / room, 0.5, atol=0.065)
    half.set_epoch(1)
    assert sum(bool(sample["image"][0, 4, 4, 4] > 250) for sample in half.__getitems__(range(1000))) != hits


def test_foreground_is_found_in_another_spacing(tmp_path, small_chunks) -> None:
    sizes = (60, 50, 40)
    add(tmp_path / "s.zarr", "i", image_of(sizes[::-1], axes="zyx"), ball(sizes, (30, 25, 20), 7))
    ds = PatchDataset(
        tmp_path / "s.zarr", (8, 8, 8), sampling="foreground", foreground=1.0, per_image=200, seed=1,
        spacing=(0.9, 1.1, 2.5), orientation="RAS",
    )  # fmt: skip
    for sample in ds.__getitems__(range(200)):
        stored = np.linalg.solve(np.array(LIA), [*world(sample, (4, 4, 4)), 1])[:3]
        assert np.linalg.norm(stored - (30, 25, 20)) <= 7 + np.linalg.norm(np.array([0.9, 1.25, 1.1 / 3]) / 2)


def test_foreground_at_an_edge_or_nowhere(tmp_path, small_chunks) -> None:
    sizes = (30, 20, 20)
    add(tmp_path / "a.zarr", "edge", image_of(sizes[::-1], axes="zyx"), ball(sizes, (0, 0, 0), 5))
    ds = PatchDataset(tmp_path / "a.zarr", (8, 8, 8), sampling="foreground", foreground=1.0, per_image=50)
    for sample in ds.__getitems__(range(50)):
        assert sample["mask"].all()
        assert (sample["image"] > 250).any(), "moved inside, but the voxel is still in it"
    flat = np.full(sizes[::-1], 7, np.int16)
    add(tmp_path / "b.zarr", "flat", image_of(sizes[::-1], axes="zyx"), flat)
    add(tmp_path / "b.zarr", "empty", image_of(sizes[::-1], axes="zyx", padding_value=7), flat)
    ds = PatchDataset(tmp_path / "b.zarr", (8, 8, 8), sampling="foreground", foreground=1.0, per_image=50)
    starts = {tuple(sample["start"].tolist()) for sample in ds.__getitems__(range(len(ds)))}
    assert len(starts) > 80, "at random where nothing stands out"


def test_refusals_name_the_recording_and_the_argument(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    add(root, "nowhere", image_of((4, 5), None, "yx"), noise((4, 5)))
    with pytest.raises(ValueError, match="test/nowhere: its affine is unknown"):
        PatchDataset(root, orientation="RAS")
    with pytest.raises(ValueError, match="test/nowhere: its spacing is unknown"):
        PatchDataset(root, spacing=(1, 1, 1))
    for wrong, words in (
        ({"patch": (0, 4, 4)}, "above 0"), ({"patch": (4,)}, "two or three"), ({"stride": (4, 4)}, "as many numbers"),
        ({"stride": (4, 4, 4), "sampling": "random"}, "sampling='grid'"), ({"sampling": "all"}, "none of"),
        ({"foreground": 1.5}, "a share"), ({"spacing": (1, 1)}, "three numbers"), ({"spacing": (1, 0, 1)}, "above 0"),
        ({"interpolation": "cubic"}, "none of"), ({"orientation": "RAX"}, "three letters"), ({"frames": 0}, "above 0"),
        ({"per_image": 0, "sampling": "random"}, "above 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            PatchDataset(root, **wrong)


@needs_data
def test_real_images_are_nibabels(tmp_path) -> None:
    """All of ``nifti``: turned, and of 2 mm with linear interpolation where that is finer."""
    hz.convert(DATA / "nifti", tmp_path / "s.zarr", key=ProjectKey(b"test" * 8), dataset="nifti")
    store = hz.open(tmp_path / "s.zarr")
    judges = {nibabel.load(file).shape: nibabel.load(file) for file in (DATA / "nifti").glob("*.nii.gz")}
    assert len(judges) == 5
    for options in ({"orientation": "LPS"}, {"orientation": "PSR", "spacing": (0.5, 0.5, 0.5)}):
        ds = PatchDataset(store, (40, 30, 20), sampling="foreground", per_image=2, seed=4, **options)
        for sample in ds.__getitems__(range(len(ds))):
            shape = store[sample["recording_id"]].image.shape
            judge = judges[shape]
            at = int(sample["start"][3])
            volume = np.asarray(judge.dataobj[..., at] if len(shape) == 4 else judge.dataobj, np.float64)
            source = nibabel.Nifti1Image(volume, judge.affine)
            grid = sample["affine"].numpy(), tuple(sample["image"].shape[1:])
            expected = nibabel.processing.resample_from_to(source, grid[::-1], order=1, mode="nearest").get_fdata()
            ours, known = sample["image"][0].numpy(), sample["mask"][0].numpy()
            assert known.any()
            np.testing.assert_allclose(ours[known], expected[known], atol=1e-3 * max(1, np.abs(expected).max() / 100))
            assert nibabel.aff2axcodes(grid[0]) == tuple(options["orientation"])
