"""Grids of another orientation and spacing, against nibabel and by hand."""

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from harmonize.data.patch_grid import check_orientation, voxel_grid
from harmonize_schemas import Image


def image_with(affine, shape, spacing=None) -> Image:
    known = affine is not None
    return Image(
        axes=("z", "y", "x")[-len(shape) :], shape=tuple(reversed(shape)), dtype="int16",
        affine=tuple(map(tuple, np.asarray(affine).tolist())) if known else None,
        affine_source="sform" if known else "unknown", spacing_mm=spacing, spacing_source="affine",
    )  # fmt: skip


@st.composite
def affines(draw):
    """Axes in any order and direction, up to 20 degrees oblique, of 0.5 to 5 mm."""
    order = draw(st.permutations(range(3)))
    turned = np.zeros((3, 3))
    for column, row in enumerate(order):
        turned[row, column] = draw(st.sampled_from([-1, 1]))
    angles = draw(st.lists(st.floats(-20, 20), min_size=3, max_size=3))
    sizes = draw(st.lists(st.floats(0.5, 5), min_size=3, max_size=3))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ turned @ np.diag(sizes)
    affine[:3, 3] = draw(st.lists(st.floats(-200, 200), min_size=3, max_size=3))
    return affine


SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
CODES = st.sampled_from(["RAS", "LPS", "LAS", "SPR", "PIR", "ASL"])


@given(affines(), SHAPES, CODES)
def test_turning_is_nibabels(affine, shape, codes) -> None:
    grid = voxel_grid(image_with(affine, shape), orientation=codes)
    numbers = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    judge = nibabel.Nifti1Image(numbers, affine).as_reoriented(turn)
    assert grid.shape == judge.shape
    np.testing.assert_allclose(affine @ grid.matrix(), judge.affine, atol=1e-9)
    if codes == "RAS":
        canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(numbers, affine))
        np.testing.assert_allclose(affine @ grid.matrix(), canonical.affine, atol=1e-9)
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    stored = indices @ grid.matrix()[:3, :3].T + grid.matrix()[:3, 3]
    np.testing.assert_array_equal(numbers[tuple(np.moveaxis(stored.astype(int), -1, 0))], np.asarray(judge.dataobj))


@given(affines(), SHAPES, CODES, st.tuples(*[st.one_of(st.none(), st.floats(0.4, 6))] * 3))
def test_a_grid_keeps_the_centre_and_has_the_spacing(affine, shape, codes, spacing) -> None:
    grid = voxel_grid(image_with(affine, shape), spacing, codes)
    ours = affine @ grid.matrix()
    centre = affine @ [*(np.array(shape) - 1) / 2, 1]
    np.testing.assert_allclose(ours @ [*(np.array(grid.shape) - 1) / 2, 1], centre, atol=1e-9)
    for axis, wanted in zip(grid.axes, spacing, strict=True):
        native = np.linalg.norm(affine[:3, axis.stored])
        step = abs(axis.step) * native
        assert step == pytest.approx(native if wanted is None else wanted, rel=2e-3)
        edges = axis.size * step - shape[axis.stored] * native
        assert abs(edges) <= step / 2 * 1.01 or axis.size == 1
        assert nibabel.aff2axcodes(ours) == tuple(codes)


def test_sizes_and_first_voxels_by_hand() -> None:
    image = image_with(np.diag([-2.0, 3.0, 4.0, 1.0]), (10, 9, 3))
    grid = voxel_grid(image, (1.0, None, 5.0), "RAS")
    assert grid.shape == (20, 9, 2)
    x, y, z = grid.axes
    # 20 voxels of 1 mm fill 10 of 2 mm; the first in direction R is a quarter of a voxel beyond the last centre (9).
    assert (x.stored, x.first, x.step) == (0, 9.25, -0.5)
    assert (y.stored, y.first, y.step) == (1, 0.0, 1.0)
    # 12 mm hold 2.4 voxels of 5 mm: 2, whose centres lie 2.5 mm on either side of voxel 1.
    assert (z.stored, z.first, z.step) == (2, 1 - 0.625, 1.25)
    np.testing.assert_allclose(grid.locate(np.array([9, 4, 1])), [0.5, 4, 0.5])


def test_a_spacing_that_is_there_already_is_no_resampling() -> None:
    zoom = float(np.float32(0.88))
    image = image_with(np.diag([zoom, zoom, zoom, 1.0]), (188, 256, 190))
    assert all(axis.exact and axis.first == 0 for axis in voxel_grid(image, (0.88, 0.88, 0.88)).axes)


def test_planes_and_unknown_geometry() -> None:
    plane = image_with(None, (10, 8), spacing=(0.5, 0.5, 1.0))
    assert voxel_grid(plane, (1.0, 1.0, 7.0)).shape == (5, 4, 1), "an axis that is not there is not resampled"
    with pytest.raises(ValueError, match="affine is unknown"):
        voxel_grid(plane, None, "RAS")
    with pytest.raises(ValueError, match="spacing is unknown"):
        voxel_grid(image_with(None, (10, 8)), (1.0, 1.0, 1.0))
    for wrong in ("RA", "RAA", "RLS", "ras", "RASI", "XYZ"):
        with pytest.raises(ValueError, match="three letters"):
            check_orientation(wrong)
