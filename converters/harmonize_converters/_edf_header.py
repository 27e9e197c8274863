"""The EDF/BDF header, field by field (edfplus.info/specs/edf.html, edfplus.html; biosemi.com/faq/file_format)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from fractions import Fraction

from harmonize_converters._fields import (
    calendar_date,
    clean,
    decimal,
    demographics,
    english_date,
    integer,
    whole_years,
)
from harmonize_converters.contract import ConversionError, Identity
from harmonize_schemas import Demographics, Prefilter

FIXED_BYTES = 256
SIGNAL_BYTES = 256
_FIELDS = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical_min", 8),
    ("physical_max", 8),
    ("digital_min", 8),
    ("digital_max", 8),
    ("prefilter", 80),
    ("samples", 8),
    ("reserved", 32),
)
_FILTER = re.compile(r"\b(HP|LP|N)\s*[:=]\s*(DC|\d{1,9}(?:[.,]\d{1,9})?)\s*(Hz)?(?![\w.,])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EdfSignal:
    """One signal's fields. What cannot be read of the ranges is None: the signal is then not calibrated."""

    label: str
    unit: str
    physical_min: Fraction | None
    physical_max: Fraction | None
    digital_min: int | None
    digital_max: int | None
    prefilter: str
    samples: int
    """Samples in one data record."""

    def calibration(self) -> tuple[Fraction, Fraction] | None:
        """Gain and offset from digital to physical values; None where the ranges are no two points of a line
        (FIDELITY S04)."""
        pmin, pmax, dmin, dmax = self.physical_min, self.physical_max, self.digital_min, self.digital_max
        if pmin is None or pmax is None or dmin is None or dmax is None or pmin == pmax or dmin == dmax:
            return None
        gain = (pmax - pmin) / (dmax - dmin)
        return gain, pmin - gain * dmin

    @property
    def is_annotations(self) -> bool:
        return self.label in ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True, slots=True)
class EdfHeader:
    """All that the header says; ``n_records`` is -1 where it is unknown."""

    bdf: bool
    kind: str
    """The format by name: "EDF", "EDF+C", "EDF+D", "BDF", "BDF+C", "BDF+D"."""
    patient: str
    recording: str
    start: datetime | None
    n_records: int
    record_s: Fraction
    signals: tuple[EdfSignal, ...]
    record_samples: int
    """Samples of all signals in one data record."""

    @property
    def data_start(self) -> int:
        return FIXED_BYTES + SIGNAL_BYTES * len(self.signals)

    @property
    def sample_bytes(self) -> int:
        return 3 if self.bdf else 2

    @property
    def record_bytes(self) -> int:
        return self.record_samples * self.sample_bytes


def is_edf(head: bytes) -> bool:
    """Whether a file's first bytes are those of an EDF or BDF header."""
    if len(head) < FIXED_BYTES:
        return False
    version = head[:8]
    size = integer(clean(head[184:192]))
    magic = version == b"\xffBIOSEMI" or version.rstrip(b" \0") == b"0"
    return magic and size is not None and size >= FIXED_BYTES and size % SIGNAL_BYTES == 0


def signal_count(fixed: bytes) -> int:
    """How many signals the first 256 bytes declare; the header is then (1 + count) * 256 bytes."""
    version = fixed[:8]
    if version != b"\xffBIOSEMI" and version.rstrip(b" \0") != b"0":
        raise ConversionError("format_mismatch", "Found neither the version of EDF nor that of BDF.", "byte 0")
    count = integer(clean(fixed[252:256]))
    if count is None or not 1 <= count <= 9999:
        raise ConversionError("invalid_header", "The number of signals must be 1 to 9999.", "byte 252")
    if integer(clean(fixed[184:192])) != FIXED_BYTES + SIGNAL_BYTES * count:
        message = "The header's size must be 256 * (1 + number of signals)."
        raise ConversionError("invalid_header", message, "byte 184")
    return count


def parse_header(raw: bytes) -> EdfHeader:
    """A whole header, of the length that ``signal_count`` gives."""
    count = signal_count(raw)
    bdf = raw[0] == 0xFF
    n_records = integer(clean(raw[236:244]))
    record_s = decimal(clean(raw[244:252]))
    if n_records is None or n_records < -1:
        raise ConversionError("invalid_header", "The number of data records cannot be read.", "byte 236")
    if record_s is None or record_s < 0:
        raise ConversionError("invalid_header", "The record duration cannot be read.", "byte 244")
    signals = _parse_signals(raw[FIXED_BYTES:], count)
    base = "BDF" if bdf else "EDF"
    plus = re.match(r"[EB]DF\+([CD])", clean(raw[192:236]))
    kind = f"{base}+{plus[1]}" if plus else base
    recording = clean(raw[88:168])
    start = _parse_start(clean(raw[168:176]), clean(raw[176:184]), recording if plus else "")
    record_samples = sum(signal.samples for signal in signals)
    return EdfHeader(bdf, kind, clean(raw[8:88]), recording, start, n_records, record_s, signals, record_samples)


