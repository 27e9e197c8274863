"""DICOM waveforms as signals, beside pydicom's reading and what was written by hand (FIDELITY I14; PS3.3 C.10.9)."""

from __future__ import annotations

import struct
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    AmbulatoryECGWaveformStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HemodynamicWaveformStorage,
    ImplicitVRLittleEndian,
)
from pydicom.waveforms import multiplex_array

from converters.conformance import ConverterConformance, convert, found
from converters.dicom_files import CONVERTER, converted, one, refused, save
from converters.waveform_files import annotation, channel, group, noise, waveform_dataset
from harmonize_converters.contract import ConversionError, SourceFiles
from harmonize_schemas import Channel, Prefilter, SignalStream

LITTLE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


class TestWaveform(ConverterConformance):
    converter = CONVERTER
    planted = ("Planted", "MRN-4711", "SN-PLANTED", "planted free text", "planted meaning", "planted note", "20230405")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        groups = [
            group(noise(3, 700), WaveformPaddingValue=struct.pack("<h", -32768)),
            group(noise(2, 90, seed=1), rate="62.5", MultiplexGroupTimeOffset="20"),
            group(noise(3, 50, seed=2), WaveformOriginality="DERIVED"),
        ]
        notes = [annotation(UnformattedTextValue="planted note"), annotation((1, 2), ("10:8208", "MDC"), **at(8))]
        for number, (syntax, undefined) in enumerate((syntax, long) for syntax in LITTLE[:2] for long in (False, True)):
            ds = waveform_dataset(groups, notes, undefined=undefined, SOPInstanceUID=f"1.2.3.{number}")
            save(ds, tmp_path / "some" / f"{number}.dcm", syntax)
        return CONVERTER.group([found(path, tmp_path) for path in sorted((tmp_path / "some").iterdir())], {})

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        save(waveform_dataset([group(noise(8, 200_000))]), tmp_path / "large" / "x.dcm")
        return one(tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        ds = pydicom.dcmread(source.primary.path)
        return [multiplex_array(ds, index, as_raw=True).T for index in (0, 1)][: len(ds.WaveformSequence)]


def at(*samples: int, kind: str = "POINT") -> dict[str, Any]:
    return {"TemporalRangeType": kind, "ReferencedSamplePositions": list(samples)}


def streams(ds: Dataset, folder: Path) -> tuple[SignalStream, ...]:
    save(ds, folder / "x.dcm")
    return CONVERTER.describe(one(folder)).description.streams


def only_channel(folder: Path, **changes: Any) -> Channel:
    """A channel as it is described."""
    return streams(waveform_dataset([group(noise(1, 40), [channel(**changes)])]), folder)[0].channels[0]


def test_i14_an_ecg_of_a_device_is_what_pydicom_reads(tmp_path):
    path = Path(get_testdata_file("waveform_ecg.dcm"))
    (source,) = CONVERTER.group([found(path, path.parent)], {})
    outcome = convert(CONVERTER, source)
    (stream,) = outcome.description.streams
    ds = pydicom.dcmread(path)
    np.testing.assert_array_equal(outcome.arrays[0], multiplex_array(ds, 0, as_raw=True).T)
    scales = np.array([[one.scale] for one in stream.channels])
    np.testing.assert_allclose(
        outcome.arrays[0] * scales, multiplex_array(ds, 0, as_raw=False).T / 1000, rtol=1e-12
    )  # mV of µV
    assert [one.name for one in stream.channels] == [
        "I",
        "II",
        "III",
        "aVR",
        "aVL",
        "aVF",
        "V1",
        "V2",
        "V3",
        "V4",
        "V5",
        "V6",
    ]
    assert {(one.unit, one.unit_found, one.type) for one in stream.channels} == {("mV", "uV", "ecg")}
    assert stream.channels[0].prefilter == Prefilter(highpass_hz=0.05, lowpass_hz=300)
    assert (stream.rate_hz, stream.n_samples, outcome.description.duration_s) == (1000, 10_000, 10.0)
    assert (outcome.description.modality, outcome.description.flags) == ("ecg", ("derived_waveforms_left_out",))
    assert outcome.described.identity.start == datetime(2013, 1, 25, 10, 59, 19)
    assert outcome.description.demographics.age_years == 42
    # Its annotations: where waves begin and end and where the R wave is; and texts and measurements of all of it.
    points = [one for one in ds.WaveformAnnotationSequence if "TemporalRangeType" in one]
    whole = [one for one in outcome.annotations if one.duration_s == 10.0]
    assert len(whole) == len(ds.WaveformAnnotationSequence) - len(points) == 11
    assert {"RITMO SINUSALE", "ECG NORMALE", "SCPECG:5.10.2.1-3 982 ms"} <= {one.text for one in whole}
    waves = {"5.10.3-1": ("wfdb:(", 0), "5.10.3-2": ("wfdb:)", 0), "5.10.3-3": ("wfdb:(", 1)}
    waves |= {"5.10.3-4": ("wfdb:)", 1), "5.10.3-5": ("wfdb:)", 2), "5.7.1-3": (None, None)}
    wanted = sorted(
        ((one.ReferencedSamplePositions - 1) / 1000, *waves[one.ConceptNameCodeSequence[0].CodeValue]) for one in points
    )
    got = sorted((one.onset_s, one.label, one.number) for one in outcome.annotations if one.duration_s is None)
    assert got == wanted


@pytest.mark.parametrize("dtype", ["<i1", "<u1", "<i2", "<u2", "<i4", "<u4"])
@pytest.mark.parametrize("syntax", LITTLE)
@pytest.mark.parametrize("undefined", [False, True])
def test_i14_every_encoding_gives_the_same_samples(tmp_path, dtype, syntax, undefined):
    first, second = noise(3, 301, dtype), noise(1, 77, dtype, seed=1)
    ds = waveform_dataset([group(first), group(second, rate="100")], [annotation()], undefined=undefined)
    outcome = converted(ds, tmp_path, syntax)
    np.testing.assert_array_equal(outcome.arrays[0], first)
    np.testing.assert_array_equal(outcome.arrays[1], second)
    assert [one.dtype for one in outcome.description.streams] == [first.dtype.name] * 2
    assert outcome.description.transfer_syntax == syntax
    assert "trailing_bytes" not in outcome.description.flags
    assert len(outcome.annotations) == 1


@pytest.mark.parametrize("dtype", [">i2", ">u2", ">i4", ">u4"])
def test_i14_big_endian_samples(tmp_path, dtype):
    samples = noise(3, 301, dtype)
    padding = np.array([7], dtype).tobytes()
    ds = waveform_dataset([group(samples, WaveformPaddingValue=padding)])
    outcome = converted(ds, tmp_path, ExplicitVRBigEndian)
    np.testing.assert_array_equal(outcome.arrays[0], samples)
    assert outcome.description.streams[0].channels[0].missing_value == 7


def test_i14_samples_of_a_byte_in_a_big_endian_file_are_refused(tmp_path):
    save(waveform_dataset([group(noise(2, 10, "<i1"))]), tmp_path / "x.dcm", ExplicitVRBigEndian)
    with pytest.raises(ConversionError) as caught:
        CONVERTER.describe(one(tmp_path))
    assert caught.value.code == "unsupported_waveform"


def test_i14_calibration(tmp_path):
    found = only_channel(
        tmp_path, ChannelSensitivity="2.5", ChannelSensitivityCorrectionFactor="0.5", ChannelBaseline="-30"
    )
    # PS3.3 C.10.9.1.4.3: sample * 2.5 * 0.5 - 30 µV.
    assert (found.scale, found.offset, found.unit, found.calibrated) == (pytest.approx(0.00125), -0.03, "mV", True)


@pytest.mark.parametrize(
    "changes",
    [{"ChannelSensitivity": None}, {"ChannelSensitivity": "0"}, {"ChannelStatus": ["OK", "UNCALIBRATED"]}],
)
def test_i14_no_calibration(tmp_path, changes):
    found = only_channel(tmp_path, ChannelBaseline="5", **changes)
    assert (found.scale, found.offset, found.unit, found.calibrated) == (1.0, 0.0, None, False)


@pytest.mark.parametrize(
    ("code", "unit", "scale"),
    [("mV", "mV", 1.25), ("uV", "mV", 0.00125), ("mm[Hg]", None, 1.25), ("Planted", None, 1.25), (None, None, 1.25)],
)
def test_i14_units_are_codes_of_ucum(tmp_path, code, unit, scale):
    found = only_channel(tmp_path, unit=code)
    assert (found.unit, found.scale) == (unit, pytest.approx(scale))
    assert found.unit_found == ("" if code in (None, "Planted") else code)


def test_i14_pressures_are_in_mmhg(tmp_path):
    one_channel = channel(("128446002", "SCT"), "mm[Hg]")
    ds = waveform_dataset([group(noise(1, 40), [one_channel])], kind=HemodynamicWaveformStorage)
    (found,) = streams(ds, tmp_path)[0].channels
    assert (found.name, found.type, found.unit, found.scale) == ("ABP", "pressure", "mmHg", 1.25)


def test_i14_what_the_device_says_of_a_channel(tmp_path):
    found = only_channel(
        tmp_path,
        ChannelLabel="Ableitung 1",
        ChannelStatus="DISCONNECTED",
        WaveformBitsStored=12,
        FilterLowFrequency="0.05",
        FilterHighFrequency="0",
        NotchFilterFrequency="50",
    )
    assert (found.label, found.name, found.status) == ("Ableitung 1", "I", "bad")
    assert (found.digital_min, found.digital_max) == (-2048, 2047)
    assert found.prefilter == Prefilter(highpass_hz=0.05, notch_hz=50)
    assert (found.missing_value, found.mapped) == (None, True)


def test_i14_limits_of_a_channel_go_before_its_bits(tmp_path):
    one_channel = channel(WaveformBitsStored=12)
    one_channel.add_new("ChannelMinimumValue", "OW", struct.pack("<h", -100))
    one_channel.add_new("ChannelMaximumValue", "OW", struct.pack("<h", 1000))
    for syntax in LITTLE:
        outcome = converted(waveform_dataset([group(noise(1, 40), [one_channel])]), tmp_path, syntax)
        found = outcome.description.streams[0].channels[0]
        assert (found.digital_min, found.digital_max) == (-100, 1000)


def test_i14_groups_begin_at_their_own_times(tmp_path):
    rates_and_offsets = (("500", "-20"), ("500", "100.5"), ("333.5", None))
    groups = [
        group(noise(1, 100), rate=rate, MultiplexGroupTimeOffset=offset_ms) for rate, offset_ms in rates_and_offsets
    ]
    outcome = converted(waveform_dataset(groups), tmp_path)
    found = outcome.description.streams
    assert [one.segments[0].onset_s for one in found] == [0.0, pytest.approx(0.1205), pytest.approx(0.02)]
    assert [(one.name, one.rate_hz) for one in found] == [
        ("500hz", 500),
        ("500hz_2", 500),
        ("667_2hz", Fraction(667, 2)),
    ]
    assert outcome.described.identity.start == datetime(2023, 4, 5, 10, 11, 12, 480_000)
    assert outcome.description.duration_s == pytest.approx(0.1205 + 100 / 500)


def test_i14_groups_that_were_computed_are_no_raw_data(tmp_path):
    assert refused(waveform_dataset([group(noise(1, 40), WaveformOriginality="DERIVED")]), tmp_path) == "not_raw"


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"ChannelSampleSkew": "0.5"}, ["channel_skew"]),
        ({"ChannelTimeSkew": "0.0005", "ChannelSampleSkew": None}, ["channel_skew"]),
        ({"ChannelOffset": "0.001"}, ["channel_skew"]),
        ({"ChannelTimeSkew": "0", "ChannelSampleSkew": None}, []),
        ({"ChannelSampleSkew": "-1"}, None),
        ({"ChannelTimeSkew": "0.002", "ChannelSampleSkew": None}, None),
        ({"ChannelOffset": "-0.1"}, None),
    ],
)
def test_i14_skews_below_a_sample_are_told_and_longer_ones_refused(tmp_path, changes, flags):
    ds = waveform_dataset([group(noise(1, 40), [channel(**changes)])])  # 500 Hz
    if flags is None:
        assert refused(ds, tmp_path) == "unsupported_waveform"
    else:
        assert list(converted(ds, tmp_path).description.flags) == flags


