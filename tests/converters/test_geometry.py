"""Geometry of stacks against highdicom and nibabel, without a file (FIDELITY I02-I04)."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from highdicom.spatial import create_affine_matrix_from_attributes, get_normal_vector
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from harmonize_converters.contract import ConversionError
from harmonize_converters.geometry import is_sheared, orientation_code, plane_normal, same_positions, stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
angles = st.tuples(*[st.floats(-180, 180) for _ in range(3)])
spacings = st.tuples(st.floats(0.1, 5), st.floats(0.1, 5))
origins = st.tuples(*[st.floats(-500, 500) for _ in range(3)])


def rotated(euler: tuple[float, float, float]) -> tuple[float, ...]:
    matrix = Rotation.from_euler("xyz", euler, degrees=True).as_matrix()
    return (*matrix[:, 0].tolist(), *matrix[:, 1].tolist())


def line(count: int, step: float, orientation: tuple[float, ...] = AXIAL, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    return np.array(origin) + np.arange(count)[:, None] * step * plane_normal(orientation)


@given(angles)
def test_i02_normal_is_highdicoms(euler):
    orientation = rotated(euler)
    expected = get_normal_vector(orientation, index_convention="RD", handedness="RIGHT_HANDED")
    np.testing.assert_allclose(plane_normal(orientation), expected, atol=1e-9)


@given(angles, spacings, st.floats(0.2, 10), origins, st.integers(2, 30), st.randoms())
def test_i02_affine_is_highdicoms_whatever_the_order_of_files(euler, spacing, step, origin, count, random):
    orientation = rotated(euler)
    positions = line(count, step, orientation, origin)
    shuffled = list(range(count))
    random.shuffle(shuffled)
    made = stack(positions[shuffled], orientation, spacing)
    assert [shuffled[i] for i in made.order] == list(range(count))
    lps = create_affine_matrix_from_attributes(
        image_position=positions[0].tolist(),
        image_orientation=orientation,
        pixel_spacing=spacing,
        spacing_between_slices=step,
        index_convention="RD",
        slices_first=False,
    )
    # positions of 500 mm in float64 and their differences: far below 1e-6 mm
    np.testing.assert_allclose(np.array(made.affine), np.diag([-1, -1, 1, 1]) @ lps, atol=1e-6)
    np.testing.assert_allclose(made.spacing_mm, (spacing[1], spacing[0], step), rtol=1e-6)
    assert made.orientation == "".join(nib.aff2axcodes(np.array(made.affine)))
    assert made.flags == ()


@given(angles)
def test_i02_every_voxel_is_where_dicom_says(euler):
    """Equation C.7.6.2.1-1, voxel by voxel."""
    orientation = rotated(euler)
    positions = line(4, 2.5, orientation, (10.0, -20.0, 30.0))
    made = stack(positions, orientation, (0.7, 0.9))
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    for i, j, k in [(0, 0, 0), (5, 0, 0), (0, 7, 0), (3, 4, 3)]:
        lps = positions[k] + x * 0.9 * i + y * 0.7 * j
        ras = np.array(made.affine) @ [i, j, k, 1]
        np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-9)


def test_i02_pixel_spacing_is_row_then_column():
    made = stack(line(2, 3.0), AXIAL, (0.5, 2.0))
    assert made.spacing_mm == (2.0, 0.5, 3.0)


def test_i02_one_slice_steps_by_spacing_between_slices():
    made = stack(line(1, 1.0), AXIAL, (1.0, 1.0), spacing_between_slices=4.0)
    assert made.spacing_mm == (1.0, 1.0, 4.0)
    assert made.flags == ("single_slice_spacing",)


def test_i02_one_slice_without_spacing_has_no_affine():
    made = stack(line(1, 1.0), AXIAL, (1.0, 1.0))
    assert (made.affine, made.spacing_mm, made.orientation) == (None, None, "LPS")
    assert made.flags == ("single_slice_spacing",)


@given(st.integers(3, 60), st.floats(0.3, 8), st.data())
def test_i03_any_missing_inner_slice_is_found(count, step, data):
    gone = data.draw(st.integers(1, count - 2))
    with pytest.raises(ConversionError) as caught:
        # three slices less the middle one are two, and two are always even
        stack(np.delete(line(count + 1, step), gone, axis=0), AXIAL, (1, 1))
    assert caught.value.code == "missing_slices"
    assert f"{step:.3f} mm apart" in caught.value.message or count < 5


def test_i03_gaps_are_listed():
    with pytest.raises(ConversionError, match=r"3\.000 mm apart but for slices 4-5: 6\.000 mm"):
        stack(np.delete(line(10, 3.0), 4, axis=0), AXIAL, (1, 1))


@pytest.mark.parametrize(("off", "fine"), [(0.0, True), (0.009, True), (0.02, False)])
def test_i03_tolerance_is_a_hundredth_of_the_step(off, fine):
    positions = line(9, 1.0)
    positions[4, 2] += off
    if fine:
        assert stack(positions, AXIAL, (1, 1)).spacing_mm == (1, 1, 1)
    else:
        with pytest.raises(ConversionError, match="missing_slices"):
            stack(positions, AXIAL, (1, 1))


@given(angles, spacings, origins, st.lists(st.floats(0.1, 20), min_size=2, max_size=12), st.randoms())
def test_i03_uneven_slices_have_each_their_place(euler, spacing, origin, steps, random):
    """A point of the world is that of its voxel, by DICOM's own formula (PS3.3 C.7.6.2.1.1)."""
    orientation = rotated(euler)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    positions = np.array(origin) + offsets[:, None] * plane_normal(orientation)
    shuffled = list(range(len(positions)))
    random.shuffle(shuffled)
    made = stack(positions[shuffled], orientation, spacing, uneven=True)
    assert [shuffled[i] for i in made.order] == list(range(len(positions)))
    if made.places is None:  # even after all
        assert made == stack(positions[shuffled], orientation, spacing)
        return
    assert (made.affine, made.spacing_mm, made.flags) == (None, None, ("uneven_slices",))
    i, j, k = 3, 7, len(positions) - 2
    x, y = np.array(orientation[:3]) * spacing[1], np.array(orientation[3:]) * spacing[0]
    expected = np.diag([-1, -1, 1]) @ (positions[k] + i * x + j * y)
    places = made.places
    found = np.array(places.positions_ras[k]) + i * np.array(places.x_step_ras) + j * np.array(places.y_step_ras)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    regular = stack(line(2, 1.0, orientation, origin), orientation, spacing)
    assert made.orientation == regular.orientation


