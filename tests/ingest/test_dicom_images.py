"""DICOM images of every shape through a whole conversion, and names that may be in their pixels (DESIGN 8, I08, I10)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundImageStorage
from typer.testing import CliRunner

import harmonize as hz
from converters.dicom_files import cine_dataset, colored, planar_dataset, save, slice_dataset, stored_planes
from harmonize.cli import app
from harmonize.data import PatchDataset
from harmonize.ingest.identify import Policy
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import load_recipe
from harmonize.maintain.verify import verify
from harmonize.report.audit import audit
from harmonize.report.audit_html import audit_page
from harmonize.report.overview import draw_overview
from harmonize_schemas import Recipe

KEY = ProjectKey(b"k" * 32)
GREY = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
RGB = np.random.default_rng(1).integers(0, 256, (3, 24, 20, 3), np.uint8)
UNRESCALED = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType"))


def folder_of_all(folder: Path) -> Path:
    """A radiograph, an ultrasound image, a captured volume in colour, a cine in colour, and one that declares names."""
    save(planar_dataset(GREY, ImagerPixelSpacing=[0.2, 0.1], PatientID="a", BurnedInAnnotation="NO"), folder / "cr.dcm")
    ds = planar_dataset(
        RGB[0], SOPClassUID=UltrasoundImageStorage, Modality="US", PatientID="b", SeriesInstanceUID="1.5"
    )
    save(ds, folder / "us.dcm")
    for k, frame in enumerate(RGB):
        ds = slice_dataset(
            stored_planes(1, 24, 20)[0], k, 2.0 * k, SOPClassUID=SecondaryCaptureImageStorage, **UNRESCALED
        )
        save(colored(ds, frame), folder / "volume" / f"{k}.dcm")
    save(
        colored(cine_dataset(stored_planes(3, 24, 20), **UNRESCALED | {"RescaleType": "US"}), RGB), folder / "cine.dcm"
    )
    save(planar_dataset(GREY, PatientID="c", BurnedInAnnotation="YES"), folder / "named.dcm")
    return folder


def convert(folder: Path, into: Path, **recipe: str) -> hz.Store:
    hz.convert([folder], into=into, recipe=Recipe(dataset="images", **recipe), key=KEY)
    return hz.open(into)


def test_what_may_hold_names_is_quarantined_unless_the_recipe_allows_it(tmp_path):
    folder = folder_of_all(tmp_path / "in")
    store = convert(folder, tmp_path / "s.zarr")
    codes = sorted(store.failures["code"])
    assert codes == ["quarantined_burned_in", "quarantined_burned_in_risk", "quarantined_burned_in_risk"]
    assert store.failures["message"].str.contains("burned_in: allow_undeclared").sum() == 2
    assert sorted(store.recordings["modality"]) == ["ultrasound", "xray"]
    store = convert(folder, tmp_path / "s.zarr", burned_in="allow_undeclared")
    assert store.failures["code"].to_list() == ["quarantined_burned_in"]
    flagged = {
        row["recording_id"] for row in store.recordings.iter_rows(named=True) if "burned_in_risk" in row["flags"]
    }
    assert (len(store.recordings), len(flagged)) == (4, 2)
    clean = PatchDataset(store, patch=(8, 8), where="NOT array_contains(flags, 'burned_in_risk') AND modality = 'xray'")
    assert not flagged & {clean[i]["recording_id"] for i in range(len(clean))}


def test_the_commands_say_how_many_are_quarantined_and_what_to_do(tmp_path, own_key):
    folder = folder_of_all(tmp_path / "in")
    for command in (
        ["scan", str(folder)],
        ["convert", str(folder), "--into", str(tmp_path / "s.zarr"), "--workers", "0"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 1
        said = " ".join(done.output.split())
        assert "2 images are quarantined" in said
        assert "burned_in: allow_undeclared" in said


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> hz.Store:
    base = tmp_path_factory.mktemp("images")
    return convert(folder_of_all(base / "in"), base / "s.zarr", burned_in="allow_undeclared")


def named(store: hz.Store, modality: str, axes: tuple[str, ...]) -> str:
    names = store.recordings["recording_id"]
    (found,) = [n for n in names if store[n].meta.modality == modality and store[n].image.meta.axes == axes]
    return str(found)


SHAPES = [
    ("xray", ("y", "x"), GREY),
    ("ultrasound", ("c", "y", "x"), RGB[0].transpose(2, 0, 1)),
    ("ct", ("c", "z", "y", "x"), RGB.transpose(3, 0, 1, 2)),
    ("ultrasound", ("t", "c", "y", "x"), RGB.transpose(0, 3, 1, 2)),
]


@pytest.mark.parametrize(("modality", "axes", "expected"), SHAPES)
def test_voxels_come_back(store, modality, axes, expected):
    view = store[named(store, modality, axes)]
    np.testing.assert_array_equal(view.image.digital().T, expected)
    # NIfTI has x, y, z, t and then values of a voxel
    sizes = dict.fromkeys("xyztc", 1) | dict(zip(axes, expected.shape, strict=True))
    image = view.to_nibabel()
    assert [*image.shape, 1, 1][:5] == [sizes[axis] for axis in "xyztc"]
    whole = expected.reshape([sizes[axis] for axis in "tczyx"])
    np.testing.assert_array_equal(
        np.asarray(image.dataobj).reshape([sizes[a] for a in "xyztc"]), whole.transpose(4, 3, 2, 0, 1)
    )


@pytest.mark.parametrize(("modality", "axes", "expected"), SHAPES)
def test_patches(store, modality, axes, expected):
    name = named(store, modality, axes)
    flat = "z" not in axes
    patch = (20, 24) if flat else (20, 24, 2)
    ds = PatchDataset(store, patch=patch, where=f"recording_id = '{name}'")
    first = ds[0]["image"]
    colors = 3 if "c" in axes else 1
    assert first.shape == (colors, *patch)
    lead = expected[0] if "t" in axes else expected
    lead = lead.reshape((colors, -1, 24, 20))[:, : 1 if flat else 2]
    wanted = torch.from_numpy(lead.astype(np.float32)).permute(0, 3, 2, 1)
    assert torch.equal(first, wanted[..., 0] if flat else wanted)


def test_the_store_verifies_and_is_shown(store, tmp_path):
    loaded, sha256 = load_recipe(Recipe(dataset="images", burned_in="allow_undeclared"), None, tmp_path)
    report = verify(store, [Path(str(store.path)).parent / "in"], Policy(loaded, sha256, KEY))
    assert (report.compared, report.findings, report.changed) == (4, [], [])
    page = audit_page(audit(store))
    assert "ultrasound" in page
    draw_overview(store, tmp_path / "overview.png")
    assert (tmp_path / "overview.png").stat().st_size > 10_000
