"""Recipes: how the files and tables of one data set give the schema's fields (issue 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harmonize_schemas.arrays import ArraySource
from harmonize_schemas.base import Strict
from harmonize_schemas.signals import PositionFrame
from harmonize_schemas.vocabulary import AnnotationLabel, ChannelType, Modality, nearest

PATH_FACTS = frozenset({"path", "name", "stem", "folder", "member"})
"""What every source has without a pattern: its path below the folder given without suffix, its file name with
and without suffix, its folder, and its name inside a file that holds many."""

BIDS_TABLES = frozenset({"participants", "sessions", "scans"})
"""Tables that ``layout: bids`` reads by itself."""


def _texts(value: Any) -> Any:
    """Keys of a mapping as text: YAML reads ``0:`` as a number, tables are read as text."""
    return {_text(key): item for key, item in value.items()} if isinstance(value, dict) else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


def _tuple(value: Any) -> Any:
    return (value,) if isinstance(value, dict | str) else value


def _missing(value: Any) -> Any:
    return tuple(_text(item) for item in (value if isinstance(value, list | tuple) else [value]))


Pattern = Annotated[str, AfterValidator(_pattern)]
Scalar = bool | int | float | str
CodeMap = Annotated[dict[str, Scalar | None], BeforeValidator(_texts)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class Origin(Strict):
    """Where one value comes from: exactly one of ``column`` (of a table: "column", or "table.column" where
    there are several tables), ``path`` (a named group of ``paths``), ``header`` (a field of the file's own
    header), ``sidecar`` (a key of the BIDS JSON sidecars) or ``value`` (the same for all).

    The text found is missing if it is blank or in ``missing``; else ``pattern`` takes its first group (or the
    group "value") out of it, and ``map`` turns codes into values (None: no value). A code that ``map`` does not
    name is left out and flagged, or kept as it is (``otherwise``). ``unit`` is the unit of a number where it is
    not the field's own; ``format`` is that of a date (strptime; else ISO 8601).
    """

    column: str | None = None
    path: str | None = None
    header: str | None = None
    sidecar: str | None = None
    value: Scalar | None = None
    map: CodeMap | None = None
    otherwise: Literal["drop", "keep"] = "drop"
    pattern: Pattern | None = None
    missing: Annotated[tuple[str, ...], BeforeValidator(_missing)] = ()
    unit: str | None = None
    format: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("column", "path", "header", "sidecar", "value") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of column, path, header, sidecar, value")
        return self


Origins = Annotated[tuple[Origin, ...], BeforeValidator(_tuple)]
"""One origin, or several: the first that has a value counts."""


class LabelOrigin(Origin):
    """A label. ``parse`` says what the text is: one value ("text", "word" of at most 32
    letters and digits, "number", "bool"), a "list" of codes
    between ``separator``s (or the keys of a dict), or a "dict" of codes with numbers, in JSON or Python
    notation. ``lookup`` ("table.column") replaces each code by that column of the row whose key it is; codes
    without one are left out."""

    parse: Literal["text", "word", "number", "bool", "list", "dict"] = "text"
    separator: str = ","
    lookup: str | None = None


class Fields(Strict):
    """The schema's fields and where their values come from. They go over what the file itself says.

    ``start`` is a date and time, used for relative times only.
    """

    subject: Origins = ()
    session: Origins = ()
    site: Origins = ()
    device_maker: Origins = ()
    device_model: Origins = ()
    device_software: Origins = ()
    device_id: Origins = ()
    reference: Origins = ()
    line_frequency_hz: Origins = ()
    field_strength_t: Origins = ()
    repetition_time_s: Origins = ()
    echo_time_s: Origins = ()
    inversion_time_s: Origins = ()
    flip_angle_deg: Origins = ()
    slice_thickness_mm: Origins = ()
    modality: Origins = ()
    body_part: Origins = ()
    age_years: Origins = ()
    sex: Origins = ()
    height_cm: Origins = ()
    weight_kg: Origins = ()
    handedness: Origins = ()
    fold: Origins = ()
    start: Origins = ()

    def items(self) -> Iterator[tuple[str, tuple[Origin, ...]]]:
        """Fields that have an origin."""
        return ((name, origins) for name in type(self).model_fields if (origins := getattr(self, name)))


class Table(Strict):
    """A table beside the recordings, ``file`` below the folder given (a template as ``match``; "*" allowed).

    A source's row is the one whose ``key`` columns equal the ``match`` texts: templates over path groups,
    ``{path}``, ``{name}``, ``{stem}``, ``{folder}``, ``{member}`` and columns of earlier tables
    (``{table.column}``); a table without ``match`` serves ``lookup``s. A source for which a template has no
    value is not the table's concern. Every column is read as text. JSON: a list of objects. ``ignore_case``:
    keys are compared without case (files aa0001, table AA0001).
    """

    file: str
    key: Texts
    match: Texts = ()
    separator: str | None = None
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    header: tuple[str, ...] = ()
    """Column names, for a file whose first line is a row already."""
    ignore_case: bool = False

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if self.match and len(self.key) != len(self.match):
            raise ValueError(f"{len(self.key)} key columns and {len(self.match)} templates to match")
        return self


class EventSource(Strict):
    """Events in a file beside the recording, ``file`` a template as in ``Table.match`` (the first that "*"
    finds counts).

    ``format``: a "table" with columns ``onset``, ``duration`` and ``label`` (in ``unit``), the annotations of
    an "edf", a "wfdb" annotation file, "nsrr_xml" (sleepdata.org), or the "chbmit_summary" of CHB-MIT.
    ``map`` turns labels found into terms of the vocabulary; what neither knows becomes "event". ``states`` are
    terms that say what holds from then on (sleep stages): each lasts to the next of them, or to the end.
    """

    file: str
    format: Literal["table", "edf", "wfdb", "nsrr_xml", "chbmit_summary"] = "table"
    onset: str = "onset"
    duration: str | None = None
    stop: str | None = None
    label: str | None = None
    channel: str | None = None
    unit: Literal["s", "ms", "samples"] = "s"
    separator: str | None = None
    header: tuple[str, ...] = ()
    map: Annotated[dict[str, AnnotationLabel], BeforeValidator(_texts)] = Field(default_factory=dict)
    states: tuple[AnnotationLabel, ...] = ()


class ChannelRule(Strict):
    """What a channel label of this data set means: canonical ``name`` (of the vocabulary, or one of its own
    with a ``type``), the ``unit`` of a label whose unit the file leaves blank, its ``reference``, whether it is a
    bad channel, and its ``position`` (mm, RAS in the subject's head; ``position_frame`` as in ``Channel``)."""

    name: str | None = None
    type: ChannelType | None = None
    unit: str | None = None
    reference: str | None = None
    status: Literal["good", "bad"] | None = None
    position: tuple[float, float, float] | None = None
    position_frame: PositionFrame | None = None


class Defaults(Strict):
    """Values for recordings whose source says nothing. They are given by a person and kept as given."""

    site: str | None = None
    device_maker: str | None = None
    device_model: str | None = None
    line_frequency_hz: Literal[50, 60] | None = None
    modality: Modality | None = None


class Files(Strict):
    """Which files count: globs on the path below the folder given ("**" crosses folders). Excluded files are
    counted as left aside."""

    include: Texts = ()
    exclude: Texts = ()


class Recipe(Strict):
    """How the files of one data set give the schema's fields.

    ``paths`` are regular expressions with named groups, searched in a source's path below the folder given;
    the first that matches counts. A group named like a field gives that field; any other is for ``path:``
    and templates. ``privacy`` "keep" is for data that are public already: identifiers, relative paths and
    annotation texts are then kept as found. ``text_deidentified`` says who states that free text was
    de-identified: without it, and under "pseudonym", no text and no label outside a ``map`` is stored.
    ``burned_in`` says what becomes of images whose pixels may hold names and whose headers do not say that they
    hold none: "refuse", or "allow_undeclared", which keeps the flag ``burned_in_risk``. Those that declare names are
    never converted.
    ``uneven_slices`` "keep" is for series whose slices lie at steps that differ (two thicknesses, slices lost): they
    are refused otherwise, and kept with the place of each slice and without an affine.
    ``dates`` "made_up" is for files whose own dates say nothing (01.01.85 in all): no relative start follows.
    """

    dataset: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str | None = None
    version: str | None = None
    url: str | None = None
    licence: str | None = None
    licence_url: str | None = None
    citation: Texts = ()
    access: Literal["open", "registered", "credentialed", "restricted"] | None = None
    access_note: str | None = None
    privacy: Literal["pseudonym", "keep"] = "pseudonym"
    privacy_statement: str | None = None
    text_deidentified: str | None = None
    burned_in: Literal["refuse", "allow_undeclared"] = "refuse"
    uneven_slices: Literal["refuse", "keep"] = "refuse"
    dates: Literal["kept", "made_up"] = "kept"
    layout: Literal["bids"] | None = None
    files: Files = Files()
    paths: tuple[Pattern, ...] = ()
    arrays: tuple[ArraySource, ...] = ()
    tables: dict[str, Table] = Field(default_factory=dict)
    fields: Fields = Fields()
    labels: dict[str, LabelOrigin] = Field(default_factory=dict)
    text: dict[str, Origins] = Field(default_factory=dict)
    events: tuple[EventSource, ...] = ()
    event_labels: Annotated[dict[str, AnnotationLabel], BeforeValidator(_texts)] = Field(default_factory=dict)
    channels: dict[str, ChannelRule] = Field(default_factory=dict)
    defaults: Defaults = Defaults()

    @property
    def keep_text(self) -> bool:
        """Whether free text may be stored."""
        return self.privacy == "keep" or self.text_deidentified is not None

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """Every origin with its place in the recipe ("fields.age_years.0")."""
        for name, several in self.fields.items():
            yield from ((f"fields.{name}.{i}", one) for i, one in enumerate(several))
        yield from ((f"labels.{name}", one) for name, one in self.labels.items())
        for name, several in self.text.items():
            yield from ((f"text.{name}.{i}", one) for i, one in enumerate(several))

    @model_validator(mode="after")
    def _texts_may_be_stored(self) -> Self:
        if self.keep_text:
            return self
        if self.text:
            raise ValueError("text: it is stored only where text_deidentified says who states that it is de-identified")
        for name, label in self.labels.items():
            if label.parse in ("text", "list", "dict") and label.map is None:
                raise ValueError(f"labels.{name}: it could hold free text; give it a map, or set text_deidentified")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        groups = {name for pattern in self.paths for name in re.compile(pattern).groupindex}
        used = {origin.path for _, origin in self.origins() if origin.path}
        templates = [
            (f"tables.{name}", text) for name, table in self.tables.items() for text in (table.file, *table.match)
        ]
        templates += [(f"events.{i}", events.file) for i, events in enumerate(self.events)]
        for place, template in templates:
            for name in template_names(template):
                head = name.partition(".")[0]
                if head not in groups | PATH_FACTS | set(self.tables):
                    raise ValueError(f"{place}: {{{name}}} is no group of paths and no table{nearest(name, groups)}")
                used.add(head)
        known = set(Fields.model_fields) | used | ({"bids"} if self.layout == "bids" else set())
        if unused := groups - known:
            name = min(unused)
            raise ValueError(f"paths: group {name!r} is no field and nothing uses it{nearest(name, known)}")
        for place, origin in self.origins():
            if origin.path and origin.path not in groups | PATH_FACTS and self.layout != "bids":
                raise ValueError(
                    f"{place}: no pattern of paths has a group {origin.path!r}{nearest(origin.path, groups)}"
                )
            for column in (origin.column, getattr(origin, "lookup", None)):
                if column is not None:
                    self._check_column(place, column)
        return self

    def _check_column(self, place: str, column: str) -> None:
        table, dot, _ = column.partition(".")
        names = set(self.tables) | (BIDS_TABLES if self.layout == "bids" else set())
        if len(self.tables) == 1 and table not in names:
            return
        if not dot or table not in names:
            raise ValueError(f"{place}: {column!r} is no column of a table{nearest(table, names)}")


def template_names(template: str) -> list[str]:
    """Names in braces: "{study}/{list.path}" -> ["study", "list.path"]."""
    return [name for _, name, _, _ in Formatter().parse(template) if name]