def _parse_signals(raw: bytes, count: int) -> tuple[EdfSignal, ...]:
    columns: dict[str, list[str]] = {}
    at = 0
    for name, width in _FIELDS:
        columns[name] = [clean(raw[at + i * width : at + (i + 1) * width]) for i in range(count)]
        at += count * width
    return tuple(_parse_signal({name: column[i] for name, column in columns.items()}, i) for i in range(count))


def _parse_signal(fields: dict[str, str], index: int) -> EdfSignal:
    samples = integer(fields["samples"])
    if samples is None or samples < 1:
        message = "The number of samples in a data record must be above zero."
        raise ConversionError("invalid_header", message, f"signal {index}")
    ranges = (
        decimal(fields["physical_min"]),
        decimal(fields["physical_max"]),
        integer(fields["digital_min"]),
        integer(fields["digital_max"]),
    )
    return EdfSignal(fields["label"], fields["unit"], *ranges, fields["prefilter"], samples)


def _parse_start(day: str, clock: str, recording: str) -> datetime | None:
    """Start of the file. The year has two digits, 85 to 84 for 1985 to 2084; the EDF+ recording field
    gives all four where it agrees."""
    days = re.fullmatch(r"(\d{1,2})[.:/-](\d{1,2})[.:/-](\d{2})", day, re.ASCII)
    clocks = re.fullmatch(r"(\d{1,2})[.:](\d{1,2})[.:](\d{1,2})", clock, re.ASCII)
    if not days or not clocks:
        return None
    short = int(days[3])
    found: date | None = calendar_date(1900 + short if short >= 85 else 2000 + short, int(days[2]), int(days[1]))
    if found is None:
        return None
    words = recording.split()
    full = english_date(words[1]) if len(words) > 1 and words[0] == "Startdate" else None
    if full and (full.day, full.month, full.year % 100) == (found.day, found.month, short):
        found = full
    hour, minute, second = (int(part) for part in clocks.groups())
    if hour > 23 or minute > 59 or second > 59:
        return None
    return datetime.combine(found, time(hour, minute, second))


def parse_prefilter(text: str) -> Prefilter | None:
    """ "HP:0.1Hz LP:75Hz N:50Hz" to corner frequencies. What cannot be read, or is said twice with
    different values, is dropped; DC is a high-pass at 0 Hz."""
    found: dict[str, set[float]] = {}
    for kind, value, unit in _FILTER.findall(text):
        if value.upper() == "DC" and (kind.upper() != "HP" or unit):
            continue
        hertz = 0.0 if value.upper() == "DC" else float(value.replace(",", "."))
        found.setdefault(kind.upper(), set()).add(hertz)
    single = {kind: next(iter(values)) for kind, values in found.items() if len(values) == 1}
    corners = (single.get("HP"), single.get("LP") or None, single.get("N") or None)
    if corners == (None, None, None):
        return None
    return Prefilter(highpass_hz=corners[0], lowpass_hz=corners[1], notch_hz=corners[2])


def who(header: EdfHeader) -> tuple[Identity, Demographics]:
    """Patient and recording fields: subfields in EDF+, free text in EDF. "X" is unknown."""
    if "+" not in header.kind:
        subject = header.patient if header.patient.strip("Xx ") else None
        return Identity(subject=subject, start=header.start), Demographics()
    patient, recording = header.patient.split(), header.recording.split()
    session = recording[2] if len(recording) > 2 and recording[0] == "Startdate" else "X"
    identity = Identity(session=None if session == "X" else session, start=header.start)
    if len(patient) < 3 or patient[1] not in ("M", "F", "X"):
        # Not the subfields of EDF+: the whole field is the one name of this subject.
        subject = header.patient if header.patient.strip("Xx ") else None
        return Identity(subject=subject, session=identity.session, start=header.start), Demographics()
    born = english_date(patient[2])
    age = whole_years(born, header.start.date()) if born and header.start else None
    sex = None if patient[1] == "X" else patient[1]
    subject = None if patient[0] == "X" else patient[0]
    return Identity(subject=subject, session=identity.session, start=header.start), demographics(age, sex)
