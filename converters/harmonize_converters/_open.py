"""Opening and reading source files: every failure is a ``ConversionError`` without a path in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from harmonize_converters.contract import ConversionError, FoundFile


@contextmanager
def opened(file: FoundFile) -> Iterator[BinaryIO]:
    """The file, unbuffered, of the size it was found with. ``read_at`` and friends turn what goes wrong
    later into a ``ConversionError`` too."""
    try:
        handle = file.path.open("rb", buffering=0)
    except OSError as error:
        raise ConversionError("unreadable_file", os.strerror(error.errno or 0)) from None
    with handle:
        check_size(handle, file)
        yield handle


def check_size(handle: BinaryIO, file: FoundFile) -> None:
    """Refuse a file that is not of the size it was found with."""
    size = os.fstat(handle.fileno()).st_size
    if size != file.size:
        raise ConversionError("source_changed", f"Found {size} bytes where there were {file.size}.")
    if size == 0:
        raise ConversionError("empty_file")


def read_at(handle: BinaryIO, offset: int, length: int) -> bytes:
    """``length`` bytes from ``offset`` on."""
    buffer = bytearray(length)
    read_into(handle, offset, memoryview(buffer))
    return bytes(buffer)


def read_into(handle: BinaryIO, offset: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from ``offset`` on."""
    done = 0
    try:
        while done < len(buffer):
            count = os.preadv(handle.fileno(), [buffer[done:]], offset + done)
            if not count:
                raise ConversionError("truncated", "The file ended early.", f"byte {offset + done}")
            done += count
    except OSError as error:
        raise ConversionError("unreadable_file", os.strerror(error.errno or 0), f"byte {offset}") from None
