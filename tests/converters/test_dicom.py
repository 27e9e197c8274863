"""DICOM series made by hand, byte by byte known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    EnhancedMRImageStorage,
)

from converters.conformance import ConverterConformance, convert, find, head, sources_in
from converters.dicom_files import (
    CONVERTER,
    PLANTED,
    SERIES,
    code_of,
    one,
    save,
    slice_dataset,
    stored_planes,
    write_series,
)
from harmonize_converters.contract import ConversionError, SourceFiles

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


class TestConformance(ConverterConformance):
    converter = CONVERTER
    planted = PLANTED
    corruption_rounds = 40

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        planes = stored_planes(3)
        write_series(tmp_path / "series", planes)
        write_series(
            tmp_path / "second",
            planes,
            each=lambda k: {"SeriesInstanceUID": SERIES + ".9", "RescaleSlope": str(1 + k)},
            Modality="PT",
            Units="BQML",
            RescaleType=None,
        )
        return [one(tmp_path / "series"), one(tmp_path / "second")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        return one(write_series(tmp_path / "large", stored_planes(80, 128, 128)))

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        slices = sorted((pydicom.dcmread(f.path) for f in source.files), key=lambda d: d.ImagePositionPatient[2])
        return [np.stack([d.pixel_array for d in slices])]


def test_recognises_by_prefix_not_by_name(tmp_path):
    write_series(tmp_path / "a", stored_planes(1))
    (file,) = find(tmp_path / "a")
    assert CONVERTER.recognize(head(file), "no-suffix")
    assert not CONVERTER.recognize(b"DICM" + head(file), "image.dcm")


def test_i01_folders_and_what_no_volume_spans(tmp_path):
    planes = stored_planes(3)
    coronal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    for name, changes in {
        "a": {},
        "echo": {"EchoTime": "5"},
        "kind": {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        "frame": {"FrameOfReferenceUID": "1.2.3"},
        "subject": {"PatientID": "other"},
        "spacing": {"PixelSpacing": [1, 1]},
    }.items():
        for path in write_series(tmp_path / name, planes, **changes).iterdir():
            (tmp_path / "all").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "all" / f"{name}-{path.name}")
    for k in range(3):
        ds = slice_dataset(planes[k], k, 0.0, ImagePositionPatient=[0, 2.0 * k, 0], **coronal)
        save(ds, tmp_path / "all" / f"cor{k}")
    sources = sources_in(CONVERTER, tmp_path / "all")
    assert [len(s.files) for s in sources] == [3] * 7
    assert len({s.key for s in sources}) == 7
    assert all(s.key.startswith(f"all/{SERIES}-") for s in sources)
    assert sorted(convert(CONVERTER, s).description.image.orientation for s in sources) == ["LIP"] + ["LPS"] * 6
    again = CONVERTER.group(find(tmp_path / "all")[::-1], {})
    assert sorted(again, key=lambda s: s.key) == sorted(sources, key=lambda s: s.key)


def test_i01_jitter_in_orientation_does_not_split(tmp_path):
    tilted = lambda k: {"ImageOrientationPatient": [1, 0.0005 + 1e-6 * k, 0, -0.0005, 1, 0]}  # noqa: E731
    write_series(tmp_path / "a", stored_planes(5), each=tilted)
    assert len(one(tmp_path / "a").files) == 5


def test_i02_order_comes_from_positions(tmp_path):
    planes = stored_planes(5)
    write_series(tmp_path / "a", planes)
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    np.testing.assert_array_equal(outcome.arrays[0], planes)
    image = outcome.description.image
    assert image.axes == ("z", "y", "x")
    assert image.spacing_mm == (0.75, 0.5, 2.5)
    assert image.affine == ((-0.75, 0, 0, 10), (0, -0.5, 0, 20), (0, 0, 2.5, 100), (0, 0, 0, 1))
    assert (image.affine_source, image.orientation) == ("plane_position", "LPS")


def test_i02_single_slice(tmp_path):
    write_series(tmp_path / "with", stored_planes(1), SpacingBetweenSlices="3")
    write_series(tmp_path / "without", stored_planes(1))
    image = convert(CONVERTER, one(tmp_path / "with")).description.image
    assert image.spacing_mm == (0.75, 0.5, 3.0)
    described = convert(CONVERTER, one(tmp_path / "without")).description
    assert described.image.affine is None
    assert described.image.spacing_source == "unknown"
    assert described.flags == ("single_slice_spacing",)


def test_i03_missing_slice(tmp_path):
    write_series(tmp_path / "a", stored_planes(6))
    next((tmp_path / "a").glob("*-3.dcm")).unlink()
    assert code_of(tmp_path / "a") == "missing_slices"


def test_i03_identical_duplicates_are_dropped(tmp_path):
    planes = stored_planes(4)
    write_series(tmp_path / "a", planes)
    shutil.copy(next((tmp_path / "a").glob("*-2.dcm")), tmp_path / "a" / "copy.dcm")
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    assert outcome.description.flags == ("duplicate_slices_dropped",)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


@pytest.mark.parametrize("change", [{"RescaleSlope": "2"}, {}], ids=["rescale", "pixels"])
def test_i03_conflicting_slices(tmp_path, change):
    planes = stored_planes(4)
    write_series(tmp_path / "a", planes)
    pixels = planes[2] if change else planes[3]
    save(slice_dataset(pixels, 9, 105.0, **change), tmp_path / "a" / "other.dcm")
    assert code_of(tmp_path / "a") == "conflicting_slices"


@pytest.mark.parametrize("tag", ["TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime"])
def test_i03_the_extra_dimension_is_time(tmp_path, tag):
    planes = stored_planes(6)
    times = {"TriggerTime": ["0", "40.5"]}.get(tag, [1, 2])
    for t in range(2):
        write_series(tmp_path / "a" / str(t), planes[3 * t : 3 * t + 3], **{tag: times[t]})
    for path in list((tmp_path / "a").rglob("*.dcm")):
        path.rename(tmp_path / "a" / f"{path.parent.name}{path.name}")
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    image = outcome.description.image
    assert (image.axes, image.shape) == (("t", "z", "y", "x"), (2, 3, 6, 5))
    assert image.time_step_s == (0.0405 if tag == "TriggerTime" else None)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


def test_i03_times_that_miss_a_position_are_refused(tmp_path):
    for t in range(2):
        write_series(tmp_path / "a" / str(t), stored_planes(3, seed=t), AcquisitionNumber=t)
    for path in list((tmp_path / "a").rglob("*.dcm")):
        path.rename(tmp_path / "a" / f"{path.parent.name}{path.name}")
    next((tmp_path / "a").glob("1*-2.dcm")).unlink()
    assert code_of(tmp_path / "a") == "conflicting_slices"


def test_i04_gantry_tilt_is_kept_and_flagged(tmp_path):
    planes = stored_planes(4)
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    write_series(tmp_path / "a", planes, ImageOrientationPatient=[1, 0, 0, 0, round(c, 6), round(s, 6)])
    outcome = convert(CONVERTER, one(tmp_path / "a"))
    assert "sheared" in outcome.description.flags
    np.testing.assert_array_equal(outcome.arrays[0], planes)
    assert [row[2] for row in outcome.description.image.affine] == [0, 0, 2.5, 0]


def test_i14_an_object_without_pixels_is_not_refused_for_its_geometry(tmp_path):
    """A place would not help: there is nothing to put there."""
    write_series(tmp_path / "a", stored_planes(1), Rows=None, PixelData=None, ImagePositionPatient=None)
    assert code_of(tmp_path / "a") == "no_data"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SOPClassUID": EnhancedMRImageStorage}, "unsupported_multiframe"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "unsupported_multiframe"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3"}, "unsupported_sop_class"),
        ({"SOPClassUID": "1.2.3.4"}, "unsupported_sop_class"),
        ({"PhotometricInterpretation": "HSV", "SamplesPerPixel": 3}, "unsupported_photometric"),
        ({"PixelPresentation": "MIXED"}, "unsupported_photometric"),
        ({"ImagePositionPatient": None}, "unsupported_geometry"),
        ({"PixelSpacing": None}, "unsupported_geometry"),
        ({"HighBit": 12}, "unsupported_pixel_data"),
        ({"HighBit": 15}, "unsupported_pixel_data"),
        ({"BitsAllocated": 12}, "unsupported_pixel_data"),
        ({"RescaleIntercept": None}, "unsupported_rescale"),
        ({"RescaleSlope": "0"}, "unsupported_rescale"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, "invalid_header"),
        ({"PixelPaddingValue": 5, "PixelPaddingRangeLimit": 4096}, "unsupported_rescale"),
        ({"PixelPaddingValue": -2049}, "unsupported_rescale"),
        ({"BurnedInAnnotation": "YES"}, "quarantined_burned_in"),
        ({"Rows": 7}, "truncated"),
        ({"Rows": 65535, "Columns": 65535}, "implausible_size"),
        ({"Rows": 3}, "corrupt"),
        ({"PixelData": None}, "truncated"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(tmp_path, changes, code):
    write_series(tmp_path / "a", stored_planes(2), **changes)
    assert code_of(tmp_path / "a") == code


def test_i14_dicomdir_is_an_index():
    folder = PYDICOM_FILES / "dicomdirtests"
    files = find(folder)
    sources = sources_in(CONVERTER, folder)
    index = next(f for f in files if f.path.name == "DICOMDIR")
    assert CONVERTER.recognize(head(index), "DICOMDIR")
    assert all(f.key != index.key for s in sources for f in s.files)


def test_i14_other_objects_are_named():
    for name, words in {"reportsi.dcm": "SR", "rtplan.dcm": "RT Plan"}.items():
        file = next(f for f in find(PYDICOM_FILES) if f.path.name == name)
        (source,) = CONVERTER.group([file], {})
        with pytest.raises(ConversionError, match=words) as caught:
            CONVERTER.describe(source)
        assert caught.value.code == "unsupported_sop_class"


def test_subject_and_acquisition(tmp_path):
    write_series(tmp_path / "a", stored_planes(3))
    described = CONVERTER.describe(one(tmp_path / "a"))
    found, acquired = described.description.demographics, described.description.acquisition
    assert (found.age_years, found.age_pooled, found.sex, found.height_cm) == (90.0, True, "female", 164.0)
    assert (acquired.tube_voltage_kv, acquired.convolution_kernel, acquired.body_part) == (120, "B30f", "CHEST")
    identity = described.identity
    assert (identity.subject, identity.site) == ("MRN-4711-PLANTED", "Planted General Hospital")
    assert identity.device_id == "SN-PLANTED-9"
    assert identity.start == datetime(2023, 4, 5, 10, 12, 1, 500000)


def test_a_broken_file_is_a_source_of_its_own(tmp_path):
    write_series(tmp_path / "a", stored_planes(3))
    (tmp_path / "a" / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    sources = sources_in(CONVERTER, tmp_path / "a")
    assert [len(s.files) for s in sources] == [1, 3]
    with pytest.raises(ConversionError):
        CONVERTER.describe(sources[0])


def test_a_series_that_changed_between_describe_and_read(tmp_path):
    source = one(write_series(tmp_path / "a", stored_planes(3)))
    description = CONVERTER.describe(source).description
    fewer = replace(source, files=source.files[:2], roles=source.roles[:2])
    with pytest.raises(ConversionError) as caught:
        list(CONVERTER.read(fewer, description, 1000))
    assert caught.value.code in ("source_changed", "missing_slices")
