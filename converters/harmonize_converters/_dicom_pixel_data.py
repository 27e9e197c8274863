"""Where the frames of a DICOM file lie: the element Pixel Data and the fragments in it (PS3.5 A.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import UID, RLELossless

from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import value_of
from harmonize_converters._dicom_pixels import PixelFormat
from harmonize_converters._dicom_walk import Stream
from harmonize_converters.contract import ConversionError

TABLE = "ExtendedOffsetTable"
_PIXEL_VRS = (b"OB", b"OW", b"UN")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# SOI of JPEG and JPEG-LS, SOC and SIZ of JPEG 2000, the signature box of JP2.
_FRAME_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
Piece = tuple[int, int]
"""Offset and length in bytes."""


@dataclass(frozen=True, slots=True)
class PixelData:
    """The element Pixel Data: where its value begins, its length in bytes (None: undefined), where the file ends, and
    what the header says of its frames: how many there are, and the extended offset table."""

    vr: str
    start: int
    length: int | None
    end: int
    frames: int
    table: object


class Header(NamedTuple):
    """A header, and where its file's pixels are: None where that is not found, or not in the file as it lies."""

    elements: FileDataset
    pixel_data: PixelData | None


def pixel_data(header: FileDataset, stream: Stream, end: int) -> PixelData:
    """The element that ``stream``, a file of ``end`` bytes, is at (``read_header``). Raises ``ConversionError``."""
    little = header.original_encoding[1] is not False
    head = stream.read(12)
    # Some files are implicit although their transfer syntax is not.
    implicit = header.original_encoding[0] is not False or head[4:6] not in _PIXEL_VRS
    at = 4 if implicit else 8
    tag = b"\xe0\x7f\x10\x00" if little else b"\x7f\xe0\x00\x10"
    if len(head) < 12 or head[:4] != tag:
        raise ConversionError("truncated", "There is no pixel data.", "PixelData")
    length = int.from_bytes(head[at : at + 4], "little" if little else "big")
    return PixelData(
        vr="OW" if implicit else head[4:6].decode("latin-1"),
        start=stream.tell() - 12 + at + 4,
        length=None if length == _UNDEFINED else length,
        end=end,
        frames=n_frames(header),
        table=value_of(header, TABLE),
    )


def frame_pieces(found: PixelData, expected: PixelFormat, read: Callable[[int, int], bytes]) -> list[list[Piece]]:
    """The pieces of the file that each frame is made of. Raises ``ConversionError``."""
    syntax = UID(expected.transfer_syntax)
    if syntax.is_encapsulated:
        items = _items(found, read) or [(0, 0)]
        return _framed(found, items[0], items[1:], syntax, read)
    bits, frames, length = expected.frame_bits, found.frames, found.length
    if length is None:
        raise ConversionError("corrupt", "Pixel data that are not compressed have no length.", "PixelData")
    needed = ceil(bits * frames / 8)
    if length < needed or found.start + needed > found.end:
        raise ConversionError("truncated", f"{length} of {needed} bytes of pixels.", "PixelData")
    if length - needed > 1 and (length - needed) * 8 >= bits:
        raise ConversionError("corrupt", f"The pixel data hold more than {frames} frames.", "PixelData")
    if expected.photometric == "YBR_FULL_422" and length >= frames * 3 * expected.plane_bytes:
        raise ConversionError("unsupported_photometric", "Its colours are not halved as declared.", "PixelData")
    if found.start + length > found.end:
        raise ConversionError("truncated", "", "PixelData")
    swapped = not syntax.is_little_endian and expected.bits_allocated == 8 and found.vr == "OW"
    if swapped and bits % 16:
        if frames > 1:
            raise ConversionError("unsupported_pixel_data", "Frames of odd size share 16-bit words.", "PixelData")
        return [[(found.start, min(length, needed + 1))]]
    ends = [ceil((k + 1) * bits / 8) for k in range(frames)]
    return [[(found.start + k * bits // 8, end - k * bits // 8)] for k, end in enumerate(ends)]


def _items(found: PixelData, read: Callable[[int, int], bytes]) -> list[Piece]:
    """The items of encapsulated pixel data, the Basic Offset Table first."""
    items = []
    at = found.start
    end = found.end if found.length is None else found.start + found.length
    if end > found.end:
        raise ConversionError("truncated", "", "PixelData")
    while found.length is None or at < end:
        head = read(at, 8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == _DELIMITER:
            break
        if head[:4] != _ITEM or length == _UNDEFINED:
            raise ConversionError("corrupt", "The pixel data's fragments cannot be read.", "PixelData")
        if at + 8 + length > end:
            raise ConversionError("truncated", "", "PixelData")
        items.append((at + 8, length))
        at += 8 + length
    return items


def _framed(
    found: PixelData, table: Piece, fragments: Sequence[Piece], syntax: UID, read: Callable[[int, int], bytes]
) -> list[list[Piece]]:
    """Which fragments make which frame. Every frame has at least one of its own (PS3.5 A.4)."""
    frames = found.frames
    wrong = ConversionError("corrupt", f"{len(fragments)} fragments for {frames} frames.", "PixelData")
    if len(fragments) < frames or (syntax == RLELossless and len(fragments) > frames > 1):
        raise wrong
    if frames == 1:
        return [list(fragments)]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    # Offset tables count from the first byte behind the Basic Offset Table.
    heads = {offset - fragments[0][0]: number for number, (offset, _) in enumerate(fragments)}
    basic = np.frombuffer(read(*table), "<u4") if table[1] % 4 == 0 else np.empty(0, "<u4")
    if isinstance(found.table, bytes) and len(found.table) == 8 * frames:
        starts = np.frombuffer(found.table, "<u8").tolist()
    elif table[1]:
        starts = basic.tolist()
    else:
        firsts = [read(offset, min(length, 8)) for offset, length in fragments]
        starts = [head for head, first in zip(heads, firsts, strict=True) if first.startswith(_FRAME_STARTS)]
    if len(starts) != frames or starts[0] != 0 or starts != sorted(set(starts)) or not set(starts) <= heads.keys():
        raise wrong
    bounds = [*(heads[start] for start in starts), len(fragments)]
    return [list(fragments[a:b]) for a, b in pairwise(bounds)]
