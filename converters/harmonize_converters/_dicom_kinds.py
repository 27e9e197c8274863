"""The volumes within multi-frame objects: which frames no volume spans together (FIDELITY I01, I05). No files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import numbers, text, texts
from harmonize_converters._dicom_volume import clusters

SPLIT_TAGS = (
    *("StackID", "ImageType", "ComplexImageComponent", "EchoTime", "InversionTime", "FlipAngle", "PixelSpacing"),
    *("KVP", "ConvolutionKernel"),
)
_DIRECTED = ("DIRECTIONAL", "BMATRIX")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a frame's volume is told by: texts of ``SPLIT_TAGS``, orientation, DiffusionDirectionality."""

    split: tuple[str, ...]
    orientation: tuple[float, ...] | None
    directionality: str


def kind_of(header: Dataset) -> Kind:
    """The kind of one frame, from its flat header (``frame_headers``). Raises ``ConversionError``."""
    split = tuple("\\".join(texts(header, tag)) for tag in SPLIT_TAGS)
    orientation = numbers(header, "ImageOrientationPatient")
    return Kind(split, orientation, text(header, "DiffusionDirectionality") or "")


def members(kinds: Sequence[Kind]) -> list[str | None]:
    """For each frame the name of its volume; None for all where there is only one.

    A name says what differs, such as ``EchoTime=2.5`` or ``orientation=2``. It does not depend on the order
    of frames: orientations are numbered in the order of their numbers.
    """
    distinct = sorted({kind.orientation for kind in kinds}, key=lambda one: one or ())
    numbered = dict(zip(distinct, clusters(distinct), strict=True))
    # Trace images beside the directions that they were computed from are an image of their own.
    directed = any(kind.directionality in _DIRECTED for kind in kinds)
    rows = [
        (
            *kind.split,
            str(numbered[kind.orientation] + 1),
            "trace" if directed and kind.directionality == "ISOTROPIC" else "",
        )
        for kind in kinds
    ]
    names = (*SPLIT_TAGS, "orientation", "diffusion")
    differing = [column for column in range(len(names)) if len({row[column] for row in rows}) > 1]
    if not differing:
        return [None] * len(rows)
    return [",".join(f"{names[column]}={row[column]}" for column in differing) for row in rows]
