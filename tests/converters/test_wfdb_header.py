"""WFDB header fields (FIDELITY S08)."""

from __future__ import annotations

import os
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from converters.conformance import convert, sources_in
from converters.wfdb_bytes import Record, Signal
from harmonize_converters._wfdb_header import parse_header, safe_name
from harmonize_converters.contract import ConversionError, Described, SourceFiles
from harmonize_converters.wfdb import WfdbConverter
from harmonize_schemas import Channel

CONVERTER = WfdbConverter()
SAMPLES = np.arange(20) - 5


def source_of(folder: Path, record: Record) -> SourceFiles:
    record.write(folder)
    (source,) = sources_in(CONVERTER, folder)
    return source


def describe(folder: Path, record: Record) -> Described:
    return CONVERTER.describe(source_of(folder, record))


def channel_of(folder: Path, **fields: object) -> tuple[Channel, tuple[str, ...]]:
    found = describe(folder, Record([Signal(SAMPLES, **fields)])).description  # type: ignore[arg-type]
    return found.streams[0].channels[0], found.flags


def test_s08_gain_baseline_and_units(tmp_path: Path) -> None:
    channel, flags = channel_of(tmp_path, gain="2000(-50)/uV", resolution=16)
    assert (channel.unit, channel.unit_found, channel.name, channel.type) == ("mV", "uV", "II", "ecg")
    assert channel.scale == pytest.approx(0.001 / 2000)
    assert channel.offset == pytest.approx(0.001 * 50 / 2000)
    assert (channel.digital_min, channel.digital_max) == (-32768, 32767)
    assert channel.calibrated
    assert flags == ()


@pytest.mark.parametrize("gain", ["0", "0/mV", "0(7)/mV"])
def test_s08_default_gain_is_flagged(tmp_path: Path, gain: str) -> None:
    channel, flags = channel_of(tmp_path, gain=gain)
    assert channel.scale == 1 / 200
    assert not channel.calibrated
    assert {"default_gain", "uncalibrated"} <= set(flags)


def test_s08_a_bare_signal_line_takes_every_default(tmp_path: Path) -> None:
    channel, flags = channel_of(tmp_path, gain="", tail="")
    assert (channel.unit_found, channel.scale, channel.offset, channel.name) == ("mV", 1 / 200, 0.0, "unnamed")
    assert (channel.digital_min, channel.digital_max) == (None, None)
    assert {"default_gain", "checksum_absent", "channel_unmapped"} <= set(flags)


def test_s08_baseline_defaults_to_the_adc_zero(tmp_path: Path) -> None:
    channel, _ = channel_of(tmp_path, gain="200", zero=1024, resolution=11)
    assert (channel.unit, channel.offset) == ("mV", -1024 / 200)
    assert (channel.digital_min, channel.digital_max) == (0, 2047)
    assert channel_of(tmp_path, gain="200(0)", zero=1024)[0].offset == 0.0


def test_s08_negative_gain_is_legal(tmp_path: Path) -> None:
    channel, flags = channel_of(tmp_path, gain="-19.5(3064)/mV")
    assert channel.scale == pytest.approx(-1 / 19.5)
    assert "negative_gain" in flags


def test_s08_rates(tmp_path: Path) -> None:
    def rate(text: str) -> Fraction:
        return describe(tmp_path, Record([Signal(SAMPLES)], rate=text)).description.streams[0].rate_hz

    assert rate("360.0") == 360
    assert rate("62.4725/999.56") == Fraction("62.4725")
    assert rate("250/24000(17.5)") == 250
    assert parse_header(b"rec 1\nrec.dat 16\n").rate_hz == 250


def test_s08_missing_length_comes_from_the_file(tmp_path: Path) -> None:
    outcome = convert(CONVERTER, source_of(tmp_path, Record([Signal(SAMPLES, 212)], length="")))
    np.testing.assert_array_equal(outcome.arrays[0], [SAMPLES])
    assert "record_count_missing" in outcome.description.flags


def test_s08_byte_offset(tmp_path: Path) -> None:
    signals = [Signal(SAMPLES, form="16x1+24"), Signal(SAMPLES * 2, form="16+24", name="V1")]
    outcome = convert(CONVERTER, source_of(tmp_path, Record(signals, prolog=bytes(24))))
    np.testing.assert_array_equal(outcome.arrays[0], [SAMPLES, SAMPLES * 2])
    assert outcome.description.flags == ()


@pytest.mark.parametrize(
    ("start", "expected", "invalid"),
    [
        ("12:30:00.250 14/07/1998", datetime(1998, 7, 14, 12, 30, 0, 250_000), False),
        ("31:51.982 01/02/2003", datetime(2003, 2, 1, 0, 31, 51, 982_000), False),
        ("12:30:00", None, False),
        ("12:30:00 31/02/1998", None, True),
        ("25:30:00 14/07/1998", None, True),
        ("", None, False),
    ],
)
def test_s08_base_time_and_date(tmp_path: Path, start: str, expected: datetime | None, invalid: bool) -> None:
    found = describe(tmp_path, Record([Signal(SAMPLES)], start=start))
    assert found.identity.start == expected
    assert found.identity.subject is None
    assert ("invalid_start_date" in found.description.flags) == invalid


