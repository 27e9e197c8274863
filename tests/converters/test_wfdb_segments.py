"""Multi-segment WFDB records (FIDELITY S10), judged by ``wfdb``'s own segments and by hand-written bytes."""

from __future__ import annotations

import os
import shutil
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import wfdb

from converters.conformance import ConverterConformance, Outcome, code_of_refusal, convert, only_source, sources_in
from converters.wfdb_bytes import END, MultiSegment, Record, Signal, noise, word
from harmonize_converters._wfdb_header import parse_header
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles
from harmonize_converters.wfdb import WfdbConverter
from realdata import DATA, needs_data

CONVERTER = WfdbConverter()
MIMIC = DATA / "wfdb" / "multi-segment"


def part(name: str, channels: str, n: int = 40, gain: str = "200/mV", number: int = 80) -> Record:
    """A segment with a signal for each word of ``channels``."""
    seed = sum(map(ord, name))
    signals = [
        Signal(noise(n, 8, seed + i), number, 1, f"{name}.dat", gain, name=c) for i, c in enumerate(channels.split())
    ]
    return Record(signals, name)


def samples(record: Record, *names: str) -> list[np.ndarray]:
    return [next(s.samples for s in record.signals if s.name == name) for name in names]


def whole() -> MultiSegment:
    """A gap; a segment; one with its channels swapped, which goes on at once; another gain after a gap."""
    parts = [25, part("d1", "II V"), part("d2", "V II", 30), 10, part("d3", "V", 20, "50(3)/mV"), 5]
    return MultiSegment(parts, "d", layout=("II", "V"), start="12:30:00 14/07/1998", comments=(" Jane Doe", " Age: 74"))


class TestMultiSegmentConformance(ConverterConformance):
    converter = CONVERTER
    planted = ("Jane Doe", "14/07/1998")
    corruption_rounds = 20

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        folder = tmp_path / "good"
        folder.mkdir()
        whole().write(folder)
        (folder / "d.qrs").write_bytes(word(1, 20) + word(61, 3) + word(60, 7) + word(62, 1) + word(5, 80) + END)
        return sources_in(CONVERTER, folder)

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        folder = tmp_path / "large"
        folder.mkdir()
        parts = [part(f"d{i}", "I II V", 100_000, f"{20 + i % 2}/mV", 212) for i in range(5)]
        MultiSegment([*parts], "d").write(folder)
        return only_source(CONVERTER, folder)

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        first, second, third = (one for one in whole().segments if isinstance(one, Record))
        both = np.hstack([samples(first, "II", "V"), samples(second, "II", "V")])
        return [both, np.array(samples(third, "V"))]

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        text = file.path.read_bytes()
        if role == "header":
            return [0, 1, 10, text.index(b"d3 20") + 2]
        if b"layout" in text:
            return [0, 1, 15, text.index(b"~") + 1]
        return [0, 1, 19, 30] if role == "segment" else super().truncation_points(file, role)


# --- real files -------------------------------------------------------------------------------------


def check_segments(source: SourceFiles) -> int:
    """Each signal of each of wfdb's segments is one channel of ours at that time; how many samples that were."""
    outcome = convert(CONVERTER, source)
    streams = outcome.description.streams
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = wfdb.rdrecord(str(source.primary.path.with_suffix("")), m2s=False, physical=False, smooth_frames=False)
    start, checked = 0, 0
    for segment, length in zip(judge.segments, judge.seg_len, strict=True):
        onset_s = start / judge.fs
        start += length
        if segment is None or segment.sig_len == 0:
            continue
        flat = segment.d_signal.T if segment.e_d_signal is None else segment.e_d_signal
        for index, name in enumerate(segment.sig_name):
            found = []
            for stream, array in zip(streams, outcome.arrays, strict=True):
                n = length * segment.samps_per_frame[index]
                for run in stream.segments:
                    at = round((onset_s - run.onset_s) * float(stream.rate_hz))
                    if not 0 <= at <= run.n_samples - n:
                        continue
                    for c, channel in enumerate(stream.channels):
                        if channel.label == name:
                            found.append((channel, array[c, run.start + at : run.start + at + n]))
            ((channel, values),) = found
            np.testing.assert_array_equal(values, flat[index])
            assert channel.scale == pytest.approx(1 / segment.adc_gain[index], rel=1e-12)
            assert channel.offset == pytest.approx(-segment.baseline[index] / segment.adc_gain[index], rel=1e-12)
            assert channel.unit_found == segment.units[index]
            checked += len(values)
    assert checked == sum(array.size for array in outcome.arrays)
    assert outcome.description.duration_s == pytest.approx(sum(judge.seg_len) / judge.fs)
    return checked


