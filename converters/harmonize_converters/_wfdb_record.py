"""A WFDB source's headers, read and checked against each other, to the plan of its streams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from harmonize_converters._open import opened, read_at
from harmonize_converters._wfdb_decode import FORMATS, bytes_of
from harmonize_converters._wfdb_header import MAX_HEADER_BYTES, WfdbHeader, WfdbSegment, parse_header, safe_name
from harmonize_converters._wfdb_layout import Layout, beside, check_inside, lay_out
from harmonize_converters._wfdb_segments import Piece, Plan, plan, ranks
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles

_MAX_REPEATS = 256
"""How often a record may read its files' bytes: a segment may appear again and again (header(5)), but a small
file must not make a record without bounds."""


@dataclass(frozen=True, slots=True)
class WfdbRecord:
    """The source's own header, the headers of its segments (the layout segment's first), and its plan."""

    header: WfdbHeader
    segments: tuple[WfdbHeader, ...]
    plan: Plan

    @property
    def headers(self) -> tuple[WfdbHeader, ...]:
        return (self.header, *self.segments)


def read_header(file: FoundFile) -> WfdbHeader:
    """A header file. Raises ``ConversionError``."""
    if file.size > MAX_HEADER_BYTES:
        raise ConversionError("invalid_header", f"Found {file.size} bytes, too many for a header.")
    with opened(file) as handle:
        return parse_header(read_at(handle, 0, file.size))


@lru_cache(maxsize=4)  # describing, reading and annotations of one source follow each other
def load(source: SourceFiles) -> WfdbRecord:
    """All headers of a source. Raises ``ConversionError`` where they or the files' sizes disagree."""
    header = read_header(source.primary)
    roles: dict[str, dict[str, FoundFile]] = {"signal": {}, "segment": {}}
    for file, role in zip(source.files, source.roles, strict=True):
        if role in roles:
            roles[role][file.key] = file
    if header.multi_segment:
        return _multi_segment(source.primary, header, roles["segment"], roles["signal"])
    layout = lay_out(header, source.primary, roles["signal"])
    if header.signals and not layout.streams and header.n_frames is None:
        raise ConversionError("unsupported_wfdb_structure", "Found a layout of signals without samples.")
    whole = Piece(layout, 0, range(len(header.signals)))
    return WfdbRecord(header, (), plan(header.rate_hz, layout.n_frames or None, [whole]))


def _multi_segment(
    at: FoundFile, header: WfdbHeader, files: dict[str, FoundFile], signals: dict[str, FoundFile]
) -> WfdbRecord:
    n_frames = sum(segment.n_frames for segment in header.segments)
    if header.n_frames not in (None, n_frames):
        message = f"The segments have {n_frames} frames, the record {header.n_frames}."
        raise ConversionError("invalid_header", message, "record line")
    names: list[str] | None = None
    loaded: dict[WfdbSegment, tuple[WfdbHeader, Layout, list[int | None]]] = {}
    headers: list[WfdbHeader] = []
    pieces: list[Piece] = []
    start = 0
    for index, segment in enumerate(header.segments):
        try:
            if segment.n_frames == 0 and (index or segment.null):
                raise ConversionError("invalid_header", "A segment has no length.")
            if not segment.null and segment not in loaded:
                file = _segment_file(at, segment, files)
                own = _segment_header(file, header, segment)
                headers.append(own)
                if segment.n_frames == 0:  # the layout segment: names, and the order that is wanted
                    names = [signal.description for signal in own.signals]
                    continue
                known: list[int | None] = [*range(len(own.signals))] if names is None else ranks(own, names)
                order = [len(own.signals) + len(known) if rank is None else rank for rank in known]
                loaded[segment] = own, lay_out(own, file, signals, segment.n_frames, order), known
        except ConversionError as error:
            error.where = ", ".join(filter(None, (f"segment {index}", error.where)))
            raise
        if not segment.null:
            _, layout, known = loaded[segment]
            pieces.append(Piece(layout, start, known))
        start += segment.n_frames
    _check_repeats(pieces)
    return WfdbRecord(header, tuple(headers), plan(header.rate_hz, n_frames, pieces))


def _segment_file(at: FoundFile, segment: WfdbSegment, files: dict[str, FoundFile]) -> FoundFile:
    if not safe_name(segment.name):
        raise ConversionError("path_escape")
    key = beside(at, f"{segment.name}.hea")
    if key == at.key:
        raise ConversionError("unsupported_wfdb_structure", "A segment cannot have segments.")
    if key not in files:
        raise ConversionError("missing_file")
    check_inside(files[key], at)
    return files[key]


def _segment_header(file: FoundFile, header: WfdbHeader, segment: WfdbSegment) -> WfdbHeader:
    """The header of a segment, which must agree with what the record's header says of it."""
    own = read_header(file)
    if own.multi_segment:
        raise ConversionError("unsupported_wfdb_structure", "A segment cannot have segments.")
    if own.rate_hz != header.rate_hz:
        raise ConversionError("invalid_header", "The segment has another sampling frequency than the record.")
    # A segment must give its length (header(5)); where it does not, the record's header has given it.
    if own.n_frames not in (None, segment.n_frames):
        message = f"The segment has {own.n_frames} frames by its own header, {segment.n_frames} by the record's."
        raise ConversionError("invalid_header", message)
    return own


def _check_repeats(pieces: list[Piece]) -> None:
    held: dict[str, int] = {}
    used = 0
    for piece in pieces:
        for part in piece.layout.files:
            held[part.file.key] = part.file.size
            packed = not FORMATS[part.format].compressed
            n_samples = piece.layout.n_frames * part.frame_samples
            used += bytes_of(part.format, n_samples) if packed else part.file.size
    if used > _MAX_REPEATS * sum(held.values()):
        raise ConversionError("implausible_size", "The segments use the same bytes again and again.")
