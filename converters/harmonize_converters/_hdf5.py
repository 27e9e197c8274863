"""HDF5 files read with care: nothing outside the file is opened and no size is believed before it is checked.

libhdf5 follows links, virtual sources, external storage and filter plug-ins that a file names. Here a dataset is
reached over hard links only, lies in the file itself, and passes through no filter but deflate, LZF, shuffle and
Fletcher-32. An absent chunk would read as fill values: it is missing data, and refused.
(HDF5 File Format Specification 3.0; HDF5 Reference, H5P_DATASET_CREATE.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np

from harmonize_converters._hdf5_probe import survives
from harmonize_converters.contract import ConversionError, FoundFile

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_CHUNK_BYTES = 1 << 28
MAX_ATTRIBUTE_BYTES = 1 << 20
MAX_RATIO = 1100
"""Deflate makes at most 1032 bytes of one (zlib's technical details)."""
CACHE_BYTES = 1 << 26
_FILTERS = {h5py.h5z.FILTER_DEFLATE: MAX_RATIO, h5py.h5z.FILTER_LZF: MAX_RATIO,
            h5py.h5z.FILTER_SHUFFLE: 1, h5py.h5z.FILTER_FLETCHER32: 1}  # fmt: skip


@contextmanager
def hdf5_errors(where: str | None = None) -> Iterator[None]:
    """What h5py raises over a damaged file, as ``ConversionError``; its words may quote the file."""
    try:
        yield
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, ArithmeticError, AttributeError, MemoryError):
        raise ConversionError("corrupt", "libhdf5 cannot read it.", where) from None


def open_hdf5(file: FoundFile) -> h5py.File:
    """The file, read-only, of the size it was found with; the caller closes it. Raises ``ConversionError``.

    ``CACHE_BYTES`` of unpacked chunks are kept, so that neighbouring records of one chunk are unpacked once.
    """
    try:
        size = file.path.stat().st_size
    except OSError:
        raise ConversionError("unreadable_file") from None
    if size != file.size:
        raise ConversionError("source_changed", f"Found {size} bytes where there were {file.size}.")
    if size == 0:
        raise ConversionError("empty_file")
    if not survives(str(file.path), file.size, file.mtime_ns):
        raise ConversionError("corrupt", "libhdf5 cannot read it: it crashes, or never ends.")
    with hdf5_errors():
        return h5py.File(file.path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=20011)


@contextmanager
def opened_hdf5(file: FoundFile) -> Iterator[h5py.File]:
    """``open_hdf5``, closed at the end."""
    handle = open_hdf5(file)
    try:
        yield handle
    finally:
        handle.close()


def names(group: h5py.Group) -> list[str]:
    """Names in a group."""
    with hdf5_errors():
        return [str(name) for name in group]


def child(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """What lies at a path ("signal/chest/ECG") below a group; None where there is nothing.

    Raises ``ConversionError`` for a link that is not a hard one.
    """
    at: h5py.Group | h5py.Dataset = group
    for step in (part for part in path.split("/") if part):
        with hdf5_errors():
            link = at.get(step, getlink=True) if isinstance(at, h5py.Group) and step in at else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise ConversionError("path_escape", "An HDF5 link leads to another file.")
        if not isinstance(link, h5py.HardLink):
            raise ConversionError("unsupported_hdf5", "Found a soft link.")
        with hdf5_errors():
            at = at[step]
    return at


def attribute(item: h5py.Group | h5py.Dataset, name: str) -> object:
    """An attribute of at most 1 MB; None where there is none."""
    with hdf5_errors():
        if name not in item.attrs:
            return None
        found = item.attrs.get_id(name)
        if math.prod(found.shape) * max(1, found.dtype.itemsize) > MAX_ATTRIBUTE_BYTES:
            raise ConversionError("implausible_size", where="attribute")
        return item.attrs[name]


def text_attribute(item: h5py.Group | h5py.Dataset, name: str) -> str:
    """An attribute as text; blank where there is none."""
    value = attribute(item, name)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "" if value is None or isinstance(value, np.ndarray | h5py.Empty) else str(value).strip()


def dataset(group: h5py.Group, path: str, file_size: int, kinds: str = "iuf") -> h5py.Dataset:
    """A dataset of numbers (``kinds`` of dtype) that is safe to slice.

    Raises ``ConversionError``: invalid_header (no such dataset), path_escape, unsupported_hdf5,
    unsupported_dtype, implausible_size, truncated (an absent chunk), corrupt.
    """
    found = child(group, path)
    if not isinstance(found, h5py.Dataset):
        raise ConversionError("invalid_header", "The array that is asked for is not there.")
    with hdf5_errors():
        plist = found.id.get_create_plist()
        if found.is_virtual:
            raise ConversionError("unsupported_hdf5", "Found a virtual dataset.")
        if plist.get_external_count():
            raise ConversionError("path_escape", "The samples lie in another file.")
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if any(code not in _FILTERS for code in filters):
            raise ConversionError("unsupported_hdf5", "Found a filter that is not read.")
        if found.dtype.kind not in kinds or (found.dtype.hasobject and "O" not in kinds):
            raise ConversionError("unsupported_dtype", f"Found an array of kind {found.dtype.kind!r}.")
        _check_size(found, file_size, max([1, *(_FILTERS[code] for code in filters)]))
    return found


def _check_size(found: h5py.Dataset, file_size: int, ratio: int) -> None:
    """Refuse shapes that the file cannot hold, and chunks that are not there."""
    n_bytes = math.prod(found.shape) * found.dtype.itemsize
    if n_bytes > file_size * ratio:
        raise ConversionError("implausible_size", f"A dataset of {n_bytes} bytes in a file of {file_size}.")
    if n_bytes == 0:
        return
    if found.chunks is None:
        if found.id.get_storage_size() < n_bytes:
            raise ConversionError("truncated", "Samples of a dataset were never written.")
        return
    if math.prod(found.chunks) * found.dtype.itemsize > MAX_CHUNK_BYTES:
        raise ConversionError("implausible_size", "A chunk is too large.")
    wanted = math.prod(-(-n // c) for n, c in zip(found.shape, found.chunks, strict=True))
    if wanted > file_size:
        raise ConversionError("implausible_size", f"{wanted} chunks in a file of {file_size} bytes.")
    if found.id.get_num_chunks() < wanted:
        raise ConversionError("truncated", "Chunks of a dataset are absent.")
