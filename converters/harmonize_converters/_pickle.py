"""Pickles of plain arrays, read without running what they say.

A pickle is a program. Here it can name arrays, dtypes and the functions that rebuild them, and each of these names
is a stand-in of ours: nothing of NumPy or of any other module is called by the pickle. Every other name is refused.
The interpreter is Python's own in Python (``pickle._Unpickler``): the C one takes memory for any index of its memo
that a file names. Strings of Python 2 pickles are read as Latin-1, so that bytes stay what they are.
(PEP 307, PEP 574; numpy.ndarray.__reduce__.)
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from harmonize_converters._npy import MAX_LOADED, damage, numeric
from harmonize_converters.contract import ConversionError


class _Reader:
    """The file, never asked for more than it has."""

    def __init__(self, handle: BinaryIO, size: int) -> None:
        self._handle, self._left = handle, size

    def read(self, count: int) -> bytes:
        if count < 0 or count > self._left:
            raise ConversionError("truncated", "The pickle ended early.")
        self._left -= count
        return self._handle.read(count)

    def readinto(self, buffer: bytearray) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def readline(self) -> bytes:
        line = self._handle.readline()
        self._left -= len(line)
        return line


class _Dtype:
    """Stand-in of ``numpy.dtype``: its text and, by its state, its byte order."""

    __slots__ = ("text",)

    def __init__(self, text: object, *_: object) -> None:
        self.text = text if isinstance(text, str) else ""

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if not isinstance(order, str) or order not in "<>|=" or len(order) != 1:
            raise ConversionError("corrupt", "A dtype has no byte order.")
        if state[3:5] not in ((None, None), ()) or state[2] is not None:  # type: ignore[index]
            raise ConversionError("unsupported_dtype", "Found an array of records.")
        self.text = order + self.text.lstrip("<>|=")


class _Array:
    """Stand-in of ``numpy.ndarray``: filled by its state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ConversionError("corrupt", "An array has no state.")
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _Name:
    """A name that a pickle may call. It has no state of its own that a pickle could change."""

    __slots__ = ("_make",)
    _make: Callable[..., object]

    def __init__(self, make: Callable[..., object]) -> None:
        object.__setattr__(self, "_make", make)

    def __setattr__(self, name: str, value: object) -> None:
        raise ConversionError("corrupt", "The pickle changes a function.")

    def __setstate__(self, state: object) -> None:
        raise ConversionError("corrupt", "The pickle changes a function.")

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)


def _array(data: object, dtype: object, shape: object, order: object) -> np.ndarray:
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise ConversionError("unsupported_dtype", "Found an array of objects.")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ConversionError("corrupt", "The shape of an array is none.")
    kind = numeric(dtype.text)
    if math.prod(shape) * kind.itemsize != len(raw):
        raise ConversionError("truncated", f"An array has {len(raw)} bytes.")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> object:
    made = _Array()
    made.value = _array(bytes(data) if isinstance(data, bytearray) else data, dtype, shape, order)
    return made


def _scalar(dtype: object, data: object) -> object:
    return _array(data, dtype, (1,), "C")[0].item()


def _encode(text: object, codec: object) -> object:
    if not isinstance(text, str) or codec != "latin1":
        raise ConversionError("corrupt", "Bytes are written in an unknown way.")
    return text.encode("latin-1")


def _names() -> dict[tuple[str, str], _Name]:
    names = {("numpy", "ndarray"): _Name(lambda *_: _Array()), ("numpy", "dtype"): _Name(_Dtype),
             ("_codecs", "encode"): _Name(_encode), ("collections", "OrderedDict"): _Name(lambda *_: {})}  # fmt: skip
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = _Name(lambda *_: _Array())
        names[f"{core}.multiarray", "scalar"] = _Name(_scalar)
        names[f"{core}.numeric", "_frombuffer"] = _Name(_frombuffer)
    return names


class _Unpickler(pickle._Unpickler):
    _allowed = _names()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            told = f"{module}.{name}"
            told = told if re.fullmatch(r"[A-Za-z0-9_.]{1,80}", told) else "something without a plain name"
            raise ConversionError("unsupported_pickle", f"It asks for {told}, and nothing of it was run.")
        return self._allowed[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise ConversionError("unsupported_pickle", "It refers to things outside.")


def load_pickle(handle: BinaryIO, size: int) -> object:
    """Dicts, lists, texts, numbers and arrays of a pickle. Raises ``ConversionError``."""
    if size > MAX_LOADED:
        raise ConversionError("implausible_size", f"A pickle of {size} bytes does not go into memory.")
    with damage("pickle"):
        return _plain(_Unpickler(_Reader(handle, size), encoding="latin1").load())


def _plain(value: object, depth: int = 0) -> object:
    """Stand-ins replaced by their arrays, in dicts to a depth of 16."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict) and depth < 16:
        return {key.decode("latin-1") if isinstance(key, bytes) else str(key): _plain(item, depth + 1)
                for key, item in value.items()}  # fmt: skip
    return value
