"""Planes of DICOM files, one frame at a time: where each lies in the file, read and decoded (PS3.5 A.4)."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from math import ceil
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless

from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import parsing, quiet, read_header, value_of
from harmonize_converters._dicom_pixels import (
    PLUGINS,
    TAGS,
    PixelFormat,
    check_codestream,
    decoder_of,
    drop_unused_bits,
    pixel_format,
)
from harmonize_converters._dicom_slice import Slice
from harmonize_converters._dicom_walk import Stream
from harmonize_converters.contract import ConversionError, FoundFile

OPEN_FILES = 8
_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_PIXEL_VRS = (b"OB", b"OW", b"UN")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# SOI of JPEG and JPEG-LS, SOC and SIZ of JPEG 2000, the signature box of JP2.
_FRAME_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
Piece = tuple[int, int]
"""Offset and length in bytes."""


class PlaneFile:
    """One open file whose frames are decoded one at a time. Raises ``ConversionError`` from every method."""

    def __init__(self, file: FoundFile, expected: PixelFormat) -> None:
        self._expected = expected
        self._syntax = UID(expected.transfer_syntax)
        try:
            self._opened: Stream = file.path.open("rb")
        except OSError:
            raise ConversionError("unreadable_file") from None
        try:
            header = self._find(file)
            self.frames = n_frames(header)
            if pixel_format(header, file.size) != expected:
                raise ConversionError("source_changed")
            self._pieces = self._locate(header)
        except BaseException:
            self._opened.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def plane(self, frame: int) -> np.ndarray:
        """One frame, counted from 0: grey values as stored (1, rows, columns), or colours as RGB (3, rows, columns)."""
        if not 0 <= frame < self.frames:
            raise ConversionError("source_changed")
        pieces, expected = self._pieces[frame], self._expected
        if self._as_it_lies:
            stored = self._copied(*pieces[0])
        else:
            data = b"".join(self._read(offset, length) for offset, length in pieces)
            if self._syntax.is_encapsulated:
                check_codestream(data, self._syntax, expected)
            if expected.bits_allocated == 1:
                return self._unpack(data, frame * expected.frame_bits % 8)[None]
            stored = self._decode(data)
        stored = drop_unused_bits(stored, expected.bits_stored)
        if expected.palette is not None:
            return expected.palette.colors(stored)
        return stored[None] if expected.samples == 1 else stored.transpose(2, 0, 1)

    @property
    def _as_it_lies(self) -> bool:
        """Whether the bytes of the file are those of the array; ``_decode`` gives the same, slower."""
        syntax, expected = self._syntax, self._expected
        plain = syntax.is_little_endian and not syntax.is_encapsulated and sys.byteorder == "little"
        return plain and expected.samples == 1 and expected.bits_allocated > 1

    def _copied(self, offset: int, length: int) -> np.ndarray:
        values = np.empty((self._expected.rows, self._expected.columns), self._expected.stored_dtype)
        try:
            self._opened.seek(offset)
            done = self._opened.readinto(values.data.cast("B"))
        except OSError:
            raise ConversionError("unreadable_file") from None
        if done < length:
            raise ConversionError("truncated", "", "PixelData")
        return values

    def _find(self, file: FoundFile) -> FileDataset:
        """Read the header and find the value of Pixel Data: ``_start``, ``_length`` (None: undefined), ``_vr``."""
        with parsing():
            header, stream = read_header(self._opened, (*TAGS, *_TABLES))
            self._end = file.size
            if isinstance(stream, BytesIO):
                self._opened.close()
                self._opened, self._end = stream, len(stream.getbuffer())
            little = header.original_encoding[1] is not False
            head = self._opened.read(12)
            # Some files are implicit although their transfer syntax is not.
            implicit = header.original_encoding[0] is not False or head[4:6] not in _PIXEL_VRS
            at = 4 if implicit else 8
            tag = b"\xe0\x7f\x10\x00" if little else b"\x7f\xe0\x00\x10"
            self._check_present(len(head) == 12 and head[:4] == tag)
            self._vr = "OW" if implicit else head[4:6].decode("latin-1")
            length = int.from_bytes(head[at : at + 4], "little" if little else "big")
            self._start = self._opened.tell() - 12 + at + 4
            self._length: int | None = None if length == _UNDEFINED else length
            return header

    def _check_present(self, present: object) -> None:
        if not present:
            raise ConversionError("truncated", "There is no pixel data.", "PixelData")

    def _read(self, offset: int, length: int) -> bytes:
        try:
            self._opened.seek(offset)
            data = self._opened.read(length)
        except OSError:
            raise ConversionError("unreadable_file") from None
        if len(data) < length:
            raise ConversionError("truncated", "", "PixelData")
        return data

    def _locate(self, header: FileDataset) -> list[list[Piece]]:
        """The pieces of each frame."""
        if self._syntax.is_encapsulated:
            items = list(self._items())
            tables = [value_of(header, name) for name in _TABLES]
            return self._framed(items[0], items[1:], tables) if items else self._framed((0, 0), [], tables)
        bits, frames, length = self._expected.frame_bits, self.frames, self._length
        if length is None:
            raise ConversionError("corrupt", "Pixel data that are not compressed have no length.", "PixelData")
        needed = ceil(bits * frames / 8)
        if length < needed or self._start + needed > self._end:
            raise ConversionError("truncated", f"{length} of {needed} bytes of pixels.", "PixelData")
        if length - needed > 1 and (length - needed) * 8 >= bits:
            raise ConversionError("corrupt", f"The pixel data hold more than {frames} frames.", "PixelData")
        if self._expected.photometric == "YBR_FULL_422" and length >= frames * 3 * self._expected.plane_bytes:
            raise ConversionError("unsupported_photometric", "Its colours are not halved as declared.", "PixelData")
        if self._start + length > self._end:
            raise ConversionError("truncated", "", "PixelData")
        swapped = not self._syntax.is_little_endian and self._expected.bits_allocated == 8 and self._vr == "OW"
        if swapped and bits % 16:
            if frames > 1:
                raise ConversionError("unsupported_pixel_data", "Frames of odd size share 16-bit words.", "PixelData")
            return [[(self._start, min(length, needed + 1))]]
        ends = [ceil((k + 1) * bits / 8) for k in range(frames)]
        return [[(self._start + k * bits // 8, end - k * bits // 8)] for k, end in enumerate(ends)]

    def _items(self) -> list[Piece]:
        """The items of encapsulated pixel data, the Basic Offset Table first."""
        items = []
        at = self._start
        end = self._end if self._length is None else self._start + self._length
        if end > self._end:
            raise ConversionError("truncated", "", "PixelData")
        while self._length is None or at < end:
            head = self._read(at, 8)
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

    def _framed(self, table: Piece, fragments: Sequence[Piece], extended: Sequence[object]) -> list[list[Piece]]:
        """Which fragments make which frame. Every frame has at least one of its own (PS3.5 A.4)."""
        frames = self.frames
        wrong = ConversionError("corrupt", f"{len(fragments)} fragments for {frames} frames.", "PixelData")
        if len(fragments) < frames or (self._syntax == RLELossless and len(fragments) > frames > 1):
            raise wrong
        if frames == 1:
            return [list(fragments)]
        if len(fragments) == frames:
            return [[fragment] for fragment in fragments]
        # Offset tables count from the first byte behind the Basic Offset Table.
        heads = {offset - fragments[0][0]: number for number, (offset, _) in enumerate(fragments)}
        basic = np.frombuffer(self._read(*table), "<u4") if table[1] % 4 == 0 else np.empty(0, "<u4")
        if isinstance(extended[0], bytes) and len(extended[0]) == 8 * frames:
            starts = np.frombuffer(extended[0], "<u8").tolist()
        elif table[1]:
            starts = basic.tolist()
        else:
            firsts = [self._read(offset, min(length, 8)) for offset, length in fragments]
            starts = [head for head, first in zip(heads, firsts, strict=True) if first.startswith(_FRAME_STARTS)]
        if len(starts) != frames or starts[0] != 0 or starts != sorted(set(starts)) or not set(starts) <= heads.keys():
            raise wrong
        bounds = [*(heads[start] for start in starts), len(fragments)]
        return [list(fragments[a:b]) for a, b in pairwise(bounds)]

    def _unpack(self, data: bytes, skip: int) -> np.ndarray:
        """Single bits, the first the lowest of the first byte (PS3.5 8.1.1), ``skip`` of them the last frame's."""
        rows, columns = self._expected.rows, self._expected.columns
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[skip : skip + rows * columns].reshape(rows, columns)

    def _decode(self, data: bytes) -> np.ndarray:
        """The stored values (rows, columns), or (rows, columns, 3) with YBR made RGB."""
        expected = self._expected
        options: dict[str, Any] = {
            "rows": expected.rows,
            "columns": expected.columns,
            "bits_allocated": expected.bits_allocated,
            "bits_stored": expected.bits_stored,
            "pixel_representation": int(expected.signed),
            "photometric_interpretation": expected.photometric,
            "samples_per_pixel": expected.samples,
            "planar_configuration": int(expected.planar),
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
            "pixel_vr": self._vr,
        }
        try:
            with quiet():
                source = encapsulate([data], has_bot=False) if self._syntax.is_encapsulated else data
                plugin = PLUGINS.get(self._syntax, ("", ""))[0]
                decoder = decoder_of(self._syntax)
                values, found = decoder.as_array(source, index=0, decoding_plugin=plugin, **options)
        # Decoders of five libraries raise whatever damaged data lead to.
        except Exception:  # noqa: BLE001
            raise ConversionError("corrupt", "The decoder refuses the pixel data.", "PixelData") from None
        except BaseException as error:
            # A panic in the Rust code of pylibjpeg-rle is no Exception; all else (an interrupt) goes on.
            if type(error).__name__ != "PanicException":
                raise
            raise ConversionError("corrupt", "The decoder refuses the pixel data.", "PixelData") from None
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        shape = (expected.rows, expected.columns, *((3,) if expected.samples == 3 else ()))
        if values.shape != shape or values.dtype != expected.stored_dtype:
            raise ConversionError("corrupt", "The decoder gives another size or type than declared.", "PixelData")
        if expected.samples == 3 and found["photometric_interpretation"] != "RGB":
            raise ConversionError("unsupported_photometric", "The decoder does not give RGB.", "PixelData")
        return values


