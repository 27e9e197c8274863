"""The WFDB header file, header(5) of the WFDB Applications Guide: record line, signal lines, comments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from harmonize_converters._fields import calendar_date, decimal, decode_text, demographics, plausible_age
from harmonize_converters.contract import ConversionError
from harmonize_schemas import Demographics

DEFAULT_RATE_HZ = Fraction(250)
DEFAULT_GAIN = Fraction(200)
MAX_HEADER_BYTES = 1 << 22
MAX_SEGMENTS = 1 << 16
"""The longest records on PhysioNet (MIMIC) have some thousand segments."""

_RECORD = re.compile(
    r"(?P<name>[^\s/]+)(/(?P<segments>\d{1,9}))?[ \t]+(?P<signals>\d{1,6})"
    r"([ \t]+(?P<rate>[\d.eE+-]{1,40})(/(?P<counter>[\d.eE+-]{1,40})(\([\d.eE+-]{0,40}\))?)?"
    r"([ \t]+(?P<length>\d{1,15})([ \t]+(?P<time>[\d:.]{1,20})([ \t]+(?P<date>[\d/]{1,12}))?)?)?)?[ \t]*"
)
_FORMAT = re.compile(r"(\d{1,4})(?:x(\d{1,6}))?(?::(\d{1,9}))?(?:\+(\d{1,12}))?", re.ASCII)
_GAIN = re.compile(r"([^\s(/]*)(?:\(([+-]?\d{1,12})\))?(?:/(\S*))?", re.ASCII)
_SEGMENT = re.compile(r"(\S{1,255})[ \t]+(\d{1,12})([ \t].*)?", re.ASCII)
_SIGNAL = re.compile(
    # file, format, gain; resolution, ADC zero, initial value, checksum, block size; description
    r"(\S+)(?:\s+(\S+)(?:\s+(\S+)" + r"(?:\s+([+-]?[0-9]{1,12})" * 5 + r"(?:\s+(.*))?" + r")?" * 7
)
_AGE = re.compile(r"\s*(?:Age\s*:|.*<age>\s*:)\s*([\d.]+)(?=\s|$)", re.IGNORECASE)
_FIELD = re.compile(r"\s*<?([A-Za-z][^:<>]{0,60})>?\s*:(.*)")
_SEX = re.compile(r"\s*(?:Sex\s*:|.*<sex>\s*:)\s*(male|female|m|f)(?=\s|$)", re.IGNORECASE)


class WfdbSignal(NamedTuple):
    """One signal specification line, with the defaults of header(5) filled in. A physical value, in
    ``unit``, is sample * ``scale`` + ``offset``. ``skew`` is in samples of the signal."""

    file: str
    format: int
    samples_per_frame: int
    skew: int
    byte_offset: int | None
    scale: float
    offset: float
    gain_given: bool
    unit: str
    adc_resolution: int
    adc_zero: int
    initial: int
    checksum: int | None
    description: str

    @property
    def null(self) -> bool:
        """Whether it names a signal of which there are no samples."""
        return self.format == 0 or self.file == "~"


class WfdbSegment(NamedTuple):
    """One segment specification line: a record's name, "~" for a gap, and its length in frames."""

    name: str
    n_frames: int

    @property
    def null(self) -> bool:
        return self.name == "~"


@dataclass(frozen=True, slots=True)
class WfdbHeader:
    """A header file. ``n_frames`` is None where it gives no length."""

    rate_hz: Fraction
    n_frames: int | None
    start: datetime | None
    start_invalid: bool
    signals: tuple[WfdbSignal, ...]
    segments: tuple[WfdbSegment, ...]
    multi_segment: bool
    demographics: Demographics
    comments: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, str]:
        """Comments by name ("Dx: 426783006"), the first of each, and all of them as "comments"."""
        named = [found for line in self.comments if (found := _FIELD.match(line))]
        texts = {found[1].strip(): found[2].strip() for found in reversed(named)}
        return {"comments": "\n".join(line.strip() for line in self.comments)} | texts if self.comments else {}


def record_line(text: str) -> re.Match[str] | None:
    """The first line that is neither blank nor a comment, if it is a record line."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return _RECORD.fullmatch(line.strip())
    return None


def is_header(head: bytes, stem: str) -> bool:
    """Whether a file's first bytes are a WFDB header whose record has the file's own name."""
    if b"\0" in head:
        return False
    found = record_line(head.decode("latin-1"))
    return found is not None and found["name"] == stem


@lru_cache(maxsize=64)
def safe_name(name: str) -> bool:
    """Whether a file name in a header stays in the header's folder (or below it)."""
    path = PurePosixPath(name)
    drive = re.match(r"[A-Za-z]:", name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or drive or "\0" in name)