def test_i03_uneven_slices_are_not_on_each_other():
    with pytest.raises(ConversionError, match="conflicting_slices"):
        stack(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 5.0]]), AXIAL, (1, 1), uneven=True)


def test_i03_tolerance_is_a_micrometre_at_least():
    positions = line(9, 0.05)
    positions[4, 2] += 9e-4
    assert stack(positions, AXIAL, (1, 1)).flags == ()


def test_i03_same_position_twice_is_refused():
    with pytest.raises(ConversionError, match="conflicting_slices"):
        stack(np.vstack([line(3, 1.0), line(1, 1.0)]), AXIAL, (1, 1))


def test_i03_spacing_tag_that_disagrees_is_flagged():
    assert stack(line(4, 5.0), AXIAL, (1, 1), spacing_between_slices=2.5).flags == ("spacing_mismatch",)
    assert stack(line(4, 5.0), AXIAL, (1, 1), spacing_between_slices=5.0).flags == ()


def test_i03_slices_shifted_unevenly_in_their_plane_are_refused():
    positions = line(5, 2.0)
    positions[2, 0] += 1.0
    with pytest.raises(ConversionError, match="inconsistent_series"):
        stack(positions, AXIAL, (1, 1))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), angles)
def test_i03_same_positions_are_found(numbers, euler):
    orientation = rotated(euler)
    positions = line(7, 1.3, orientation, (100.0, 50.0, 25.0))[numbers]
    groups = same_positions(positions, plane_normal(orientation))
    assert [{numbers[i] for i in group} for group in groups] == [{n} for n in sorted(set(numbers))]
    assert sorted(i for group in groups for i in group) == list(range(len(numbers)))


def test_i03_places_side_by_side_are_not_one():
    positions = np.array([[0, 0, 0], [50, 0, 0], [0, 0, 0.0]])
    assert same_positions(positions, np.array([0, 0, 1.0])) == [[0, 2], [1]]


@given(st.floats(0.5, 30), st.integers(2, 40))
def test_i04_gantry_tilt_shears_the_affine(tilt, count):
    """Slices tilted about x, the table moving along z."""
    angle = np.radians(tilt)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    positions = np.array([[0.0, 0.0, 2.0 * k] for k in range(count)])
    made = stack(positions, orientation, (1.0, 1.0))
    assert "sheared" in made.flags
    np.testing.assert_allclose(np.array(made.affine)[:3, 2], [0, 0, 2.0], atol=1e-9)
    np.testing.assert_allclose(made.spacing_mm, (1, 1, 2.0))


def test_i04_rounded_cosines_are_no_tilt():
    orientation = tuple(round(c, 3) for c in rotated((12, 34, 56)))
    assert stack(line(20, 3.0, orientation), orientation, (1, 1)).flags == ()


@given(angles)
def test_orientation_code_is_nibabels(euler):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", euler, degrees=True).as_matrix()
    assert orientation_code(matrix) == "".join(nib.aff2axcodes(matrix))
    assert not is_sheared(matrix)


@pytest.mark.parametrize(
    ("orientation", "spacing", "position"),
    [
        ((1, 0, 0, 1, 0, 0), (1, 1), (0, 0, 0)),
        ((2, 0, 0, 0, 1, 0), (1, 1), (0, 0, 0)),
        ((0, 0, 0, 0, 0, 0), (1, 1), (0, 0, 0)),
        ((1, 0, 0), (1, 1), (0, 0, 0)),
        (AXIAL, (0, 1), (0, 0, 0)),
        (AXIAL, (1, float("nan")), (0, 0, 0)),
        (AXIAL, (1,), (0, 0, 0)),
        (AXIAL, (1, 1), (0, 0, float("inf"))),
    ],
)
def test_nonsense_is_refused(orientation, spacing, position):
    with pytest.raises(ConversionError, match="invalid_header"):
        stack(np.array([position]), orientation, spacing)
