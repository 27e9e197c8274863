"""Files of bare arrays by name: HDF5, NPZ, NPY, pickles. Arrays of HDF5 and NPY are read in slices.

The file used last stays open in each process: of 20,000 records in one file each would else open it anew, walk its
index of chunks, and unpack chunks that hold neighbours too.
"""

from __future__ import annotations

import atexit
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import h5py
import numpy as np

from harmonize_converters._hdf5 import SIGNATURE, dataset, hdf5_errors, open_hdf5
from harmonize_converters._npy import NPY, ZIP, damage, read_npy, read_npz
from harmonize_converters._open import check_size, read_at
from harmonize_converters._pickle import load_pickle
from harmonize_converters.contract import ConversionError, FoundFile

_PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".p"})


class Sliceable(Protocol):
    """An array that gives numpy arrays for tuples of numbers and slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class ArrayFile:
    """An open file of arrays. ``memory`` is for what readers work out once a file."""

    def __init__(self, file: FoundFile) -> None:
        self._size = file.size
        self._found: dict[str, Sliceable] = {}
        self.memory: dict[Any, Any] = {}
        self._tree: object = None
        self._hdf5: h5py.File | None = None
        self._zip: zipfile.ZipFile | None = None
        try:
            self._handle: BinaryIO = file.path.open("rb")
        except OSError as error:
            raise ConversionError("unreadable_file", os.strerror(error.errno or 0)) from None
        try:
            self._open(file)
        except BaseException:
            self.close()
            raise

    def _open(self, file: FoundFile) -> None:
        check_size(self._handle, file)
        head = read_at(self._handle, 0, min(8, file.size))
        self.kind = "NPY array"
        if head == SIGNATURE:
            self.kind, self._hdf5 = "HDF5 arrays", open_hdf5(file)
        elif head.startswith(ZIP):
            with damage("NPZ"):
                self.kind, self._zip = "NPZ arrays", zipfile.ZipFile(self._handle)
        elif head.startswith(NPY):
            self._found[""] = read_npy(self._handle, file.size)
        elif head[:1] == b"\x80" or Path(file.key).suffix.lower() in _PICKLE_SUFFIXES:
            self._handle.seek(0)
            self.kind, self._tree = "pickled arrays", load_pickle(self._handle, file.size)
        else:
            raise ConversionError("format_mismatch", "This is no HDF5, NPZ, NPY or pickle.")

    def close(self) -> None:
        """Close what is open."""
        for one in (self._hdf5, self._zip, self._handle):
            if one is not None:
                one.close()

    def array(self, path: str) -> Sliceable:
        """The array at a path ("signal/chest/ECG"). Raises ``ConversionError`` (invalid_header: none is there)."""
        if path not in self._found:
            self._found[path] = self._array(path)
        return self._found[path]

    def texts(self) -> dict[str, str]:
        """Texts and whole numbers at the top of a pickle."""
        tree = self._tree if isinstance(self._tree, dict) else {}
        return {key: str(item) for key, item in tree.items() if isinstance(item, str | int)}

    def _array(self, path: str) -> Sliceable:
        if self._hdf5 is not None:
            found: Sliceable = dataset(self._hdf5, path, self._size, "iufbSO")
            return found
        if self._zip is not None:
            return read_npz(self._zip, path)
        at: Any = self._tree
        for step in (part for part in path.split("/") if part):
            at = at.get(step) if isinstance(at, dict) else None
        if isinstance(at, list) and all(isinstance(one, int | float) for one in at):
            with damage("list"):
                at = np.asarray(at)
        if isinstance(at, np.ndarray):
            return at
        raise ConversionError("invalid_header", "The array that is asked for is not there.")


_last: tuple[tuple[int, str, int, int], ArrayFile] | None = None


def array_file(file: FoundFile) -> ArrayFile:
    """The open file; the last one of this process, or opened now. Raises ``ConversionError``.

    A forked process opens its own. Ask for it again before each use: another file may have taken its place.
    """
    global _last
    key = (os.getpid(), str(file.path), file.size, file.mtime_ns)
    if _last is not None and _last[0] != key:
        if _last[0][0] == os.getpid():
            _last[1].close()
        _last = None
    if _last is None:
        _last = key, ArrayFile(file)
    return _last[1]


@atexit.register
def _close() -> None:
    if _last is not None and _last[0][0] == os.getpid():
        _last[1].close()


def sliced(array: Sliceable, index: tuple[int | slice, ...]) -> np.ndarray:
    """Part of an array, in memory. Raises ``ConversionError``."""
    with hdf5_errors("array"):
        return np.asarray(array[index])