def test_i14_a_long_skew_is_refused_behind_a_short_one(tmp_path):
    channels = [channel(ChannelSampleSkew=skew) for skew in ("0.5", "1.5")]
    assert refused(waveform_dataset([group(noise(2, 40), channels)]), tmp_path) == "unsupported_waveform"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"WaveformSampleInterpretation": "MB"}, "unsupported_waveform"),
        ({"WaveformBitsAllocated": 64, "WaveformSampleInterpretation": "SV"}, "unsupported_waveform"),
        ({"WaveformBitsAllocated": 8}, "unsupported_waveform"),
        ({"SamplingFrequency": "0"}, "invalid_header"),
        ({"SamplingFrequency": None}, "invalid_header"),
        ({"NumberOfWaveformChannels": 3}, "invalid_header"),
        ({"NumberOfWaveformChannels": 0}, "no_data"),
        ({"NumberOfWaveformSamples": 0}, "no_data"),
        ({"NumberOfWaveformSamples": 41}, "truncated"),
        ({"NumberOfWaveformSamples": 2**32 - 1}, "truncated"),
        ({"WaveformData": None}, "no_data"),
        ({"NumberOfWaveformChannels": 5000}, "implausible_size"),
        ({"MultiplexGroupTimeOffset": "1e12"}, "invalid_header"),
    ],
)
def test_i14_groups_that_do_not_close_are_refused(tmp_path, changes, code):
    assert refused(waveform_dataset([group(noise(2, 40), **changes)]), tmp_path) == code


