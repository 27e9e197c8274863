"""Planes of DICOM files, read and decoded one frame at a time."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from harmonize_converters._dicom_header import parsing, quiet, read_header
from harmonize_converters._dicom_pixel_data import TABLE, PixelData, frame_pieces, pixel_data
from harmonize_converters._dicom_pixels import (
    PLUGINS,
    TAGS,
    PixelFormat,
    check_codestream,
    decoder_of,
    drop_unused_bits,
    pixel_format,
)
from harmonize_converters._dicom_slice import Tile
from harmonize_converters._dicom_walk import Stream
from harmonize_converters.contract import ConversionError, FoundFile

OPEN_FILES = 8


class PlaneFile:
    """One open file whose frames are decoded one at a time; ``known``: its pixel data, where that was found already.

    Raises ``ConversionError`` from every method.
    """

    def __init__(self, file: FoundFile, expected: PixelFormat, known: PixelData | None = None) -> None:
        self._expected = expected
        self._syntax = UID(expected.transfer_syntax)
        try:
            self._opened: Stream = file.path.open("rb")
        except OSError:
            raise ConversionError("unreadable_file") from None
        try:
            found = known or self._find(file)
            self.frames, self._vr = found.frames, found.vr
            self._pieces = frame_pieces(found, expected, self._read)
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

    def _find(self, file: FoundFile) -> PixelData:
        with parsing():
            header, stream = read_header(self._opened, (*TAGS, TABLE))
            end = file.size
            if isinstance(stream, BytesIO):
                self._opened.close()
                self._opened, end = stream, len(stream.getbuffer())
            found = pixel_data(header, stream, end)
        if pixel_format(header, file.size) != self._expected:
            raise ConversionError("source_changed")
        return found

    def _read(self, offset: int, length: int) -> bytes:
        try:
            self._opened.seek(offset)
            data = self._opened.read(length)
        except OSError:
            raise ConversionError("unreadable_file") from None
        if len(data) < length:
            raise ConversionError("truncated", "", "PixelData")
        return data

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
    """Planes of several files, the last few of which stay open, and the last mosaic or frame in colour in memory.

    ``known`` has the pixel data of each file where they were found already (and the files are unchanged).
    """

    def __init__(self, files: Sequence[FoundFile], known: Sequence[PixelData | None] = ()) -> None:
        self._files = files
        self._known = known or (None,) * len(files)
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

    def slice(self, file: int, frame: int, tile: Tile | None, pixels: PixelFormat) -> np.ndarray:
        """The values of a slice in file number ``file``, a frame or a part of one: (colours, rows, columns)."""
        if tile is None and pixels.colors == 1:
            return self.plane(file, frame, pixels)
        if self._last is None or self._last[:2] != (file, frame):
            whole = pixels if tile is None else replace(pixels, rows=tile.frame_rows, columns=tile.frame_columns)
            self._last = None  # so that two never lie in memory
            self._last = (file, frame, self.plane(file, frame, whole))
        values = self._last[2]
        if tile is None:
            return values
        return values[..., tile.row : tile.row + pixels.rows, tile.column : tile.column + pixels.columns]

    def plane(self, file: int, frame: int, expected: PixelFormat) -> np.ndarray:
        """The values of a whole frame of file number ``file``, as ``PlaneFile.plane`` gives them."""
        opened = self._open.pop(file, None) or PlaneFile(self._files[file], expected, self._known[file])
        self._open[file] = opened
        # What is deflated lies in memory as a whole.
        while len(self._open) > (1 if UID(expected.transfer_syntax).is_deflated else OPEN_FILES):
            self._open.popitem(last=False)[1].close()
        return opened.plane(frame)
