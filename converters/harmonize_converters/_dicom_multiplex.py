"""A multiplex group of a DICOM waveform (PS3.3 C.10.9): how its samples lie, and what its channels are."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from pydicom.dataset import Dataset

from harmonize_converters._dicom_codes import unit_code
from harmonize_converters._dicom_header import items, lenient_number, number, text, texts, value_of, whole
from harmonize_converters._dicom_leads import channel_name
from harmonize_converters._dicom_sequence import Value
from harmonize_converters._dicom_walk import UNDEFINED
from harmonize_converters._fields import decimal
from harmonize_converters.channels import unit_factor
from harmonize_converters.contract import ConversionError
from harmonize_schemas import Channel, Prefilter

MOST_CHANNELS = 1 << 12
"""More than any device has."""
_DTYPES = {("SB", 8): "int8", ("UB", 8): "uint8", ("SS", 16): "int16", ("US", 16): "uint16"}
_DTYPES |= {("SL", 32): "int32", ("UL", 32): "uint32"}
_BAD = frozenset({"DISCONNECTED", "INVALID", "TEST DATA"})


@dataclass(frozen=True, slots=True)
class Multiplex:
    """Channels that were sampled together. Sample ``i`` of all channels comes before sample ``i + 1`` of any."""

    number: int
    """Its place among all groups, from 1 on: how annotations call it."""
    rate_hz: Fraction
    offset_s: Fraction
    """When it begins after the acquisition's time."""
    dtype: np.dtype
    """As stored, byte order included."""
    n_samples: int
    start: int
    """The first byte of the samples."""
    channels: tuple[Channel, ...]
    flags: frozenset[str]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.dtype.itemsize * len(self.channels)


def is_derived(item: Dataset) -> bool:
    """Whether a group was computed from others (a median beat): PS3.3 C.10.9.1.3."""
    return text(item, "WaveformOriginality") == "DERIVED"


def multiplex(item: Dataset, value: Value | None, place: int, kind: str, size: int) -> Multiplex:
    """An item of WaveformSequence whose samples are ``value`` of a stream of ``size`` bytes, in an object of ``kind``.
    Raises ``ConversionError``."""
    dtype = _dtype(item)
    count, n_samples = whole(item, "NumberOfWaveformChannels") or 0, whole(item, "NumberOfWaveformSamples") or 0
    rate_hz = decimal(text(item, "SamplingFrequency") or "")
    if rate_hz is None or rate_hz <= 0:
        raise ConversionError("invalid_header", "A rate above 0 Hz would be right.", "SamplingFrequency")
    if count < 1 or n_samples < 1 or value is None:
        raise ConversionError("no_data", "A multiplex group has no samples.", "WaveformData")
    if count > MOST_CHANNELS:
        raise ConversionError("implausible_size", f"Found {count} channels.", "NumberOfWaveformChannels")
    definitions = items(item, "ChannelDefinitionSequence")
    if len(definitions) != count:
        raise ConversionError("invalid_header", f"{len(definitions)} definitions for {count} channels.")
    if value.length == UNDEFINED:
        raise ConversionError("invalid_header", "Samples of undefined length.", "WaveformData")
    needed = count * n_samples * dtype.itemsize
    if needed > value.length or value.start + value.length > size:
        raise ConversionError("truncated", f"The samples take {needed} bytes.", "WaveformData")
    channels = tuple(_channel(one, n, item, kind, dtype) for n, one in enumerate(definitions, 1))
    skewed = [_is_skewed(one, rate_hz) for one in definitions]  # any of them may be refused
    flags = {"channel_skew"} if any(skewed) else set()
    if value.length > needed + needed % 2:  # values are of even length (PS3.5 7.1.1)
        flags.add("trailing_bytes")
    return Multiplex(place, rate_hz, _offset_s(item), dtype, n_samples, value.start, channels, frozenset(flags))


