"""Values of DICOM series made by hand: rescale, padding, bits, photometric, codecs (FIDELITY I06-I09)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from converters.conformance import convert, find
from converters.dicom_files import CONVERTER, code_of, one, save, slice_dataset, stored_planes, write_series
from harmonize_converters._dicom_pixels import drop_unused_bits

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def test_i06_rescale_of_every_slice_is_kept(tmp_path):
    planes = stored_planes(3)
    write_series(
        tmp_path / "a",
        planes,
        each=lambda k: {"RescaleSlope": str(0.5 + k), "RescaleIntercept": str(-k)},
    )
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    assert outcome.description.image.slopes == (0.5, 1.5, 2.5)
    assert outcome.description.image.intercepts == (0, -1, -2)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({}, "HU"),
        ({"RescaleType": None}, "HU"),
        ({"RescaleType": None, "ImageType": ["DERIVED", "PRIMARY"]}, None),
        ({"RescaleType": None, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, None),
        ({"RescaleType": "US"}, None),
        ({"Modality": "PT", "Units": "BQML"}, "Bq/ml"),
        ({"Modality": "PT", "Units": "CNTS"}, None),
        ({"Modality": "MR"}, None),
    ],
)
def test_i06_unit_is_named_only_where_known(tmp_path, changes, unit):
    write_series(tmp_path / "a", stored_planes(2), **changes)
    assert convert(CONVERTER, one(tmp_path / "a")).description.image.unit == unit


@pytest.mark.parametrize(
    ("padding", "bits", "vr", "expected"),
    [(-2000, 16, "SS", -2000), (63536, 16, "US", -2000), (2048, 12, "US", -2048), (-2048, 12, "SS", -2048)],
)
def test_i06_padding_is_a_stored_value(tmp_path, padding, bits, vr, expected):
    planes = stored_planes(2)
    folder = tmp_path / "a"
    for k in range(2):
        ds = slice_dataset(planes[k], k, 2.0 * k, BitsStored=bits, HighBit=bits - 1)
        ds.add_new("PixelPaddingValue", vr, padding)
        save(ds, folder / f"{k}.dcm")
    assert convert(CONVERTER, one(folder)).description.image.padding_value == expected


@pytest.mark.parametrize(("value", "limit"), [(5, 9), (9, 5), (-2048, -2000), (5, 5), (63488, 63536)])
def test_i06_padding_may_be_a_range_of_stored_values(tmp_path, value, limit):
    folder = tmp_path / "a"
    for k in range(2):
        ds = slice_dataset(stored_planes(2)[k], k, 2.0 * k)
        for name, number in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
            ds.add_new(name, "US" if number > 32767 else "SS", number)
        save(ds, folder / f"{k}.dcm")
    image = convert(CONVERTER, one(folder)).description.image
    low, high = sorted(number - 65536 if number > 32767 else number for number in (value, limit))
    assert image.padding == (low, high)
    assert (image.padding_limit is None) == (low == high)


def test_i06_padding_that_varies_is_refused(tmp_path):
    write_series(tmp_path / "a", stored_planes(2), each=lambda k: {"PixelPaddingValue": -k})
    assert code_of(tmp_path / "a") == "unsupported_rescale"


def test_i07_signed_12_bits_with_an_overlay_above(tmp_path):
    planes = stored_planes(3)
    overlaid = (planes.view(np.uint16) & 0x0FFF | np.uint16(0xA000)).view(np.int16)
    write_series(tmp_path / "a", overlaid)
    np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path / "a")).arrays[0], planes)


def test_i07_unused_bits():
    words = np.array([0x0000, 0x0800, 0x0FFF, 0xF7FF, 0xF800], np.uint16)
    assert drop_unused_bits(words, 12).tolist() == [0, 0x800, 0xFFF, 0x7FF, 0x800]
    assert drop_unused_bits(words.view(np.int16), 12).tolist() == [0, -2048, -1, 2047, -2048]
    assert drop_unused_bits(words, 16).tolist() == words.tolist()


def test_i08_monochrome1_keeps_its_values(tmp_path):
    planes = stored_planes(2)
    write_series(tmp_path / "a", planes, PhotometricInterpretation="MONOCHROME1")
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    assert outcome.description.image.photometric == "MONOCHROME1"
    np.testing.assert_array_equal(outcome.arrays[0], planes)


def test_i09_deflated(tmp_path):
    planes = stored_planes(3)
    for k in range(3):
        save(slice_dataset(planes[k], k, 2.0 * k), tmp_path / "a" / f"{k}", DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path / "a")).arrays[0], planes)


def test_i09_rle_and_jpeg2000(tmp_path):
    planes = stored_planes(3, 64, 64)
    for syntax in (RLELossless, JPEG2000Lossless):
        for k in range(3):
            ds = slice_dataset(planes[k], k, 2.0 * k)
            ds.file_meta = pydicom.dataset.FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(syntax, generate_instance_uid=False)
            save(ds, tmp_path / syntax / f"{k}.dcm", syntax)
        outcome = convert(CONVERTER, one(tmp_path / syntax))
        np.testing.assert_array_equal(outcome.arrays[0], planes)
        assert outcome.description.transfer_syntax == syntax
        assert "pylibjpeg" in outcome.description.libraries


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_expb.dcm",
    ],
)
def test_i09_one_image_in_every_transfer_syntax(name):
    expected = pydicom.dcmread(PYDICOM_FILES / "MR_small.dcm").pixel_array
    file = next(f for f in find(PYDICOM_FILES) if f.path.name == name)
    (source,) = CONVERTER.group([file], {})
    np.testing.assert_array_equal(convert(CONVERTER, source).arrays[0][0], expected)


def test_i09_damaged_run_lengths_are_refused(tmp_path):
    data = (PYDICOM_FILES / "MR_small_RLE.dcm").read_bytes()
    at = data.rindex(b"\xfe\xff\x00\xe0") + 8 + 64  # behind the last fragment's header of segments
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.dcm").write_bytes(data[:at] + b"\x7f" * 400 + data[at + 400 :])
    assert code_of(tmp_path / "a") == "corrupt"


def test_i09_a_frame_of_another_size_is_not_decoded(tmp_path):
    ds = slice_dataset(stored_planes(1, 64, 64)[0], 1, 0.0)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.Rows = 32
    save(ds, tmp_path / "a" / "0.dcm", JPEG2000Lossless)
    assert code_of(tmp_path / "a") == "corrupt"
