"""EDF and BDF header fields: calibration, units, lengths, dates, people (FIDELITY S04 to S07)."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from converters.edf_bytes import Signal, edf_bytes
from converters.edf_cases import CONVERTER, ramp, refused, run, write
from harmonize_converters._edf_header import parse_prefilter
from harmonize_converters.contract import ConversionError, Identity
from harmonize_schemas import Channel, Demographics, Prefilter


def one_channel(tmp_path: Path, bdf: bool = False, **fields: object) -> tuple[Channel, tuple[str, ...]]:
    signal = Signal(samples=ramp(8), **fields)  # type: ignore[arg-type]
    described = CONVERTER.describe(write(tmp_path, edf_bytes([signal], n_records=1, bdf=bdf)))
    return described.description.streams[0].channels[0], described.description.flags


# --- S04, S05: calibration and units ----------------------------------------------------------------


def test_s04_calibration(tmp_path: Path) -> None:
    channel, flags = one_channel(tmp_path, physical=("-100", "300"), digital=("0", "4000"), unit="mV")
    assert (channel.scale, channel.offset, channel.unit) == (pytest.approx(100.0), -100_000.0, "µV")
    assert (channel.digital_min, channel.digital_max) == (0, 4000)
    assert (channel.physical_min, channel.physical_max) == (-100.0, 300.0)
    assert channel.calibrated
    assert "uncalibrated" not in flags


@pytest.mark.parametrize(
    "ranges",
    [{"physical": ("5", "5")}, {"digital": ("7", "7")}, {"physical": ("low", "high")}, {"digital": ("", "")}],
)
def test_s04_degenerate_calibration_keeps_the_integers(tmp_path: Path, ranges: dict[str, object]) -> None:
    channel, flags = one_channel(tmp_path, **ranges)
    assert (channel.scale, channel.offset, channel.unit, channel.calibrated) == (1.0, 0.0, None, False)
    assert "uncalibrated" in flags


def test_s04_negative_gain_is_legal(tmp_path: Path) -> None:
    channel, flags = one_channel(tmp_path, physical=("3276.7", "-3276.8"))
    assert channel.scale == pytest.approx(-0.1)
    assert "negative_gain" in flags


def test_s04_samples_beyond_the_digital_range_are_kept(tmp_path: Path) -> None:
    signal = Signal(samples=np.array([-30000, -100, 100, 30000]), per_record=4, digital=("-100", "100"))
    outcome = run(tmp_path, edf_bytes([signal], n_records=1))
    np.testing.assert_array_equal(outcome.arrays[0], [signal.samples])


@pytest.mark.parametrize("unit", [b"uV", b"\xb5V", "µV".encode(), "\u03bcV".encode()])
def test_s05_spellings_of_microvolt(tmp_path: Path, unit: bytes) -> None:
    channel, flags = one_channel(tmp_path, unit=unit)
    assert channel.unit == "µV"
    assert flags == ()


def test_s05_unknown_units_are_kept_and_flagged(tmp_path: Path) -> None:
    channel, flags = one_channel(tmp_path, unit="furlong")
    assert (channel.unit, channel.unit_found) == (None, "furlong")
    assert "unit_unknown" in flags
    assert "unit_unknown" in one_channel(tmp_path, unit="")[1]
    assert "unit_mismatch" in one_channel(tmp_path, unit="degC")[1]


# --- S06: lengths and fields that lie ---------------------------------------------------------------


def test_s06_record_count_missing(tmp_path: Path) -> None:
    outcome = run(tmp_path, edf_bytes([Signal(samples=ramp(24))], n_records=3, declared_records="-1"))
    assert outcome.description.streams[0].n_samples == 24
    assert "record_count_missing" in outcome.description.flags


def test_s06_trailing_bytes(tmp_path: Path) -> None:
    signal = Signal(samples=ramp(24))
    outcome = run(tmp_path, edf_bytes([signal], n_records=3) + b"abc")
    assert outcome.description.flags == ("trailing_bytes",)
    outcome = run(tmp_path, edf_bytes([signal], n_records=3, declared_records="2"))
    assert outcome.description.flags == ("trailing_bytes",)
    np.testing.assert_array_equal(outcome.arrays[0], [ramp(16)])


@pytest.mark.parametrize("cut", [1, 15])
def test_s06_whole_records_of_a_truncated_file_are_kept_and_flagged(tmp_path: Path, cut: int) -> None:
    data = edf_bytes([Signal(samples=ramp(24))], n_records=3)
    outcome = run(tmp_path, data[:-cut])
    np.testing.assert_array_equal(outcome.arrays[0], [ramp(24)[:16]])
    assert outcome.description.flags == ("truncated",)
    assert outcome.description.duration_s == 2.0


def test_s06_truncated_before_the_first_record_is_refused(tmp_path: Path) -> None:
    data = edf_bytes([Signal(samples=ramp(24))], n_records=3)
    assert refused(tmp_path, data[: 512 + 15]) == "truncated"
    assert refused(tmp_path, data[:300]) == "truncated"
    assert refused(tmp_path, data[:100]) == "truncated"
    assert refused(tmp_path, b"") == "empty_file"
    assert refused(tmp_path, edf_bytes([Signal(samples=ramp(24))], n_records=3, declared_records="0")) == "truncated"


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (184, b"512     "),
        (184, b"many    "),
        (236, b"-2      "),
        (236, b"?       "),
        (244, b"zero    "),
        (244, b"0       "),
        (252, b"0   "),
        (252, b"x   "),
        (244, b"-1      "),
        (244, b"1e999999"),
    ],
)
def test_s06_unreadable_fields_are_refused(tmp_path: Path, offset: int, text: bytes) -> None:
    data = bytearray(edf_bytes([Signal(samples=ramp(8)), Signal(samples=ramp(8))], n_records=1))
    data[offset : offset + len(text)] = text
    assert refused(tmp_path, bytes(data)) == "invalid_header"


def test_s06_absurd_sizes_take_no_memory(tmp_path: Path) -> None:
    data = bytearray(edf_bytes([Signal(samples=ramp(8))], n_records=1))
    at = 256 + 16 + 80 + 8 * 5 + 80
    data[at : at + 8] = b"99999999"
    assert refused(tmp_path, bytes(data)) == "truncated"
    data[236:244] = b"99999999"
    assert refused(tmp_path, bytes(data)) == "truncated"


def test_s06_decimal_commas_and_nul_padding(tmp_path: Path) -> None:
    channel, _ = one_channel(tmp_path, physical=("-100,5", "100,5\0\0"), label="EEG Cz\0\0")
    assert (channel.physical_min, channel.physical_max, channel.name) == (-100.5, 100.5, "Cz")


@pytest.mark.parametrize(
    ("date", "year"), [("02.03.85", 1985), ("02.03.99", 1999), ("02.03.00", 2000), ("02.03.84", 2084)]
)
def test_s06_years_pivot_at_85(tmp_path: Path, date: str, year: int) -> None:
    data = edf_bytes([Signal(samples=ramp(8))], n_records=1, date=date)
    assert run(tmp_path, data).described.identity.start == datetime(year, 3, 2, 5, 6, 7)


@pytest.mark.parametrize(("date", "time"), [("31.02.04", "05.06.07"), ("X", "05.06.07"), ("02.03.04", "25.00.00")])
def test_s06_dirty_dates_are_flagged(tmp_path: Path, date: str, time: str) -> None:
    outcome = run(tmp_path, edf_bytes([Signal(samples=ramp(8))], n_records=1, date=date, time=time))
    assert outcome.described.identity.start is None
    assert outcome.description.flags == ("invalid_start_date",)


def test_s06_changed_size_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, edf_bytes([Signal(samples=ramp(24))], n_records=3))
    description = CONVERTER.describe(source).description
    with source.primary.path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ConversionError, match="source_changed"):
        list(CONVERTER.read(source, description, 100))


def test_s06_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, edf_bytes([Signal(samples=ramp(24))], n_records=3))
    blocks = CONVERTER.read(source, CONVERTER.describe(source).description, 16)
    next(blocks)
    with source.primary.path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ConversionError, match="source_changed"):
        list(blocks)


def test_s06_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, edf_bytes([Signal(samples=ramp(24))], n_records=3))
    blocks = CONVERTER.read(source, CONVERTER.describe(source).description, 16)
    next(blocks)
    os.truncate(source.primary.path, 520)
    with pytest.raises(ConversionError, match="truncated"):
        list(blocks)


# --- S07: BDF ---------------------------------------------------------------------------------------


def test_s07_bdf_sign_extends_24_bits(tmp_path: Path) -> None:
    values = np.array([-(2**23), -1, 0, 1, 2**23 - 1, -256, 255, 65536])
    outcome = run(tmp_path, edf_bytes([Signal(samples=values)], n_records=1, bdf=True, reserved="24BIT"))
    assert outcome.description.format == "BDF"
    assert outcome.arrays[0].dtype == np.int32
    np.testing.assert_array_equal(outcome.arrays[0], [values])


def test_s07_status_channel_is_not_scaled(tmp_path: Path) -> None:
    channel, flags = one_channel(tmp_path, True, label="Status", unit="Boolean", physical=("-1", "1"))
    assert (channel.type, channel.scale, channel.offset, channel.unit) == ("trigger", 1.0, 0.0, None)
    assert channel.calibrated
    assert flags == ()


def test_s07_triggers_of_edf_are_the_values_that_its_header_makes(tmp_path: Path) -> None:
    """edf.html knows no signal that is not scaled: 8-bit codes may lie over all 16 bits."""
    fields = {"label": "TRIGGER", "unit": "uV", "physical": ("0", "255"), "digital": ("-32768", "32767")}
    channel, flags = one_channel(tmp_path, False, **fields)
    assert (channel.type, channel.unit, channel.unit_found, channel.calibrated) == ("trigger", None, "uV", True)
    codes = np.array([-32768, 32767]) * channel.scale + channel.offset
    np.testing.assert_allclose(codes, [0, 255], atol=1e-9)
    assert flags == ()


# --- identity and small fields ----------------------------------------------------------------------


def described(tmp_path: Path, **fields: str) -> tuple[Identity, Demographics]:
    data = edf_bytes([Signal(samples=ramp(8))], n_records=1, **fields)  # type: ignore[arg-type]
    out = CONVERTER.describe(write(tmp_path, data))
    return out.identity, out.description.demographics


def test_edf_plus_patient_and_recording_fields(tmp_path: Path) -> None:
    identity, people = described(
        tmp_path,
        reserved="EDF+C",
        patient="MCH-0234567 F 02-MAY-1951 Haagse_Harry",
        recording="Startdate 02-MAR-2004 PSG-1234/2004 NN Telemetry03",
    )
    assert (identity.subject, identity.session) == ("MCH-0234567", "PSG-1234/2004")
    assert people.model_dump(exclude_defaults=True) == {
        "age_years": 52.0,
        "sex": "female",
        "sex_found": "F",
    }


def test_edf_plus_unknown_is_unknown(tmp_path: Path) -> None:
    identity, people = described(tmp_path, reserved="EDF+C")
    assert (identity.subject, identity.session) == (None, None)
    assert people.model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize(
    ("born", "age", "pooled"),
    [
        ("01-MAR-1914", 90.0, True),
        ("03-MAR-1914", 89.0, False),
        ("01-JAN-1850", None, False),
        ("01-JAN-2030", None, False),
    ],
)
def test_ages_above_89_are_pooled(tmp_path: Path, born: str, age: float | None, pooled: bool) -> None:
    _, people = described(tmp_path, reserved="EDF+C", patient=f"X M {born} X")
    assert (people.age_years, people.age_pooled) == (age, pooled)


def test_plain_edf_patient_field_is_free_text(tmp_path: Path) -> None:
    assert described(tmp_path, patient="  Doe, John 12345 ")[0].subject == "Doe, John 12345"
    assert described(tmp_path, patient="")[0].subject is None


@pytest.mark.parametrize(
    ("text", "corners"),
    [
        ("HP:0.1Hz LP:75Hz N:50Hz", (0.1, 75.0, 50.0)),
        ("HP: DC; LP: 113 Hz", (0.0, 113.0, None)),
        ("hp:0,5 lp:35", (0.5, 35.0, None)),
        ("N:50Hz N:60Hz LP:70Hz", (None, 70.0, None)),
    ],
)
def test_prefilters(text: str, corners: tuple[float | None, ...]) -> None:
    found = parse_prefilter(text)
    assert isinstance(found, Prefilter)
    assert (found.highpass_hz, found.lowpass_hz, found.notch_hz) == corners


@pytest.mark.parametrize("text", ["", "None", "HP:fast", "LP:0Hz", "HP:100mHz", "Butterworth 4th"])
def test_unreadable_prefilters_are_dropped(text: str) -> None:
    assert parse_prefilter(text) is None


def test_duplicate_labels_are_flagged(tmp_path: Path) -> None:
    data = edf_bytes([Signal(samples=ramp(8)), Signal(samples=ramp(8))], n_records=1)
    assert run(tmp_path, data).description.flags == ("duplicate_labels",)


def test_recognised_by_bytes_whatever_the_name(tmp_path: Path) -> None:
    data = edf_bytes([Signal(samples=ramp(8))], n_records=1)
    assert CONVERTER.recognize(data, "anything.txt")
    assert CONVERTER.recognize(edf_bytes([Signal(samples=ramp(8))], n_records=1, bdf=True), "x.edf")
    assert not CONVERTER.recognize(b"0       the score was nil" + b" " * 300, "x.edf")