def parse_header(raw: bytes) -> WfdbHeader:
    """A whole header file. Raises ``ConversionError`` where a field cannot be read."""
    text = decode_text(raw)
    if "\0" in text:
        raise ConversionError("invalid_header", "A WFDB header is a text file.")
    lines = [line for line in map(str.strip, text.split("\n")) if line]  # a "\r" before "\n" goes with strip
    comments = [line[1:] for line in lines if line[0] == "#"]
    lines = [line for line in lines if line[0] != "#"] if comments else lines
    found = _RECORD.fullmatch(lines[0]) if lines else None
    if found is None:
        raise ConversionError("invalid_header", "The record line cannot be read.", "record line")
    rate_hz = _rate(found["rate"])
    start, start_invalid = _start(found["time"], found["date"])
    count = int(found["segments"] or found["signals"])
    multi_segment = found["segments"] is not None
    if len(lines) - 1 < count:
        message = f"Found {len(lines) - 1} of {count} specification lines."
        raise ConversionError("invalid_header", message, "end of header")
    body = lines[1 : 1 + count]
    if multi_segment and not 0 < count <= MAX_SEGMENTS:
        message = f"A record has 1 to {MAX_SEGMENTS} segments, not {count}."
        raise ConversionError("invalid_header", message, "record line")
    signals = () if multi_segment else tuple(_signal(line, i) for i, line in enumerate(body))
    segments = tuple(_segment(line, i) for i, line in enumerate(body)) if multi_segment else ()
    n_frames = int(found["length"] or 0) or None
    people = _demographics(comments)
    return WfdbHeader(
        rate_hz, n_frames, start, start_invalid, signals, segments, multi_segment, people, tuple(comments)
    )


@lru_cache(maxsize=64)
def _rate(text: str | None) -> Fraction:
    rate_hz = DEFAULT_RATE_HZ if text is None else decimal(text)
    if rate_hz is None or rate_hz <= 0:
        raise ConversionError("invalid_header", "The sampling frequency must be above zero.", "record line")
    return rate_hz


def _start(clock: str | None, day: str | None) -> tuple[datetime | None, bool]:
    """Base time ([[HH:]MM:]SS) and base date (DD/MM/YYYY), and whether one was given that is none."""
    if clock is None or day is None:
        return None, clock is not None and _clock(clock) is None
    found, days = _clock(clock), re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", day, re.ASCII)
    at: date | None = calendar_date(int(days[3]), int(days[2]), int(days[1])) if days else None
    if found is None or at is None:
        return None, True
    return datetime.combine(at, found), False


def _clock(text: str) -> time | None:
    found = re.fullmatch(r"(?:(?:(\d{1,2}):)?(\d{1,2}):)?(\d{1,2})(\.\d{0,9})?", text, re.ASCII)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    if hour > 23 or minute > 59 or second > 59:
        return None
    return time(hour, minute, second, int((found[4] or ".")[1:7].ljust(6, "0")))


def _segment(line: str, index: int) -> WfdbSegment:
    found = _SEGMENT.fullmatch(line)
    if found is None:
        raise ConversionError("invalid_header", "A segment's name or length cannot be read.", f"segment {index}")
    return WfdbSegment(found[1], int(found[2]))


def _signal(line: str, index: int) -> WfdbSignal:
    where = f"signal {index}"
    found = _SIGNAL.fullmatch(line)
    if found is None:
        raise ConversionError("invalid_header", "A whole number cannot be read.", where)
    file, form_text, gain, resolution, adc_zero, initial, checksum, _, description = found.groups()
    form = _form(form_text) if form_text else None
    if form is None:
        raise ConversionError("invalid_header", "The signal format cannot be read.", where)
    number, width, skew, byte_offset = form
    zero = int(adc_zero or 0)
    calibration = _calibration(gain or "", zero)
    if calibration is None or width < 1:
        raise ConversionError("invalid_header", "The gain or the samples per frame cannot be read.", where)
    return WfdbSignal(
        file,
        number,
        width,
        skew,
        byte_offset,
        *calibration,
        int(resolution or 0),
        zero,
        # The initial value is the ADC zero where it is not given.
        int(initial) if initial else zero,
        int(checksum) if checksum else None,
        _printable(description) if description else "",
    )


# A line's texts repeat from record to record of a data set, so each is read once.


@lru_cache(maxsize=256)
def _form(text: str) -> tuple[int, int, int, int | None] | None:
    """Format, samples per frame, skew and byte offset: "16x4:3+24"."""
    found = _FORMAT.fullmatch(text)
    if found is None:
        return None
    return int(found[1]), int(found[2] or 1), int(found[3] or 0), None if found[4] is None else int(found[4])


@lru_cache(maxsize=4096)
def _calibration(text: str, adc_zero: int) -> tuple[float, float, bool, str] | None:
    """Scale, offset, whether a gain is given, and unit: "200(0)/mV". The baseline is the ADC zero where it
    is not given."""
    found = _GAIN.fullmatch(text)
    value = decimal(found[1]) if found and found[1] else Fraction(0)
    if found is None or value is None:
        return None
    gain = value or DEFAULT_GAIN
    baseline = int(found[2]) if found[2] else adc_zero
    try:
        return float(1 / gain), float(-baseline / gain), bool(value), found[3] or "mV"
    except OverflowError:
        return None


@lru_cache(maxsize=4096)
def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()


def _demographics(comments: list[str]) -> Demographics:
    """Age and sex where a comment gives them by name ("Age: 74", "<sex>: M"); all else is free text."""
    ages = [found[1] for line in comments if (found := _AGE.match(line))]
    sexes = [found[1] for line in comments if (found := _SEX.match(line))]
    return demographics(plausible_age(ages[0]) if ages else None, sexes[0] if sexes else None)
