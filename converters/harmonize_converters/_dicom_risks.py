"""What a DICOM header says, or does not say, of names in its pixels and of faces; and of pixels that a screen gave."""

from __future__ import annotations

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import items, lenient_text, text, texts
from harmonize_converters.contract import ConversionError

TAGS = ("BurnedInAnnotation", "RecognizableVisualFeatures", "BodyPartExamined", "AnatomicRegionSequence")
_HEADS = frozenset(
    (
        *("HEAD", "HEADNECK", "BRAIN", "SKULL", "FACE", "FACIALBONES", "ORBIT", "EYE", "NOSE", "SINUS", "SINUSES"),
        *("PARANASALSINUS", "JAW", "MANDIBLE", "MAXILLA", "TMJ", "EAR", "IAC", "PITUITARY", "SELLA", "WHOLEBODY"),
    )
)
"""Terms of BodyPartExamined (PS3.16 annex L) whose images show a face, without blanks and marks."""
_HEAD_CODES = frozenset(
    (
        *("69536005", "774007", "12738006", "89546000", "89545001", "363654007", "81745001", "38266002"),
        *("T-D1100", "T-D1000", "T-A0100", "T-11100", "T-D1200", "T-D14AE", "T-AA000", "T-D0010"),
    )
)
"""The same as codes of SNOMED CT and SRT: head, head and neck, brain, skull, face, orbit, eye, whole body."""
_SCANS = ("ct", "mr", "pt")


def is_capture(sop_class_name: str) -> bool:
    """Whether pixels were captured from a screen, a film or software, not acquired by a device (PS3.3 A.8)."""
    return "Secondary Capture" in sop_class_name


def burned_in_risk(header: Dataset, sop_class_name: str, placed: bool) -> bool:
    """Whether names may be burned into the pixels: of every image that is no slice with a place in the patient, of
    ultrasound and captures also with one, unless the header declares that there are none (PS3.15 E.3.1).

    Raises ``ConversionError`` where the header declares that there are some.
    """
    declared = (text(header, "BurnedInAnnotation") or "").upper()
    if declared == "YES":
        raise ConversionError("quarantined_burned_in")
    likely = is_capture(sop_class_name) or "Ultrasound" in sop_class_name or "SCREEN SAVE" in texts(header, "ImageType")
    return declared != "NO" and (likely or not placed)


def recognizable_features(header: Dataset, modality: str) -> bool:
    """Whether a face may be seen or rebuilt: as declared (PS3.3 C.7.6.1); where nothing is, in scans of heads and in
    photographs."""
    declared = (lenient_text(header, "RecognizableVisualFeatures") or "").upper()
    if declared in ("YES", "NO"):
        return declared == "YES"
    return modality == "photograph" or (modality in _SCANS and _is_head(header))


def _is_head(header: Dataset) -> bool:
    part = lenient_text(header, "BodyPartExamined") or ""
    if "".join(filter(str.isalpha, part.upper())) in _HEADS:
        return True
    try:
        regions = items(header, "AnatomicRegionSequence")
    except ConversionError:
        return False
    return any(lenient_text(region, "CodeValue") in _HEAD_CODES for region in regions)
