"""Functional groups of a multi-frame object (PS3.3 C.7.6.16) as one flat header a frame, in classic names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import items, quiet, value_of, whole
from harmonize_converters.contract import ConversionError

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
TAGS = ("NumberOfFrames", SHARED, PER_FRAME)
# Where a frame lies is said by its functional groups or not at all.
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices")
_CONVERTED = (
    *("EchoTime", "EchoNumbers", "RepetitionTime", "InversionTime", "FlipAngle", "ImageType", "KVP"),
    *("ConvolutionKernel", "AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "Units"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "ScanningSequence", "MRAcquisitionType"),
)
_FRAME_TYPE = {"FrameType": "ImageType", "ComplexImageComponent": "ComplexImageComponent"}
MACROS: Mapping[str, Mapping[str, str]] = {
    # Attributes that a conversion of classic images found no macro for (PS3.3 C.7.6.16.2.25); others come first.
    "UnassignedSharedConvertedAttributesSequence": {name: name for name in _CONVERTED},
    "UnassignedPerFrameConvertedAttributesSequence": {name: name for name in _CONVERTED},
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {name: name for name in ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness")},
    "PixelValueTransformationSequence": {name: name for name in ("RescaleSlope", "RescaleIntercept", "RescaleType")},
    "FrameContentSequence": {
        "StackID": "StackID",
        "TemporalPositionIndex": "TemporalPositionIdentifier",
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "FrameReferenceDateTime": "FrameReferenceDateTime",
        "FrameAcquisitionDateTime": "AcquisitionDateTime",
    },
    "SegmentIdentificationSequence": {"ReferencedSegmentNumber": "ReferencedSegmentNumber"},
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRDiffusionSequence": {
        "DiffusionBValue": "DiffusionBValue",
        "DiffusionDirectionality": "DiffusionDirectionality",
    },
    "MRTimingAndRelatedParametersSequence": {"RepetitionTime": "RepetitionTime", "FlipAngle": "FlipAngle"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": "TriggerTime"},
    "CTXRayDetailsSequence": {"KVP": "KVP"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "FrameAnatomySequence": {"AnatomicRegionSequence": "AnatomicRegionSequence"},
    "MRImageFrameTypeSequence": _FRAME_TYPE,
    "CTImageFrameTypeSequence": _FRAME_TYPE,
    "PETFrameTypeSequence": _FRAME_TYPE,
    "XRay3DFrameTypeSequence": _FRAME_TYPE,
}
"""Functional group macros (PS3.3 C.7.6.16.2, C.8): element of the macro to the name that a slice is read by."""


def n_frames(header: Dataset) -> int:
    """NumberOfFrames, 1 where absent."""
    frames = whole(header, "NumberOfFrames") or 1
    if frames < 0:
        raise ConversionError("invalid_header", "One frame or more would be right.", "NumberOfFrames")
    return frames


def has_groups(header: Dataset) -> bool:
    """Whether a header describes its frames by functional groups."""
    return value_of(header, SHARED) is not None or value_of(header, PER_FRAME) is not None


def frame_headers(header: Dataset) -> Iterator[Dataset]:
    """One flat header for each frame in stored order; the header itself where it has no functional groups.

    A macro of the frame stands for the shared one as a whole (PS3.3 C.7.6.16.1.1). Raises ``ConversionError``.
    """
    if not has_groups(header):
        yield header
        return
    frames = n_frames(header)
    shared = items(header, SHARED)
    each = items(header, PER_FRAME)
    if len(shared) > 1 or len(each) not in ((frames, 0) if frames == 1 else (frames,)):
        raise ConversionError("invalid_header", f"{len(each)} functional groups for {frames} frames.", PER_FRAME)
    base = Dataset()
    left_out = {tag_for_keyword(name) for name in (SHARED, PER_FRAME, *_GEOMETRY)}
    for tag in list(header.keys()):
        if tag not in left_out:
            base[tag] = header.get_item(
                tag, keep_deferred=True
            )  # as it lies: what reads it converts it or says why not
    common = {name: item for name in MACROS if shared and (item := _item(shared[0], name)) is not None}
    implicit, little = header.original_encoding
    for index in range(frames):
        flat = Dataset()
        flat.set_original_encoding(implicit, little, header.original_character_set)
        flat.update(base)
        own = each[index] if each else None
        for name, elements in MACROS.items():
            item = _item(own, name) if own is not None else None
            item = common.get(name) if item is None else item
            if item is not None:
                _copy(item, elements, flat)
        yield flat


def _item(groups: Dataset, name: str) -> Dataset | None:
    """The one item of a macro, None where the macro is absent or empty."""
    found = items(groups, name)
    if len(found) > 1:
        raise ConversionError("invalid_header", "One item would be right.", name)
    return found[0] if found else None


def _copy(item: Dataset, elements: Mapping[str, str], flat: Dataset) -> None:
    for name, target in elements.items():
        tag = tag_for_keyword(name)
        if name != target or tag is None:
            _set(flat, target, item, name)
        elif tag in item:
            flat[tag] = item.get_item(tag, keep_deferred=True)  # as it lies
    direction = _item(item, "DiffusionGradientDirectionSequence") if "DiffusionDirectionality" in elements else None
    if direction is not None:
        _set(flat, "DiffusionGradientOrientation", direction, "DiffusionGradientOrientation")


def _set(flat: Dataset, target: str, item: Dataset, name: str) -> None:
    value = value_of(item, name)
    tag = tag_for_keyword(target)
    if value is None or tag is None:
        return
    try:
        with quiet():
            flat[tag] = DataElement(tag, item[name].VR, value)
    except Exception:  # noqa: BLE001
        raise ConversionError("invalid_header", "", name) from None