class PlaneFiles:
    """Planes of several files, the last few of which stay open, and the last mosaic or frame in colour in memory."""

    def __init__(self, files: Sequence[FoundFile]) -> None:
        self._files = files
        self._open: OrderedDict[int, PlaneFile] = OrderedDict()
        self._last: tuple[int, int, np.ndarray] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._open.values():
            opened.close()
        self._open.clear()

    def slice(self, file: int, one: Slice) -> np.ndarray:
        """The values of a slice in file number ``file``: (colours, rows, columns)."""
        tile, pixels = one.tile, one.pixels
        if tile is None and pixels.colors == 1:
            return self.plane(file, one.frame, pixels)
        if self._last is None or self._last[:2] != (file, one.frame):
            whole = pixels if tile is None else replace(pixels, rows=tile.frame_rows, columns=tile.frame_columns)
            self._last = None  # so that two never lie in memory
            self._last = (file, one.frame, self.plane(file, one.frame, whole))
        values = self._last[2]
        if tile is None:
            return values
        return values[..., tile.row : tile.row + pixels.rows, tile.column : tile.column + pixels.columns]

    def plane(self, file: int, frame: int, expected: PixelFormat) -> np.ndarray:
        """The values of a whole frame of file number ``file``, as ``PlaneFile.plane`` gives them."""
        opened = self._open.pop(file, None) or PlaneFile(self._files[file], expected)
        self._open[file] = opened
        # What is deflated lies in memory as a whole.
        while len(self._open) > (1 if UID(expected.transfer_syntax).is_deflated else OPEN_FILES):
            self._open.popitem(last=False)[1].close()
        return opened.plane(frame)
