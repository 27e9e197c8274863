"""NumPy's own files, without ``numpy.load``: sizes are checked before memory is taken, and no pickle is in reach.

(numpy.lib.format: NPY versions 1.0 and 2.0; an NPZ is a ZIP of them.)
"""

from __future__ import annotations

import ast
import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from harmonize_converters._open import read_at
from harmonize_converters.contract import ConversionError

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
MAX_HEADER = 65_536
MAX_LOADED = 4 << 30
"""Bytes of an array that is taken into memory as a whole (members of NPZ, pickles)."""
MAX_RATIO = 1100
_DAMAGE = (OSError, LookupError, RuntimeError, ValueError, TypeError, ArithmeticError, AttributeError, MemoryError,
           EOFError, SyntaxError, AssertionError, struct.error, zlib.error, pickle.UnpicklingError,
           zipfile.BadZipFile, zipfile.LargeZipFile)  # fmt: skip
_DESCR = re.compile(r"[<>|=]?(?:[biuf](?:1|2|4|8)|[SU]\d{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Npy:
    """An array in an NPY file, read by its first axis; what else an index asks for is done in memory."""

    handle: BinaryIO
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        first, rest = index[0], index[1:]
        begin, stop, _ = first.indices(self.shape[0]) if isinstance(first, slice) else (first, first + 1, 1)
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        raw = read_at(self.handle, self.start + begin * row, max(0, stop - begin) * row)
        rows = np.frombuffer(raw, self.dtype).reshape(-1, *self.shape[1:])
        part = rows if isinstance(first, slice) else rows[0]
        return part[(slice(None), *rest) if isinstance(first, slice) else rest]


@contextmanager
def damage(what: str) -> Iterator[None]:
    """What the standard library raises over damaged bytes, as ``ConversionError``."""
    try:
        yield
    except _DAMAGE:
        raise ConversionError("corrupt", f"This is no {what} that can be read.") from None


def numeric(dtype: str) -> np.dtype[Any]:
    """A plain dtype ("<f4", "|S12"). Raises ``ConversionError`` for objects, records and the like."""
    if not _DESCR.fullmatch(dtype):
        raise ConversionError("unsupported_dtype", "Found an array of no plain numbers or texts.")
    with damage("dtype"):
        return np.dtype(dtype)


def read_npy(handle: BinaryIO, size: int) -> Npy | np.ndarray:
    """The array of an NPY file of ``size`` bytes; one in Fortran order is taken into memory."""
    start, shape, fortran, dtype = _header(read_at(handle, 0, min(size, MAX_HEADER)))
    n_bytes = math.prod(shape) * dtype.itemsize
    if start + n_bytes > size:
        raise ConversionError("truncated", f"Found {size - start} of {n_bytes} bytes of samples.")
    if not fortran and shape:
        return Npy(handle, start, shape, dtype)
    return _loaded(read_at(handle, start, _held(n_bytes)), shape, fortran, dtype)


def read_npz(archive: zipfile.ZipFile, path: str) -> np.ndarray:
    """One array of an NPZ, in memory; its CRC is checked by ``zipfile``."""
    with damage("NPZ"):
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if path not in names:
            raise ConversionError("invalid_header", "The array that is asked for is not there.")
        found = archive.getinfo(names[path])
        if found.file_size > MAX_RATIO * max(1, found.compress_size):
            raise ConversionError("implausible_size", "A member of the archive is too large.")
        if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ConversionError("corrupt", "NumPy packs with deflate, or not at all.")
        with archive.open(found) as member:
            raw = member.read(_held(found.file_size) + 1)
    start, shape, fortran, dtype = _header(raw[:MAX_HEADER])
    n_bytes = math.prod(shape) * dtype.itemsize
    if start + n_bytes > len(raw):
        raise ConversionError("truncated", f"Found {len(raw) - start} of {n_bytes} bytes of samples.")
    return _loaded(raw[start : start + n_bytes], shape, fortran, dtype)


def _held(n_bytes: int) -> int:
    if n_bytes > MAX_LOADED:
        raise ConversionError("implausible_size", f"An array of {n_bytes} bytes does not go into memory.")
    return n_bytes


def _loaded(raw: bytes, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> np.ndarray:
    with damage("array"):
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _header(raw: bytes) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Where the samples start, shape, whether in Fortran order, dtype."""
    if raw[:6] != NPY or raw[6:8] not in (b"\1\0", b"\2\0"):
        raise ConversionError("corrupt", "This is no NPY of version 1.0 or 2.0.")
    wide = raw[6] == 2
    with damage("NPY header"):
        length = struct.unpack_from("<I" if wide else "<H", raw, 8)[0]
        start = (12 if wide else 10) + length
        if start > len(raw):
            raise ConversionError("truncated", "The header ended early.")
        text = raw[start - length : start].decode("latin-1")
        # Python 2 wrote whole numbers as "12L".
        found = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)])", "", text.strip()))
        descr, fortran, shape = found["descr"], found["fortran_order"], found["shape"]
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or len(shape) > 32:
        raise ConversionError("corrupt", "The shape in the header is none.")
    if not isinstance(descr, str) or not isinstance(fortran, bool):
        raise ConversionError("unsupported_dtype", "Found an array of records.")
    return start, shape, fortran, numeric(descr)
