"""WFDB records (FIDELITY S08 to S10), judged by ``wfdb`` and by hand-written bytes."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from converters.conformance import ConverterConformance, Outcome, convert, find, only_source, sources_in
from converters.wfdb_bytes import BITS, END, Record, Signal, aux, noise, pack, skip, word
from harmonize_converters._wfdb_decode import FORMATS, bytes_of, decode, samples_in
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles
from harmonize_converters.wfdb import WfdbConverter
from realdata import DATA, needs_data

CONVERTER = WfdbConverter()


def by_wfdb(source: SourceFiles) -> list[np.ndarray]:
    """Digital samples of each distinct number of samples per frame."""
    name = str(source.primary.path.with_suffix(""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        widths = wfdb.rdheader(name).samps_per_frame
        if set(widths) == {1}:
            return [wfdb.rdrecord(name, physical=False).d_signal.T]
        signals = wfdb.rdrecord(name, physical=False, smooth_frames=False).e_d_signal
    return [
        np.array([s for s, w in zip(signals, widths, strict=True) if w == width]) for width in dict.fromkeys(widths)
    ]


def run(folder: Path, record: Record) -> Outcome:
    record.write(folder)
    return convert(CONVERTER, only_source(CONVERTER, folder))


class TestConformance(ConverterConformance):
    converter = CONVERTER
    planted = ("Jane Doe", "14/07/1998", "Aldomet", "phoned her son")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        folder = tmp_path / "good"
        folder.mkdir()
        notes = (" Jane Doe, on Aldomet", " Age: 74", " Sex: Female")
        wide = [Signal(noise(60, seed=i), 212, file="a.dat", name=name) for i, name in enumerate(["I", "II"])]
        wide += [Signal(noise(120, 24), 24, 2, "b.dat", name="V1")]
        Record(wide, "a", comments=notes, start="12:30:00 14/07/1998").write(folder)
        (folder / "a.atr").write_bytes(
            word(28, 5)
            + aux(b"(AFIB")
            + word(1, 20)
            + word(22, 3)
            + aux(b"phoned her son")
            + skip(2000)
            + word(5, 1)
            + END
        )
        Record([Signal(np.cumsum(noise(90, 8)), 8, file="c.dat")], "c").write(folder)
        return sources_in(CONVERTER, folder)

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        folder = tmp_path / "large"
        folder.mkdir()
        Record([Signal(noise(150_000, 12, i), 212, name=f"V{i + 1}") for i in range(8)]).write(folder)
        return only_source(CONVERTER, folder)

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        return by_wfdb(source)

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        if role != "header":
            return super().truncation_points(file, role)
        # A header cut in its comments, or in the last description, is still a header.
        text = file.path.read_bytes()
        last = text.index(b"\n", text.index(b".dat")) if b"c.dat" in text else text.index(b"b.dat")
        return [0, 1, 19, 25, text.index(b".dat") + 2, last if b"b.dat" in text else text.index(b".dat") + 4]


# --- real files -------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize(("folder", "least"), [("ptb-xl", 397), ("cinc2021", 50), ("cpsc2021", 18)])
def test_s09_real_records_equal_wfdb(folder: str, least: int) -> None:
    sources = sources_in(CONVERTER, DATA / folder)
    assert len(sources) >= least
    for source in sources:
        for got, want in zip(convert(CONVERTER, source).arrays, by_wfdb(source), strict=True):
            np.testing.assert_array_equal(got, want)


REFUSED = {
    "1003": "missing_file",
    "12726": "missing_file",
    "drive02": "missing_file",
    "drive02-no-len": "missing_file",
    "n16": "missing_file",
    "n8_evoked_raw_95_F1_R9": "missing_file",
    "wave_4": "missing_file",
    "p000878-2137-10-26-16-57": "missing_file",
    "s00001-2896-10-09-01-56": "no_data",
    "s00001-2896-10-10-00-31": "missing_file",
}
"""Records whose signal files are not among the sample data; one has null segments only."""
MULTI = {"041s", "s25047-2704-05-04-10-44"}
"""Compared in test_wfdb_segments.py, as is the fixed-layout v102s."""


@needs_data
def test_s08_every_sample_record_equals_wfdb_or_is_refused_by_code() -> None:
    sources = sources_in(CONVERTER, DATA / "wfdb")
    equal = 0
    for source in sources:
        path = source.primary.path
        if (code := REFUSED.get(path.stem)) is not None:
            with pytest.raises(ConversionError) as caught:
                convert(CONVERTER, source)
            assert caught.value.code == code, path.name
        elif path.stem not in MULTI and path.parent.name != "fixed1":
            for got, want in zip(convert(CONVERTER, source).arrays, by_wfdb(source), strict=True):
                np.testing.assert_array_equal(got, want)
            equal += 1
    assert (equal, len(sources)) == (30, 43)


@needs_data
def test_s09_every_format_of_the_sample_records() -> None:
    sources = {s.primary.path.stem: s for s in sources_in(CONVERTER, DATA / "wfdb")}
    (stream,) = CONVERTER.describe(sources["binformats"]).description.streams
    assert stream.dtype == "int32"
    assert [c.missing_value for c in stream.channels] == [
        *(None, -(2**15), -(2**15), -(2**7), -(2**15)),
        *(-(2**11), -(2**9), -(2**9), -(2**23), -(2**31)),
    ]
    mixed = CONVERTER.describe(sources["mixedsignals"]).description.streams
    assert [s.rate_hz for s in mixed] == [Fraction("62.4725") * n for n in (4, 2, 1)]


@needs_data
def test_s08_real_calibration() -> None:
    source = next(s for s in sources_in(CONVERTER, DATA / "cpsc2021") if s.primary.path.stem == "data_101_6")
    (stream,) = CONVERTER.describe(source).description.streams
    arrays = convert(CONVERTER, source).arrays[0]
    physical = wfdb.rdrecord(str(source.primary.path.with_suffix(""))).p_signal.T
    for channel, digital, wanted in zip(stream.channels, arrays, physical, strict=True):
        assert channel.unit == "mV"
        np.testing.assert_allclose(digital * channel.scale + channel.offset, wanted, rtol=1e-9, atol=1e-9)


# --- S09: samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", sorted(BITS))
@given(data=st.data())
def test_s09_formats_decode_what_was_packed(number: int, data: st.DataObject) -> None:
    top = 2 ** (BITS[number] - 1)
    values = data.draw(st.lists(st.integers(-top, top - 1), min_size=1, max_size=20))
    raw = pack(number, values)
    need = bytes_of(number, len(values))
    assert need <= len(raw)
    # Two samples of format 310 need all four bytes of three.
    assert samples_in(number, need) == len(values) + (number == 310 and len(values) % 3 == 2)
    assert samples_in(number, need - 1) < len(values)
    got = decode(number, np.frombuffer(raw[:need], np.uint8), len(values))
    np.testing.assert_array_equal(got, values)


def test_s09_unused_bits_of_format_311_are_no_sample() -> None:
    """signal(5): the two highest bits of the word are unused (wfdb 4.3.1 reads 774 here)."""
    word_ = (5 | 1023 << 10 | 774 << 20 | 1 << 30).to_bytes(4, "little")
    assert decode(311, np.frombuffer(word_, np.uint8), 3).tolist() == [5, -1, 774 - 1024]


@pytest.mark.parametrize("number", [n for n in sorted(BITS) if n != 8])
def test_s09_formats_round_trip_in_blocks(tmp_path: Path, number: int) -> None:
    signals = [Signal(noise(101, BITS[number], i), number, name=f"V{i + 1}") for i in range(3)]
    Record(signals).write(tmp_path)
    for block_bytes in (1, 100, 1 << 20):
        outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path), block_bytes)
        np.testing.assert_array_equal(outcome.arrays[0], [s.samples for s in signals])
        assert outcome.arrays[0].dtype == FORMATS[number].dtype
        assert {c.missing_value for c in outcome.description.streams[0].channels} == {FORMATS[number].missing}


def test_s09_format_8_sums_differences_across_blocks(tmp_path: Path) -> None:
    signals = [Signal(500 + np.cumsum(noise(200, 8, i)), 8, per_frame=i, name=f"V{i}") for i in (1, 2)]
    signals[0].samples = signals[0].samples[:100]
    Record(signals).write(tmp_path)
    for block_bytes in (1, 500, 1 << 20):
        arrays = convert(CONVERTER, only_source(CONVERTER, tmp_path), block_bytes).arrays
        for array, signal in zip(arrays, signals, strict=True):
            np.testing.assert_array_equal(array, [signal.samples])


def test_s09_several_samples_per_frame_are_streams_at_their_own_rates(tmp_path: Path) -> None:
    signals = [
        Signal(noise(40, seed=1), 212, 1, name="I"),
        Signal(noise(160, seed=2), 212, 4, name="II"),
        Signal(noise(40, seed=3), 212, 1, name="III"),
    ]
    outcome = run(tmp_path, Record(signals, rate="62.5"))
    assert [s.rate_hz for s in outcome.description.streams] == [Fraction(125, 2), 250]
    assert [[c.name for c in s.channels] for s in outcome.description.streams] == [["I", "III"], ["II"]]
    np.testing.assert_array_equal(outcome.arrays[0], [signals[0].samples, signals[2].samples])
    np.testing.assert_array_equal(outcome.arrays[1], [signals[1].samples])


@pytest.mark.parametrize("number", sorted(BITS))
def test_s09_skewed_signals_are_aligned(tmp_path: Path, number: int) -> None:
    """header(5): the first samples of a skewed signal, as many as its skew, precede sample 0."""
    bits = min(7, BITS[number])
    signals = [
        Signal(np.cumsum(noise(60, bits, 1)) % 100, number, name="I"),
        Signal(np.cumsum(noise(60, bits, 2)) % 100, number, name="II", skew=1),
        Signal(np.cumsum(noise(120, bits, 3)) % 100, number, 2, name="V1", skew=14),
        Signal(np.cumsum(noise(60, bits, 4)) % 100, number, name="III", skew=59),
    ]
    Record(signals).write(tmp_path)
    missing = -(2**31) if number == 8 else FORMATS[number].missing
    aligned = [[*s.samples[s.skew :], *[missing] * s.skew] for s in signals]
    for block_bytes in (1, 100, 1 << 20):
        outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path), block_bytes)
        np.testing.assert_array_equal(outcome.arrays[0], [aligned[i] for i in (0, 1, 3)])
        np.testing.assert_array_equal(outcome.arrays[1], [aligned[2]])
        assert outcome.description.flags == ("skew_corrected",)
        channels = [channel for stream in outcome.description.streams for channel in stream.channels]
        assert [c.missing_value for c in channels] == [FORMATS[number].missing, missing, missing, missing]


def test_s09_skewed_flac(tmp_path: Path) -> None:
    signals = [Signal(noise(50, 16, 1), 516, name="I"), Signal(noise(50, 16, 2), 516, name="II", skew=7)]
    (tmp_path / "rec.hea").write_bytes(Record(signals).header())
    samples = np.array([s.samples for s in signals], np.int16).T
    soundfile.write(tmp_path / "rec.dat", samples, 250, format="FLAC", subtype="PCM_16")
    for block_bytes in (1, 1 << 20):
        (array,) = convert(CONVERTER, only_source(CONVERTER, tmp_path), block_bytes).arrays
        np.testing.assert_array_equal(array, [samples[:, 0], [*samples[7:, 1], *[-(2**15)] * 7]])


def test_s09_the_sum_counts_what_the_skew_cuts_off(tmp_path: Path) -> None:
    Record([Signal(noise(50), skew=5)]).write(tmp_path)
    data = bytearray((tmp_path / "rec.dat").read_bytes())
    data[4] ^= 1
    (tmp_path / "rec.dat").write_bytes(data)
    with pytest.raises(ConversionError, match="checksum_mismatch"):
        convert(CONVERTER, only_source(CONVERTER, tmp_path))


def test_s09_many_skews_in_one_file_are_refused(tmp_path: Path) -> None:
    Record([Signal(np.zeros(100, int), skew=i, name=f"V{i}") for i in range(66)]).write(tmp_path)
    with pytest.raises(ConversionError, match="unsupported_wfdb_format"):
        CONVERTER.describe(only_source(CONVERTER, tmp_path))


def test_s09_null_signals_are_no_channels(tmp_path: Path) -> None:
    signals = [Signal(noise(30, seed=1), name="I"), Signal(noise(30, seed=2), file="b.dat", name="V1")]
    record = Record(signals)
    record.write(tmp_path)
    lines = record.header().decode().splitlines()
    lines[1] = lines[1].replace("rec 2", "rec 3")
    lines.insert(3, "~ 0 200/mV 12 0 0 0 0 II")
    (tmp_path / "rec.hea").write_text("\n".join(lines) + "\n")
    (tmp_path / "rec.atr").write_bytes(b"".join(word(1, 5) + word(62, channel) for channel in (0, 1, 2, 3)) + END)
    outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path))
    np.testing.assert_array_equal(outcome.arrays[0], [s.samples for s in signals])
    assert outcome.description.flags == ("null_signals",)
    assert [event.channel for event in outcome.annotations] == [0, None, 1, None]


def test_s09_a_record_of_null_signals_alone(tmp_path: Path) -> None:
    (tmp_path / "rec.hea").write_text("rec 1 250 500\n~ 0 200\n")
    with pytest.raises(ConversionError, match="no_data"):
        run_flags(tmp_path)
    (tmp_path / "rec.atr").write_bytes(word(1, 5) + END)
    assert run_flags(tmp_path) == ("null_signals",)


def test_s09_without_a_length_there_is_no_sum_to_verify(tmp_path: Path) -> None:
    """header(5): a checksum of zero is then a placeholder."""
    Record([Signal(noise(50), tail=" 12 0 0 0 0 II")], length="0").write(tmp_path)
    assert {"checksum_absent", "record_count_missing"} <= set(run_flags(tmp_path))
    Record([Signal(noise(50), tail=" 12 0 0 0 0 II")]).write(tmp_path)
    with pytest.raises(ConversionError, match="checksum_mismatch"):
        run_flags(tmp_path)


def run_flags(folder: Path) -> tuple[str, ...]:
    return convert(CONVERTER, only_source(CONVERTER, folder)).description.flags


def test_s09_one_stream_from_files_of_several_formats(tmp_path: Path) -> None:
    signals = [Signal(noise(50), 16), Signal(noise(50, 24), 24, file="rec.d24", name="V1")]
    outcome = run(tmp_path, Record(signals))
    assert outcome.arrays[0].dtype == np.int32
    np.testing.assert_array_equal(outcome.arrays[0], [s.samples for s in signals])


def test_s09_wrong_checksum_is_refused(tmp_path: Path) -> None:
    record = Record([Signal(noise(50))])
    record.write(tmp_path)
    data = bytearray((tmp_path / "rec.dat").read_bytes())
    data[40] ^= 1
    (tmp_path / "rec.dat").write_bytes(data)
    with pytest.raises(ConversionError, match="checksum_mismatch"):
        convert(CONVERTER, only_source(CONVERTER, tmp_path))


def test_s09_truncated_and_longer_files(tmp_path: Path) -> None:
    record = Record([Signal(noise(51), 212)])
    record.write(tmp_path)
    path = tmp_path / "rec.dat"
    good = path.read_bytes()
    # 51 samples use 77 bytes; the padding of the last unit is no trailing data.
    path.write_bytes(good[:77])
    assert convert(CONVERTER, only_source(CONVERTER, tmp_path)).description.flags == ()
    path.write_bytes(good[:78])
    assert convert(CONVERTER, only_source(CONVERTER, tmp_path)).description.flags == ()
    path.write_bytes(good + b"more")
    assert convert(CONVERTER, only_source(CONVERTER, tmp_path)).description.flags == ("trailing_bytes",)
    path.write_bytes(good[:76])
    with pytest.raises(ConversionError, match="truncated"):
        convert(CONVERTER, only_source(CONVERTER, tmp_path))


def test_s09_damaged_flac_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec.hea").write_text("rec 1 250 10\nrec.dat 516 200 16 0 0 0 0 II\n")
    (tmp_path / "rec.dat").write_bytes(b"fLaC" + bytes(60))
    with pytest.raises(ConversionError, match="corrupt"):
        convert(CONVERTER, only_source(CONVERTER, tmp_path))


def test_one_signal_file_may_belong_to_two_headers(tmp_path: Path) -> None:
    signal = Signal(noise(20))
    Record([signal]).write(tmp_path)
    Record([signal], "other").write(tmp_path)
    sources = sources_in(CONVERTER, tmp_path)
    assert [s.key.rsplit("/", 1)[1] for s in sources] == ["other.hea", "rec.hea"]
    assert all(convert(CONVERTER, source).arrays for source in sources)
    assert len(find(tmp_path)) == 3
