"""WFDB annotation files, MIT format, annot(5) of the WFDB Applications Guide. Pure functions of bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from harmonize_converters._fields import decimal, decode_text
from harmonize_converters.contract import ConversionError
from harmonize_schemas import vocabulary

ANNOTATORS = frozenset(
    {
        "16a",
        "ann",
        "anI",
        "apn",
        "ari",
        "atr",
        "ecg",
        "gqrs",
        "gqrsh",
        "gqrsl",
        "man",
        "pu",
        "pu0",
        "pu1",
        "pwave",
        "q1c",
        "q2c",
        "qrs",
        "qrsc",
        "qt1",
        "sqrs",
        "st",
        "sta",
        "stb",
        "stc",
        "stf",
        "wabp",
        "wqrs",
    }
)
"""Suffixes of annotation files (annotator names used on PhysioNet); a sibling of another suffix is none."""

_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63
_NOTE, _RHYTHM = 22, 28
_SYMBOLS = dict(enumerate(" NLRaVFJASEj/Q~", 0)) | dict(enumerate("|", 16))
_SYMBOLS |= dict(enumerate('sT*D"=pB^t+u?![]en@xf()', 18)) | {41: "r"}
"""PhysioBank codes (wfdb ecgcodes.h). Types above 41 have a meaning only where the file defines one."""
_AHA_CODES = frozenset(bytes((code,)) for code in b"NVFEPQOUR")
_DEFINITION = re.compile(rb"(\d{1,3}) \S+ ")
_RESOLUTION = re.compile(rb"## time resolution: ([\d.]{1,40})")


@dataclass(frozen=True, slots=True)
class Mark:
    """One annotation: ``time`` in units of the file's resolution; ``channel`` and ``number`` None until the
    file gives one, ``subtype`` None where it gives none. (annot(5) takes all three as 0 then.)"""

    time: int
    type: int
    channel: int | None
    aux: bytes | None
    subtype: int | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """All annotations in the order of the file, the time resolution (1/s) where the file gives one, and
    the types to which it gives a meaning of its own."""

    marks: tuple[Mark, ...]
    resolution: Fraction | None
    defined: frozenset[int]


def parse_annotations(raw: bytes) -> AnnotationFile:
    """A whole annotation file of the MIT format.

    Definitions (notes at time 0 that start with "##", and what they enclose) are no annotations.
    """
    # The AHA format has 16 bytes an annotation: a zero, a letter, the time, a serial number from 1 on (annot(5)).
    if raw[:1] == b"\0" and raw[1:2] in _AHA_CODES and raw[6:8] in (b"\1\0", b"\0\1"):
        raise ConversionError("unsupported_wfdb_format", "Found annotations in the AHA format.", "annotations")
    marks: list[Mark] = []
    resolution: Fraction | None = None
    defined: set[int] = set()
    defining = False
    for mark in _marks(raw):
        if mark.type == _NOTE and mark.time == 0 and mark.aux is not None:
            if found := _RESOLUTION.match(mark.aux):
                resolution = decimal(found[1].decode())
                if not resolution:
                    raise ConversionError("corrupt", "The time resolution must be above zero.", "annotations")
                continue
            if mark.aux.startswith(b"## "):
                defining = mark.aux.startswith(b"## annotation type definitions")
                continue
            if defining and (code := _DEFINITION.match(mark.aux)):
                defined.add(int(code[1]))
                continue
        # Type 0 (NOTQRS) only carries time.
        if mark.type != 0:
            marks.append(mark)
    return AnnotationFile(tuple(marks), resolution, frozenset(defined))


def _marks(raw: bytes) -> Iterator[Mark]:
    """Every annotation word, with the modifiers that follow it.

    As annot(5) and wfdb's annot.c have it, CHN and NUM hold for this annotation and all that follow, SUB and
    AUX for this one alone. SUB and NUM are signed bytes, CHN an unsigned one.
    """
    time, at, ahead = 0, 0, 0
    channel: int | None = None
    number: int | None = None
    pending: tuple[int, int] | None = None
    aux: bytes | None = None
    subtype: int | None = None
    skipped = False
    while True:
        low, high = _take(raw, at, 2)
        kind, value = high >> 2, low | (high & 3) << 8
        at += 2
        if kind == _SKIP:
            # A signed 32-bit interval in PDP-11 order: the high word first, each with its low byte first.
            words = _take(raw, at, 4)
            ahead += int.from_bytes(words[2:] + words[:2], "little", signed=True)
            at, skipped = at + 4, True
        elif kind == _CHN:
            channel = low
        elif kind == _NUM:
            number = _signed(low)
        elif kind == _SUB:
            subtype = _signed(low)
        elif kind == _AUX:
            aux = _take(raw, at, low)
            at += low + low % 2
        else:
            if pending is not None:
                yield Mark(*pending, channel, aux, subtype, number)
            if kind == value == 0 and not skipped:
                return
            time += ahead + value
            pending, aux, subtype, ahead, skipped = (time, kind), None, None, 0, False


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _take(raw: bytes, at: int, length: int) -> bytes:
    if at + length > len(raw):
        raise ConversionError("truncated", "The annotation file has no end mark.", f"byte {at}")
    return raw[at : at + length]


def label_of(mark: Mark, defined: frozenset[int]) -> tuple[str | None, str | None]:
    """A mark's vocabulary label, None where there is none, and its text as found."""
    text = None if mark.aux is None else decode_text(mark.aux.rstrip(b"\0")).strip() or None
    if mark.type in defined:
        return None, text
    terms = vocabulary("annotation_labels")
    if mark.type == _RHYTHM and text and text.startswith("(") and (rhythm := f"rhythm:{text[1:]}") in terms:
        return rhythm, text
    label = f"wfdb:{_SYMBOLS.get(mark.type, '')}"
    return (label if label in terms else None), text
