"""BrainVision against MNE, numpy and what pybv was asked to write (FIDELITY S05, S12)."""

from __future__ import annotations

import os
import warnings
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pybv
import pytest

from converters.conformance import ConverterConformance, code_of_refusal, convert, only_source, sources_in
from harmonize_converters._brainvision_header import parse_filters
from harmonize_converters.brainvision import BrainVisionConverter
from harmonize_converters.contract import FoundFile, SourceFiles
from realdata import needs_data, real_files

CONVERTER = BrainVisionConverter()
RNG = np.random.default_rng(5)
SAMPLES = RNG.integers(-(2**15), 2**15, (3, 500)).astype("<i2")

HEADER = """Brain Vision Data Exchange Header File Version 1.0
; Data created by hand

[Common Infos]
Codepage=UTF-8
DataFile=$b.eeg
MarkerFile=a.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=3
SamplingInterval=5000

[Binary Infos]
BinaryFormat=INT_16

[Channel Infos]
Ch1=Fp1,,0.5,µV
Ch2=ECG,Cz\\1left,0.25,mV
Ch3=Odd\\1name,,,

[Comment]
Patient: Jane Roe
"""
MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile=a.eeg

[Marker Infos]
; a comment
Mk1=New Segment,,1,1,0,20200102030405600000
Mk2=Comment,moved\\1 spoke to Roe,101,20,2
Mk3=Stimulus,S  1,51,1,0
"""


def write(
    folder: Path,
    header: str = HEADER,
    markers: str = MARKERS,
    samples: np.ndarray = SAMPLES,
    encoding: str = "utf-8",
    vectorized: bool = False,
) -> Path:
    """One recording by hand, ``samples`` (channel, time); returns the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "a.vhdr").write_bytes(header.replace("\n", "\r\n").encode(encoding))
    (folder / "a.vmrk").write_bytes(markers.replace("\n", "\r\n").encode(encoding))
    (folder / "a.eeg").write_bytes((samples if vectorized else samples.T).tobytes())
    return folder


def by_mne(path: Path) -> mne.io.BaseRaw:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mne.io.read_raw_brainvision(path, verbose="error")


class TestBrainVision(ConverterConformance):
    converter = CONVERTER
    planted = ("Jane Roe", "spoke to Roe", "a.vmrk", "P4711")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        folder = tmp_path / "bv"
        written = write(folder)
        pybv.write_brainvision(
            data=RNG.normal(0, 1e-4, (2, 400)),
            sfreq=250,
            ch_names=["C3", "C4"],
            fname_base="P4711",
            folder_out=folder,
            events=np.array([[10, 1], [60, 2]]),
            meas_date="20210203040506000000",
        )
        vector = write(
            tmp_path / "vector", HEADER.replace("MULTIPLEXED", "VECTORIZED") + "P4711", MARKERS, vectorized=True
        )
        assert written == folder
        return [*sources_in(CONVERTER, folder), only_source(CONVERTER, vector)]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        samples = RNG.integers(-(2**15), 2**15, (3, 500_000)).astype("<i2")
        return only_source(CONVERTER, write(tmp_path / "large", samples=samples))

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        """numpy.fromfile, whose order the file's own header names."""
        text = source.primary.path.read_text("utf-8")
        dtype = "<f4" if "IEEE_FLOAT_32" in text else "<i2"
        flat = np.fromfile(source.files[1].path, dtype)
        n = 2 if "NumberOfChannels=2" in text else 3
        return [flat.reshape(n, -1) if "=VECTORIZED" in text else flat.reshape(-1, n).T]

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        """Text may end anywhere behind its last section; samples may not end within a frame."""
        if role == "signal":
            return [0, 1, file.size - 1]
        section = b"[Channel Infos]" if role == "header" else b"[Marker Infos]"
        return [0, 1, 40, 60, file.path.read_bytes().index(section)]


