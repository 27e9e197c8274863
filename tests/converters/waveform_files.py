"""Small DICOM waveforms written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import TwelveLeadECGWaveformStorage

from converters.dicom_files import changed, slice_dataset, stored_planes
from converters.seg_files import concept

_OF_IMAGES = (
    *("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImageType"),
    *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "KVP", "SliceThickness", "ConvolutionKernel"),
    *("FrameOfReferenceUID", "BodyPartExamined", "PatientPosition"),
)
_KINDS = {"i1": "SB", "u1": "UB", "i2": "SS", "u2": "US", "i4": "SL", "u4": "UL"}
Code = tuple[str, str]
"""Value and scheme."""


def coded(code: Code) -> list[Dataset]:
    """A code sequence of one item; its meaning is the file's own word, which is not kept."""
    return [concept(*code, "planted meaning")]


def channel(source: Code = ("2:1", "MDC"), unit: str | None = "uV", **changes: Any) -> Dataset:
    """A channel of 1.25 µV a step."""
    item = Dataset()
    item.ChannelSourceSequence = coded(source)
    item.ChannelSensitivity, item.ChannelSensitivityCorrectionFactor, item.ChannelBaseline = "1.25", "1", "0"
    if unit is not None:
        item.ChannelSensitivityUnitsSequence = coded((unit, "UCUM"))
    item.ChannelSampleSkew = "0"
    return changed(item, changes)


def group(samples: np.ndarray, channels: Sequence[Dataset] | None = None, rate: str = "500", **changes: Any) -> Dataset:
    """A multiplex group of ``samples`` (channel, time)."""
    item = Dataset()
    item.WaveformOriginality = "ORIGINAL"
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = samples.shape
    item.SamplingFrequency = rate
    item.ChannelDefinitionSequence = channels or [channel((f"2:{n}", "MDC")) for n in range(1, len(samples) + 1)]
    item.WaveformBitsAllocated = 8 * samples.dtype.itemsize
    item.WaveformSampleInterpretation = _KINDS[samples.dtype.str[1:]]
    data = samples.T.tobytes()
    item.add_new("WaveformData", "OB" if samples.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
    return changed(item, changes)


def annotation(where: Sequence[int] = (1, 0), code: Code | None = None, **changes: Any) -> Dataset:
    """An item of WaveformAnnotationSequence about pairs of a group and a channel."""
    item = Dataset()
    item.ReferencedWaveformChannels = list(where)
    if code is not None:
        item.ConceptNameCodeSequence = coded(code)
    return changed(item, changes)


def waveform_dataset(
    groups: Sequence[Dataset],
    annotations: Sequence[Dataset] = (),
    kind: str = TwelveLeadECGWaveformStorage,
    undefined: bool = False,
    **changes: Any,
) -> Dataset:
    """An object of these groups; ``undefined``: its sequences and their items are of undefined length."""
    gone = dict.fromkeys(_OF_IMAGES)
    ds = slice_dataset(stored_planes(1)[0], 1, 0.0, SOPClassUID=kind, Modality="ECG", **gone)
    ds.AcquisitionDateTime = "20230405101112.5"
    ds.WaveformSequence = list(groups)
    if annotations:
        ds.WaveformAnnotationSequence = list(annotations)
    for name in ("WaveformSequence", "WaveformAnnotationSequence"):
        for item in ds.get(name, ()):
            item.is_undefined_length_sequence_item = undefined
        if name in ds:
            ds[name].is_undefined_length = undefined
    return changed(ds, changes)


def noise(channels: int, samples: int, dtype: str = "<i2", seed: int = 0) -> np.ndarray:
    """Samples of the whole range, (channel, time)."""
    limits = np.iinfo(dtype)
    drawn = np.random.default_rng(seed).integers(limits.min, limits.max, (channels, samples), endpoint=True)
    drawn[0, :2] = limits.min, limits.max
    return drawn.astype(dtype)
