"""Diffusion weighting in the private elements of makers, against dcm2niix's b-values and vectors (FIDELITY I13)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dcm2niix
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from converters.conformance import code_of_refusal, convert, only_source
from converters.dicom_files import AXIAL, SERIES, csa_header, save, slice_dataset, stored_planes
from harmonize_converters._dicom_private import weighting
from harmonize_converters.contract import Description
from harmonize_converters.dicom import DicomConverter
from harmonize_converters.nifti import NiftiConverter

WEIGHTINGS = ((0, (0.0, 0.0, 0.0)), (1000, (1.0, 0.0, 0.0)), (1000, (0.0, 1.0, 0.0)), (700, (0.0, 0.0, 1.0)), (1000, (0.6, 0.0, -0.8)))  # fmt: skip
TILTED = [1.0, 0.0, 0.0, 0.0, 0.9553365, 0.2955202]
MAKERS = {"ge": "GE MEDICAL SYSTEMS", "siemens": "SIEMENS", "philips": "Philips Medical Systems"}
N_PLACES = 3


def add_siemens(ds: Dataset, b: int, direction: Sequence[float]) -> None:
    block = ds.private_block(0x19, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", str(b))
    if b:
        block.add_new(0x0E, "FD", list(direction))


def add_philips(ds: Dataset, b: int, direction: Sequence[float]) -> None:
    ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", float(b))
    block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    for element, part in zip((0xB0, 0xB1, 0xB2), direction, strict=True):
        block.add_new(element, "FL", part)


def add_ge(ds: Dataset, b: int, direction: Sequence[float]) -> None:
    ds.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x39, "IS", [b, 8, 0, 0])
    block = ds.private_block(0x19, "GEMS_ACQU_01", create=True)
    for element, part in zip((0xBB, 0xBC, 0xBD), direction, strict=True):
        block.add_new(element, "DS", f"{part:.6f}")


ADD = {"ge": add_ge, "siemens": add_siemens, "philips": add_philips}


def write_diffusion(folder: Path, maker: str, orientation: Sequence[float] = AXIAL, **changes: Any) -> Path:
    """A volume for each of ``WEIGHTINGS``, told apart by private elements and the acquisition's number."""
    normal = np.cross(orientation[:3], orientation[3:])
    planes = stored_planes(N_PLACES * len(WEIGHTINGS))
    for number, plane in enumerate(planes):
        time, place = divmod(number, N_PLACES)
        ds = slice_dataset(
            *(plane, number + 1, 0.0),
            **{"SOPClassUID": MRImageStorage, "Modality": "MR", "Manufacturer": MAKERS[maker], "KVP": None,
               "ConvolutionKernel": None, "RescaleSlope": None, "RescaleIntercept": None, "RescaleType": None,
               "EchoTime": "80", "InPlanePhaseEncodingDirection": "COL", "SpacingBetweenSlices": "2.5",
               "ImageOrientationPatient": list(orientation), "AcquisitionNumber": time + 1,
               "ImagePositionPatient": [round(float(p), 5) for p in normal * 2.5 * place - 10], **changes},
        )  # fmt: skip
        ADD[maker](ds, *WEIGHTINGS[time])
        ds.SOPInstanceUID = f"{SERIES}.{number + 1}"
        save(ds, folder / f"{number:03d}.dcm")
    return folder


