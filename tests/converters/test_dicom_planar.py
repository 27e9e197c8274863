"""DICOM images without a place in the patient: grouping, spacing, kind, and what they may show (FIDELITY I01, I10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    VLPhotographicImageStorage,
    XRayAngiographicImageStorage,
)

from converters.conformance import convert, sources_in
from converters.dicom_files import (
    CONVERTER,
    SERIES,
    at,
    cine_dataset,
    converted,
    enhanced_dataset,
    planar_dataset,
    refused,
    save,
    slice_dataset,
    stored_planes,
)
from harmonize_converters import _dicom_risks
from harmonize_converters.contract import ConversionError

PIXELS = np.arange(30, dtype=np.uint16).reshape(6, 5) * 100


def test_i10_a_radiograph_is_an_image_without_a_place(tmp_path):
    outcome = converted(planar_dataset(PIXELS, PhotometricInterpretation="MONOCHROME1"), tmp_path)
    image = outcome.description.image
    assert (image.axes, image.shape, image.dtype) == (("y", "x"), (6, 5), "uint16")
    assert (image.affine, image.affine_source, image.orientation) == (None, "unknown", None)
    assert (image.spacing_mm, image.spacing_source) == (None, "unknown")
    assert image.photometric == "MONOCHROME1"
    assert (outcome.description.modality, image.time_step_s) == ("xray", None)
    assert "geometry_unknown" in outcome.description.flags
    np.testing.assert_array_equal(outcome.arrays[0][0], PIXELS)  # MONOCHROME1 keeps its values


IMAGER = {"ImagerPixelSpacing": [0.5, 0.75]}
SCANNED = {"NominalScannedPixelSpacing": [0.5, 0.75]}


@pytest.mark.parametrize(
    ("changes", "mm", "source", "uncalibrated"),
    [
        (IMAGER, (0.75, 0.5), "imager_pixel_spacing", False),
        (SCANNED, (0.75, 0.5), "nominal_scanned_pixel_spacing", False),
        # PS3.3 10.7.1.1: equal and no calibration named: at the detector; different: corrected; alone: cannot be told.
        ({"PixelSpacing": [0.5, 0.75], **IMAGER}, (0.75, 0.5), "imager_pixel_spacing", False),
        ({"PixelSpacing": [0.5, 0.75], **SCANNED}, (0.75, 0.5), "nominal_scanned_pixel_spacing", False),
        ({"PixelSpacing": [0.4, 0.6], **IMAGER}, (0.6, 0.4), "pixel_spacing", False),
        ({"PixelSpacing": [0.4, 0.6]}, (0.6, 0.4), "pixel_spacing", True),
        ({"PixelSpacing": [0.4, 0.6], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.6, 0.4), "pixel_spacing", False),
        (
            {"PixelSpacing": [0.5, 0.75], "PixelSpacingCalibrationType": "GEOMETRY", **IMAGER},
            (0.75, 0.5),
            "pixel_spacing",
            False,
        ),
        (
            {"PixelSpacing": [0.4, 0.6], "Modality": "US", "SOPClassUID": UltrasoundImageStorage},
            (0.6, 0.4),
            "pixel_spacing",
            False,
        ),
        ({"PixelAspectRatio": [1, 2]}, None, "unknown", False),
    ],
)
def test_i10_the_spacing_of_a_projection_has_its_source(tmp_path, changes, mm, source, uncalibrated):
    description = converted(planar_dataset(PIXELS, **changes), tmp_path).description
    assert (description.image.spacing_mm, description.image.spacing_source) == (mm, source)
    assert ("spacing_uncalibrated" in description.flags) == uncalibrated


def test_i01_each_image_without_a_place_is_a_recording(tmp_path):
    for number in range(3):
        save(planar_dataset(PIXELS + number), tmp_path / f"{number}.dcm")
    sources = sources_in(CONVERTER, tmp_path)
    assert [[file.path.name for file in source.files] for source in sources] == [["0.dcm"], ["1.dcm"], ["2.dcm"]]
    for number, source in enumerate(sources):
        np.testing.assert_array_equal(convert(CONVERTER, source).arrays[0][0], PIXELS + number)
    together = replace(sources[0], files=tuple(s.primary for s in sources), roles=("slice",) * 3)
    with pytest.raises(ConversionError, match="inconsistent_series"):
        CONVERTER.describe(together)


def test_i01_of_one_series_those_with_a_place_are_a_volume(tmp_path):
    planes = stored_planes(3)
    for k, plane in enumerate(planes):
        save(slice_dataset(plane, k, 2.0 * k, SOPClassUID=SecondaryCaptureImageStorage), tmp_path / f"{k}.dcm")
    save(planar_dataset(PIXELS, SOPClassUID=SecondaryCaptureImageStorage, Modality="CT"), tmp_path / "report.dcm")
    shapes = {len(s.files): convert(CONVERTER, s).description.image.shape for s in sources_in(CONVERTER, tmp_path)}
    assert shapes == {1: (6, 5), 3: (3, 6, 5)}


@pytest.mark.parametrize("sop_class", [CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage])
def test_i02_a_slice_that_lost_its_place_is_refused(tmp_path, sop_class):
    assert refused(planar_dataset(PIXELS, SOPClassUID=sop_class), tmp_path) == "unsupported_geometry"


@pytest.mark.parametrize(
    "given", [{"ImagePositionPatient": [0, 0, 0]}, {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}]
)
def test_i02_half_a_place_is_refused(tmp_path, given):
    assert refused(planar_dataset(PIXELS, **given), tmp_path) == "unsupported_geometry"


@pytest.mark.parametrize(
    ("code", "modality"),
    [
        *[("CR", "xray"), ("DX", "xray"), ("MG", "mammography"), ("XA", "fluoroscopy"), ("RF", "fluoroscopy")],
        *[("US", "ultrasound"), ("ES", "endoscopy"), ("OP", "ophthalmic"), ("XC", "photograph"), ("NM", "nm")],
        *[("OT", "image"), ("", "image")],
    ],
)
def test_modalities(tmp_path, code, modality):
    assert converted(planar_dataset(PIXELS, Modality=code), tmp_path).description.modality == modality


# --- names in pixels, faces -------------------------------------------------------------------------


def flags_of(ds: Dataset, folder: Any) -> set[str]:
    return set(converted(ds, folder).description.flags)


@pytest.mark.parametrize(
    "sop_class",
    [
        *[ComputedRadiographyImageStorage, DigitalMammographyXRayImageStorageForPresentation],
        *[UltrasoundImageStorage, XRayAngiographicImageStorage, SecondaryCaptureImageStorage],
        VLPhotographicImageStorage,
    ],
)
def test_pixels_that_may_hold_names_are_flagged_unless_declared_not_to(tmp_path, sop_class):
    assert "burned_in_risk" in flags_of(planar_dataset(PIXELS, SOPClassUID=sop_class), tmp_path / "a")
    clean = planar_dataset(PIXELS, SOPClassUID=sop_class, BurnedInAnnotation="NO")
    assert "burned_in_risk" not in flags_of(clean, tmp_path / "b")
    named = planar_dataset(PIXELS, SOPClassUID=sop_class, BurnedInAnnotation="YES")
    assert refused(named, tmp_path / "c") == "quarantined_burned_in"


@pytest.mark.parametrize(
    ("changes", "risk"),
    [
        ({}, False),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, False),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
    ],
)
def test_slices_may_hold_names_where_they_are_captures(tmp_path, changes, risk):
    ds = slice_dataset(stored_planes(1)[0], 1, 0.0, **changes)
    flags = flags_of(ds, tmp_path)
    assert ("burned_in_risk" in flags) == risk
    assert ("secondary_capture" in flags) == ("SOPClassUID" in changes)


def test_a_cine_that_does_not_say_no_is_flagged(tmp_path):
    assert "burned_in_risk" in flags_of(cine_dataset(stored_planes(2), BurnedInAnnotation=None), tmp_path)


def region(code: str) -> dict[str, list[Dataset]]:
    item = Dataset()
    item.CodeValue = code
    return {"AnatomicRegionSequence": [item]}


@pytest.mark.parametrize(
    ("changes", "face"),
    [
        ({}, False),
        ({"BodyPartExamined": "HEAD"}, True),
        ({"BodyPartExamined": "BRAIN"}, True),
        ({"BodyPartExamined": "WHOLE BODY"}, True),
        ({"BodyPartExamined": "HEAD", "RecognizableVisualFeatures": "NO"}, False),
        ({"RecognizableVisualFeatures": "YES"}, True),
        ({"BodyPartExamined": "FOREHEAD SKIN"}, False),
        (region("T-D1100"), True),
        (region("69536005"), True),
        (region("T-D3000"), False),
    ],
)
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_scans_of_heads_show_faces(tmp_path, changes, face, modality):
    ds = slice_dataset(stored_planes(1)[0], 1, 0.0, Modality=modality, **changes)
    assert ("recognizable_features" in flags_of(ds, tmp_path)) == face


def test_frames_of_heads_show_faces(tmp_path):
    (item,) = region("69536005")["AnatomicRegionSequence"]
    frames = [at([0, 0, 2.0 * k], FrameAnatomySequence={"AnatomicRegionSequence": [item]}) for k in range(2)]
    assert "recognizable_features" in flags_of(enhanced_dataset(stored_planes(2), frames), tmp_path)


@pytest.mark.parametrize(
    ("changes", "face"),
    [
        ({"Modality": "XC"}, True),
        ({"Modality": "XC", "RecognizableVisualFeatures": "NO"}, False),
        ({"Modality": "ES"}, False),
        ({"Modality": "CR", "BodyPartExamined": "SKULL"}, False),
    ],
)
def test_photographs_show_faces(tmp_path, changes, face):
    assert ("recognizable_features" in flags_of(planar_dataset(PIXELS, **changes), tmp_path)) == face


def test_codes_of_heads_are_those_of_snomed():
    names = ("Head", "HeadAndNeck", "Brain", "Skull", "Face", "OrbitalStructure", "Eye", "EntireBody")
    codes = {code for name in names for code in concepts["SCT"][name]}
    older = {old for old, new in mapping["SRT"].items() if new in codes}
    assert codes <= _dicom_risks._HEAD_CODES
    assert codes | older >= _dicom_risks._HEAD_CODES


def test_the_series_uid_is_the_same_throughout():
    """What the tests of grouping rest on."""
    assert planar_dataset(PIXELS).SeriesInstanceUID == UID(SERIES) == slice_dataset(PIXELS, 1, 0.0).SeriesInstanceUID
