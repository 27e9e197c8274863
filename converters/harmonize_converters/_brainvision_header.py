"""BrainVision header (.vhdr) and marker (.vmrk) files, BrainVision Core Data Format 1.0 and 2.0 (Brain Products)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import lru_cache

from harmonize_converters._fields import decimal, decode_text, integer
from harmonize_converters.contract import ConversionError
from harmonize_schemas import Prefilter

MAX_HEADER_BYTES = 1 << 24
MAX_CHANNELS = 1 << 16
DTYPES = {"INT_16": "int16", "UINT_16": "uint16", "INT_32": "int32", "IEEE_FLOAT_32": "float32"}

_FIRST_LINE = r"\s*Brain ?Vision(?: Core| V-Amp)? Data(?: Exchange)? %s File,?(?: Version (\d)\.\d)?\s"
_HEADER = re.compile((_FIRST_LINE % "Header").encode())
_MARKERS = re.compile((_FIRST_LINE % "Marker").encode())
_CODEPAGE = re.compile(rb"^\s*Codepage\s*=\s*ANSI\s*$", re.IGNORECASE | re.MULTILINE)
_MARKER = re.compile(  # some writers (pybv 0.8) leave commas of the description as they are
    r"([^,]*),(.*?),(?P<at>\d{1,15})"
    r"(?:,(?P<size>\d{0,15})(?:,(?P<channel>-?\d{1,9}|)(?:,(?P<date>\d{20}|0?)(?:,.*)?)?)?)?",
    re.ASCII,
)
_LOW, _HIGH, _NOTCH = "low cutoff", "high cutoff", "notch"
_OFF = frozenset({"off", "-", ""})

Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class BvChannel:
    """One entry of [Channel Infos]. ``resolution`` is in ``unit``, both with the format's defaults (1, µV)."""

    name: str
    reference: str | None
    resolution: Fraction
    unit: str
    position: tuple[float, float, float] | None = None
    prefilter: Prefilter | None = None


@dataclass(frozen=True, slots=True)
class BvHeader:
    """A header file. ``data_points`` is None where it gives no length; ``texts`` are for recipes."""

    data_file: str
    marker_file: str
    dtype: str
    big_endian: bool
    vectorized: bool
    rate_hz: Fraction
    data_points: int | None
    channels: tuple[BvChannel, ...]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker. ``at`` and ``size`` are in samples, ``at`` from 0; ``channel`` counts from 1, 0 is all."""

    kind: str
    text: str
    at: int
    size: int | None
    channel: int
    date: datetime | None


def is_header(head: bytes) -> bool:
    """Whether a file's first line is that of a BrainVision header."""
    return _HEADER.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


@lru_cache(maxsize=4)  # describing, reading and annotations of one source follow each other
def parse_header(raw: bytes, stem: str) -> BvHeader:
    """A whole header file; ``stem`` is its own name, which ``$b`` stands for. Raises ``ConversionError``."""
    if not is_header(raw):
        raise ConversionError("invalid_header", "The first line is not that of a BrainVision header.", "line 1")
    sections, comment = _sections(raw)
    common = sections.get("common infos", {})
    if common.get("datatype", "TIMEDOMAIN").upper() != "TIMEDOMAIN":
        raise ConversionError("not_raw", "Only DataType=TIMEDOMAIN is handled.", "DataType")
    if common.get("averaged", "NO").upper() == "YES":
        raise ConversionError("not_raw", "The file holds averaged segments.", "Averaged")
    if common.get("dataformat", "BINARY").upper() != "BINARY":
        raise ConversionError("unsupported_dtype", "Only DataFormat=BINARY is handled.", "DataFormat")
    binary = sections.get("binary infos", {})
    dtype = DTYPES.get(binary.get("binaryformat", "").upper())
    if dtype is None:
        raise ConversionError("unsupported_dtype", f"BinaryFormat must be one of {', '.join(DTYPES)}.", "BinaryFormat")
    orientation = common.get("dataorientation", "").upper()
    if orientation not in ("MULTIPLEXED", "VECTORIZED"):
        raise ConversionError("invalid_header", "It must be MULTIPLEXED or VECTORIZED.", "DataOrientation")
    interval_us = decimal(common.get("samplinginterval", ""))
    if interval_us is None or interval_us <= 0:
        raise ConversionError("invalid_header", "It must be a positive number of microseconds.", "SamplingInterval")
    points = integer(common.get("datapoints", ""))
    if common.get("datapoints") and (points is None or points <= 0):
        raise ConversionError("invalid_header", "It must be a positive whole number.", "DataPoints")
    return BvHeader(
        data_file=common.get("datafile", "").replace("$b", stem),
        marker_file=common.get("markerfile", "").replace("$b", stem),
        dtype=dtype,
        big_endian=binary.get("usebigendianorder", "NO").upper() == "YES",
        vectorized=orientation == "VECTORIZED",
        rate_hz=1_000_000 / interval_us,
        data_points=points,
        channels=_channels(sections, comment),
        texts=_texts(sections, comment),
    )


