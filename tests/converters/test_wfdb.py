"""WFDB records (FIDELITY S08 to S10), judged by ``wfdb`` and by hand-written bytes."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from converters.conformance import ConverterConformance, Outcome, convert, find, sources_in
from converters.wfdb_bytes import BITS, END, Record, Signal, aux, pack, skip, word
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


def only(folder: Path) -> SourceFiles:
    (source,) = sources_in(CONVERTER, folder)
    return source


def run(folder: Path, record: Record) -> Outcome:
    record.write(folder)
    return convert(CONVERTER, only(folder))


def noise(n: int, bits: int = 12, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), n)


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
        return only(folder)

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
    "03700181": "unsupported_wfdb_format",
    "100skew": "unsupported_wfdb_format",
    "test01_00s_skew": "unsupported_wfdb_format",
    "test01_00s_skewframe": "unsupported_wfdb_format",
    "1003": "missing_file",
    "12726": "missing_file",
    "drive02": "missing_file",
    "drive02-no-len": "missing_file",
    "n16": "missing_file",
    "n8_evoked_raw_95_F1_R9": "missing_file",
    "wave_4": "missing_file",
    "041s": "unsupported_wfdb_structure",
    "p000878-2137-10-26-16-57": "unsupported_wfdb_structure",
    "s00001-2896-10-09-01-56": "unsupported_wfdb_structure",
    "s00001-2896-10-10-00-31": "unsupported_wfdb_structure",
    "s25047-2704-05-04-10-44": "unsupported_wfdb_structure",
}


@needs_data
def test_s08_every_sample_record_equals_wfdb_or_is_refused_by_code() -> None:
    sources = sources_in(CONVERTER, DATA / "wfdb")
    equal = 0
    for source in sources:
        path = source.primary.path
        code = "unsupported_wfdb_structure" if path.parent.name == "fixed1" else REFUSED.get(path.stem)
        if code is not None:
            with pytest.raises(ConversionError) as caught:
                convert(CONVERTER, source)
            assert caught.value.code == code, path.name
            continue
        for got, want in zip(convert(CONVERTER, source).arrays, by_wfdb(source), strict=True):
            np.testing.assert_array_equal(got, want)
        equal += 1
    assert (equal, len(sources)) == (26, 43)


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
@pytest.mark.parametrize("name", ["wfdb/100", *(f"cpsc2021/data_{n}" for n in ("101_6", "84_1", "92_19"))])
def test_s10_real_annotations_equal_wfdb(name: str) -> None:
    path = DATA / name
    source = next(s for s in sources_in(CONVERTER, path.parent) if s.primary.path.stem == path.name)
    events = convert(CONVERTER, source, 1 << 22).annotations
    judge = wfdb.rdann(str(path), "atr")
    rate = float(CONVERTER.describe(source).description.streams[0].rate_hz)
    assert [round(e.onset_s * rate) for e in events] == judge.sample.tolist()
    assert [e.text or "" for e in events] == [text.rstrip("\0") for text in judge.aux_note]
    for event, symbol in zip(events, judge.symbol, strict=True):
        assert event.label == f"wfdb:{symbol}" or (symbol == "+" and event.label == f"rhythm:{event.text[1:]}")  # type: ignore[index]
    if path.name == "100":
        assert len(events) == 2274


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


@pytest.mark.parametrize("number", [n for n in sorted(BITS) if n != 8])
def test_s09_formats_round_trip_in_blocks(tmp_path: Path, number: int) -> None:
    signals = [Signal(noise(101, BITS[number], i), number, name=f"V{i + 1}") for i in range(3)]
    Record(signals).write(tmp_path)
    for block_bytes in (1, 100, 1 << 20):
        outcome = convert(CONVERTER, only(tmp_path), block_bytes)
        np.testing.assert_array_equal(outcome.arrays[0], [s.samples for s in signals])
        assert outcome.arrays[0].dtype == FORMATS[number].dtype
        assert {c.missing_value for c in outcome.description.streams[0].channels} == {FORMATS[number].missing}


def test_s09_format_8_sums_differences_across_blocks(tmp_path: Path) -> None:
    signals = [Signal(500 + np.cumsum(noise(200, 8, i)), 8, per_frame=i, name=f"V{i}") for i in (1, 2)]
    signals[0].samples = signals[0].samples[:100]
    Record(signals).write(tmp_path)
    for block_bytes in (1, 500, 1 << 20):
        arrays = convert(CONVERTER, only(tmp_path), block_bytes).arrays
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
        convert(CONVERTER, only(tmp_path))


def test_s09_truncated_and_longer_files(tmp_path: Path) -> None:
    record = Record([Signal(noise(51), 212)])
    record.write(tmp_path)
    path = tmp_path / "rec.dat"
    good = path.read_bytes()
    # 51 samples use 77 bytes; the padding of the last unit is no trailing data.
    path.write_bytes(good[:77])
    assert convert(CONVERTER, only(tmp_path)).description.flags == ()
    path.write_bytes(good[:78])
    assert convert(CONVERTER, only(tmp_path)).description.flags == ()
    path.write_bytes(good + b"more")
    assert convert(CONVERTER, only(tmp_path)).description.flags == ("trailing_bytes",)
    path.write_bytes(good[:76])
    with pytest.raises(ConversionError, match="truncated"):
        convert(CONVERTER, only(tmp_path))


def test_s09_damaged_flac_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec.hea").write_text("rec 1 250 10\nrec.dat 516 200 16 0 0 0 0 II\n")
    (tmp_path / "rec.dat").write_bytes(b"fLaC" + bytes(60))
    with pytest.raises(ConversionError, match="corrupt"):
        convert(CONVERTER, only(tmp_path))


# --- S10: structure and annotations -----------------------------------------------------------------


def test_s10_multi_segment_is_one_refused_source(tmp_path: Path) -> None:
    Record([Signal(noise(20), file="a.dat")], "a").write(tmp_path)
    (tmp_path / "whole.hea").write_text("whole/2 1 250 40\na 20\n~ 20\n")
    source = only(tmp_path)
    assert source.roles == ("header", "segment", "signal")
    with pytest.raises(ConversionError, match="unsupported_wfdb_structure"):
        CONVERTER.describe(source)


def test_s10_annotation_only_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec.hea").write_text("rec 0 250 1000\n")
    with pytest.raises(ConversionError, match="unsupported_annotation_only"):
        CONVERTER.describe(only(tmp_path))


def annotated(folder: Path, raw: bytes, suffix: str = "atr") -> Outcome:
    (folder / f"rec.{suffix}").write_bytes(raw)
    return run(folder, Record([Signal(noise(20), per_frame=1, name="I"), Signal(noise(20), name="II")]))


def test_s10_annotation_words(tmp_path: Path) -> None:
    raw = word(1, 250)
    raw += skip(100_000) + skip(-50_000) + word(5, 250) + word(61, 0xFF) + word(62, 1)
    raw += word(28, 250) + aux(b"(AFIB\0")
    raw += word(28, 0) + aux(b"(XYZ") + word(62, 9)
    raw += word(22, 125) + aux(b"odd") + END
    events = annotated(tmp_path, raw).annotations
    assert [(e.onset_s, e.label, e.text, e.channel) for e in events] == [
        (1.0, "wfdb:N", None, None),
        (202.0, "wfdb:V", None, 1),
        (203.0, "rhythm:AFIB", "(AFIB", 1),
        (203.0, "wfdb:+", "(XYZ", None),
        (203.5, 'wfdb:"', "odd", None),
    ]


def test_s10_time_resolution_and_definitions(tmp_path: Path) -> None:
    raw = word(22, 0) + aux(b"## time resolution: 1000")
    raw += word(22, 0) + aux(b"## annotation type definitions")
    raw += word(22, 0) + aux(b"42 z a new kind") + word(22, 0) + aux(b"1 N another meaning")
    raw += word(22, 0) + aux(b"## end of definitions")
    raw += word(1, 500) + word(42, 500) + word(5, 500) + END
    events = annotated(tmp_path, raw).annotations
    assert [(e.onset_s, e.label) for e in events] == [(0.5, None), (1.0, None), (1.5, "wfdb:V")]


@pytest.mark.parametrize("raw", [b"", word(1, 5), word(1, 5) + word(59, 0) + b"\0", word(1, 5) + word(63, 9) + b"ab"])
def test_s10_annotations_without_an_end_are_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        annotated(tmp_path, raw)
    assert caught.value.code in {"truncated", "empty_file"}


def test_s10_reference_annotations_come_first(tmp_path: Path) -> None:
    (tmp_path / "rec.qrs").write_bytes(word(1, 100) + END)
    (tmp_path / "rec.ari").write_bytes(word(5, 100) + END)
    (tmp_path / "rec.txt").write_bytes(b"no annotations")
    Record([Signal(noise(20))]).write(tmp_path)
    source = only(tmp_path)
    assert source.roles == ("header", "signal", "annotations:ari", "annotations:qrs")
    assert [e.label for e in convert(CONVERTER, source).annotations] == ["wfdb:V"]
    (tmp_path / "rec.atr").write_bytes(word(8, 100) + END)
    assert [e.label for e in convert(CONVERTER, only(tmp_path)).annotations] == ["wfdb:A"]


def test_one_signal_file_may_belong_to_two_headers(tmp_path: Path) -> None:
    signal = Signal(noise(20))
    Record([signal]).write(tmp_path)
    Record([signal], "other").write(tmp_path)
    sources = sources_in(CONVERTER, tmp_path)
    assert [s.key.rsplit("/", 1)[1] for s in sources] == ["other.hea", "rec.hea"]
    assert all(convert(CONVERTER, source).arrays for source in sources)
    assert len(find(tmp_path)) == 3