def check_physical(source: SourceFiles) -> None:
    """Put together over time, values and gaps are wfdb's of the whole record."""
    outcome = convert(CONVERTER, source)
    judge = wfdb.rdrecord(str(source.primary.path.with_suffix("")), m2s=True)
    whole = {name: np.full(judge.sig_len, np.nan) for name in judge.sig_name}
    for stream, array in zip(outcome.description.streams, outcome.arrays, strict=True):
        for channel, row in zip(stream.channels, array, strict=True):
            values = row * channel.scale + channel.offset
            values[row == channel.missing_value] = np.nan
            for run in stream.segments:
                at = round(run.onset_s * judge.fs)
                assert np.isnan(whole[channel.label][at : at + run.n_samples]).all()
                whole[channel.label][at : at + run.n_samples] = values[run.start : run.start + run.n_samples]
    for index, name in enumerate(judge.sig_name):
        np.testing.assert_allclose(whole[name], judge.p_signal[:, index], rtol=1e-9, atol=1e-9)


def present(folder: Path, into: Path, master: str) -> SourceFiles:
    """A copy of a real record, with a gap for each segment whose signal file is not among the sample data."""
    for path in folder.iterdir():
        if not path.name.startswith(master):
            shutil.copy(path, into)
    lines = (folder / f"{master}.hea").read_text().splitlines()
    for i, line in enumerate(lines[2:], 2):
        name, _, length = line.partition(" ")
        if name != "#" and not (folder / f"{name}.dat").exists():
            lines[i] = f"~ {length}"
    (into / f"{master}.hea").write_text("\n".join(lines) + "\n")
    return next(s for s in sources_in(CONVERTER, into) if s.primary.path.stem == master)


@needs_data
@pytest.mark.parametrize(("folder", "streams"), [("041s", 2), ("fixed1", 1), ("s25047", 18)])
def test_s10_real_records_equal_wfdb_segment_by_segment(folder: str, streams: int) -> None:
    source = next(s for s in sources_in(CONVERTER, MIMIC / folder) if "segment" in s.roles)
    assert len(CONVERTER.describe(source).description.streams) == streams
    assert check_segments(source) > 30_000


@needs_data
@pytest.mark.parametrize(
    ("folder", "master"),
    [("s00001", "s00001-2896-10-10-00-31"), ("p000878", "p000878-2137-10-26-16-57")],
)
def test_s10_parts_of_real_records_equal_wfdb(tmp_path: Path, folder: str, master: str) -> None:
    source = present(MIMIC / folder, tmp_path, master)
    assert check_segments(source) > 5_000
    assert CONVERTER.describe(source).description.duration_s > 100_000  # type: ignore[operator]


@needs_data
def test_s10_physical_values_equal_those_of_the_whole_record(tmp_path: Path) -> None:
    check_physical(next(s for s in sources_in(CONVERTER, MIMIC / "s25047") if "segment" in s.roles))
    check_physical(next(s for s in sources_in(CONVERTER, MIMIC / "fixed1") if "segment" in s.roles))
    check_physical(present(MIMIC / "s00001", tmp_path, "s00001-2896-10-10-00-31"))


@needs_data
def test_s10_grouping_of_real_records() -> None:
    """Two records share no segment; the numerics beside them are records of their own."""
    sources = {s.primary.path.stem: s for s in sources_in(CONVERTER, MIMIC / "s00001")}
    assert set(sources) == {f"s00001-2896-10-{end}" for end in ("09-01-56", "09-01-56n", "10-00-31", "10-00-31n")}
    assert sources["s00001-2896-10-10-00-31"].roles.count("segment") == 17
    assert sources["s00001-2896-10-09-01-56"].roles == ("header", "segment")


# --- by hand ----------------------------------------------------------------------------------------


def run(folder: Path, record: MultiSegment) -> Outcome:
    record.write(folder)
    return convert(CONVERTER, only_source(CONVERTER, folder))


def test_s10_streams_follow_from_channels_and_calibration(tmp_path: Path) -> None:
    outcome = run(tmp_path, whole())
    first, second = outcome.description.streams
    assert (first.name, second.name) == ("250hz", "250hz_2")
    assert [c.label for c in first.channels] == ["II", "V"]
    # Segments that follow each other at once are one gap-free run.
    assert [(s.start, s.n_samples, s.onset_s) for s in first.segments] == [(0, 70, 0.1)]
    assert [(s.start, s.n_samples, s.onset_s) for s in second.segments] == [(0, 20, 105 / 250)]
    assert second.channels[0].scale == pytest.approx(1 / 50)
    assert second.channels[0].offset == pytest.approx(-3 / 50)
    assert outcome.description.duration_s == 130 / 250
    assert outcome.description.demographics.age_years == 74
    assert outcome.described.identity.start is not None