@lru_cache(maxsize=4)
def parse_markers(raw: bytes) -> tuple[Marker, ...]:
    """A whole marker file: markers in order of their positions. Raises ``ConversionError``."""
    if not _MARKERS.match(raw.removeprefix(b"\xef\xbb\xbf")):
        raise ConversionError("invalid_header", "The first line is not that of a BrainVision marker file.", "markers")
    sections, _ = _sections(raw)
    if "marker infos" not in sections:
        raise ConversionError("invalid_header", "There is no section of markers.", "markers")
    entries = sections["marker infos"].items()
    markers = [_marker(key, value) for key, value in entries if re.fullmatch(r"mk\d{1,9}", key)]
    return tuple(sorted(markers, key=lambda marker: marker.at))


def _sections(raw: bytes) -> tuple[Sections, str]:
    """Sections by name, values by key (both without case), and the text of [Comment], which ends the file.
    UTF-8 (the rule of 2.0) or the Windows code page 1252 ("ANSI"); Latin-1 where the bytes are neither."""
    if _CODEPAGE.search(raw):
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    else:
        text = decode_text(raw.removeprefix(b"\xef\xbb\xbf"))
    body, _, comment = text.replace("\r\n", "\n").partition("\n[Comment]")
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in map(str.strip, body.split("\n")[1:]):
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1].casefold(), {})
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            current.setdefault(key.strip().casefold(), value.strip())
    return sections, comment


def _texts(sections: Sections, comment: str) -> dict[str, str]:
    users = "\n".join(sections.get("user infos", {}).values())
    return {name: text for name, text in (("comment", comment.strip()), ("user_infos", users)) if text}


def _split(entry: str) -> list[str]:
    """Fields of an entry: parted by commas, a comma of theirs being ``\\1``."""
    return [field.replace("\\1", ",").strip() for field in entry.split(",")]


def _channels(sections: Sections, comment: str) -> tuple[BvChannel, ...]:
    count = integer(sections.get("common infos", {}).get("numberofchannels", ""))
    if count is None or not 0 < count <= MAX_CHANNELS:
        raise ConversionError("invalid_header", "The number of channels cannot be read.", "NumberOfChannels")
    infos, places = sections.get("channel infos", {}), sections.get("coordinates", {})
    filters = parse_filters(comment)
    channels = []
    for number in range(1, count + 1):
        if (entry := infos.get(f"ch{number}")) is None:
            raise ConversionError("invalid_header", f"Channel {number} of {count} has no entry.", "Channel Infos")
        name, reference, resolution, unit = (*_split(entry), "", "", "")[:4]
        steps = decimal(resolution or "1")
        if steps is None:
            raise ConversionError("invalid_header", "The resolution cannot be read.", f"Ch{number}")
        position = _position(places.get(f"ch{number}", ""))
        prefilter = filters.get(number)
        channels.append(BvChannel(name, reference or None, steps, unit or "µV", position, prefilter))
    return tuple(channels)