@pytest.mark.parametrize("path", real_files("brainvision", ".vhdr"), ids=lambda path: path.name)
@needs_data
def test_real_files_equal_mne(path: Path) -> None:
    source = next(s for s in sources_in(CONVERTER, path.parent) if s.primary.path == path)
    outcome = convert(CONVERTER, source)
    (stream,) = outcome.description.streams
    raw = by_mne(path)
    data_file = source.files[1].path
    if stream.dtype == "int16":
        exact = np.fromfile(data_file, "<i2").reshape(-1, len(stream.channels)).T
    else:
        exact = np.fromfile(data_file, "<f4").reshape(len(stream.channels), -1)
    np.testing.assert_array_equal(outcome.arrays[0], exact)
    assert float(stream.rate_hz) == raw.info["sfreq"]
    assert [c.label for c in stream.channels] == raw.ch_names
    si = {"µV": 1e-6, "mV": 1e-3, "uV": 1e-6, "µS": 1e-6, "uS": 1e-6, "V": 1.0, "nV": 1e-9}
    for channel, samples, values in zip(stream.channels, outcome.arrays[0], raw.get_data(), strict=True):
        factor = si.get(channel.unit or channel.unit_found, 1.0)
        got = (samples * channel.scale + channel.offset) * factor
        np.testing.assert_allclose(got, values, rtol=1e-6, atol=1e-15, err_msg=channel.label)
    start = outcome.described.identity.start
    assert start == (raw.info["meas_date"] and raw.info["meas_date"].replace(tzinfo=None))
    ours = [(a.onset_s, a.text) for a in outcome.annotations if a.onset_s < stream.n_samples / stream.rate_hz]
    theirs = [(a["onset"], a["description"]) for a in raw.annotations if not a["description"].startswith("New Seg")]
    assert [text for _, text in ours] == [text for _, text in theirs]
    np.testing.assert_allclose([onset for onset, _ in ours], [onset for onset, _ in theirs], atol=1e-9)


HIGH_S, LOW_S = 0.015915494309189534, 39.78873577297383  # 1 / (2 pi 10 s), 1 / (2 pi 4 ms)


@needs_data
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("test", (0.0, 250.0, None)),
        ("test_highpass", (HIGH_S, 250.0, None)),
        ("test_highpass_hz", (10.0, 250.0, None)),
        ("test_lowpass_s", (HIGH_S, LOW_S, None)),
        ("test_old_layout_latin1_software_filter", (1 / (2 * np.pi * 0.9), 50.0, 50.0)),
    ],
)
def test_filters_of_the_comment_are_the_channels(name: str, first: tuple[float | None, ...]) -> None:
    (path,) = [p for p in real_files("brainvision", ".vhdr") if p.stem == name]
    source = next(s for s in sources_in(CONVERTER, path.parent) if s.primary.path == path)
    found = CONVERTER.describe(source).description.streams[0].channels[0].prefilter
    assert found is not None
    assert (found.highpass_hz, found.lowpass_hz, found.notch_hz) == pytest.approx(first)


def test_a_row_that_left_its_columns_gives_no_filter() -> None:
    table = "#     Name      Phys. Chn.    Resolution / Unit   Low Cutoff [s]   High Cutoff [Hz]   Notch [Hz]\n"
    assert parse_filters(table + "1     averylongname 1     0.5 µV      DC      250      Off") == {}
    (found,) = parse_filters(table + "1     Fp1     1     0.5 µV      DC      250      50").values()
    assert (found.highpass_hz, found.lowpass_hz, found.notch_hz) == (0.0, 250.0, 50.0)


def test_what_the_header_says(tmp_path) -> None:
    outcome = convert(CONVERTER, only_source(CONVERTER, write(tmp_path / "s")))
    (stream,) = outcome.description.streams
    assert stream.rate_hz == Fraction(200)
    first, second, third = stream.channels
    assert (first.name, first.unit, first.scale) == ("Fp1", "µV", 0.5)
    assert (second.type, second.unit, second.scale, second.reference) == ("ecg", "mV", 0.25, "Cz,left")
    assert (third.label, third.unit, third.scale) == ("Odd,name", "µV", 1.0)  # the format's defaults
    assert outcome.described.identity.start == datetime(2020, 1, 2, 3, 4, 5, 600_000)
    assert outcome.described.header["comment"] == "Patient: Jane Roe"
    assert [(a.onset_s, a.duration_s, a.text, a.channel) for a in outcome.annotations] == [
        (0.25, 0.005, "Stimulus/S  1", None),
        (0.5, 0.1, "Comment/moved, spoke to Roe", 1),
    ]


