"""PET: what standardized uptake values are computed from, by hand (PS3.3 C.8.9, QIBA's vendor-neutral rule)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from converters.conformance import only_source
from converters.dicom_files import SERIES, changed, save, slice_dataset, stored_planes
from harmonize_converters.contract import Description
from harmonize_converters.dicom import DicomConverter
from harmonize_schemas import Tracer

HALF_LIFE_S = 6586.2


def coded(scheme: str, value: str) -> list[Dataset]:
    return [changed(Dataset(), {"CodingSchemeDesignator": scheme, "CodeValue": value, "CodeMeaning": "planted"})]


def injection(**changes: Any) -> list[Dataset]:
    one = Dataset()
    one.RadionuclideTotalDose, one.RadionuclideHalfLife = "370000000", str(HALF_LIFE_S)
    one.RadiopharmaceuticalStartTime = "090000.00"
    one.RadionuclideCodeSequence = coded("SRT", "C-111A1")
    one.RadiopharmaceuticalCodeSequence = coded("SRT", "C-B1031")
    return [changed(one, changes)]


def describe(folder: Path, **changes: Any) -> Description:
    for k, plane in enumerate(stored_planes(3)):
        ds = slice_dataset(plane, k + 1, 2.5 * k)
        pet: dict[str, Any] = {
            **{"SOPClassUID": PositronEmissionTomographyImageStorage, "Modality": "PT", "Units": "BQML", "KVP": None},
            **{"RescaleType": None, "RescaleIntercept": "0", "PatientWeight": "74", "DecayCorrection": "START"},
            **{"CorrectedImage": ["DECY", "ATTN"], "SeriesDate": "20230405", "SeriesTime": "100000"},
            **{"RadiopharmaceuticalInformationSequence": injection(), "ConvolutionKernel": None},
        }
        ds.SOPInstanceUID = f"{SERIES}.{k + 1}"
        save(changed(ds, pet | changes), folder / f"{k}.dcm")
    return DicomConverter().describe(only_source(DicomConverter(), folder)).description


def test_a_tracer_and_the_time_that_its_activity_is_corrected_to(tmp_path: Path) -> None:
    found = describe(tmp_path)
    assert found.acquisition.tracer == Tracer(
        radionuclide="SRT:C-111A1",
        radiopharmaceutical="SRT:C-B1031",
        dose_bq=370e6,
        half_life_s=HALF_LIFE_S,
        decay_s=3600.0,
    )
    assert found.image is not None
    assert found.image.unit == "Bq/ml"
    assert "planted" not in repr(found)


@pytest.mark.parametrize(
    ("changes", "decay_s"),
    [
        ({"DecayCorrection": "ADMIN"}, 0.0),
        ({"DecayCorrection": "NONE"}, None),
        ({"CorrectedImage": ["ATTN"]}, None),
        ({"SeriesTime": "102000"}, None),
        ({"RadiopharmaceuticalInformationSequence": injection(RadiopharmaceuticalStartTime="230000")}, 39600.0),
        (
            {
                "RadiopharmaceuticalInformationSequence": injection(
                    RadiopharmaceuticalStartTime=None, RadiopharmaceuticalStartDateTime="20230405083000"
                )
            },
            5400.0,
        ),
        (
            {"RadiopharmaceuticalInformationSequence": injection(RadiopharmaceuticalStartDateTime="20230101083000")},
            None,
        ),
        ({"RadiopharmaceuticalInformationSequence": injection(RadiopharmaceuticalStartTime="09")}, None),
    ],
    ids=["to the injection", "not at all", "not said", "a series made anew", "the day before", "with a date", "months ago", "no time"],
)  # fmt: skip
def test_which_time_values_are_corrected_to(tmp_path: Path, changes: dict[str, Any], decay_s: float | None) -> None:
    tracer = describe(tmp_path, **changes).acquisition.tracer
    assert tracer is not None
    assert tracer.decay_s == decay_s


def test_nothing_and_several_injections_are_no_tracer(tmp_path: Path) -> None:
    assert describe(tmp_path / "a", RadiopharmaceuticalInformationSequence=None).acquisition.tracer is None
    two = [*injection(), *injection()]
    assert describe(tmp_path / "b", RadiopharmaceuticalInformationSequence=two).acquisition.tracer is None
    assert describe(tmp_path / "c", Modality="CT").acquisition.tracer is None


def test_the_factor_of_philips(tmp_path: Path) -> None:
    ds = Dataset()
    ds.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.00012")
    private = {"Units": "CNTS"}
    folder = tmp_path / "in"
    describe(folder, **private)
    for file in folder.iterdir():
        one = dcmread(file)
        one.update(ds)
        save(one, file)
    found = DicomConverter().describe(only_source(DicomConverter(), folder)).description
    assert found.acquisition.tracer is not None
    assert found.image is not None
    assert found.acquisition.tracer.suv_factor(found.image.unit, 74.0) == 0.00012


def test_an_suv_by_hand() -> None:
    """A dose of 100 MBq, one half-life later 50, in 75 kg: 5,000 Bq/ml are 5000 * 75000 / 50e6 = 7.5 g/ml."""
    tracer = Tracer(dose_bq=100e6, half_life_s=6000.0, decay_s=6000.0)
    assert tracer.suv_factor("Bq/ml", 75.0) == pytest.approx(7.5 / 5000)
    assert Tracer(dose_bq=100e6, half_life_s=6000.0, decay_s=0.0).suv_factor("Bq/ml", 75.0) == pytest.approx(7.5e-4)
    assert tracer.suv_factor("Bq/ml", None) is None
    assert tracer.suv_factor(None, 75.0) is None
    assert Tracer(dose_bq=100e6, half_life_s=6000.0).suv_factor("Bq/ml", 75.0) is None