def test_i14_more_bytes_than_samples_are_told(tmp_path):
    samples = noise(2, 40)
    data = samples.T.tobytes() + bytes(2)
    outcome = converted(waveform_dataset([group(samples, WaveformData=data)]), tmp_path)
    np.testing.assert_array_equal(outcome.arrays[0], samples)
    assert outcome.description.flags == ("trailing_bytes",)


def test_i14_an_object_without_waveforms_has_no_data(tmp_path):
    assert refused(waveform_dataset([]), tmp_path / "none") == "no_data"
    assert refused(waveform_dataset([], WaveformSequence=None), tmp_path / "absent") == "no_data"


def test_i14_other_objects_of_the_series_stay_apart(tmp_path):
    for number in range(3):
        samples = noise(1, 40, seed=number)
        ds = waveform_dataset([group(samples)], kind=AmbulatoryECGWaveformStorage, SOPInstanceUID=f"1.2.{number}")
        save(ds, tmp_path / f"{number}")
    sources = CONVERTER.group([found(path, tmp_path) for path in sorted(tmp_path.iterdir())], {})
    assert [source.key for source in sources] == [f"{tmp_path.name}/{number}" for number in range(3)]
    assert all(convert(CONVERTER, source).arrays[0].shape == (1, 40) for source in sources)


def test_private_codes_are_not_kept(tmp_path):
    found_channel = only_channel(tmp_path, source=("PLANTED", "99PLANTED"))
    assert (found_channel.label, found_channel.type, found_channel.mapped) == ("channel 1", "ecg", False)
