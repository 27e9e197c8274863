"""Read DICOM headers, and typed values from them, so that nothing but ``ConversionError`` comes out."""

from __future__ import annotations

import logging
import math
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from harmonize_converters._dicom_plain import plain_numbers, plain_texts
from harmonize_converters._dicom_walk import CHARACTER_SET, MOST_ELEMENTS, PIXELS, Stream, walk
from harmonize_converters.contract import HEAD_BYTES, ConversionError

_LOGGER = logging.getLogger("pydicom")
DEFLATED_LIMIT = 1 << 28
"""Most bytes that a deflated data set may hold: a single frame of 8k x 8k pixels and its header."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings and log: they quote header values, which may identify a person."""
    disabled = _LOGGER.disabled
    _LOGGER.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _LOGGER.disabled = disabled


@contextmanager
def opened_header(
    path: Path, tags: tuple[str | int, ...], until: tuple[int, ...] = PIXELS
) -> Iterator[tuple[FileDataset, Stream]]:
    """``read_header`` of one file, open within. Nothing but ``ConversionError`` comes out."""
    try:
        opened = path.open("rb")
    except OSError:
        raise ConversionError("unreadable_file") from None
    with opened, parsing():
        yield read_header(opened, tags, until)


def read_header(
    opened: Stream, tags: tuple[str | int, ...], until: tuple[int, ...] = PIXELS
) -> tuple[FileDataset, Stream]:
    """The elements named by ``tags`` that come before the first of ``until``, and the file left at that one or at its
    end, inflated where it was deflated.

    To be used within ``parsing``.
    """
    wanted = by_number(tags)
    if (header := walk(opened, wanted, until)) is not None:
        return header, opened
    inflated = _inflated(opened)
    stream: Stream = opened if inflated is None else inflated
    header = walk(stream, wanted, until) if inflated else None
    if header is None:
        stream.seek(0)
        header = read_partial(stream, _Until(until), specific_tags=list(wanted.values()))
    if inflated:
        header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return header, stream


class _Until:
    """Tells pydicom where to stop. It reads zeros for elements, 8 bytes each: some 100 MB take a minute."""

    def __init__(self, tags: tuple[int, ...]) -> None:
        self._tags = tags
        self._elements = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self._elements += 1
        if self._elements > MOST_ELEMENTS:
            raise ConversionError("invalid_header", "There are more elements than any header has.")
        return tag in self._tags


@cache
def by_number(tags: tuple[str | int, ...]) -> dict[int, BaseTag]:
    """Tags by their numbers, with the character set of texts."""
    asked = [(isinstance(tag, str) and _tag(tag)) or Tag(tag) for tag in (CHARACTER_SET, *tags)]
    return {int(tag): tag for tag in asked}


@contextmanager
def parsing() -> Iterator[None]:
    """Around what reads a header: nothing but ``ConversionError`` comes out."""
    with quiet():
        try:
            yield
        except ConversionError:
            raise
        except InvalidDicomError:
            raise ConversionError("invalid_header", "There is no DICM prefix at byte 128.") from None
        except EOFError:
            raise ConversionError("truncated") from None
        # pydicom raises whatever a damaged byte leads to; its texts quote values, so none is passed on.
        except Exception:  # noqa: BLE001
            raise ConversionError("invalid_header", "The DICOM data set cannot be parsed.") from None


def _inflated(opened: Stream) -> BytesIO | None:
    """A file with a deflated data set as one in Explicit VR Little Endian (PS3.5 A.5); None for any other."""
    opened.seek(0)
    head = opened.read(HEAD_BYTES)
    deflated = f"{DeflatedExplicitVRLittleEndian}".encode()
    if deflated not in head:
        return None
    # PS3.10 7.1: preamble, prefix, then (0002,0000) UL 4 with the length of the group that follows it.
    if head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ConversionError("invalid_header", "The file meta group does not begin with its length.")
    start = 144 + int.from_bytes(head[140:144], "little")
    opened.seek(0)
    meta = opened.read(min(start, DEFLATED_LIMIT))
    inflated = BytesIO()
    inflated.write(meta.replace(deflated, f"{ExplicitVRLittleEndian}".encode().ljust(len(deflated), b"\0")))
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    while not inflate.eof and (data := inflate.unconsumed_tail or opened.read(1 << 16)):
        inflated.write(inflate.decompress(data, 1 << 16))
        if inflated.tell() > DEFLATED_LIMIT:
            raise ConversionError("implausible_size", "The deflated data set is larger than any single frame.")
    if not inflate.eof:
        raise ConversionError("truncated")
    inflated.seek(start)
    if inflated.read(2) == b"\0\0":  # pydicom reads all of that group, which no file has (PS3.10 7.1), at once
        raise ConversionError("invalid_header", "The data set begins with elements of commands.")
    inflated.seek(0)
    return inflated