def test_s10_channels_come_and_go(tmp_path: Path) -> None:
    record = MultiSegment([part("a", "II"), part("b", "II V"), part("c", "II"), 8, part("e", "II")], layout=("II", "V"))
    outcome = run(tmp_path, record)
    alone, both = outcome.description.streams
    assert [c.label for c in both.channels] == ["II", "V"]
    assert [(s.start, s.n_samples, s.onset_s) for s in alone.segments] == [
        (0, 40, 0.0),
        (40, 40, 0.32),
        (80, 40, 0.512),
    ]
    assert [(s.start, s.n_samples, s.onset_s) for s in both.segments] == [(0, 40, 0.16)]
    a, b, c, _, e = record.segments
    np.testing.assert_array_equal(outcome.arrays[0], np.hstack([samples(x, "II") for x in (a, c, e)]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(outcome.arrays[1], samples(b, "II", "V"))  # type: ignore[arg-type]


def test_s10_formats_may_change_from_segment_to_segment(tmp_path: Path) -> None:
    """Streams differ then, for the missing value does."""
    outcome = run(tmp_path, MultiSegment([part("a", "II V", number=16), part("b", "II V", number=24)]))
    assert [s.dtype for s in outcome.description.streams] == ["int16", "int32"]
    assert [s.channels[0].missing_value for s in outcome.description.streams] == [-(2**15), -(2**23)]


def test_s10_several_rates_and_a_skew_in_segments(tmp_path: Path) -> None:
    records = []
    for name in "ab":
        slow = Signal(noise(30, 12, ord(name)), 212, 1, f"{name}.dat", "200/mmHg", name="ABP", skew=2)
        fast = Signal(noise(120, 12, ord(name) + 9), 212, 4, f"{name}.dat", name="II")
        records.append(Record([slow, fast], name, "125"))
    outcome = run(tmp_path, MultiSegment([records[0], 5, records[1]], rate="125"))
    assert [(s.name, s.rate_hz) for s in outcome.description.streams] == [
        ("125hz", Fraction(125)),
        ("500hz", Fraction(500)),
    ]
    # Each segment is aligned by itself: what its skewed signal lacks at its end is missing.
    slow = [np.append(record.signals[0].samples[2:], [-2048] * 2) for record in records]
    np.testing.assert_array_equal(outcome.arrays[0], [np.hstack(slow)])
    np.testing.assert_array_equal(outcome.arrays[1], [np.hstack([record.signals[1].samples for record in records])])
    assert outcome.description.flags == ("skew_corrected",)


def test_s10_a_segment_may_appear_more_than_once(tmp_path: Path) -> None:
    one = part("a", "II V")
    record = MultiSegment([one, 10, one])
    outcome = run(tmp_path, record)
    np.testing.assert_array_equal(outcome.arrays[0], np.tile(samples(one, "II", "V"), 2))
    with pytest.raises(ConversionError, match="implausible_size"):
        run(tmp_path, MultiSegment([one] * 300))


def test_s10_annotations_count_from_the_start_of_the_record(tmp_path: Path) -> None:
    raw = b"".join(word(1, 50) + word(62, channel) for channel in (0, 1, 2)) + END
    (tmp_path / "whole.atr").write_bytes(raw)
    parts = [part("a", "II V"), part("b", "V II", gain="50/mV"), part("c", "II ABP")]
    events = run(tmp_path, MultiSegment([*parts], layout=("II", "V", "ABP"))).annotations
    # II and V are in several streams; ABP is the second channel of the third.
    assert [(e.onset_s, e.channel) for e in events] == [(0.2, None), (0.4, None), (0.6, 5)]
    events = run(
        tmp_path, MultiSegment([part("a", "II V"), 7, part("b", "V II"), part("c", "ABP")], layout=("V", "II", "ABP"))
    ).annotations
    assert [e.channel for e in events] == [0, 1, 2]


def test_s10_channels_that_share_a_name(tmp_path: Path) -> None:
    (tmp_path / "whole.atr").write_bytes(word(1, 5) + word(62, 2) + END)
    one = part("a", "V II V")
    outcome = run(tmp_path, MultiSegment([one], layout=("V", "V", "II")))
    np.testing.assert_array_equal(outcome.arrays[0], [one.signals[i].samples for i in (0, 2, 1)])
    assert "duplicate_labels" in outcome.description.flags
    assert [e.channel for e in outcome.annotations] == [2]


def test_s10_a_record_of_gaps_alone(tmp_path: Path) -> None:
    record = MultiSegment([500], layout=("II",))
    record.write(tmp_path)
    assert code_of_refusal(CONVERTER, tmp_path) == "no_data"
    (tmp_path / "whole.atr").write_bytes(word(1, 50) + END)
    outcome = run(tmp_path, record)
    assert (outcome.description.streams, outcome.description.duration_s) == ((), 2.0)
    assert [e.onset_s for e in outcome.annotations] == [0.2]


def test_s10_a_start_from_the_first_segment(tmp_path: Path) -> None:
    dated = part("a", "II")
    dated.start = "10:00:00 01/02/2003"
    record = MultiSegment([dated])
    assert run(tmp_path, record).described.identity.start is not None
    assert run(tmp_path, MultiSegment([5, dated])).described.identity.start is None


def refused(folder: Path, record: MultiSegment) -> str:
    record.write(folder)
    with pytest.raises(ConversionError) as caught:
        convert(CONVERTER, next(s for s in sources_in(CONVERTER, folder) if s.primary.path.stem == record.name))
    return caught.value.code


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["a 40", "b 39"], "invalid_header"),  # not the segment's own length
        (["a 40", "b"], "invalid_header"),
        (["a 40", "b 4x"], "invalid_header"),
        (["a 40", "b -40"], "invalid_header"),
        (["a 40", "b 0"], "invalid_header"),
        (["~ 0", "a 40", "b 40"], "invalid_header"),
        (["a 40", "gone 40"], "missing_file"),
        (["a 40", "../b 40"], "path_escape"),
        (["a 40", "/b 40"], "path_escape"),
        (["a 40", "whole 40"], "unsupported_wfdb_structure"),
        (["a 40", "other 40"], "unsupported_wfdb_structure"),
    ],
)
def test_s10_segments_that_are_refused(tmp_path: Path, lines: list[str], code: str) -> None:
    MultiSegment([part("b", "II")], "other").write(tmp_path)
    record = MultiSegment([part("a", "II"), part("b", "II")], lines=lines, length="79" if "b 39" in lines else "80")
    assert refused(tmp_path, record) == code


