"""Classic multi-frame DICOM objects: frames in time without a place (FIDELITY I10, I13)."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    NuclearMedicineImageStorage,
    SecondaryCaptureImageStorage,
)

from converters.conformance import sources_in
from converters.dicom_files import (
    CONVERTER,
    cine_dataset,
    converted,
    refused,
    save,
    stored_planes,
)


def test_i13_cine_is_an_image_in_time(tmp_path):
    planes = stored_planes(5)
    outcome = converted(cine_dataset(planes), tmp_path)
    image = outcome.description.image
    assert (image.axes, image.shape) == (("t", "y", "x"), planes.shape)
    assert (image.affine, image.affine_source, image.orientation) == (None, "unknown", None)
    assert (image.spacing_mm, image.spacing_source) == (None, "unknown")
    assert image.time_step_s == 0.04
    assert outcome.description.flags == ("geometry_unknown",)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"FrameTime": "0"}, None),
        ({"FrameTime": None, "FrameIncrementPointer": None, "CineRate": "25"}, 0.04),
        ({"FrameTime": None, "FrameIncrementPointer": None}, None),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "FrameTimeVector": [0, 20, 20]}, 0.02),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "FrameTimeVector": [0, 20, 30]}, None),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "FrameTimeVector": [0, 20]}, None),
        ({"FrameIncrementPointer": tag_for_keyword("FrameTimeVector"), "CineRate": "25"}, None),
    ],
)
def test_i13_the_time_step_of_a_cine(tmp_path, changes, step):
    assert converted(cine_dataset(stored_planes(3), **changes), tmp_path).description.image.time_step_s == step


def region(**changes) -> Dataset:
    """An ultrasound region in tissue, 0.2 mm by 0.3 mm (PS3.3 C.8.5.5)."""
    item = Dataset()
    item.RegionSpatialFormat, item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = 1, 3, 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.02, -0.03
    for name, value in changes.items():
        setattr(item, name, value)
    return item


@pytest.mark.parametrize(
    ("changes", "spacing", "source"),
    [
        ({"PixelSpacing": [0.5, 0.75]}, (0.75, 0.5), "pixel_spacing"),
        ({"ImagerPixelSpacing": [0.5, 0.75]}, (0.75, 0.5), "imager_pixel_spacing"),
        ({"SequenceOfUltrasoundRegions": [region()]}, (0.2, 0.3), "ultrasound_regions"),
        ({"SequenceOfUltrasoundRegions": [region(), region(RegionSpatialFormat=3)]}, (0.2, 0.3), "ultrasound_regions"),
        ({"SequenceOfUltrasoundRegions": [region(), region(PhysicalDeltaX=0.05)]}, None, "unknown"),
        ({"SequenceOfUltrasoundRegions": [region(PhysicalUnitsXDirection=4)]}, None, "unknown"),
    ],
)
def test_i10_the_spacing_of_a_cine_has_its_source(tmp_path, changes, spacing, source):
    image = converted(cine_dataset(stored_planes(3), **changes), tmp_path).description.image
    assert image.spacing_mm == (None if spacing is None else pytest.approx(spacing))
    assert image.spacing_source == source


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PixelSpacing": [0, 1]}, "invalid_header"),
        ({"BurnedInAnnotation": "YES"}, "quarantined_burned_in"),
        ({"SOPClassUID": NuclearMedicineImageStorage, "FrameIncrementPointer": 0x00540080}, "unsupported_multiframe"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "FrameIncrementPointer": None}, "unsupported_multiframe"),
        ({"FrameIncrementPointer": tag_for_keyword("SliceLocationVector")}, "unsupported_multiframe"),
        ({"ImagePositionPatient": [0, 0, 0]}, "unsupported_multiframe"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 4}, "unsupported_photometric"),
    ],
)
def test_i13_frames_that_are_no_times_are_refused(tmp_path, changes, code):
    assert refused(cine_dataset(stored_planes(3), **changes), tmp_path) == code


def test_i13_two_clips_of_one_series_are_two_images(tmp_path):
    for name in ("a", "b"):
        save(cine_dataset(stored_planes(3)), tmp_path / f"{name}.dcm")
    assert [len(source.files) for source in sources_in(CONVERTER, tmp_path)] == [1, 1]
