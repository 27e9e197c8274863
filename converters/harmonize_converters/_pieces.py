"""Pieces of a file as arrays of bytes: from a memory map, or by plain reads into a buffer.

A map saves one copy (``benchmarks.edf_read``), but touching a page that cannot be had (a file cut meanwhile, a bad
sector) ends the process. So each piece is first loaded by the system, which answers with an error where touching would
not (``madvise(2)``, MADV_POPULATE_READ, Linux 5.14). Pieces are loaded some at once, and let go when the next ones are
taken: the memory in use is ``_STRETCH_BYTES`` (a piece where it is larger), whatever the file's length. Elsewhere,
plain reads.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from harmonize_converters._open import read_into
from harmonize_converters.contract import ConversionError

Load = Callable[[int, int], np.ndarray]
"""(offset, length) of a piece to its bytes, uint8, good until the next call. Raises ``ConversionError``."""

_POPULATE_READ = 22
"""MADV_POPULATE_READ, which Python 3.11's ``mmap`` does not name."""

_STRETCH_BYTES = 4 << 20


def loader(handle: BinaryIO, most: int) -> Load:
    """How to load pieces of up to ``most`` bytes of an open file."""
    try:
        pages = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        pages.madvise(_POPULATE_READ, 0, 1)
    except (OSError, ValueError, AttributeError):  # no such file system, system, or request
        return plain(handle, most)
    return _mapped(handle, pages)


def plain(handle: BinaryIO, most: int) -> Load:
    """Pieces by plain reads into one buffer: the reference."""
    buffer = np.empty(most, np.uint8)

    def load(offset: int, length: int) -> np.ndarray:
        read_into(handle, offset, buffer[:length].data)
        return buffer[:length]

    return load


def _mapped(handle: BinaryIO, pages: mmap.mmap) -> Load:
    everything = np.frombuffer(pages, np.uint8)
    held = range(1)

    def load(offset: int, length: int) -> np.ndarray:
        nonlocal held
        stop = offset + length
        if offset < held.start or stop > held.stop:
            start, size = offset - offset % mmap.PAGESIZE, _check_end(handle, stop)
            try:
                pages.madvise(mmap.MADV_DONTNEED, held.start, len(held))
                held = range(start, max(stop, min(start + _STRETCH_BYTES, size, len(pages))))
                pages.madvise(_POPULATE_READ, held.start, len(held))
            except (OSError, ValueError) as error:
                held = range(1)
                raise _refusal(handle, stop, error) from None
        _check_end(handle, stop)  # what the last page holds after the end reads as zeros
        return everything[offset:stop]

    return load


def _check_end(handle: BinaryIO, stop: int) -> int:
    size = os.fstat(handle.fileno()).st_size
    if size < stop:
        raise ConversionError("truncated", "The file ended early.", f"byte {stop}")
    return size


def _refusal(handle: BinaryIO, stop: int, error: OSError | ValueError) -> ConversionError:
    """Why what holds a piece that ends at ``stop`` could not be loaded. ``ValueError``: it starts after the map's
    end."""
    _check_end(handle, stop)
    number = getattr(error, "errno", None) or errno.EIO
    return ConversionError("unreadable_file", os.strerror(number), f"byte {stop} or soon after")