@cache
def _tag(name: str) -> BaseTag | None:
    number = tag_for_keyword(name)
    return None if number is None else Tag(number)


def _as_it_lies(header: Dataset, name: str) -> DataElement | RawDataElement | None:
    tag = _tag(name)
    return None if tag is None else header.get_item(tag, keep_deferred=True)


def value_of(header: Dataset, name: str) -> object:
    """A value, None where absent or empty. Raises ``ConversionError`` where it cannot be converted."""
    tag = _tag(name)
    if tag is not None and tag not in header:  # most of what is asked of each of thousands of frames
        return None
    try:
        with quiet():
            value = header.get(name)
    # pydicom converts at access and raises anything; the texts quote the value.
    except Exception:  # noqa: BLE001
        raise ConversionError("invalid_header", "", name) from None
    return None if value is None or value == "" or (isinstance(value, MultiValue) and not value) else value


def items(header: Dataset, name: str) -> list[Dataset]:
    """The items of a sequence, none where absent. Raises ``ConversionError``."""
    value = value_of(header, name)
    if value is None:
        return []
    if not isinstance(value, Sequence):
        raise ConversionError("invalid_header", "A sequence would be right.", name)
    return list(value)


def element(header: Dataset, tag: int) -> object:
    """The value of a (private) element by number, None where absent. Raises ``ConversionError``."""
    try:
        with quiet():
            return header[tag].value if tag in header else None
    # pydicom converts at access and raises anything; the texts quote the value.
    except Exception:  # noqa: BLE001
        raise ConversionError("invalid_header", "", f"({tag >> 16:04x},{tag & 0xFFFF:04x})") from None


def meta_uid(header: FileDataset, name: str) -> UID:
    """A UID of the file meta group, empty where absent."""
    return uid("\\".join(texts(header.file_meta, name)))


@lru_cache(maxsize=256)
def uid(text: str) -> UID:
    """A text as a UID, valid or not, without the warning that quotes it."""
    with quiet():
        return UID(text)


def numbers(header: Dataset, name: str) -> tuple[float, ...] | None:
    """Finite numbers of one element, None where absent. Raises ``ConversionError`` for anything else."""
    found = plain_numbers(_as_it_lies(header, name))
    if found is None:
        value = value_of(header, name)
        if value is None:
            return None
        try:
            found = tuple(float(v) for v in (value if isinstance(value, MultiValue | list | tuple) else [value]))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            raise ConversionError("invalid_header", "A number would be right.", name) from None
    if not all(math.isfinite(v) for v in found):
        raise ConversionError("invalid_header", "A finite number would be right.", name)
    return found


def number(header: Dataset, name: str) -> float | None:
    """One finite number, None where absent."""
    found = numbers(header, name)
    if found is not None and len(found) != 1:
        raise ConversionError("invalid_header", "One number would be right.", name)
    return found[0] if found else None


def whole(header: Dataset, name: str) -> int | None:
    """One whole number, None where absent."""
    found = number(header, name)
    if found is not None and not found.is_integer():
        raise ConversionError("invalid_header", "A whole number would be right.", name)
    return None if found is None else int(found)


def texts(header: Dataset, name: str) -> tuple[str, ...]:
    """The texts of one element, stripped; empty where absent."""
    if (found := plain_texts(_as_it_lies(header, name))) is not None:
        return found
    value = value_of(header, name)
    if value is None:
        return ()
    if isinstance(value, bytes | Sequence):
        raise ConversionError("invalid_header", "A text would be right.", name)
    many = value if isinstance(value, MultiValue | list | tuple) else [value]
    return tuple(str(v).strip("\0 ") for v in many)


def text(header: Dataset, name: str) -> str | None:
    """One text, None where absent, blank or several."""
    found = texts(header, name)
    return found[0] if len(found) == 1 and found[0] else None


def lenient_number(header: Dataset, name: str, low: float, high: float) -> float | None:
    """A number within [low, high]; None otherwise. For what the volume can do without."""
    try:
        found = number(header, name)
    except ConversionError:
        return None
    return found if found is not None and low <= found <= high else None


def lenient_text(header: Dataset, name: str, pattern: str = r"[^\x00-\x1f\x7f]{1,64}") -> str | None:
    """A text that matches ``pattern``; None otherwise. For what the volume can do without."""
    try:
        found = text(header, name)
    except ConversionError:
        return None
    return found if found is not None and re.fullmatch(pattern, found) else None


def lenient_texts(header: Dataset, tag: str) -> tuple[str, ...]:
    """The texts of an element; one of their own for what cannot be read, so that a series stays together."""
    try:
        return texts(header, tag)
    except ConversionError:
        return ("\0",)
