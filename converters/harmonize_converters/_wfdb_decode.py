"""WFDB sample formats, signal(5) of the WFDB Applications Guide: bytes to native samples, vectorised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Format:
    """One sample format: ``unit_samples`` are packed into ``unit_bytes``. ``missing`` is the value that
    stands for a missing sample. FLAC files (``unit_bytes`` 0) have no fixed size."""

    unit_samples: int
    unit_bytes: int
    dtype: str
    missing: int | None
    decode: Callable[[np.ndarray], np.ndarray] | None

    @property
    def compressed(self) -> bool:
        return self.unit_bytes == 0


def _little_16(raw: np.ndarray) -> np.ndarray:
    return raw.view("<i2")


def _little_32(raw: np.ndarray) -> np.ndarray:
    return raw.view("<i4")


def _big_16(raw: np.ndarray) -> np.ndarray:
    return raw.view(">i2")


def _differences(raw: np.ndarray) -> np.ndarray:
    """Format 8 as stored; the sums are the reader's, signal by signal."""
    return raw.view(np.int8)


def _little_24(raw: np.ndarray) -> np.ndarray:
    """A spare byte in front lets a sample be read as the upper three bytes of a 32-bit one; the
    arithmetic shift then extends its sign."""
    padded = np.zeros(len(raw) + 1, np.uint8)
    padded[1:] = raw
    upper = np.ndarray(len(raw) // 3, "<i4", padded.data, 0, 3)
    values: np.ndarray = np.right_shift(upper, 8)
    return values


def _offset_8(raw: np.ndarray) -> np.ndarray:
    return (raw ^ np.uint8(0x80)).view(np.int8)


def _offset_16(raw: np.ndarray) -> np.ndarray:
    return (raw.view("<u2") ^ np.uint16(0x8000)).view(np.int16)


def _packed_212(raw: np.ndarray) -> np.ndarray:
    """Two 12-bit samples in three bytes: the first is the lower 12 bits of bytes 0 and 1; the second has byte 2
    below and the upper half of byte 1 above. Arithmetic shifts to the right extend the sign."""
    n = len(raw) // 3
    out = np.empty((n, 2), np.int16)
    first = np.ndarray(n, "<i2", raw.data, 0, 3).astype(np.int16)
    first <<= 4
    first >>= 4
    out[:, 0] = first
    second = np.ndarray(n, ">i2", raw.data, 1, 3).astype(np.int16)
    low = np.bitwise_and(second, 0xFF, out=first)
    second >>= 4
    second &= -0x100
    np.bitwise_or(second, low, out=out[:, 1])
    return out.ravel()


def _packed_310(raw: np.ndarray) -> np.ndarray:
    """Three 10-bit samples in two 16-bit words: bits 1-10 of each, and the third from bits 11-15 of both."""
    words = raw.view("<i2").reshape(-1, 2)
    out = np.empty((len(words), 3), np.int16)
    first, second = words[:, 0].astype(np.int16), words[:, 1].astype(np.int16)
    for i, word in enumerate((first, second)):
        sample = word << 5
        sample >>= 6
        out[:, i] = sample
    second >>= 6
    second &= -0x20
    first >>= 11
    first &= 0x1F
    np.bitwise_or(second, first, out=out[:, 2])
    return out.ravel()


def _packed_311(raw: np.ndarray) -> np.ndarray:
    """Three 10-bit samples in one 32-bit word, from the lowest bits on."""
    words = raw.view("<u4")
    out = np.empty((len(words), 3), np.int16)
    for i, shift in enumerate((22, 12, 2)):
        out[:, i] = (words << np.uint32(shift)).view(np.int32) >> 22
    return out.ravel()


FORMATS = {
    8: Format(1, 1, "int32", None, _differences),
    16: Format(1, 2, "int16", -(2**15), _little_16),
    24: Format(1, 3, "int32", -(2**23), _little_24),
    32: Format(1, 4, "int32", -(2**31), _little_32),
    61: Format(1, 2, "int16", -(2**15), _big_16),
    80: Format(1, 1, "int16", -(2**7), _offset_8),
    160: Format(1, 2, "int16", -(2**15), _offset_16),
    212: Format(2, 3, "int16", -(2**11), _packed_212),
    310: Format(3, 4, "int16", -(2**9), _packed_310),
    311: Format(3, 4, "int16", -(2**9), _packed_311),
    508: Format(1, 0, "int16", -(2**7), None),
    516: Format(1, 0, "int16", -(2**15), None),
    524: Format(1, 0, "int32", -(2**23), None),
}
"""By number. ``dtype`` is what the samples are given in (that of format 8 holds any sum)."""

FRAMES_IN_STEP = 6
"""A multiple of every ``unit_samples``: blocks of so many frames start where a packed unit starts."""


def bytes_of(number: int, n_samples: int) -> int:
    """How many bytes ``n_samples`` take; the last packed unit may be cut after its last used byte."""
    form = FORMATS[number]
    units, rest = divmod(n_samples, form.unit_samples)
    tail = {(212, 1): 2, (310, 1): 2, (310, 2): 4, (311, 1): 2, (311, 2): 3}
    return units * form.unit_bytes + (tail[number, rest] if rest else 0)


def samples_in(number: int, n_bytes: int) -> int:
    """How many whole samples fit into ``n_bytes``."""
    form = FORMATS[number]
    samples = n_bytes // form.unit_bytes * form.unit_samples
    while bytes_of(number, samples + 1) <= n_bytes:
        samples += 1
    return samples


def decode(number: int, raw: np.ndarray, n_samples: int) -> np.ndarray:
    """``n_samples`` from bytes that start at a packed unit."""
    form = FORMATS[number]
    assert form.decode is not None
    rest = -len(raw) % form.unit_bytes
    if rest:
        raw = np.concatenate([raw, np.zeros(rest, np.uint8)])
    return form.decode(raw)[:n_samples]
