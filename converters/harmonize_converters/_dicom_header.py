"""Read DICOM headers, and typed values from them, so that nothing but ``ConversionError`` comes out."""

from __future__ import annotations

import logging
import math
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from harmonize_converters.contract import HEAD_BYTES, ConversionError

PREFIX_AT = 128
PREFIX = b"DICM"
DEFLATED_LIMIT = 1 << 28
"""Most bytes that a deflated data set may hold: a single frame of 8k x 8k pixels and its header."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings and log: they quote header values, which may identify a person."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def read_dataset(path: Path, tags: Iterable[str | int]) -> FileDataset:
    """The elements named by ``tags`` of one file, pixels left out. Raises ``ConversionError``."""
    try:
        opened = path.open("rb")
    except OSError:
        raise ConversionError("unreadable_file") from None
    with opened, parsing(opened):
        return dcmread(opened, stop_before_pixels=True, specific_tags=[Tag(tag) for tag in tags])


@contextmanager
def parsing(opened: BinaryIO) -> Iterator[None]:
    """Around ``dcmread``: a deflated data set too large is refused, and only ``ConversionError`` comes out."""
    with quiet():
        try:
            _check_deflated(opened)
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


def _check_deflated(opened: BinaryIO) -> None:
    """Refuse a deflated data set that would not fit: pydicom inflates it all at once."""
    head = opened.read(HEAD_BYTES)
    opened.seek(0)
    if f"{DeflatedExplicitVRLittleEndian}".encode() not in head:
        return
    # PS3.10 7.1: preamble, prefix, then (0002,0000) UL 4 with the length of the group that follows it.
    if head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ConversionError("invalid_header", "The file meta group does not begin with its length.")
    opened.seek(144 + int.from_bytes(head[140:144], "little"))
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    total = 0
    while not inflate.eof and (data := inflate.unconsumed_tail or opened.read(1 << 16)):
        total += len(inflate.decompress(data, 1 << 20))
        if total > DEFLATED_LIMIT:
            raise ConversionError("implausible_size", "The deflated data set is larger than any single frame.")
    if not inflate.eof:
        raise ConversionError("truncated")
    opened.seek(0)


@cache
def _tag(name: str) -> BaseTag | None:
    number = tag_for_keyword(name)
    return None if number is None else Tag(number)


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
    return uid(str(value_of(header.file_meta, name) or ""))


def uid(text: str) -> UID:
    """A text as a UID, valid or not, without the warning that quotes it."""
    with quiet():
        return UID(text)


def numbers(header: Dataset, name: str) -> tuple[float, ...] | None:
    """Finite numbers of one element, None where absent. Raises ``ConversionError`` for anything else."""
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
    value = value_of(header, name)
    if value is None:
        return ()
    if isinstance(value, bytes):
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
