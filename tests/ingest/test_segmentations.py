"""Segmentations beside their source in one store: the link, the labels on the image's grid, and what is shown."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pydicom
import pytest
import torch
from nibabel.processing import resample_from_to
from typer.testing import CliRunner

import harmonize as hz
from converters.dicom_files import SERIES, save, write_series
from converters.seg_files import by_highdicom, completed, concept, seg_dataset, segment
from harmonize.cli import app
from harmonize.data import PatchDataset
from harmonize.ingest.identify import Policy
from harmonize.ingest.privacy import ProjectKey
from harmonize.maintain.verify import verify
from harmonize.report.overview import draw_overview
from harmonize.store import catalog
from harmonize.store.views import ImageView
from harmonize_schemas import Recipe
from realdata import DATA, needs_data
from stores import noise, recording, stream, write_signals

KEY = ProjectKey(b"k" * 32)
ROWS, COLUMNS, SLICES = 16, 20, 6
ADDED = ("series", "frame_of_reference", "derived_from", "segment_types")


def folder_of_both(folder: Path) -> np.ndarray:
    """A series, its labels from slice 2 on (two segments, one slice left out), and the labels of another series."""
    planes = np.zeros((SLICES, ROWS, COLUMNS), np.int16)
    labels = np.zeros(planes.shape, np.uint8)
    labels[2, 3:6, 4:9], labels[4, 10, 13], labels[5, 1:3, 1:3] = 1, 2, 1
    planes[labels > 0] = 1000  # what is bright is labelled
    write_series(folder / "scan", planes)
    frames = [(100 + 2.5 * z, n, (labels[z] == n).astype(np.uint8)) for z in (5, 2, 4) for n in (1, 2)]
    source = {"ReferencedSeriesSequence": seg_dataset(frames).ReferencedSeriesSequence}
    source["ReferencedSeriesSequence"][0].SeriesInstanceUID = SERIES
    save(seg_dataset(frames, SeriesInstanceUID=f"{SERIES}.9", **source), folder / "seg.dcm")
    save(seg_dataset(frames, SeriesInstanceUID=f"{SERIES}.8"), folder / "of another.dcm")
    return labels


def convert(folder: Path, into: Path, **recipe: str) -> hz.Store:
    hz.convert([folder], into=into, recipe=Recipe(dataset="scans", **recipe), key=KEY)
    return hz.open(into)


def rimmed(image: ImageView) -> nib.Nifti1Image:
    """With a rim of zeros: scipy knows no half voxels outside the outermost centres."""
    affine = image.affine @ np.array([[1, 0, 0, -1], [0, 1, 0, -1], [0, 0, 1, -1], [0, 0, 0, 1]])
    return nib.Nifti1Image(np.pad(image.digital(), 1), affine)


def test_labels_are_found_by_their_image_and_lie_on_its_grid(tmp_path):
    labels = folder_of_both(tmp_path / "in")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    (scan,) = store.recordings.filter(pl.col("modality") == "ct")["recording_id"]
    assert store.recordings["modality"].value_counts().sort("modality").rows() == [("ct", 1), ("segmentation", 2)]
    (own,) = store.segmentations_of(scan)
    assert store.segmentations_of(own) == []
    with pytest.raises(KeyError):
        store.segmentations_of("no/such")
    image, segmentation = store[scan].image, store[own].image
    assert segmentation.shape == (COLUMNS, ROWS, 4)
    found = segmentation.on_grid(image.affine, image.shape[:3])
    np.testing.assert_array_equal(found, labels.T)
    np.testing.assert_array_equal(found > 0, image.digital() == 1000)
    assert [one.type.meaning for one in segmentation.meta.segments] == ["Liver", "Liver"]
    report = verify(store, [tmp_path / "in"], Policy(Recipe(dataset="scans"), None, KEY))
    assert (report.recordings, report.compared, len(report.findings)) == (3, 3, 0)


def test_a_segmentation_of_another_frame_of_reference_is_not_of_the_image(tmp_path):
    folder_of_both(tmp_path / "in")
    write_series(tmp_path / "in" / "scan", np.zeros((SLICES, ROWS, COLUMNS), np.int16), FrameOfReferenceUID="1.2.3")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    (scan,) = store.recordings.filter(pl.col("modality") == "ct")["recording_id"]
    assert store.segmentations_of(scan) == []


def test_the_link_is_a_pseudonym(tmp_path):
    folder_of_both(tmp_path / "in")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    texts = [
        str(store.recordings.to_dicts()),
        *(store[name].meta.model_dump_json() for name in store.recordings["recording_id"]),
    ]
    assert not any(uid in text for text in texts for uid in (SERIES, "498.3", "498.77", "planted"))
    assert store.recordings["series"].str.starts_with("series-").all()
    again = convert(tmp_path / "in", tmp_path / "again.zarr", privacy="keep", privacy_statement="published")
    assert SERIES in again.recordings["series"].to_list()


@pytest.mark.parametrize(
    "how",
    [{}, {"orientation": "LPI"}, {"spacing": (1.5, None, 2.6), "orientation": "SAR"}],
    ids=["as stored", "turned", "resampled"],
)
def test_patches_bring_their_labels(tmp_path, how):
    folder_of_both(tmp_path / "in")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    (scan,) = store.recordings.filter(pl.col("modality") == "ct")["recording_id"]
    (own,) = store.segmentations_of(scan)
    ds = PatchDataset(store, (5, 4, 3), labels="modality = 'segmentation'", interpolation="nearest", **how)
    segmentation = rimmed(store[own].image)
    total = 0  # spacings are such that no voxel lies half-way between two
    for sample in ds.__getitems__(range(len(ds))):
        assert sample["recording_id"] == scan
        judge = resample_from_to(segmentation, ((5, 4, 3), sample["affine"].numpy()), order=0, cval=0)
        assert torch.equal(sample["labels"], torch.from_numpy(np.asarray(judge.dataobj).astype(np.int32)))
        if not how.get("spacing"):  # what is bright is labelled
            assert torch.equal(sample["image"][0] == 1000 - 1024, sample["labels"] > 0)
        total += int((sample["labels"] > 0).sum())
    assert total >= 15
    assert ds.codes_of("modality").names == ("ct",)
    with pytest.raises(ValueError, match="segmentations are among the images"):
        PatchDataset(store, (5, 4, 3))
    planes = PatchDataset(store, (5, 4), labels="modality = 'segmentation'")
    assert planes[0]["labels"].shape == (5, 4)
    assert planes.fingerprint() != PatchDataset(store, (5, 4), where="modality = 'ct'").fingerprint()


def test_images_with_several_segmentations_or_none_by_label_are_refused(tmp_path):
    folder_of_both(tmp_path / "in")
    source = pydicom.dcmread(tmp_path / "in" / "seg.dcm").ReferencedSeriesSequence
    first = np.ones((ROWS, COLUMNS), np.uint8)
    both = seg_dataset(
        [(100.0, n, first) for n in (1, 2)],
        ReferencedSeriesSequence=source,
        ManufacturerModelName="Two",
        SeriesInstanceUID=f"{SERIES}.7",
    )
    save(both, tmp_path / "in" / "overlapping.dcm")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="several such segmentations"):
        PatchDataset(store, (5, 4, 3), labels="modality = 'segmentation'")
    with pytest.raises(ValueError, match="no voxel has one label"):
        PatchDataset(store, (5, 4, 3), labels="device_model = 'Two'")
    assert len(PatchDataset(store, (5, 4, 3), labels="device_model != 'Two'")) > 0
    (own,) = store.recordings.filter(pl.col("device_model") == "Two")["recording_id"]
    assert store[own].to_nibabel().header.get_intent()[0] == "vector"
    assert store[own].to_nibabel().shape == (COLUMNS, ROWS, 1, 1, 2)
    draw_overview(store, tmp_path / "overview.png")
    with pytest.raises(ValueError, match="no image"):
        PatchDataset(store, (5, 4, 3), labels="device_model = 'Three'")


def test_labels_of_an_image_without_a_place_are_refused(tmp_path):
    write_series(tmp_path / "in", np.zeros((1, ROWS, COLUMNS), np.int16))  # one slice has no third axis
    ds = seg_dataset([(100.0, 1, np.ones((ROWS, COLUMNS), np.uint8))], SeriesInstanceUID="1.9")
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = SERIES
    save(ds, tmp_path / "in" / "seg.dcm")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="is unknown"):
        PatchDataset(store, (5, 4, 1), labels="modality = 'segmentation'")


def test_defaced_voxels_are_no_data(tmp_path):
    """A mask of two segments that overlap, by its type; the labels stay as they are."""
    folder_of_both(tmp_path / "in")
    source = pydicom.dcmread(tmp_path / "in" / "seg.dcm").ReferencedSeriesSequence
    face = segment(1, SegmentedPropertyTypeCodeSequence=[concept("89545001", "SCT", "")])
    frames = [(100 + 2.5 * z, n, np.zeros((ROWS, COLUMNS), np.uint8)) for z in (1, 2) for n in (1, 2)]
    frames[0][2][:4], frames[1][2][3:5, :10], frames[2][2][3] = 1, 1, 1
    defaced = np.zeros((SLICES, ROWS, COLUMNS), bool)
    defaced[1, :4], defaced[1, 3:5, :10], defaced[2, 3] = True, True, True
    ds = seg_dataset(
        frames, ReferencedSeriesSequence=source, SeriesInstanceUID="1.7", SegmentSequence=[face, segment(2)]
    )
    save(ds, tmp_path / "in" / "face.dcm")
    write_series(tmp_path / "in" / "not defaced", np.ones((3, 8, 8), np.int16), SeriesInstanceUID="1.8")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    is_face = "array_contains(segment_types, 'SCT:89545001')"
    ds = PatchDataset(store, (COLUMNS, ROWS, SLICES), where="modality = 'ct'", anonymization_mask=is_face)
    assert len(ds) == 2
    for sample in ds.__getitems__([0, 1]):
        if sample["recording_id"] != store.segmentations["recording_id"][0]:
            assert sample["mask"].sum() == 3 * 8 * 8
            continue
        np.testing.assert_array_equal(sample["mask"][0].numpy(), ~defaced.T)
        assert not sample["image"][0].numpy()[defaced.T].any()
    both = PatchDataset(store, (5, 4, 3), labels=f"NOT {is_face}", anonymization_mask=is_face)
    plain = PatchDataset(store, (5, 4, 3), labels=f"NOT {is_face}")
    assert both.fingerprint() != plain.fingerprint()
    pairs = list(zip(*(one.__getitems__(range(len(one))) for one in (both, plain)), strict=True))
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in pairs)
    assert not all(torch.equal(a["mask"], b["mask"]) for a, b in pairs)


def test_show_says_what_segments_are(tmp_path, own_key):
    folder_of_both(tmp_path / "in")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    name = store.recordings.filter(pl.col("modality") == "segmentation")["recording_id"][0]
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "s.zarr"), name]).output
    assert "segment 2: Liver (SCT:10200004); Anatomical Structure (SCT:91723000); MANUAL" in shown


@needs_data
@pytest.mark.parametrize("other", ["generic/anatomical/002_non_isotropic", "siemens/anatomical/001"])
def test_the_nearest_label_is_nibabels(tmp_path, other):
    """Labels of an oblique series on the grid of another, coarser and turned."""
    source = [completed(path) for path in sorted((DATA / "dicom/hitachi/anatomical/001").iterdir())]
    labels = np.random.default_rng(0).integers(1, 3, (4, 64, 64)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    by_highdicom(source, labels, "BINARY").save_as(tmp_path / "in" / "x.dcm")
    store = convert(tmp_path / "in", tmp_path / "s.zarr")
    image = store[store.recordings["recording_id"][0]].image
    turned = nib.load(DATA / f"dicom/{other}_ground_truth.nii.gz").affine[:3, :3] * 2.5
    grid = np.eye(4)
    grid[:3, :3] = turned
    centre = image.affine @ [31.3, 30.1, 1.6, 1]
    shape = (20, 21, 22)
    grid[:3, 3] = centre[:3] - turned @ (np.array(shape) / 2)
    judge = resample_from_to(rimmed(image), (shape, grid), order=0, cval=0)
    found = image.on_grid(grid, shape)
    expected = np.asarray(judge.dataobj)
    assert np.count_nonzero(expected) > 100
    np.testing.assert_array_equal(found, expected)


def test_a_store_made_before_the_link_opens_and_goes_on(tmp_path, monkeypatch):
    root = tmp_path / "s.zarr"
    now = catalog.TABLES["recordings"]
    with monkeypatch.context() as then:
        then.setitem(catalog.TABLES, "recordings", {k: v for k, v in now.items() if k not in ADDED})
        write = catalog._frame
        then.setattr(
            catalog,
            "_frame",
            lambda table, rows: write(table, [{k: v for k, v in r.items() if k not in ADDED} for r in rows]),
        )
        write_signals(root, [(recording("a", [stream(50)]), noise((2, 50)))])
        assert not set(ADDED) & set(catalog.table_at(root, "recordings").to_pyarrow_table().column_names)
    before = hz.open(root)
    assert before.recordings.columns == list(now)
    assert before.recordings.select(ADDED).null_count().row(0) == (1,) * len(ADDED)
    assert before.segmentations_of("test/a") == []
    write_signals(root, [(recording("b", [stream(9)]), noise((2, 9)))])
    after = hz.open(root)
    assert after.recordings.sort("recording_id")["derived_from"].to_list() == [None, []]
    assert after["test/a"].signals["eeg"].shape == (2, 50)
    assert len(hz.open(root, version=before.version)) == 1
