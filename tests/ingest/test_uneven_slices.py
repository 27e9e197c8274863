"""Series whose slices lie at steps that differ: refused, or kept with a place for each slice (FIDELITY I03)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import harmonize as hz
from converters.dicom_files import at, enhanced_dataset, save, stored_planes, write_series
from harmonize.data import PatchDataset
from harmonize.ingest import ProjectKey
from harmonize.ingest.identify import Policy
from harmonize.maintain.verify import verify
from harmonize_schemas import Recipe

KEY = ProjectKey(b"k" * 32)
HEIGHTS = (100.0, 102.5, 105.0, 115.0, 125.0)
"""mm: thin slices through the base of a head, thick ones above."""
KEEP = Recipe(dataset="in", uneven_slices="keep")


def heights(k: int) -> dict[str, object]:
    return {"ImagePositionPatient": [-10.0, -20.0, HEIGHTS[k]]}


@pytest.fixture
def planes() -> np.ndarray:
    return stored_planes(len(HEIGHTS))


@pytest.fixture
def folder(tmp_path: Path, planes: np.ndarray) -> Path:
    return write_series(tmp_path / "in", planes, each=heights)


def test_i03_uneven_slices_are_refused_unless_a_recipe_keeps_them(folder: Path, tmp_path: Path) -> None:
    outcome = hz.convert([folder], into=tmp_path / "s.zarr", recipe=Recipe(dataset="in"), key=KEY)
    assert [row["code"] for row in outcome.failures] == ["missing_slices"]
    outcome = hz.convert([folder], into=tmp_path / "s.zarr", recipe=KEEP, key=KEY)
    assert (outcome.converted, outcome.failures) == (1, [])
    assert len(hz.open(tmp_path / "s.zarr").failures) == 0


def test_i03_every_voxel_is_where_its_slice_says(folder: Path, planes: np.ndarray, tmp_path: Path) -> None:
    hz.convert([folder], into=tmp_path / "s.zarr", recipe=KEEP, key=KEY)
    store = hz.open(tmp_path / "s.zarr")
    (name,) = store.recordings["recording_id"]
    view = store[name]
    image = view.image
    assert image is not None
    np.testing.assert_array_equal(image.digital().T, planes)
    assert (image.affine, image.meta.spacing_mm, image.meta.orientation) == (None, None, "LPS")
    assert "uneven_slices" in view.meta.flags
    places = image.meta.slice_places
    assert places is not None
    # Column i is 0.75 mm and row j 0.5 mm from the next, to the left and to the back: LPS to RAS turns both.
    assert places.positions_ras == tuple((10.0, 20.0, z) for z in HEIGHTS)
    assert (places.x_step_ras, places.y_step_ras) == ((-0.75, 0.0, 0.0), (0.0, -0.5, 0.0))
    with pytest.raises(ValueError, match="uneven"):
        view.to_nibabel()
    report = verify(store, [folder], Policy(KEEP, None, KEY))
    assert (report.compared, report.findings) == (1, [])
    (patch,) = PatchDataset(store, patch=image.shape)
    assert torch.isnan(torch.as_tensor(patch["affine"])).all()


def test_i03_an_even_series_is_the_same_under_either_recipe(tmp_path: Path, planes: np.ndarray) -> None:
    write_series(tmp_path / "in", planes)
    metas = []
    for number, recipe in enumerate((Recipe(dataset="in"), KEEP)):
        hz.convert([tmp_path / "in"], into=tmp_path / f"{number}.zarr", recipe=recipe, key=KEY)
        store = hz.open(tmp_path / f"{number}.zarr")
        metas.append(store[store.recordings["recording_id"][0]].image.meta)
    assert metas[0] == metas[1]
    assert metas[0].affine is not None


def test_i03_frames_of_one_file_may_be_uneven(tmp_path: Path, planes: np.ndarray) -> None:
    macros = [at((-10.0, -20.0, z)) for z in HEIGHTS]
    save(enhanced_dataset(planes, macros, {"PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.75]}}), tmp_path / "in/x")
    outcome = hz.convert([tmp_path / "in"], into=tmp_path / "s.zarr", recipe=KEEP, key=KEY)
    assert (outcome.converted, outcome.failures) == (1, [])
    store = hz.open(tmp_path / "s.zarr")
    image = store[store.recordings["recording_id"][0]].image.meta
    assert [z for _, _, z in image.slice_places.positions_ras] == list(HEIGHTS)


def test_i03_times_of_uneven_slices(tmp_path: Path) -> None:
    planes = stored_planes(2 * len(HEIGHTS))

    def each(k: int) -> dict[str, object]:
        return heights(k % len(HEIGHTS)) | {"TemporalPositionIdentifier": k // len(HEIGHTS)}

    write_series(tmp_path / "in", planes, each=each)
    hz.convert([tmp_path / "in"], into=tmp_path / "s.zarr", recipe=KEEP, key=KEY)
    store = hz.open(tmp_path / "s.zarr")
    image = store[store.recordings["recording_id"][0]].image
    np.testing.assert_array_equal(image.digital().T, planes.reshape(2, len(HEIGHTS), *planes.shape[1:]))
    assert len(image.meta.slice_places.positions_ras) == len(HEIGHTS)
