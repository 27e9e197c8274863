"""What a PET header says of the radiopharmaceutical, for standardized uptake values (PS3.3 C.8.9.1 and C.8.9.2)."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import element, items, lenient_number, lenient_text, lenient_texts
from harmonize_converters._dicom_subject import clock, day, moment
from harmonize_converters.contract import ConversionError
from harmonize_schemas import Tracer

_SUV_CREATOR, _SUV = 0x70530010, 0x70531000
TAGS = (
    *("RadiopharmaceuticalInformationSequence", "DecayCorrection", "CorrectedImage", "SeriesDate", "SeriesTime"),
    *(_SUV_CREATOR, _SUV),
)
_LONG = timedelta(days=1)
"""Between injection and scan no more passes; a time alone that is later than the scan is of the day before."""


def tracer(header: Dataset, earliest: datetime | None) -> Tracer | None:
    """The tracer of a PET series; ``earliest``: when the first of its slices was acquired. None where nothing is said,
    or where there were several injections."""
    try:
        found = items(header, "RadiopharmaceuticalInformationSequence")
    except ConversionError:
        return None
    if len(found) != 1:
        return None
    (one,) = found
    return Tracer(
        radionuclide=_code(one, "RadionuclideCodeSequence"),
        radiopharmaceutical=_code(one, "RadiopharmaceuticalCodeSequence"),
        dose_bq=lenient_number(one, "RadionuclideTotalDose", 1, 1e12),
        half_life_s=lenient_number(one, "RadionuclideHalfLife", 1, 1e9),
        decay_s=_decay_s(header, one, earliest),
        suv_per_count=_suv_per_count(header),
    )


def _decay_s(header: Dataset, one: Dataset, earliest: datetime | None) -> float | None:
    """Seconds from injection to the time that values are corrected to. Corrected to the start, that is the series'
    time, unless it is later than the first slice: then the series was made anew and its time says nothing (QIBA)."""
    if "DECY" not in lenient_texts(header, "CorrectedImage"):
        return None
    correction = lenient_text(header, "DecayCorrection")
    if correction == "ADMIN":
        return 0.0
    on, at = day(lenient_text(header, "SeriesDate")), clock(lenient_text(header, "SeriesTime"))
    if correction != "START" or on is None or at is None or earliest is None:
        return None
    start = datetime.combine(on, at)
    injected = moment(one, "RadiopharmaceuticalStartDateTime") or _before(
        clock(lenient_text(one, "RadiopharmaceuticalStartTime")), start, on
    )
    if start > earliest or injected is None or not timedelta(0) <= start - injected < _LONG:
        return None
    return (start - injected).total_seconds()


def _before(injected: time | None, start: datetime, on: date) -> datetime | None:
    if injected is None:
        return None
    same_day = datetime.combine(on, injected)
    return same_day if same_day <= start else same_day - _LONG


def _suv_per_count(header: Dataset) -> float | None:
    """The SUV scale factor of Philips."""
    try:
        creator = element(header, _SUV_CREATOR)
        if not isinstance(creator, str) or creator.strip() != "Philips PET Private Group":
            return None
        found = float(element(header, _SUV))  # type: ignore[arg-type] # refused below
    except (ConversionError, TypeError, ValueError, OverflowError):
        return None
    return found if 0 < found < 1e9 else None


def _code(one: Dataset, name: str) -> str | None:
    """The first code of a sequence, "scheme:value"."""
    try:
        found = items(one, name)
    except ConversionError:
        return None
    value = lenient_text(found[0], "CodeValue", r"[A-Za-z0-9.\-]{1,16}") if found else None
    scheme = lenient_text(found[0], "CodingSchemeDesignator", r"[A-Z0-9]{1,16}") if found else None
    return f"{scheme}:{value}" if scheme and value else None
