"""DICOM series from scanners and pydicom's own files, against independent judges."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.pixels.processing import apply_color_lut

from converters.conformance import convert, find, head, only_source, sources_in
from converters.dicom_files import (
    CONVERTER,
    array,
    code_of,
    one,
)
from harmonize_converters.contract import ConversionError, Description
from realdata import DATA, needs_data

NIBABEL_FILES = Path(nib.__file__).parent / "nicom" / "tests" / "data"
PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def equal_to_nifti(description: Description, stored: np.ndarray, path: Path) -> None:
    """Voxel by voxel and place by place, both turned to RAS."""
    judge = nib.as_closest_canonical(nib.load(path))
    ours = nib.as_closest_canonical(
        nib.Nifti1Image(array(description, stored).astype(np.float64), np.array(description.image.affine))
    )
    # the judge's header holds the affine in float32: 1e-4 mm at 500 mm
    np.testing.assert_allclose(ours.affine, judge.affine, atol=1e-4)
    # slopes as text in DICOM, the product as float32 or float64 in the NIfTI
    np.testing.assert_allclose(ours.get_fdata(), judge.get_fdata(), rtol=1e-6, atol=1e-6)


def dcm2niix(folder: Path, into: Path) -> nib.Nifti1Image:
    """The one image that dcm2niix makes of a folder; skips where it makes none."""
    binary = Path(sys.executable).with_name("dcm2niix")
    if not binary.exists():
        pytest.skip("dcm2niix is not installed")
    made = subprocess.run(
        [binary, "-z", "n", "-b", "n", "-f", "out", "-o", into, folder], capture_output=True, check=False
    )
    images = list(into.glob("out*.nii"))
    if made.returncode or len(images) != 1:
        pytest.skip("dcm2niix makes no single image of this series")
    return nib.load(images[0])


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """World positions of the eight corner voxels, sorted: the same for every order of axes."""
    voxels = [[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    world = (np.asarray(voxels) @ np.asarray(affine).T)[:, :3]
    return world[np.lexsort(np.round(world, 1).T)]


SERIES_WITH_NIFTI = [
    *[f"{maker}/anatomical/{name}" for maker in ("ge", "hitachi", "siemens") for name in ("001", "001_implicit")],
    *["generic/anatomical/001", "generic/anatomical/001_implicit", "generic/anatomical/002_non_isotropic"],
    *[f"generic/compressed{codec}/001" for codec in ("", "_j2k", "_jpeg", "_jpegls", "_rle")],
]


@needs_data
@pytest.mark.parametrize("name", SERIES_WITH_NIFTI)
def test_i02_scanner_series_equal_the_nifti_beside_them(name):
    folder = DATA / "dicom" / name
    outcome = convert(CONVERTER, one(folder))
    equal_to_nifti(outcome.description, outcome.arrays[0], folder.parent / f"{folder.name}_ground_truth.nii.gz")


@needs_data
@pytest.mark.parametrize("name", [*SERIES_WITH_NIFTI, "philips/anatomical/001"])
def test_i02_scanner_series_equal_dcm2niix(name, tmp_path):
    folder = DATA / "dicom" / name
    judge = dcm2niix(folder, tmp_path)
    outcome = convert(CONVERTER, one(folder))
    equal_to_nifti(outcome.description, outcome.arrays[0], judge.get_filename())


def test_i05_philips_enhanced_mr_lies_where_nibabel_and_dcm2niix_put_it(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.dcm").write_bytes(gzip.decompress((NIBABEL_FILES / "philips_mprage.dcm.gz").read_bytes()))
    description = CONVERTER.describe(one(tmp_path / "a")).description
    affine, shape = np.array(description.image.affine), description.image.shape[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of being experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_file

        judge = wrapper_from_file(tmp_path / "a" / "x.dcm")
        judged = np.diag([-1, -1, 1, 1]) @ judge.affine  # nibabel.nicom keeps LPS, and rows before columns
        extent = judge.image_shape
    # nibabel takes one step from the tag and repeats it: 1e-3 mm off at the last of 176 slices
    np.testing.assert_allclose(corners(affine, shape), corners(judged, extent), atol=5e-3)
    made = dcm2niix(tmp_path / "a", tmp_path)
    np.testing.assert_allclose(corners(affine, shape), corners(made.affine, made.shape), atol=1e-3)
    assert description.image.slopes == (2.1079365079365,)


def mosaics(folder: Path) -> Path:
    """Two Siemens mosaics (b = 0 and 1000) of nibabel's, whose pixels are zero, with values in every tile."""
    folder.mkdir()
    for number, name in enumerate(("siemens_dwi_0", "siemens_dwi_1000")):
        ds = pydicom.dcmread(io.BytesIO(gzip.decompress((NIBABEL_FILES / f"{name}.dcm.gz").read_bytes())))
        values = np.random.default_rng(number).integers(0, 4096, (ds.Rows, ds.Columns), np.uint16)
        ds.PixelData = values.tobytes()
        ds.save_as(folder / f"{name}.dcm")
    return folder


