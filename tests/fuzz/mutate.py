"""Damage to files: pure functions of a random generator and bytes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

WORDS = (
    b"", b" ", b"0", b"-0", b"-1", b"1", b"2", b"3", b"7", b"255", b"256", b"32768", b"65536", b"99999999", b"2147483648",
    b"-2147483649", b"9223372036854775808", b"1e9", b"1e-9", b"1E308", b"1e999", b"nan", b"inf", b"-inf", b".", b"+", b"-",
    b"0.5", b"1.5", b"0.0000001", b"1,5", b"0x10", b"1_000", b"\0\0\0\0", b"\xff\xff\xff\xff", "٣".encode(), b"X", b"~", b"..",
    b"/etc/passwd", b"EDF+D", b"EDF+C", b"BDF+D", b"EDF Annotations", b"BDF Annotations", b"Status", b"+0\x14\x14", b"\x14\x14\0",
    b"+1\x1599\x14a\x14", b"\r\n", b"#", b"x", b":", b"(", b")", b"100/100", b"1x2", b"+16", b"310", b"311", b"212", b"508",
)  # fmt: skip
"""What formats' readers stumble over: numbers at the ends of their range, marks, names of other kinds."""
_NUMBER = re.compile(rb"[+-]?\d[\d.]*")


def _at(rng: random.Random, data: bytearray) -> int:
    """A place: as often near the start, where headers are, as anywhere."""
    return rng.randrange(min(len(data), rng.choice((300, 1500, len(data)))))


def _span(rng: random.Random, data: bytearray) -> tuple[int, int]:
    begin = _at(rng, data)
    return begin, min(len(data), begin + rng.choice((1, 2, 3, 8, 16, 80, 256, 1000)))


def _bytes(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 2, 8, 40))):
        data[_at(rng, data)] = rng.choice((rng.randrange(256), 0, 0xFF, 0x14, 0x20, 0x39))


def _bit(rng: random.Random, data: bytearray) -> None:
    data[_at(rng, data)] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[_at(rng, data) :]


def _grow(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.choice((1, 2, 7, 500)))


def _delete(rng: random.Random, data: bytearray) -> None:
    begin, end = _span(rng, data)
    del data[begin:end]


def _double(rng: random.Random, data: bytearray) -> None:
    begin, end = _span(rng, data)
    at = _at(rng, data)
    data[at:at] = data[begin:end]


def _copy(rng: random.Random, data: bytearray) -> None:
    begin, end = _span(rng, data)
    at = _at(rng, data)
    data[at : at + end - begin] = data[begin:end]


def _blank(rng: random.Random, data: bytearray) -> None:
    begin, end = _span(rng, data)
    data[begin:end] = rng.choice((b"\0", b" ", b"\xff", b"9")) * (end - begin)


def _word(rng: random.Random, data: bytearray) -> None:
    """A word over what is there, padded as fixed-width fields are."""
    at = _at(rng, data) // 8 * 8
    word = rng.choice(WORDS).ljust(8)
    data[at : at + len(word)] = word


def _number(rng: random.Random, data: bytearray) -> None:
    """Another number where one is written; of the same width where it fits, as in fixed-width fields."""
    places = list(_NUMBER.finditer(bytes(data[: rng.choice((400, 4000))])))
    if places:
        found = rng.choice(places)
        word = rng.choice(WORDS)
        width = found.end() - found.start()
        data[found.start() : found.end()] = word.ljust(width)[:width] if rng.random() < 0.6 else word


MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _bytes, _bit, _cut, _grow, _delete, _double, _copy, _blank, _word, _word, _number, _number, _number,
)  # fmt: skip


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One to four kinds of damage, one after the other."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if damaged:
            rng.choice(MUTATIONS)(rng, damaged)
    return bytes(damaged)