def _position(entry: str) -> tuple[float, float, float] | None:
    """Radius (mm), theta and phi (degrees) to x (to the right), y (to the front), z (up), in mm. A radius
    of 0 is no place, and of 1 a place on a model's sphere: neither was measured."""
    numbers = [decimal(field) for field in entry.split(",")]
    if len(numbers) != 3 or None in numbers:
        return None
    radius, theta, phi = (float(number or 0) for number in numbers)
    if not 1 < radius < 1000:
        return None
    theta, phi = math.radians(theta), math.radians(phi)
    x, y, z = math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)
    return radius * x, radius * y, radius * z


def _marker(key: str, entry: str) -> Marker:
    found = _MARKER.fullmatch(entry)
    if found is None:
        raise ConversionError("invalid_header", "The marker's position, size or channel cannot be read.", key)
    kind, text = (found[i].replace("\\1", ",").strip() for i in (1, 2))
    size = int(found["size"]) if found["size"] else None
    return Marker(kind, text, int(found["at"]) - 1, size, int(found["channel"] or 0), _date(found["date"] or ""))


def _date(text: str) -> datetime | None:
    """ "20131113161403794232": to the microsecond. All zeros, or no such date, are None."""
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S%f") if re.fullmatch(r"[0-9]{20}", text) else None
    except ValueError:
        return None


def parse_filters(comment: str) -> dict[int, Prefilter]:
    """Filters by channel number from the tables that BrainVision Recorder writes into the comment: the
    amplifier's ("Channels") and the software's. Samples went through both, so the narrower corner counts;
    rows whose columns are not those of the title are left out, and so are two different notches."""
    corners: dict[int, dict[str, set[float]]] = {}
    titles: list[str] = []
    for line in comment.split("\n"):
        cells = re.split(r"\s{2,}", line.strip())
        if cells[0] == "#":
            titles = [title.casefold() for title in cells]
        elif titles and _is_row(cells, titles):
            for title, cell in zip(titles, cells, strict=False):
                kind = next((kind for kind in (_LOW, _HIGH, _NOTCH) if title.startswith(kind)), None)
                if kind and (hertz := _hertz(cell, title, kind)) is not None:
                    corners.setdefault(int(cells[0]), {}).setdefault(kind, set()).add(hertz)
        elif line.strip():
            titles = []
    return {number: found for number, kinds in corners.items() if (found := _prefilter(kinds))}


def _is_row(cells: Sequence[str], titles: Sequence[str]) -> bool:
    """Whether cells stand below their titles: a name that runs into its neighbour would move them."""
    numbers = [0, *(i for i, title in enumerate(titles) if title.startswith("phys"))]
    if not len(titles) - 2 <= len(cells) <= len(titles):
        return False
    return all(re.fullmatch(r"[0-9]{1,5}", cells[i]) for i in numbers)


def _hertz(cell: str, title: str, kind: str) -> float | None:
    """A cell in Hz, or in s (a time constant) as its title says; "DC" is a high-pass at 0 Hz."""
    if kind == _LOW and cell.casefold() == "dc":
        return 0.0
    value = decimal(cell) if cell.casefold() not in _OFF else None
    if value is None or value <= 0:
        return 0.0 if value == 0 and kind == _LOW and "[hz]" in title else None
    if "[hz]" in title:
        return float(value)
    return 1 / (2 * math.pi * float(value)) if "[s]" in title else None


def _prefilter(kinds: Mapping[str, set[float]]) -> Prefilter | None:
    low, high, notch = (kinds.get(kind, set()) for kind in (_LOW, _HIGH, _NOTCH))
    if not low and not high and len(notch) != 1:
        return None
    return Prefilter(
        highpass_hz=max(low, default=None),
        lowpass_hz=min(high, default=None),
        notch_hz=next(iter(notch)) if len(notch) == 1 else None,
    )
