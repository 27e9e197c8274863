"""RIFF/WAVE headers (Microsoft/IBM multimedia specification 1.0; RF64: EBU Tech 3306). Pure but for the handle."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from harmonize_converters._fields import clean
from harmonize_converters._open import read_at
from harmonize_converters.contract import ConversionError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
MAX_CHUNKS = 10_000
MAX_INFO_BYTES = 1 << 20
_DTYPES = {(PCM, 8): "uint8", (PCM, 16): "int16", (PCM, 24): "int32", (PCM, 32): "int32",
           (FLOAT, 32): "float32", (FLOAT, 64): "float64"}  # fmt: skip
_INFO = {b"ICMT": "comment", b"IART": "artist", b"INAM": "title", b"ICRD": "date", b"ICOP": "copyright",
         b"ISFT": "software"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wav:
    """Where the samples lie and what they are; ``texts`` are the INFO list's, by the names soundfile uses."""

    n_channels: int
    rate_hz: int
    bits: int
    dtype: str
    start: int
    n_frames: int
    texts: Mapping[str, str]

    @property
    def frame_bytes(self) -> int:
        return self.n_channels * self.bits // 8


def is_wav(head: bytes) -> bool:
    """By the form type, and a first chunk that can be one."""
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


def parse_wav(handle: BinaryIO, size: int) -> Wav:
    """The chunks of a file. Raises ``ConversionError``, also where samples are missing."""
    form: tuple[int, int, int, int, int] | None = None
    texts: dict[str, str] = {}
    long_bytes: int | None = None
    for name, at, length in _chunks(handle, size):
        if name == b"ds64" and length >= 16:
            long_bytes = struct.unpack("<Q", read_at(handle, at + 8, 8))[0]
        elif name == b"fmt " and length >= 16:
            form = _format(read_at(handle, at, min(length, 40)))
        elif name == b"LIST" and 4 <= length <= MAX_INFO_BYTES and at + length <= size:
            texts |= _info(read_at(handle, at, length))
        elif name == b"data":
            if form is None:
                raise ConversionError("invalid_header", "The samples come before their format.", f"byte {at}")
            n_bytes = long_bytes if length == 0xFFFFFFFF and long_bytes is not None else length
            return _wav(form, at, n_bytes, size, texts | _info_after(handle, at + n_bytes + n_bytes % 2, size))
    raise ConversionError("truncated", "Found no samples.")


def _wav(form: tuple[int, int, int, int, int], at: int, n_bytes: int, size: int, texts: Mapping[str, str]) -> Wav:
    kind, n_channels, rate_hz, block, bits = form
    dtype = _DTYPES.get((kind, bits))
    if dtype is None:
        raise ConversionError("unsupported_dtype", f"Found sample format {kind} of {bits} bits.", "fmt chunk")
    if not n_channels or not rate_hz or block != n_channels * bits // 8:
        raise ConversionError("invalid_header", "Channels, rate and frame size do not fit each other.", "fmt chunk")
    if at + n_bytes > size:
        raise ConversionError("truncated", f"Found {max(0, size - at)} of {n_bytes} bytes of samples.")
    n_frames, rest = divmod(n_bytes, block)
    if rest or not n_frames:
        raise ConversionError("truncated" if rest else "invalid_header", "There is no whole number of frames.")
    return Wav(n_channels, rate_hz, bits, dtype, at, n_frames, texts)


def _chunks(handle: BinaryIO, size: int, at: int = 12) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(MAX_CHUNKS):
        if at + 8 > size:
            return
        name, length = struct.unpack("<4sI", read_at(handle, at, 8))
        yield name, at + 8, length
        at += 8 + length + length % 2


def _info_after(handle: BinaryIO, at: int, size: int) -> dict[str, str]:
    """Texts in lists that follow the samples."""
    texts: dict[str, str] = {}
    for name, where, length in _chunks(handle, size, at):
        if name == b"LIST" and 4 <= length <= MAX_INFO_BYTES and where + length <= size:
            texts |= _info(read_at(handle, where, length))
    return texts


def _format(raw: bytes) -> tuple[int, int, int, int, int]:
    kind, n_channels, rate_hz, _, block, bits = struct.unpack("<HHIIHH", raw[:16])
    if kind == EXTENSIBLE and len(raw) >= 26:
        kind = struct.unpack("<H", raw[24:26])[0]
    return kind, n_channels, rate_hz, block, bits


def _info(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 4
    while raw[:4] == b"INFO" and at + 8 <= len(raw):
        name, length = struct.unpack("<4sI", raw[at : at + 8])
        if name in _INFO:
            found[_INFO[name]] = clean(raw[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return found
