"""The converter contract: what a format family must do (DESIGN 7).

find -> ``recognize`` and ``group`` -> ``describe`` (headers only) -> ``read`` and ``annotations``.
A converter is stateless and picklable by name; every method may run in another process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harmonize_schemas import Acquisition, ArraySource, Demographics, Image, SignalStream, vocabulary

HEAD_BYTES = 4096
"""How many first bytes of a file ``recognize`` is given."""


class ConversionError(Exception):
    """A source cannot be converted rightly.

    ``code`` is a term of the vocabulary "failures". ``message`` says what was found and what would have
    been right. ``where`` is a place inside the file (a field, a byte offset). Neither may hold names,
    identifiers, dates or paths: they are stored (DESIGN 8).
    """

    def __init__(self, code: str, message: str = "", where: str | None = None) -> None:
        sentence = vocabulary("failures")[code]["text"]
        super().__init__(code, message, where)
        self.code = code
        self.message = f"{sentence} {message}".strip()
        self.where = where

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" (at {self.where})" if self.where else "")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file found: where it is, its ``key`` (name of the folder given + "/" + posix path below it)."""

    path: Path
    key: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files that make one recording, the ``primary`` one first; ``roles`` goes with ``files``.

    ``key`` names the source within its data set; it is identifying, so only pseudonyms of it are stored.
    ``member`` names one recording of a file that holds many. The recipe says the rest: ``arrays``, what a file of bare
    arrays holds, and ``uneven_slices``, whether slices whose steps differ may be one image.
    """

    converter: str
    key: str
    files: tuple[FoundFile, ...]
    roles: tuple[str, ...]
    member: str | None = None
    arrays: ArraySource | None = None
    uneven_slices: bool = False
    peeked: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """What ``peek`` found out about each file that ``describe`` then need not, for the converter's own eyes."""

    @property
    def primary(self) -> FoundFile:
        return self.files[0]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Description:
    """What the headers say, free of identifying text: safe to store."""

    format: str
    modality: str
    streams: tuple[SignalStream, ...] = ()
    image: Image | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    demographics: Demographics = field(default_factory=Demographics)
    duration_s: float | None = None
    flags: tuple[str, ...] = ()
    transfer_syntax: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    reading: bytes = field(default=b"", compare=False, repr=False)
    """What ``read`` then need not find again, for the converter's own eyes: it may identify, and is never stored."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the headers say that identifies: never stored as found unless the recipe says "keep".

    ``series`` names the series that an image is of, ``frame_of_reference`` the patient's coordinates that its affine is
    in, and ``derived_from`` the series that a segmentation was made from (UIDs of DICOM).
    """

    subject: str | None = None
    session: str | None = None
    site: str | None = None
    device_id: str | None = None
    start: datetime | None = None
    series: str | None = None
    frame_of_reference: str | None = None
    derived_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """A source's description and, apart from it, its identifying fields."""

    description: Description
    identity: Identity
    header: Mapping[str, str] = field(default_factory=dict)
    """Texts of the header by field name, for recipes to name. What no recipe names is dropped."""


@dataclass(frozen=True, slots=True)
class Block:
    """Native samples. Signals: ``samples`` (channel, time) of ``streams[stream]`` from sample ``start``.
    Images: ``stream`` is None and ``samples`` (plane, y, x) from plane ``start`` (C order of leading axes).
    The blocks of one stream come in order without gaps; streams may interleave."""

    stream: int | None
    start: int
    samples: np.ndarray


@dataclass(frozen=True, slots=True)
class FoundAnnotation:
    """An event as found: ``label`` where the format's own code is a term of the vocabulary, ``text`` the
    words found (identifying until proven otherwise: the privacy step decides), ``number`` the code that a
    device gave it (a trigger's value, NUM of WFDB), ``subtype`` SUB of WFDB, ``annotator`` which of several files
    beside one recording it is from, in the format's own fixed names, and ``flags`` what a reader of the recording
    must know of how it was read."""

    onset_s: float
    duration_s: float | None
    text: str | None
    label: str | None = None
    channel: int | None = None
    number: int | None = None
    subtype: int | None = None
    annotator: str | None = None
    flags: tuple[str, ...] = ()

    def at(self, onset_s: float) -> FoundAnnotation:
        """The same event at another time."""
        return replace(self, onset_s=onset_s)


@runtime_checkable
class Converter(Protocol):
    """One format family. See the conformance suite, ``tests/converters/conformance.py``."""

    name: str
    version: str
    suffixes: frozenset[str]
    """Lower-case suffixes that promise this format; only used to name a failure, never to recognise."""

    def recognize(self, head: bytes, name: str) -> bool:
        """Whether a file is of this format, from its first ``HEAD_BYTES`` bytes."""
        ...

    def group(self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile]) -> list[SourceFiles]:
        """Recognised files to sources, one a recording.

        ``siblings`` are all files found, by key, so that a header can claim its signal files. Never
        raises: a file that cannot be grouped is a source of its own, and ``describe`` says why.
        """
        ...

    def describe(self, source: SourceFiles) -> Described:
        """Read headers only. Raises ``ConversionError``."""
        ...

    def read(self, source: SourceFiles, description: Description, block_bytes: int) -> Iterator[Block]:
        """Native samples in blocks of about ``block_bytes`` (at least one sample or plane), verifying
        lengths and checksums on the way. Raises ``ConversionError``, at the latest after the last block."""
        ...

    def annotations(self, source: SourceFiles, description: Description) -> Iterator[FoundAnnotation]:
        """Events in order of onset. Raises ``ConversionError``."""
        ...


@runtime_checkable
class Peeking(Converter, Protocol):
    """A converter that opens every file to group them. What it asks of one may be asked in another process, so that a
    million files are not opened one after the other."""

    def peek(self, file: FoundFile) -> Any:
        """What ``group`` must know of a recognised file: small, and picklable. Never raises."""
        ...

    def group(
        self, files: Sequence[FoundFile], siblings: Mapping[str, FoundFile], peeked: Iterable[Any] | None = None
    ) -> list[SourceFiles]:
        """As ``Converter.group``. ``peeked``: what ``peek`` gave for each file, in their order; None: it is called
        here."""
        ...