def by_dcm2niix(folder: Path, out: Path) -> Description:
    """What dcm2niix makes of it, as our reader of NIfTI reads that."""
    out.mkdir()
    command = [str(dcm2niix.bin), "-z", "n", "-b", "y", "-f", "out", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return NiftiConverter().describe(only_source(NiftiConverter(), out)).description


def ours(folder: Path) -> Description:
    return DicomConverter().describe(only_source(DicomConverter(), folder)).description


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("orientation", [AXIAL, TILTED], ids=["axial", "tilted"])
def test_b_values_and_directions_are_those_of_dcm2niix(tmp_path, maker: str, orientation: list[float]) -> None:
    folder = write_diffusion(tmp_path / "in", maker, orientation)
    judged, found = by_dcm2niix(folder, tmp_path / "out").image, ours(folder).image
    assert judged is not None
    assert found is not None
    assert found.shape == (len(WEIGHTINGS), N_PLACES, 6, 5)
    assert found.b_values_s_mm2 == judged.b_values_s_mm2 == tuple(float(b) for b, _ in WEIGHTINGS)
    np.testing.assert_allclose(found.b_vectors_ras, judged.b_vectors_ras, atol=1e-4)


def test_patient_coordinates_by_hand(tmp_path) -> None:
    """Siemens and Philips name directions in LPS; a minus sign on x and y makes that RAS. b = 700 is along z."""
    for maker in ("siemens", "philips"):
        found = ours(write_diffusion(tmp_path / maker, maker, TILTED)).image
        assert found is not None
        assert found.b_values_s_mm2 == (0.0, 1000.0, 1000.0, 700.0, 1000.0)
        expected = [(0, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 0, 1), (-0.6, 0, -0.8)]
        np.testing.assert_allclose(found.b_vectors_ras, expected, atol=1e-6)


def test_volumes_are_told_apart_by_private_elements_alone(tmp_path) -> None:
    """In the order of b-value, then direction."""
    folder = write_diffusion(tmp_path / "in", "siemens", AcquisitionNumber=None)
    outcome = convert(DicomConverter(), only_source(DicomConverter(), folder))
    assert outcome.description.image.b_values_s_mm2 == (0.0, 700.0, 1000.0, 1000.0, 1000.0)
    order = [0, 3, 2, 4, 1]
    planes = stored_planes(N_PLACES * len(WEIGHTINGS)).reshape(len(WEIGHTINGS), N_PLACES, 6, 5)
    np.testing.assert_array_equal(outcome.arrays[0].reshape(planes.shape), planes[order])


def test_some_versions_of_ge_add_a_mark_to_b_values(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("converters.test_dicom_private.WEIGHTINGS", tuple((b + 10**9, v) for b, v in WEIGHTINGS))
    folder = write_diffusion(tmp_path / "in", "ge")
    monkeypatch.undo()
    judged, found = by_dcm2niix(folder, tmp_path / "out").image, ours(folder).image
    assert found.b_values_s_mm2 == judged.b_values_s_mm2 == tuple(float(b) for b, _ in WEIGHTINGS)


@pytest.mark.parametrize(
    "changes",
    [
        {"InPlanePhaseEncodingDirection": "ROW"},
        {"InPlanePhaseEncodingDirection": None},
        {"PatientPosition": "FFS"},
        {"orientation": [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]},
    ],
)
def test_directions_of_ge_that_dcm2niix_warns_of_are_not_known(tmp_path, changes: dict[str, Any]) -> None:
    found = ours(write_diffusion(tmp_path, "ge", **changes)).image
    assert found.b_values_s_mm2 == (0.0, 1000.0, 1000.0, 700.0, 1000.0)
    assert found.b_vectors_ras is None


def without_creators(folder: Path, syntax: str) -> Path:
    """As some anonymisers leave a series."""
    for file in folder.iterdir():
        ds = dcmread(file)
        for creator in (0x00190010, 0x00430010, 0x20010010, 0x20050010):
            ds.pop(creator, None)
        save(ds, file, syntax)
    return folder


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_elements_of_ge_without_creators_are_read_and_flagged(tmp_path, syntax: str) -> None:
    folder = without_creators(write_diffusion(tmp_path / "in", "ge"), syntax)
    found, judged = ours(folder), by_dcm2niix(folder, tmp_path / "out").image
    assert found.image.b_values_s_mm2 == judged.b_values_s_mm2
    np.testing.assert_allclose(found.image.b_vectors_ras, judged.b_vectors_ras, atol=1e-4)
    assert "private_creator_missing" in found.flags


@pytest.mark.parametrize("maker", ["siemens", "philips"])
def test_elements_of_others_without_creators_mean_nothing(tmp_path, maker: str) -> None:
    found = ours(without_creators(write_diffusion(tmp_path, maker), ExplicitVRLittleEndian))
    assert found.image.b_values_s_mm2 is None
    assert "private_creator_missing" not in found.flags


def one(**elements: Any) -> Dataset:
    ds = Dataset()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def test_a_block_of_somebody_else_says_nothing() -> None:
    ds = one(Manufacturer="GE MEDICAL SYSTEMS")
    ds.private_block(0x43, "ACME 1", create=True).add_new(0x39, "IS", [1000, 8, 0, 0])
    assert weighting(ds) == (None, ())


def test_the_csa_header_where_there_is_nothing_else() -> None:
    ds = one(Manufacturer="SIEMENS")
    data = csa_header(B_value=[850], DiffusionGradientDirection=[0.0, 0.6, 0.8])
    ds.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", data)
    assert weighting(ds) == (850.0, (0.0, 0.6, 0.8))


@pytest.mark.parametrize(
    ("element", "vr", "value"),
    [(0x0C, "IS", "-5"), (0x0C, "LO", "many"), (0x0E, "FD", [1.0, 1.0, 0.0]), (0x0E, "FD", [1.0])],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, element: int, vr: str, value: Any) -> None:
    folder = write_diffusion(tmp_path, "siemens")
    for file in folder.iterdir():
        ds = dcmread(file)
        ds.private_block(0x19, "SIEMENS MR HEADER").add_new(element, vr, value)
        save(ds, file)
    assert code_of_refusal(DicomConverter(), folder) == "invalid_header"


@pytest.mark.parametrize("scales", [(0.00344,) * 3, (0.00344, 0.005, 0.00344)], ids=["one", "one a slice"])
def test_i06_the_scale_slope_of_philips_is_kept(tmp_path, scales: tuple[float, ...]) -> None:
    for k, plane in enumerate(stored_planes(3)):
        ds = slice_dataset(
            *(plane, k + 1, 2.5 * k),
            **{"SOPClassUID": MRImageStorage, "Modality": "MR", "Manufacturer": MAKERS["philips"], "KVP": None,
               "RescaleSlope": "2.5", "RescaleIntercept": "0", "RescaleType": "normalized"},
        )  # fmt: skip
        ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", scales[k])
        ds.SOPInstanceUID = f"{SERIES}.{k + 1}"
        save(ds, tmp_path / "in" / f"{k}.dcm")
    found = ours(tmp_path / "in").image
    assert found.slopes == (2.5,)
    expected = np.float32(scales[:1] if len(set(scales)) == 1 else scales)
    np.testing.assert_array_equal(np.float32(found.scale_slopes), expected)
    if len(set(scales)) == 1:  # dcm2niix keeps one a file
        by_dcm2niix(tmp_path / "in", tmp_path / "out")
        sidecar = json.loads((tmp_path / "out" / "out.json").read_text())
        assert sidecar["PhilipsScaleSlope"] == pytest.approx(found.scale_slopes[0])
        assert sidecar["PhilipsRescaleSlope"] == found.slopes[0]
