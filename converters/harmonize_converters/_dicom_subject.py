"""From a DICOM header: how it was acquired (typed tags only), the subject, and the identifying fields."""

from __future__ import annotations

import re
from datetime import date, datetime, time

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import lenient_number, lenient_text, lenient_texts
from harmonize_converters._fields import calendar_date, pooled_age, whole_years
from harmonize_converters.contract import Identity
from harmonize_schemas import Acquisition, Demographics

TAGS = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "MagneticFieldStrength", "KVP"),
    *("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "ConvolutionKernel", "SliceThickness"),
    *("GantryDetectorTilt", "BodyPartExamined", "PatientPosition"),
    *("PatientAge", "PatientBirthDate", "PatientSex", "PatientWeight", "PatientSize"),
    *("SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "PatientName", "StudyInstanceUID", "InstitutionName", "DeviceSerialNumber", "StationName"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime"),
    *("StudyDate", "StudyTime", "ContentDate", "ContentTime"),
)
RECIPE_TAGS = (
    *("Modality", "StudyDescription", "SeriesDescription", "ProtocolName", "BodyPartExamined", "AccessionNumber"),
    *("PatientID", "PatientSex", "PatientAge", "StudyID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("InstitutionName", "StationName", "Manufacturer", "ManufacturerModelName", "SequenceName", "ImageType"),
    *("ClinicalTrialProtocolID", "ClinicalTrialSiteID", "ClinicalTrialSubjectID", "ClinicalTrialTimePointID"),
)
"""Elements whose texts a recipe may name (``header:``)."""
LARGE = 1e6
_DAYS = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_SEX = {"M": "male", "F": "female", "O": "other"}


def acquisition(header: Dataset) -> Acquisition:
    """Acquisition from enumerated tags; what cannot be read or cannot be true is left out."""

    def seconds(name: str) -> float | None:
        milliseconds = lenient_number(header, name, 0, LARGE)
        return None if milliseconds is None else milliseconds / 1000

    return Acquisition(
        device_maker=lenient_text(header, "Manufacturer"),
        device_model=lenient_text(header, "ManufacturerModelName"),
        device_software=lenient_text(header, "SoftwareVersions"),
        # Some devices write gauss; a tesla value above 25 has not been built.
        field_strength_t=lenient_number(header, "MagneticFieldStrength", 1e-3, 25),
        tube_voltage_kv=lenient_number(header, "KVP", 1, 1000),
        repetition_time_s=seconds("RepetitionTime"),
        echo_time_s=seconds("EchoTime"),
        inversion_time_s=seconds("InversionTime"),
        flip_angle_deg=lenient_number(header, "FlipAngle", -360, 360),
        convolution_kernel=lenient_text(header, "ConvolutionKernel"),
        slice_thickness_mm=lenient_number(header, "SliceThickness", 1e-6, 1000),
        gantry_tilt_deg=lenient_number(header, "GantryDetectorTilt", -90, 90),
        body_part=lenient_text(header, "BodyPartExamined", r"[A-Z0-9_ ]{1,16}"),
        patient_position=lenient_text(header, "PatientPosition", r"[A-Z]{2,4}"),
    )


def demographics(header: Dataset) -> Demographics:
    """Age in years (above 89 pooled), sex, weight and height."""
    sex = lenient_text(header, "PatientSex", "[MFO]")
    height_m = lenient_number(header, "PatientSize", 0.1, 2.8)
    return Demographics.model_validate(
        {
            **pooled_age(_age(header)),
            "sex": _SEX[sex] if sex else None,
            "sex_found": sex,
            "height_cm": None if height_m is None else round(height_m * 100, 6),
            "weight_kg": lenient_number(header, "PatientWeight", 0.1, 700),
        }
    )


def _age(header: Dataset) -> float | None:
    stated = lenient_text(header, "PatientAge", r"\d{3}[DWMY]")
    if stated:
        years = int(stated[:3]) / _DAYS[stated[3]]
        return round(years, 2) if years <= 120 else None
    born = day(lenient_text(header, "PatientBirthDate"))
    at = day(lenient_text(header, "StudyDate"))
    return whole_years(born, at) if born and at else None


def identity(header: Dataset) -> Identity:
    """The fields that identify, for the privacy step only."""
    return Identity(
        subject=lenient_text(header, "PatientID") or lenient_text(header, "PatientName", r"[^\x00-\x1f\x7f]{1,324}"),
        session=lenient_text(header, "StudyInstanceUID"),
        site=lenient_text(header, "InstitutionName"),
        device_id=lenient_text(header, "DeviceSerialNumber") or lenient_text(header, "StationName"),
        start=start(header),
        series=lenient_text(header, "SeriesInstanceUID"),
        frame_of_reference=lenient_text(header, "FrameOfReferenceUID"),
    )


def recipe_texts(header: Dataset) -> dict[str, str]:
    """The texts of ``RECIPE_TAGS`` that are there."""
    named = {tag: "\\".join(lenient_texts(header, tag)) for tag in RECIPE_TAGS}
    return {tag: text for tag, text in named.items() if text.strip("\0")}


def start(header: Dataset) -> datetime | None:
    """When the acquisition began, in the device's local time; date and time of one kind only."""
    if both := moment(header, "AcquisitionDateTime"):
        return both
    for kind in ("Acquisition", "Content", "Series", "Study"):
        on = day(lenient_text(header, f"{kind}Date"))
        at = clock(lenient_text(header, f"{kind}Time"))
        if on and at:
            return datetime.combine(on, at)
    return None


def moment(header: Dataset, name: str) -> datetime | None:
    """A DT element, to the second at least; its zone is dropped."""
    return moment_of(lenient_text(header, name) or "")


def moment_of(text: str) -> datetime | None:
    """A DT value, as ``moment``."""
    found = re.fullmatch(r"(\d{8})(\d{6}.*?)([+-]\d{4})?", text, re.ASCII)
    on, at = (day(found[1]), clock(found[2])) if found else (None, None)
    return datetime.combine(on, at) if on and at else None


def day(text: str | None) -> date | None:
    """A DA value; ``2004.01.19`` is its form before 1993 (PS3.5 6.2)."""
    found = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", text or "", re.ASCII)
    return calendar_date(int(found[1]), int(found[2]), int(found[3])) if found else None


def clock(text: str | None) -> time | None:
    """A TM value, ``HHMM`` at least; a leap second is read as the second before it."""
    found = re.fullmatch(r"(\d\d):?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?", text or "", re.ASCII)
    if not found or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 60:
        return None
    micro = int((found[4] or "").ljust(6, "0"))
    return time(int(found[1]), int(found[2]), min(int(found[3] or 0), 59), micro)
