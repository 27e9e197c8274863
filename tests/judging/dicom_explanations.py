"""Why a judge and harmonize differ over DICOM, and who is right by the standard: data of ``docs/dicom.md``."""

from __future__ import annotations

from dataclasses import dataclass

from judging.dicom_model import Aspect

STANDARD = "https://dicom.nema.org/medical/dicom/current/output/chtml"
PLANE = f"[PS3.3 C.7.6.2.1.1]({STANDARD}/part03/sect_C.7.6.2.html)"
FRAMES = f"[PS3.3 C.7.6.6]({STANDARD}/part03/sect_C.7.6.6.html)"
GROUPS = f"[PS3.3 C.7.6.16]({STANDARD}/part03/sect_C.7.6.16.html)"


@dataclass(frozen=True, slots=True)
class Explanation:
    """For differences of a section and of some aspects; of one code of ours, some names, kinds (``whats``) or judges
    only, where those are given. ``right`` is who is right by the standard, or "not yet built"."""

    section: str
    aspects: tuple[Aspect, ...]
    title: str
    right: str
    why: str
    code: str = ""
    names: tuple[str, ...] = ()
    whats: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()


_SEGMENTATIONS = tuple(f"Segmentation Storage; Explicit VR {order} Endian" for order in ("Little", "Big"))

EXPLANATIONS = (
    Explanation(
        "series",
        ("geometry",),
        "One slice has no third axis",
        "harmonize",
        f"The file has neither SpacingBetweenSlices nor SliceThickness, and by {PLANE} one plane's position says nothing "
        "of a step between planes. The judges write 1 mm, which no header says. harmonize keeps the values and the "
        "orientation, gives no affine, and says so by a flag.",
        names=("ge/anatomical/001_single_slice",),
    ),
    Explanation(
        "series",
        ("geometry",),
        "Positions are rounded to 0.001 mm",
        "both",
        f"The positions of these slices have three decimals and lie on no line exactly. By {PLANE} harmonize takes the step "
        "from the first to the last of them; dcm2niix another way. Corners then differ by as much as the header rounds.",
        names=("ge/dti/002",),
        judges=("dcm2niix",),
    ),
    Explanation(
        "pydicom",
        ("file",),
        "Frames that nothing says are times",
        "harmonize by the letter",
        f"A secondary capture of several frames without FrameIncrementPointer, which {FRAMES} requires. They may be times "
        "or pages; pydicom gives them and leaves their meaning to the caller.",
        code="unsupported_multiframe",
    ),
    Explanation(
        "pydicom",
        ("file",),
        "Segmentations of one frame with the groups of three",
        "harmonize",
        f"They have one frame (no NumberOfFrames), and functional groups that describe three, at three positions. By "
        f"{GROUPS} there is one item for each frame, so nothing says where the frame lies. pydicom gives its bits, which "
        "need no place. Segmentations that are whole are converted (`tests/converters/test_dicom_seg.py`; the judge is "
        "highdicom).",
        whats=_SEGMENTATIONS,
    ),
    Explanation(
        "pydicom",
        ("file",),
        "Radiotherapy doses",
        "harmonize",
        "A computed dose is no image of a patient (FIDELITY I14): harmonize reports it by its class. pydicom gives stored "
        "values, without DoseGridScaling.",
        code="unsupported_sop_class",
    ),
    Explanation(
        "syntaxes",
        ("values",),
        "Lossy codecs lose",
        "both",
        "The encoder was asked to be lossy. harmonize gives exactly what pydicom decodes from the encoded files, and flags "
        "`lossy_compression`; near-lossless JPEG-LS stays within its bound.",
        judges=("pydicom, original",),
        whats=("JPEG-LS Near-Lossless (to 2)", "JPEG 2000 (10 : 1)"),
    ),
)