@pytest.mark.parametrize("found", ["µV", "μV", "uV", "mV", "V", "nV"])
def test_every_spelling_of_volt(tmp_path, found) -> None:
    factor = {"mV": 1e3, "V": 1e6, "nV": 1e-3}.get(found, 1.0)
    header = HEADER.replace("Ch1=Fp1,,0.5,µV", f"Ch1=Fp1,,0.5,{found}")
    (stream,) = CONVERTER.describe(only_source(CONVERTER, write(tmp_path / "s", header))).description.streams
    assert (stream.channels[0].unit, stream.channels[0].scale) == ("µV", pytest.approx(0.5 * factor))


@pytest.mark.parametrize("codepage", ["Codepage=UTF-8\n", "Codepage=ANSI\n", ""])
def test_code_pages(tmp_path, codepage) -> None:
    header = HEADER.replace("Codepage=UTF-8\n", codepage).replace("Odd", "Öd")
    (stream,) = CONVERTER.describe(
        only_source(CONVERTER, write(tmp_path / "s", header, encoding="cp1252" if "UTF" not in codepage else "utf-8"))
    ).description.streams
    assert stream.channels[0].unit == "µV"
    assert stream.channels[2].label == "Öd,name"


@pytest.mark.parametrize(
    "line",
    [
        "Brain Vision Data Exchange Header File Version 2.0",
        "BrainVision Data Exchange Header File Version 1.0",
        "Brain Vision V-Amp Data Header File Version 1.0",
        "Brain Vision Core Data Header File, Version 1.0",
        "BrainVision Data Exchange Header File",
    ],
)
def test_first_lines_of_real_writers(line) -> None:
    assert CONVERTER.recognize(line.encode() + b"\r\n; more", "a.vhdr")


@pytest.mark.parametrize(
    ("dtype", "name", "order"),
    [("<i2", "INT_16", "NO"), (">i2", "INT_16", "YES"), ("<i4", "INT_32", "NO"), ("<f4", "IEEE_FLOAT_32", "NO")],
)
@pytest.mark.parametrize("vectorized", [False, True])
def test_every_binary_format(tmp_path, dtype, name, order, vectorized) -> None:
    header = HEADER.replace("BinaryFormat=INT_16", f"BinaryFormat={name}\nUseBigEndianOrder={order}")
    if vectorized:
        header = header.replace("=MULTIPLEXED", "=VECTORIZED")
    folder = write(tmp_path / "s", header, samples=SAMPLES.astype(dtype), vectorized=vectorized)
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    np.testing.assert_array_equal(outcome.arrays[0], SAMPLES)


def test_an_interrupted_recording_has_segments_with_its_gap(tmp_path) -> None:
    """100 samples at 200 Hz last 0.5 s; recording went on 3 s after its start."""
    markers = MARKERS + "Mk4=New Segment,,101,1,0,20200102030408600000\nMk5=Stimulus,S  2,121,1,0\n"
    outcome = convert(CONVERTER, only_source(CONVERTER, write(tmp_path / "s", markers=markers)))
    (stream,) = outcome.description.streams
    assert [(s.start, s.n_samples, s.onset_s) for s in stream.segments] == [(0, 100, 0.0), (100, 400, 3.0)]
    assert outcome.description.duration_s == 5.0
    assert "gap_unknown" not in outcome.description.flags
    onsets = {a.text: a.onset_s for a in outcome.annotations}
    assert onsets["Stimulus/S  2"] == pytest.approx(3.1)


