"""DICOM images in colour (FIDELITY I08, I13): values by hand and by the formulas of PS3.3, real files by other readers."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from converters.conformance import ConverterConformance, convert, found
from converters.dicom_files import (
    CONVERTER,
    PLANTED,
    array,
    cine_dataset,
    code_of,
    colored,
    converted,
    one,
    planar_dataset,
    refused,
    save,
    slice_dataset,
    stored_planes,
)
from harmonize_converters._dicom_palette import palette_of
from harmonize_converters.contract import ConversionError, SourceFiles
from judging import dicom_judges
from realdata import DATA, needs_data

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def rgb(rows: int, columns: int, seed: int = 0, dtype: str = "u1") -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, (rows, columns, 3), dtype, endpoint=True)


def slices_in_color(folder: Path, count: int, rows: int = 4, columns: int = 5) -> np.ndarray:
    """A captured series with a place, as (c, z, y, x)."""
    frames = [rgb(rows, columns, seed) for seed in range(count)]
    rescale = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType"))
    for k, frame in enumerate(frames):
        ds = colored(slice_dataset(stored_planes(1, rows, columns)[0], k, 2.0 * k, **rescale), frame)
        save(ds, folder / f"{count - k}.dcm")
    return np.stack(frames).transpose(3, 0, 1, 2)


class TestConformance(ConverterConformance):
    converter = CONVERTER
    planted = PLANTED
    corruption_rounds = 12

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        slices_in_color(tmp_path / "volume", 3)
        frames = np.stack([rgb(4, 6, seed) for seed in range(3)])
        save(
            colored(cine_dataset(stored_planes(3, 4, 6), RescaleSlope=1, RescaleIntercept=0), frames),
            tmp_path / "cine" / "cine.dcm",
        )
        save(planar_dataset(rgb(5, 6), SOPClassUID=SecondaryCaptureImageStorage), tmp_path / "single" / "single.dcm")
        return [one(tmp_path / name) for name in ("volume", "cine", "single")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        slices_in_color(tmp_path / "large", 30, 128, 256)
        return one(tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        read = [pydicom.dcmread(file.path) for file in source.files]
        if len(read) > 1:
            read.sort(key=lambda ds: ds.ImagePositionPatient[2])
            return [np.concatenate(np.stack([ds.pixel_array for ds in read]).transpose(3, 0, 1, 2))]
        return [np.moveaxis(read[0].pixel_array, -1, -3).reshape(-1, read[0].Rows, read[0].Columns)]


def test_i08_slices_in_color_are_one_volume(tmp_path):
    expected = slices_in_color(tmp_path, 4)
    outcome = convert(CONVERTER, one(tmp_path))
    image = outcome.description.image
    assert (image.axes, image.shape, image.dtype) == (("c", "z", "y", "x"), (3, 4, 4, 5), "uint8")
    assert (image.photometric, image.spacing_mm, image.padding_value) == ("RGB", (0.75, 0.5, 2.0), None)
    assert "color_converted" not in outcome.description.flags
    np.testing.assert_array_equal(outcome.arrays[0].reshape(image.shape), expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_i08_color_by_pixel_and_by_plane_are_the_same(tmp_path, syntax, dtype):
    pixels = rgb(3, 4, dtype=dtype)
    planes = pixels.transpose(2, 0, 1)
    for planar, stored in enumerate((pixels, planes)):
        ds = planar_dataset(pixels, PlanarConfiguration=planar, PixelData=stored.tobytes())
        outcome = converted(ds, tmp_path / str(planar), syntax)
        np.testing.assert_array_equal(outcome.arrays[0], planes)
        assert outcome.description.image.axes == ("c", "y", "x")
        assert outcome.description.image.dtype == f"uint{8 * pixels.dtype.itemsize}"


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_i09_run_lengths_in_color(tmp_path, dtype):
    pixels = rgb(3, 4, dtype=dtype)
    ds = planar_dataset(pixels)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PlanarConfiguration = 1  # says nothing of what is compressed
    np.testing.assert_array_equal(converted(ds, tmp_path, RLELossless).arrays[0], pixels.transpose(2, 0, 1))


YBR = {
    (76, 85, 255): (254, 0, 0),
    (29, 255, 107): (0, 0, 254),
    (128, 128, 128): (128,) * 3,
    (255, 128, 128): (255,) * 3,
}
"""By hand: red, blue, grey and white by the equations of PS3.3 C.7.6.3.1.2, rounded, and back:
R = Y + 1.402 (Cr - 128), G = Y - 0.3441 (Cb - 128) - 0.7141 (Cr - 128), B = Y + 1.772 (Cb - 128)."""


@pytest.mark.parametrize("planar", [0, 1])
def test_i08_ybr_full_is_made_rgb_once(tmp_path, planar):
    pixels = np.array([*YBR], np.uint8).reshape(2, 2, 3)
    stored = pixels.transpose(2, 0, 1) if planar else pixels
    ds = planar_dataset(
        pixels, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar, PixelData=stored.tobytes()
    )
    outcome = converted(ds, tmp_path)
    np.testing.assert_array_equal(outcome.arrays[0].transpose(1, 2, 0).reshape(4, 3), [*YBR.values()])
    assert outcome.description.image.photometric == "RGB"
    assert "color_converted" in outcome.description.flags


def test_i08_halved_colors_go_with_both_pixels(tmp_path):
    pairs = [(76, 50, 85, 255), (255, 0, 128, 128)]  # Y, Y, Cb, Cr
    ds = planar_dataset(np.zeros((2, 2, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = np.array(pairs, np.uint8).tobytes()
    # By hand, as above: 50 + 1.402 * 127 = 228, 50 + 14.8 - 90.7 < 0, 50 - 76.2 < 0.
    expected = [(254, 0, 0), (228, 0, 0), (255, 255, 255), (0, 0, 0)]
    stored = converted(ds, tmp_path).arrays[0]
    np.testing.assert_array_equal(stored.transpose(1, 2, 0).reshape(4, 3), expected)
    ds.PixelData = np.zeros((2, 2, 3), np.uint8).tobytes()  # what is declared to be halved, and is not
    assert refused(ds, tmp_path) == "unsupported_photometric"


def test_i13_a_cine_in_color(tmp_path):
    frames = np.stack([rgb(4, 6, seed) for seed in range(3)])
    ds = colored(cine_dataset(stored_planes(3, 4, 6), RescaleSlope=None, RescaleIntercept=None), frames)
    image = (outcome := converted(ds, tmp_path)).description.image
    assert (image.axes, image.shape, image.time_step_s) == (("t", "c", "y", "x"), (3, 3, 4, 6), 0.04)
    np.testing.assert_array_equal(outcome.arrays[0].reshape(image.shape), frames.transpose(0, 3, 1, 2))
    assert outcome.description.modality == "ultrasound"


# --- palettes ---------------------------------------------------------------------------------------


def palette(ds: Dataset, tables: list[list[int]], first: int, bits: int, width: int | None = None) -> Dataset:
    """Red, green and blue tables, each entry of ``width`` bits."""
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for color, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        ds.add_new(f"{color}PaletteColorLookupTableDescriptor", "SS" if first < 0 else "US", [len(table), first, bits])
        data = np.array(table, f"<u{(width or bits) // 8}").tobytes()
        ds.add_new(f"{color}PaletteColorLookupTableData", "OW", data + b"\0" * (len(data) % 2))
    return ds


TABLES = [[1, 2, 3], [10, 20, 30], [100, 150, 200]]
INDICES = np.array([[0, 4], [5, 6], [7, 255]], np.uint8)
COLORS = np.array([[[1, 1], [2, 3], [3, 3]], [[10, 10], [20, 30], [30, 30]], [[100, 100], [150, 200], [200, 200]]])
"""With the first entry for 4: below it the first, above 6 the last (PS3.3 C.7.6.3.1.5)."""


@pytest.mark.parametrize(("bits", "width"), [(8, 8), (8, 16), (16, 16)])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_i08_palettes_are_expanded(tmp_path, bits, width, syntax):
    ds = palette(planar_dataset(INDICES), TABLES, 4, bits, width)
    outcome = converted(ds, tmp_path, syntax)
    image = outcome.description.image
    assert (image.axes, image.dtype, image.photometric) == (("c", "y", "x"), f"uint{bits}", "RGB")
    assert "color_converted" in outcome.description.flags
    np.testing.assert_array_equal(outcome.arrays[0], COLORS)


def test_i08_a_palette_from_below_zero(tmp_path):
    ds = planar_dataset(np.array([[-3, -1], [0, 1]], np.int16).view(np.uint16), PixelRepresentation=1)
    stored = converted(palette(ds, TABLES, -2, 8), tmp_path).arrays[0]
    np.testing.assert_array_equal(stored[0], [[1, 2], [3, 3]])


def test_i08_a_palette_of_a_big_endian_file(tmp_path):
    ds = palette(planar_dataset(INDICES), TABLES, 4, 8)
    for color in ("Red", "Green", "Blue"):
        data = ds[f"{color}PaletteColorLookupTableData"]
        data.value = np.frombuffer(data.value, "<u2").astype(">u2").tobytes()
    ds.PixelData = INDICES.tobytes()
    ds["PixelData"].VR = "OB"
    np.testing.assert_array_equal(converted(ds, tmp_path, ExplicitVRBigEndian).arrays[0], COLORS)


def segmented(bits: int, codes: list[int], entries: int) -> Dataset:
    ds = Dataset()
    ds.set_original_encoding(False, True, "iso8859")
    for color in ("Red", "Green", "Blue"):
        ds.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [entries, 0, bits])
        ds.add_new(f"Segmented{color}PaletteColorLookupTableData", "OW", np.array(codes, f"<u{bits // 8}").tobytes())
    return ds


# Two values; a line of 4 steps to 40; two segments again from byte 0 (8 bits); by hand.
DISCRETE, LINE = [0, 2, 10, 20], [1, 4, 40]
EXPANDED = [10, 20, 25, 30, 35, 40, 10, 20, 25, 30, 35, 40]


@pytest.mark.parametrize(("bits", "again"), [(8, [2, 2, 0, 0, 0, 0]), (16, [2, 2, 0, 0])])
def test_i08_segments_of_a_palette(bits, again):
    ds = segmented(bits, [*DISCRETE, *LINE, *again], 12)
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colors = palette_of(ds, False).colors(stored)
    np.testing.assert_array_equal(colors[0].ravel(), EXPANDED)
    np.testing.assert_array_equal(colors, np.moveaxis(apply_color_lut(stored, ds), -1, 0))


def test_i08_segments_again_from_within_count_bytes():
    ds = segmented(16, [*DISCRETE, *LINE, 2, 1, 8, 0], 10)  # byte 8 is word 4, the line: 40 to 40
    np.testing.assert_array_equal(palette_of(ds, False).colors(np.arange(10)[None])[0, 0], [*EXPANDED[:6], *[40] * 4])


@pytest.mark.parametrize(
    "codes",
    [[1, 4, 40], [*DISCRETE, 3, 1, 1], [0, 4, 1], [*DISCRETE, 0, 0], [*DISCRETE, *LINE], [*DISCRETE, 2, 9, 90, 0], []],
    ids=["a line from nowhere", "no such segment", "short", "empty", "too few", "out of the data", "nothing"],
)
def test_i08_segments_that_cannot_be_read_are_refused(codes):
    with pytest.raises(ConversionError, match="invalid_header"):
        palette_of(segmented(16, codes, 12), False)


# --- bits -------------------------------------------------------------------------------------------


def test_i07_single_bits(tmp_path):
    """Frames of 15 bits follow each other without a gap."""
    frames = np.random.default_rng(3).integers(0, 2, (4, 3, 5)).astype(np.uint8)
    ds = cine_dataset(stored_planes(4, 3, 5), SOPClassUID=MultiFrameSingleBitSecondaryCaptureImageStorage)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 1, 0, 0
    ds.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    outcome = converted(ds, tmp_path)
    assert outcome.description.image.dtype == "uint8"
    np.testing.assert_array_equal(outcome.arrays[0], frames)
    np.testing.assert_array_equal(outcome.arrays[0], pydicom.dcmread(tmp_path / "x.dcm").pixel_array)


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PhotometricInterpretation": "YBR_RCT"}, "unsupported_photometric"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "unsupported_photometric"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "unsupported_photometric"),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}, "invalid_header"),
        ({"PhotometricInterpretation": "YBR_FULL", "BitsStored": 7, "HighBit": 6}, "unsupported_photometric"),
        ({"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 1}, "invalid_header"),
        ({"PhotometricInterpretation": "YBR_FULL_422", "Columns": 3}, "invalid_header"),
        ({"PixelRepresentation": 1}, "unsupported_pixel_data"),
        ({"RescaleSlope": 2, "RescaleIntercept": 0}, "unsupported_rescale"),
        ({"Rows": 5}, "truncated"),
    ],
)
def test_i08_colors_that_are_not_defined_are_refused(tmp_path, changes, code):
    assert refused(planar_dataset(rgb(4, 4), **changes), tmp_path) == code


@pytest.mark.parametrize(
    ("name", "photometric"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", "RGB"),  # a JFIF marker
        ("SC_rgb_dcmtk_+eb+cr.dcm", "YBR_FULL"),  # components called R, G and B
        ("SC_jpeg_no_color_transform_2.dcm", "YBR_FULL"),  # an Adobe marker: no transform
        ("examples_jpeg2k.dcm", "YBR_FULL"),  # transformed
        ("SC_rgb_gdcm_KY.dcm", "YBR_ICT"),  # not transformed
    ],
)
def test_i08_a_codestream_of_other_colors_than_declared_is_refused(tmp_path, name, photometric):
    ds = pydicom.dcmread(PYDICOM_FILES / name)
    ds.PhotometricInterpretation = photometric
    tmp_path.joinpath("a").mkdir()
    ds.save_as(tmp_path / "a" / "x.dcm")
    assert code_of(tmp_path / "a") == "unsupported_photometric"


# --- real files -------------------------------------------------------------------------------------


def of_pydicom(name: str) -> SourceFiles:
    (source,) = CONVERTER.group([found(PYDICOM_FILES / name, PYDICOM_FILES)], {})
    return source


@needs_data
def test_i08_a_series_in_color_equals_the_nifti_beside_it_and_dcm2niix(tmp_path):
    folder = DATA / "dicom" / "generic" / "rgb" / "001"
    outcome = convert(CONVERTER, one(folder))
    image = outcome.description.image
    colors = array(outcome.description, outcome.arrays[0]).astype(np.uint8)  # (x, y, z, c)
    ours = nib.as_closest_canonical(nib.Nifti1Image(colors, np.array(image.affine)))
    command = [dicom_judges.binary(), "-z", "n", "-b", "n", "-f", "out", "-o", tmp_path, folder]
    subprocess.run(command, capture_output=True, check=True)
    for path in (folder.parent / "001_ground_truth.nii.gz", *tmp_path.glob("out*.nii")):
        (volume,) = dicom_judges.nifti(path, tmp_path / "none")
        judge = nib.as_closest_canonical(nib.Nifti1Image(volume.values.astype(np.uint8), volume.affine))
        np.testing.assert_allclose(ours.affine, judge.affine, atol=1e-4)  # float32 in the judge's header
        np.testing.assert_array_equal(np.asanyarray(ours.dataobj), np.asanyarray(judge.dataobj))
    assert len(list(tmp_path.glob("out*.nii"))) == 1


@pytest.mark.parametrize(
    "name",
    [
        *(
            "SC_rgb_dcmtk_+eb+cy+n1.dcm",
            "SC_rgb_dcmtk_+eb+cy+np.dcm",
            "SC_rgb_dcmtk_+eb+cy+s4.dcm",
            "examples_jpeg2k.dcm",
        ),
        *("SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_gdcm_KY.dcm"),
    ],
)
def test_i08_colors_are_those_that_pillow_sees(name):
    """A reader that knows nothing of DICOM. Its JPEG decoder rounds otherwise, and smooths halved colours otherwise."""
    source = of_pydicom(name)
    stored = convert(CONVERTER, source).arrays[0].transpose(1, 2, 0).astype(int)
    frame = next(generate_frames(pydicom.dcmread(source.primary.path).PixelData, number_of_frames=1))
    apart = np.abs(stored - np.asarray(Image.open(BytesIO(frame)).convert("RGB")))
    assert apart.max() <= 3
    assert apart.mean() < 0.2  # colours left as they are, or converted twice, are off by 30 and more


def test_i13_a_real_cine_in_color_is_what_pydicom_makes_of_it():
    source = of_pydicom("examples_ybr_color.dcm")
    outcome = convert(CONVERTER, source)
    image: Any = outcome.description.image
    assert (image.axes, image.shape, image.time_step_s) == (("t", "c", "y", "x"), (30, 3, 240, 320), 0.033333)
    expected = pydicom.dcmread(source.primary.path).pixel_array.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(outcome.arrays[0].reshape(image.shape), expected)