@pytest.mark.parametrize(
    ("comments", "age", "sex"),
    [
        ((" Age: 74", " Sex: Male"), 74.0, "male"),
        (("Age: 5", "Sex: F"), 5.0, "female"),
        ((" <age>: 69  <sex>: M  <diagnoses>: (none)",), 69.0, "male"),
        ((" Age: Unknown", " Sex: Unknown"), None, None),
        ((" age: 81", " sex: female"), 81.0, "female"),
        ((" Age: 93",), 90.0, None),
        ((" Age: 300",), None, None),
        ((" Age: NaN",), None, None),
        ((" 69 M 1085 1629 x1", " Average: 12"), None, None),
    ],
)
def test_s08_comments(tmp_path: Path, comments: tuple[str, ...], age: float | None, sex: str | None) -> None:
    people = describe(tmp_path, Record([Signal(SAMPLES)], comments=comments)).description.demographics
    assert (people.age_years, people.sex) == (age, sex)
    assert people.age_pooled == (age == 90.0)


@pytest.mark.parametrize("name", ["../rec.dat", "/etc/passwd", "a/../../rec.dat", "..\\rec.dat", "C:rec.dat"])
def test_s08_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    assert not safe_name(name)
    (tmp_path / "rec.hea").write_text(f"rec 1 250 20\n{name} 16 200\n")
    (source,) = sources_in(CONVERTER, tmp_path)
    assert source.roles == ("header",)
    with pytest.raises(ConversionError, match="path_escape"):
        CONVERTER.describe(source)


def test_s08_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    elsewhere.mkdir()
    Record([Signal(SAMPLES)]).write(elsewhere)
    (folder / "rec.hea").write_bytes((elsewhere / "rec.hea").read_bytes())
    os.symlink(elsewhere / "rec.dat", folder / "rec.dat")
    (source,) = sources_in(CONVERTER, folder)
    with pytest.raises(ConversionError, match="path_escape"):
        CONVERTER.describe(source)


def test_s08_missing_signal_file(tmp_path: Path) -> None:
    source_of(tmp_path, Record([Signal(SAMPLES)]))
    (tmp_path / "rec.dat").unlink()
    (source,) = sources_in(CONVERTER, tmp_path)
    with pytest.raises(ConversionError, match="missing_file"):
        CONVERTER.describe(source)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("rec 2 250 20\nrec.dat 16 200\n", "invalid_header"),
        ("rec 1 0 20\nrec.dat 16 200\n", "invalid_header"),
        ("rec 1 1e999 20\nrec.dat 16 200\n", "invalid_header"),
        ("rec 1 250 20\nrec.dat\n", "invalid_header"),
        ("rec 1 250 20\nrec.dat 16 twenty\n", "invalid_header"),
        ("rec 1 250 20\nrec.dat 16 200 twelve\n", "invalid_header"),
        ("rec 1 250 20\nrec.dat 16x0 0.x\n", "invalid_header"),
        ("rec 1 250 20\nrec.dat 77 200\n", "unsupported_wfdb_format"),
        ("rec 1 250 20\nrec.dat 16x2:3 200\n", "unsupported_wfdb_format"),
        ("rec 1 250 20\nrec.dat 16:20 200\n", "invalid_header"),
        ("rec 1 250 20\nrec.dat 16:999999999 200\n", "invalid_header"),
        ("rec 1 250 0\n~ 0 200\n", "unsupported_wfdb_structure"),
        ("rec 1 250 999999999999\nrec.dat 16 200\n", "truncated"),
        ("rec 2 250 5\nrec.dat 16 200\nrec.dat 212 200\n", "invalid_header"),
        ("rec 3 250 5\nrec.dat 16 200\nrec.atr 16 200\nrec.dat 16 200\n", "invalid_header"),
        ("rec 2 250 5\nrec.dat 16+4 200\nrec.dat 16+8 200\n", "invalid_header"),
    ],
)
def test_s08_headers_that_are_refused(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "rec.dat").write_bytes(bytes(40))
    (tmp_path / "rec.atr").write_bytes(bytes(40))
    (tmp_path / "rec.hea").write_text(text)
    (source,) = sources_in(CONVERTER, tmp_path)
    with pytest.raises(ConversionError) as caught:
        CONVERTER.describe(source)
    assert caught.value.code == code


def test_recognised_by_its_record_line() -> None:
    assert CONVERTER.recognize(b"# note\r\n\r\n100 2 360 650000\r\n100.dat 212\r\n", "100.hea")
    assert CONVERTER.recognize(b"s/12 3 250\n", "s.hea")
    assert not CONVERTER.recognize(b"100 2 360 650000\n", "101.hea")
    assert not CONVERTER.recognize(b"100 two 360\n", "100.hea")
