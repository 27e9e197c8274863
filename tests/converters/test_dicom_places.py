"""One bright voxel at a known point of the world, through every order, orientation, tilt and layout, is found there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydicom.dataset import Dataset

from converters.conformance import Outcome, convert
from converters.dicom_files import CONVERTER, at, converted, enhanced_dataset, one, save, slice_dataset

X, Y, Z = np.eye(3)
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]]
)
ORIENTATIONS = {
    "axial": (X, Y),
    "axial, head first prone": (-X, -Y),
    "coronal": (X, -Z),
    "sagittal": (Y, -Z),
    "mirrored": (-X, Y),
    "oblique": (TURN @ X, TURN @ Y),
}
TILTS = {"upright": 0.0, "tilted": 17.5}
"""Of the gantry, degrees: slices are shifted along y against each other."""
ORIGIN = np.array([5.0, -7.0, 11.0])
ROWS, COLUMNS, SLICES, STEP = 6, 5, 4, 3.0
ROW_MM, COLUMN_MM = 0.5, 0.75


def positions(x: np.ndarray, y: np.ndarray, tilt: float) -> np.ndarray:
    """Of the first voxel of each slice."""
    along = STEP * (np.cross(x, y) + np.tan(np.radians(tilt)) * y)
    return ORIGIN + np.arange(SLICES)[:, None] * along


def check(outcome: Outcome, point: np.ndarray, tilt: float) -> None:
    """The bright voxel of each time lies at ``point`` (LPS)."""
    image = outcome.description.image
    stored = outcome.arrays[0].reshape(-1, SLICES, ROWS, COLUMNS)
    assert ("sheared" in outcome.description.flags) == (tilt != 0)
    for volume in stored:
        ((k, j, i),) = np.argwhere(volume == 1000)
        found = np.array(image.affine) @ [i, j, k, 1]
        np.testing.assert_allclose(found[:3], point * [-1, -1, 1], atol=1e-9)


def planes_of(target: tuple[int, int, int]) -> np.ndarray:
    """Slices with one bright voxel (i, j, k)."""
    planes = np.zeros((SLICES, ROWS, COLUMNS), np.int16)
    planes[target[::-1]] = 1000
    return planes


@pytest.mark.parametrize("layout", ["a file a slice", "a file a slice, two times", "frames", "frames, two times"])
@pytest.mark.parametrize("tilt", TILTS.values(), ids=TILTS)
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_i02_a_bright_voxel_is_found_at_its_place(tmp_path, orientation, tilt, layout):
    x, y = orientation
    places, target = positions(x, y, tilt), (3, 1, 2)
    point = places[target[2]] + target[0] * COLUMN_MM * x + target[1] * ROW_MM * y
    planes = planes_of(target)
    n_times = 2 if "two times" in layout else 1
    orders = list(itertools.permutations(range(SLICES)))
    for number, order in enumerate(orders if n_times == 1 else orders[::5]):
        folder = tmp_path / str(number)
        every = [(k, t) for t in range(n_times) for k in order][:: -1 if number % 2 else 1]
        if "frames" in layout:
            frames = [at(places[k]) for k, _ in every]
            for frame, (_, t) in zip(frames, every, strict=True):
                frame["FrameContentSequence"] = {"TemporalPositionIndex": t + 1}
            shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": [*x, *y]}}
            stored = planes[[k for k, _ in every]]
            outcome = converted(enhanced_dataset(stored, frames, shared), folder)
        else:
            for file, (k, t) in enumerate(every):
                save(slice_of(planes[k], file, places[k], orientation, t if n_times > 1 else None), folder / str(file))
            outcome = convert(CONVERTER, one(folder))
        assert outcome.description.image.shape == (*([n_times] if n_times > 1 else []), SLICES, ROWS, COLUMNS)
        check(outcome, point, tilt)


def slice_of(
    pixels: np.ndarray, number: int, place: np.ndarray, orientation: tuple[np.ndarray, np.ndarray], time: int | None
) -> Dataset:
    """A slice whose instance number and location say nothing of its place."""
    return slice_dataset(
        pixels,
        number,
        0.0,
        ImagePositionPatient=place.tolist(),
        ImageOrientationPatient=[*orientation[0], *orientation[1]],
        SliceLocation=str(-number),
        TemporalPositionIdentifier=time,
    )