@pytest.mark.parametrize("date", ["", ",00000000000000000000", ",20200102030405700000", ",20191231000000000000"])
def test_an_interruption_without_a_possible_date_says_so(tmp_path, date) -> None:
    markers = MARKERS + f"Mk4=New Segment,,101,1,0{date}\n"
    description = CONVERTER.describe(only_source(CONVERTER, write(tmp_path / "s", markers=markers))).description
    assert [(s.start, s.onset_s) for s in description.streams[0].segments] == [(0, 0.0), (100, 0.5)]
    assert "gap_unknown" in description.flags


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("DataFile=$b.eeg", "DataFile=../a.eeg", "path_escape"),
        ("DataFile=$b.eeg", "DataFile=C:\\data\\a.eeg", "path_escape"),
        ("DataFile=$b.eeg", "DataFile=/etc/passwd", "path_escape"),
        ("MarkerFile=a.vmrk", "MarkerFile=../a.vmrk", "path_escape"),
        ("DataFile=$b.eeg", "DataFile=before_renaming.eeg", "missing_file"),
        ("DataFile=$b.eeg\n", "", "missing_file"),
        ("MarkerFile=a.vmrk", "MarkerFile=gone.vmrk", "missing_file"),
        ("SamplingInterval=5000", "SamplingInterval=5000\nDataType=FREQUENCYDOMAIN", "not_raw"),
        ("SamplingInterval=5000", "SamplingInterval=5000\nAveraged=YES", "not_raw"),
        ("SamplingInterval=5000", "SamplingInterval=0", "invalid_header"),
        ("SamplingInterval=5000", "SamplingInterval=5000\nDataPoints=501", "truncated"),
        ("DataFormat=BINARY", "DataFormat=ASCII", "unsupported_dtype"),
        ("INT_16", "INT_17", "unsupported_dtype"),
        ("MULTIPLEXED", "DIAGONAL", "invalid_header"),
        ("NumberOfChannels=3", "NumberOfChannels=4", "invalid_header"),
        ("NumberOfChannels=3", "NumberOfChannels=900000000", "invalid_header"),
        ("0.5,µV", "half,µV", "invalid_header"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, old, new, code) -> None:
    assert old in HEADER
    assert code_of_refusal(CONVERTER, write(tmp_path / "s", HEADER.replace(old, new))) == code


def test_a_link_out_of_the_folder_is_refused(tmp_path) -> None:
    folder = write(tmp_path / "s")
    os.replace(folder / "a.eeg", tmp_path / "elsewhere.eeg")
    (folder / "a.eeg").symlink_to(tmp_path / "elsewhere.eeg")
    assert code_of_refusal(CONVERTER, folder) == "path_escape"


def test_a_recording_without_markers_is_one_segment(tmp_path) -> None:
    folder = write(tmp_path / "s", HEADER.replace("MarkerFile=a.vmrk\n", ""))
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    assert (outcome.annotations, outcome.described.identity.start) == ([], None)


def test_declared_points_end_the_data(tmp_path) -> None:
    header = HEADER.replace("SamplingInterval", "DataPoints=499\nSamplingInterval")
    outcome = convert(CONVERTER, only_source(CONVERTER, write(tmp_path / "s", header)))
    np.testing.assert_array_equal(outcome.arrays[0], SAMPLES[:, :499])
    assert "trailing_bytes" in outcome.description.flags


def test_coordinates_that_were_measured_are_positions(tmp_path) -> None:
    """Theta 90, phi 90 is the front; radius 1 is a model's sphere."""
    header = HEADER.replace("[Comment]", "[Coordinates]\nCh1=95,90,90\nCh2=1,90,0\nCh3=0,0,0\n\n[Comment]")
    (stream,) = CONVERTER.describe(only_source(CONVERTER, write(tmp_path / "s", header))).description.streams
    assert stream.channels[0].position == pytest.approx((0.0, 95.0, 0.0))
    assert [c.position for c in stream.channels[1:]] == [None, None]


def test_pybv_is_read_as_it_was_told_to_write(tmp_path) -> None:
    steps = RNG.integers(-3000, 3000, (2, 300))
    values = (steps + np.sign(steps) * 0.5) * 1e-7  # pybv cuts toward zero
    pybv.write_brainvision(
        data=values,
        sfreq=512,
        ch_names=["C3", "C4"],
        ref_ch_names=["M1", "M2"],
        fname_base="a",
        folder_out=tmp_path,
        events=[
            {"onset": 0, "duration": 1, "description": 3, "type": "Response"},
            {"onset": 64, "duration": 128, "description": "a, b", "type": "Comment", "channels": ["C4"]},
        ],
        resolution=0.1,
        fmt="binary_int16",
        meas_date=datetime(2001, 2, 3, 4, 5, 6),
    )
    outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path))
    (stream,) = outcome.description.streams
    assert (stream.rate_hz, stream.dtype, stream.n_samples) == (Fraction(512), "int16", 300)
    assert [(c.unit, c.scale, c.reference) for c in stream.channels] == [("µV", 0.1, "M1"), ("µV", 0.1, "M2")]
    np.testing.assert_array_equal(outcome.arrays[0], steps)
    assert [(a.onset_s, a.duration_s, a.text, a.channel) for a in outcome.annotations] == [
        (0.0, 1 / 512, "Response/R  3", None),
        (0.125, 0.25, "Comment/a, b", 1),
    ]
    assert outcome.described.identity.start == datetime(2001, 2, 3, 4, 5, 6)
