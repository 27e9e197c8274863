"""The loops that all samples go through: native numbers to float32 values, and what statistics are made of.

Compiled (``_kernels.c``) where a compiler was at hand when the package was installed, else numpy: the same values, bit
by bit. Between two calls to numpy a thread may have to wait for others, and each call passes over the batch again;
compiled, a batch is one call and one pass, and so are statistics (``python -m benchmarks.streaming`` compares them).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numcodecs
import numpy as np

try:
    from harmonize.store import _kernels
except ImportError:
    COMPILED = False
else:
    COMPILED = True
"""Whether they are compiled."""


def _blosc() -> tuple[int, int] | None:
    """Addresses of ``blosc_cbuffer_validate`` and ``blosc_decompress_ctx`` of c-blosc 1, in the library that numcodecs
    brings it in; None where that does not export them."""
    try:
        library = ctypes.CDLL(numcodecs.blosc.__file__)
        version, *functions = (
            getattr(library, f"blosc_{name}") for name in ("get_version_string", "cbuffer_validate", "decompress_ctx")
        )
    except (OSError, AttributeError):
        return None
    version.restype = ctypes.c_char_p
    validate, decompress = (ctypes.cast(one, ctypes.c_void_p).value or 0 for one in functions)
    return (validate, decompress) if version().startswith(b"1.") else None


BLOSC_HEADER_BYTES = 16
BLOSC = _blosc() if COMPILED else None
"""Where Blosc's functions are, for ``decode``."""


def convert(
    targets: list[np.ndarray],
    sources: list[np.ndarray],
    scale: np.ndarray | None = None,
    offset: np.ndarray | None = None,
) -> None:
    """Put ``source * scale + offset`` into each target, float32, from the source in the same place of its list.

    Sources have the shapes of their targets (one to eight axes, any steps, also backwards) and any dtype of the schema.
    ``scale`` and ``offset`` (None: 1 and 0) are C-contiguous, with a row for each pair: of one number, or of one for
    each index of the pair's first axis. They are both float32, and so is the arithmetic; or float64, and values are
    rounded once at the end. Targets must not overlap sources.

    Raises
    ------
    TypeError, ValueError
        Where types or shapes are others. Nothing is written then.
    """
    (_kernels.convert if COMPILED else reference)(targets, sources, scale, offset)


def reference(
    targets: list[np.ndarray], sources: list[np.ndarray], scale: np.ndarray | None, offset: np.ndarray | None
) -> None:
    """``convert`` in numpy."""
    with _unbuffered():
        for i, (target, source) in enumerate(zip(targets, sources, strict=True)):
            values = target if scale is None or scale.dtype == np.float32 else np.empty(source.shape, np.float64)
            values[...] = source  # by itself: numpy converts in small pieces where it multiplies as well
            for term, operation in ((scale, np.multiply), (offset, np.add)):
                if term is not None:
                    operation(values, term[i].reshape(-1, *[1] * (source.ndim - 1)), out=values)
            if values is not target:
                target[...] = values


def decode(targets: list[np.ndarray], sources: list[memoryview]) -> int:
    """Decode Blosc buffers into C-contiguous arrays of their sizes, one after the other, up to the first that cannot be
    or has another size. Returns how many these are.

    Compiled, and where numcodecs' library gives its functions, it is one call for all: between two calls a thread may
    have to wait for others.

    Raises
    ------
    TypeError, ValueError, BufferError
        Where arrays are read-only or not contiguous, or there are more or fewer of them than buffers.
    """
    if BLOSC is None:
        return reference_decode(targets, sources)
    return _kernels.decode(*BLOSC, targets, sources)


def reference_decode(targets: list[np.ndarray], sources: list[memoryview]) -> int:
    """``decode`` by numcodecs, which is called for each."""
    for done, (target, source) in enumerate(zip(targets, sources, strict=True)):
        if not (target.flags.c_contiguous and target.flags.writeable):
            raise ValueError("arrays that are contiguous and may be written would be right")
        # What a header says of both sizes, which numcodecs does not check: it might read or fill less or more.
        sizes = [int.from_bytes(source[at : at + 4], "little") for at in (4, 12)]
        if len(source) < BLOSC_HEADER_BYTES or sizes != [target.nbytes, len(source)]:
            return done
        try:
            numcodecs.blosc.decompress(source, target)
        except (RuntimeError, ValueError):
            return done
    return len(targets)


def moments(samples: np.ndarray) -> np.ndarray:
    """float64 (4, channel): the least, the greatest, the sum and the sum of squares of whole numbers of up to 16 bits
    (channel, window, time), exact. There is at least one sample, and there are fewer than 2**31.
    """
    if not COMPILED:
        return reference_moments(samples)
    if samples.strides[2] != samples.itemsize or not samples.dtype.isnative:  # not as the loop takes them
        samples = np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
    found = np.empty((4, len(samples)))
    _kernels.moments(samples, found)
    return found


def reference_moments(samples: np.ndarray) -> np.ndarray:
    """``moments`` in numpy."""
    values = samples.astype(np.float64)
    sums = np.einsum("cwt->c", values), np.einsum("cwt,cwt->c", values, values)  # not BLAS: it has threads of its own
    return np.stack([samples.min(axis=(1, 2)), samples.max(axis=(1, 2)), *sums])


@contextmanager
def _unbuffered() -> Iterator[None]:
    """numpy multiplies rows that are shorter than half its buffer (8,192 items) by a column through that buffer, which
    takes three times as long. In here, in this thread, the buffer is small."""
    before = np.setbufsize(512)
    try:
        yield
    finally:
        np.setbufsize(before)