def _dtype(item: Dataset) -> np.dtype:
    bits, kind = whole(item, "WaveformBitsAllocated") or 0, text(item, "WaveformSampleInterpretation") or ""
    little = item.original_encoding[1]
    if (kind, bits) not in _DTYPES:
        raise ConversionError("unsupported_waveform", "Whole numbers of 8, 16 or 32 bits would be right.")
    if bits == 8 and not little:  # two samples a word, in an order that writers do not agree on
        raise ConversionError("unsupported_waveform", "Samples of 8 bits in a big-endian file.")
    return np.dtype(_DTYPES[kind, bits]).newbyteorder("<" if little else ">")


def _offset_s(item: Dataset) -> Fraction:
    found = text(item, "MultiplexGroupTimeOffset")
    if found is None:
        return Fraction(0)
    if (milliseconds := decimal(found)) is None:
        raise ConversionError("invalid_header", "A number would be right.", "MultiplexGroupTimeOffset")
    return milliseconds / 1000


def _is_skewed(definition: Dataset, rate_hz: Fraction) -> bool:
    """Whether a channel's samples lie off those of its group, which is stated and not corrected. Raises
    ``ConversionError`` where that is by a sample or more (PS3.3 C.10.9.1.4.4)."""
    seconds = (number(definition, "ChannelTimeSkew") or 0.0) + (number(definition, "ChannelOffset") or 0.0)
    samples = seconds * float(rate_hz) + (number(definition, "ChannelSampleSkew") or 0.0)
    if abs(samples) >= 1:
        raise ConversionError("unsupported_waveform", "A channel lies off the others by a sample or more.")
    return samples != 0


def _channel(definition: Dataset, place: int, group: Dataset, kind: str, dtype: np.dtype) -> Channel:
    label, name = channel_name(definition, place, kind)
    status = set(texts(definition, "ChannelStatus"))
    sensitivity = number(definition, "ChannelSensitivity") or 0.0
    correction = number(definition, "ChannelSensitivityCorrectionFactor")
    gain = sensitivity * (1.0 if correction is None else correction)
    calibrated = gain != 0 and "UNCALIBRATED" not in status
    unit_found = unit_code(definition, "ChannelSensitivityUnitsSequence")
    unit, factor, _ = unit_factor(unit_found, name.type) if calibrated else (None, 1.0, None)
    low, high = _limits(definition, group, dtype)
    return Channel(
        label=label,
        unit_found=unit_found,
        unit=unit,
        scale=gain * factor if calibrated else 1.0,
        offset=(number(definition, "ChannelBaseline") or 0.0) * factor if calibrated else 0.0,
        calibrated=calibrated,
        digital_min=low,
        digital_max=high,
        missing_value=_sample(group, "WaveformPaddingValue", dtype),
        prefilter=_prefilter(definition),
        status="bad" if status & _BAD else None,
        **name.fields(),
    )


def _limits(definition: Dataset, group: Dataset, dtype: np.dtype) -> tuple[int, int] | tuple[None, None]:
    """The range of the converter: as the channel says, or of the bits that it stores (PS3.3 C.10.9.1.4.5, .6)."""
    low, high = (_sample(definition, f"Channel{end}Value", dtype) for end in ("Minimum", "Maximum"))
    if low is not None and high is not None and low < high:
        return low, high
    bits = lenient_number(definition, "WaveformBitsStored", 1, 8 * dtype.itemsize)
    if bits is None:
        return None, None
    signed = np.issubdtype(dtype, np.signedinteger)
    return (-(1 << int(bits) - 1) if signed else 0), (1 << int(bits) - (1 if signed else 0)) - 1


def _sample(item: Dataset, name: str, dtype: np.dtype) -> int | None:
    """An element that holds one sample, as samples lie."""
    raw = value_of(item, name)
    if not isinstance(raw, bytes) or len(raw) < dtype.itemsize:
        return None
    return int(np.frombuffer(raw, dtype, 1)[0])


def _prefilter(definition: Dataset) -> Prefilter | None:
    """Corner frequencies of the device's filters; 0 says that there is none."""
    found = {
        "highpass_hz": lenient_number(definition, "FilterLowFrequency", 0, 1e6),
        "lowpass_hz": lenient_number(definition, "FilterHighFrequency", 0, 1e6) or None,
        "notch_hz": lenient_number(definition, "NotchFilterFrequency", 0, 1e6) or None,
    }
    return Prefilter(**found) if any(value is not None for value in found.values()) else None