def test_i05_siemens_mosaics_equal_dcm2niix(tmp_path):
    folder = mosaics(tmp_path / "a")
    judge = dcm2niix(folder, tmp_path)
    outcome = convert(CONVERTER, one(folder))
    image = outcome.description.image
    ours = nib.as_closest_canonical(
        nib.Nifti1Image(array(outcome.description, outcome.arrays[0]).astype(np.float64), np.array(image.affine))
    )
    canonical = nib.as_closest_canonical(judge)
    np.testing.assert_array_equal(ours.get_fdata(), canonical.get_fdata())
    # dcm2niix makes the cosines orthogonal in float32
    np.testing.assert_allclose(corners(ours.affine, ours.shape), corners(canonical.affine, canonical.shape), atol=0.05)
    assert image.b_values_s_mm2 == tuple(np.loadtxt(tmp_path / "out.bval"))
    # FSL's vectors are along the voxel axes, the first turned where the determinant is positive
    turned = np.linalg.inv(judge.affine[:3, :3] / np.linalg.norm(judge.affine[:3, :3], axis=0)) @ image.b_vectors_ras[1]
    assert np.linalg.det(judge.affine[:3, :3]) < 0
    np.testing.assert_allclose(turned, np.loadtxt(tmp_path / "out.bvec")[:, 1], atol=1e-4)
    assert image.time_step_s == 6.6


def test_i05_siemens_mosaics_lie_where_nibabel_puts_them(tmp_path):
    folder = mosaics(tmp_path / "a")
    outcome = convert(CONVERTER, one(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of being experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_file

        judge = wrapper_from_file(folder / "siemens_dwi_0.dcm")
        judged, values = np.diag([-1, -1, 1, 1]) @ judge.affine, judge.get_unscaled_data()
    shape = outcome.description.image.shape[:0:-1]
    np.testing.assert_allclose(
        corners(np.array(outcome.description.image.affine), shape), corners(judged, values.shape), atol=1e-3
    )
    np.testing.assert_array_equal(outcome.arrays[0][:48], values.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ds: ds.pop(0x00291010), "unsupported_multiframe"),
        (lambda ds: ds.pop("SpacingBetweenSlices"), "unsupported_multiframe"),
        (lambda ds: ds.pop("ImagePositionPatient"), "unsupported_geometry"),
        (lambda ds: setattr(ds[0x0019100A], "value", 50), "invalid_header"),
        (lambda ds: setattr(ds[0x0019100A], "value", 0), "invalid_header"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "invalid_header"),
        (lambda ds: setattr(ds[0x00291010], "value", ds[0x00291010].value[:5000]), "invalid_header"),
        (lambda ds: setattr(ds, "NumberOfFrames", 2), "unsupported_multiframe"),
    ],
)
def test_i05_mosaics_that_do_not_say_where_they_lie_are_refused(tmp_path, change, code):
    path = mosaics(tmp_path / "a") / "siemens_dwi_1000.dcm"
    (tmp_path / "b").mkdir()
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(tmp_path / "b" / "x.dcm")
    assert code_of(tmp_path / "b") == code


@needs_data
@pytest.mark.parametrize("name", [one for one in SERIES_WITH_NIFTI if one.endswith("anatomical/001")])
def test_i05_scanner_series_converted_to_enhanced_by_highdicom_equal_the_nifti(tmp_path, name):
    folder = DATA / "dicom" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old series break rules of today's standard
        slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        if slices[0].Modality != "MR":
            pytest.skip("not an MR series")
        order = np.random.default_rng(5).permutation(len(slices))
        for ds in slices:
            ds.AccessionNumber = ds.get("AccessionNumber", "")
        made = LegacyConvertedEnhancedMRImage(
            [slices[k] for k in order],
            series_instance_uid="1.2.3",
            series_number=1,
            sop_instance_uid="1.2.3.4",
            instance_number=1,
        )
    (tmp_path / "a").mkdir()
    made.save_as(tmp_path / "a" / "x.dcm")
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    equal_to_nifti(outcome.description, outcome.arrays[0], folder.parent / f"{folder.name}_ground_truth.nii.gz")


@needs_data
def test_i03_echo_planar_series_without_a_time_tag_are_in_the_order_of_their_numbers():
    folder = DATA / "dicom" / "ge" / "fmri"
    outcome = convert(CONVERTER, only_source(CONVERTER, folder / "001"))
    judged = np.asanyarray(nib.load(folder / "001_ground_truth.nii.gz").dataobj)
    assert outcome.description.image.shape == (2, 4, 64, 64)
    assert "times_by_instance_number" in outcome.described.description.flags
    ours = outcome.arrays[0].reshape(2, 4, 64, 64)
    np.testing.assert_array_equal(ours.transpose(3, 2, 1, 0), judged)


@needs_data
def test_every_series_of_the_scanner_folders_is_converted():
    sources = sources_in(CONVERTER, DATA / "dicom")
    assert len(sources) == 24
    for source in sources:
        convert(CONVERTER, source)


def test_every_file_of_pydicom_equals_its_judge_or_is_refused():
    equal = 0
    for file in find(PYDICOM_FILES):
        if not CONVERTER.recognize(head(file), file.path.name):
            continue
        for source in CONVERTER.group([file], {}):
            try:
                outcome = convert(CONVERTER, source)
            except ConversionError:
                continue
            if outcome.description.image is None:  # test_dicom_waveform
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the files are damaged on purpose
                ds = pydicom.dcmread(file.path)
                expected = ds.pixel_array
            if ds.PhotometricInterpretation == "PALETTE COLOR":
                expected = apply_color_lut(expected, ds)
            if outcome.description.image.photometric == "RGB":
                expected = np.moveaxis(expected, -1, -3)
            np.testing.assert_array_equal(outcome.arrays[0].reshape(expected.shape), expected)
            equal += 1
    assert equal >= 78


def test_i09_loss_is_flagged_and_the_decoder_named():
    file = next(f for f in find(PYDICOM_FILES) if f.path.name == "693_J2KI.dcm")
    (source,) = CONVERTER.group([file], {})
    description = CONVERTER.describe(source).description
    assert "lossy_compression" in description.flags
    assert set(description.libraries) == {"pydicom", "pylibjpeg", "pylibjpeg-openjpeg"}