def test_s10_segments_that_disagree_with_the_record(tmp_path: Path) -> None:
    assert refused(tmp_path, MultiSegment([part("a", "II")], length="41")) == "invalid_header"
    assert refused(tmp_path, MultiSegment([part("a", "II")], rate="500")) == "invalid_header"
    assert refused(tmp_path, MultiSegment([part("a", "II")], lines=["a 40", "a 40"], length="40")) == "invalid_header"
    short = part("a", "II")
    record = MultiSegment([short])
    record.write(tmp_path)
    (tmp_path / "a.dat").write_bytes((tmp_path / "a.dat").read_bytes()[:-1])
    assert code_of_refusal(CONVERTER, tmp_path) == "truncated"
    record.write(tmp_path)
    (tmp_path / "a.dat").write_bytes(bytes(40))
    assert code_of_refusal(CONVERTER, tmp_path) == "checksum_mismatch"
    (tmp_path / "a.dat").unlink()
    assert code_of_refusal(CONVERTER, tmp_path) == "missing_file"


def test_s10_a_segment_without_a_length_has_the_records(tmp_path: Path) -> None:
    one = part("a", "II")
    one.length = ""
    outcome = run(tmp_path, MultiSegment([one, one], length="0"))
    np.testing.assert_array_equal(outcome.arrays[0], np.tile(samples(one, "II"), 2))
    assert outcome.description.flags == ("checksum_absent",)


def test_s08_links_to_segments_outside_are_refused(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    elsewhere.mkdir()
    MultiSegment([part("a", "II")]).write(folder)
    os.rename(folder / "a.hea", elsewhere / "a.hea")
    os.symlink(elsewhere / "a.hea", folder / "a.hea")
    assert code_of_refusal(CONVERTER, folder) == "path_escape"


@pytest.mark.parametrize("count", [999_999_999, 65_537, 0])
def test_s10_absurd_numbers_of_segments_cost_no_memory(count: int) -> None:
    raw = f"whole/{count} 2 250 1000\n".encode() + b"a 1\n" * min(count, 70_000)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match="invalid_header"):
            parse_header(raw)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
