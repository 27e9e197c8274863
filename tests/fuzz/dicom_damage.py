"""Damage to DICOM files that knows their elements: lengths, tags and numbers that lie, depth, and bombs."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from fuzz.mutate import WORDS, mutate

_LONG = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_META_AT = 132
_SIZES = (0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280002)
_LENGTHS = (0, 1, 2, 3, 7, 8, 255, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_VRS = (b"US", b"SS", b"DS", b"IS", b"SQ", b"UN", b"OB", b"FD", b"LO", b"UT", b"AT", b"ZZ", b"\0\0")
_ITEM, _ITEM_END, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_DEFLATED = b"1.2.840.10008.1.2.1.99"


class Element(NamedTuple):
    """Where an element of a file in explicit little endian lies."""

    at: int
    tag: int
    vr: bytes
    length_at: int
    value_at: int
    length: int


def elements(data: bytes) -> list[Element]:
    """Those of the top level, as far as they can be followed."""
    found = []
    at = _META_AT
    while at + 12 <= len(data):
        group, number, vr, length = struct.unpack_from("<HH2sH", data, at)
        head = 8
        if vr in _LONG:
            (length,), head = struct.unpack_from("<I", data, at + 8), 12
        found.append(Element(at, group << 16 | number, vr, at + head - (4 if head == 12 else 2), at + head, length))
        if length == 0xFFFFFFFF:
            break
        at += head + length
    return found


def _length(rng: random.Random, data: bytearray, one: Element) -> None:
    wide = one.value_at - one.length_at
    length = rng.choice((*_LENGTHS, one.length + rng.choice((-2, -1, 1, 2, 1000))))
    data[one.length_at : one.value_at] = (length % (1 << 8 * wide)).to_bytes(wide, "little")


def _tag(rng: random.Random, data: bytearray, one: Element) -> None:
    tag = rng.choice((one.tag ^ 1, one.tag + 0x10000, 0x7FE00010, 0xFFFEE00D, 0x00080005, rng.choice(_SIZES)))
    data[one.at : one.at + 4] = struct.pack("<HH", tag >> 16 & 0xFFFF, tag & 0xFFFF)


def _vr(rng: random.Random, data: bytearray, one: Element) -> None:
    data[one.at + 4 : one.at + 6] = rng.choice(_VRS)


def _value(rng: random.Random, data: bytearray, one: Element) -> None:
    """Another value, as long as that which was there or of its own length."""
    if one.vr == b"US":
        word = struct.pack("<H", rng.choice((0, 1, 2, 3, 5, 8, 11, 12, 15, 16, 17, 32, 64, 0x7FFF, 0xFFFF)))
    elif one.vr == b"FD":
        word = struct.pack("<d", rng.choice((0.0, -1.0, 1e300, float("nan"), float("inf"))))
    else:
        word = rng.choice(WORDS)
    _put(rng, data, one, word)


def _sizes(rng: random.Random, data: bytearray, one: Element) -> None:
    """Rows, Columns, NumberOfFrames, bits: absurd, or such as nearly fit."""
    known = [other for other in elements(data) if other.tag in _SIZES]
    if known:
        one = rng.choice(known)
        if one.vr == b"IS":
            _put(rng, data, one, rng.choice((b"0", b"-1", b"1", b"2", b"5", b"400", b"2147483647", b"99999999999")))
        else:
            _value(rng, data, one)


def _put(rng: random.Random, data: bytearray, one: Element, word: bytes) -> None:
    if rng.random() < 0.5:
        word = word.ljust(min(one.length, 1000))[: one.length]
    elif len(word) < 0x8000:
        word += b" " * (len(word) % 2)
        wide = one.value_at - one.length_at
        data[one.length_at : one.value_at] = len(word).to_bytes(wide, "little")
    data[one.value_at : one.value_at + one.length] = word


def _drop(rng: random.Random, data: bytearray, one: Element) -> None:
    del data[one.at : one.value_at + one.length]


def _again(rng: random.Random, data: bytearray, one: Element) -> None:
    """An element twice, here or at the place of another."""
    other = rng.choice((one, rng.choice(elements(data))))
    data[other.at : other.at] = data[one.at : one.value_at + one.length]


def _nested(rng: random.Random, data: bytearray, one: Element) -> None:
    """A sequence thousands deep, of undefined lengths or of defined ones, whole or cut off; sometimes one that is read."""
    tag = struct.pack("<HH", *rng.choice(((8, 0x2218), (0x5200, 0x9229), (0x18, 0x6011), (0x28, 0x3000))))
    depth = rng.choice((3, 100, 5000))
    if rng.random() < 0.6:
        level = tag + b"SQ\0\0\xff\xff\xff\xff" + _ITEM + b"\xff\xff\xff\xff"
        deep = level * depth + (_ITEM_END + _END) * (depth - rng.choice((0, 0, 1)))
    else:
        deep = b""
        for _ in range(depth):
            deep = tag + b"SQ\0\0" + struct.pack("<I", len(deep) + 8) + _ITEM + struct.pack("<I", len(deep)) + deep
    data[one.at : one.at] = deep


def _codestream(rng: random.Random, data: bytearray, one: Element) -> None:
    """A compressed frame that declares another size than the header: SIZ of JPEG 2000, the frame header of JPEG."""
    places = [data.find(mark) for mark in (b"\xff\x51", b"\xff\xc0", b"\xff\xc3", b"\xff\xf7")]
    found = [at for at in places if at >= 0]
    if found:
        at = rng.choice(found) + rng.randrange(4, 40)
        data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\x10\0"))


def _runs(rng: random.Random, data: bytearray, one: Element) -> None:
    """Run lengths that inflate to far more than a frame."""
    at = data.find(b"\xe0\x7f\x10\x00")
    runs = b"\x81\x00" * rng.choice((1, 40, 100_000))
    frame = struct.pack("<16I", *(2, 64, 64 + len(runs)), *[0] * 13) + runs * 2
    if at >= 0:
        data[at + 12 :] = _ITEM + bytes(4) + _ITEM + struct.pack("<I", len(frame)) + frame + _END


def _deflated(rng: random.Random, data: bytearray, one: Element) -> None:
    """A deflated data set of up to 300 MB in a file of up to 300 kB."""
    packed = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    body = packed.compress(bytes(data[144 + int.from_bytes(data[140:144], "little") :])) + packed.flush(
        zlib.Z_FULL_FLUSH
    )
    zeros = packed.compress(bytes(1 << 20)) + packed.flush(zlib.Z_FULL_FLUSH)
    deflated = body + zeros * rng.choice((1, 4, 300)) + packed.flush()
    syntax = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(_DEFLATED)) + _DEFLATED
    meta = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(syntax)) + syntax
    data[_META_AT:] = meta + deflated


_COMMON: tuple[Callable[[random.Random, bytearray, Element], None], ...] = (
    _length, _length, _tag, _vr, _value, _value, _value, _sizes, _sizes, _sizes, _drop, _again, _codestream,
)  # fmt: skip
_RARE = (_nested, _runs, _deflated)


def damage(rng: random.Random, data: bytes) -> bytes:
    """Damage that knows elements, and some of the kinds that know nothing, each as often alone as together."""
    damaged = bytearray(data)
    if rng.random() < 0.7:
        for _ in range(rng.choice((1, 1, 2, 3))):
            known = elements(damaged)
            if known:
                rng.choice(_COMMON)(rng, damaged, rng.choice(known))
    if rng.random() < 0.02 and (known := elements(damaged)):
        rng.choice(_RARE)(rng, damaged, rng.choice(known))
    return mutate(rng, bytes(damaged)) if damaged and rng.random() < 0.5 else bytes(damaged)
