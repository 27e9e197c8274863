"""NIfTI-1 and NIfTI-2 headers to a typed layout: shape, type, values, geometry (FIDELITY I11, I12)."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from harmonize_converters.contract import ConversionError
from harmonize_converters.geometry import column_lengths, is_sheared, orientation_code, to_affine
from harmonize_schemas import Affine

SIZES = {348: 1, 540: 2}
LONGEST = 540
GZIP = b"\x1f\x8b"
_DTYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)) | {"float32", "float64"}
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unit codes of nifti1.h; unknown is read as mm, as all tools do
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_NO_TIME = frozenset({32, 40, 48})  # Hz, ppm, rad/s
SPACING_TOLERANCE = 1e-3
LONGEST_STEP_S = 600.0
"""Milliseconds declared as seconds are common; a step beyond this is not believed, and left out."""
SAME_TRANSFORM = 0.01
"""Two transforms that move no corner by more than this part of the smallest voxel edge are one."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the voxels lie, all in mm; ``source`` names the transform that ``affine`` is."""

    affine: Affine | None
    source: str
    alternative: Affine | None
    spacing_mm: tuple[float, float, float] | None
    spacing_source: str
    orientation: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says. ``stored`` is the dtype in the file, byte order included."""

    version: int
    shape: tuple[int, ...]
    stored: np.dtype
    offset: int
    slope: float
    intercept: float
    time_step_s: float | None
    geometry: Geometry

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.stored.itemsize


def head_bytes(head: bytes) -> bytes:
    """The first bytes of the image, inflated where the file is gzip; empty where that cannot be."""
    if head[:2] != GZIP:
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, LONGEST)
    except zlib.error:
        return b""


def is_nifti(head: bytes) -> bool:
    """Whether plain first bytes are a NIfTI or Analyze 7.5 header, in either byte order."""
    size = _size(head)
    if size == 348 and len(head) >= 348:
        return head[344:348] in (b"n+1\0", b"ni1\0") or (head[38:39] == b"r" and head[344:347] not in (b"n+1", b"ni1"))
    return size == 540 and head[4:8] in (b"n+2\0", b"ni2\0")


def _size(head: bytes) -> int | None:
    found = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")} & set(SIZES)
    return found.pop() if len(head) >= 4 and found else None


def parse(head: bytes) -> Layout:
    """A header's bytes to its layout. Raises ``ConversionError``."""
    size = _size(head)
    if size is not None and len(head) < size:
        raise ConversionError("truncated", f"{len(head)} of {size} bytes of header.")
    if size is None or not is_nifti(head):
        raise ConversionError("invalid_header", "The first bytes are no NIfTI header.")
    if head[344:348] != b"n+1\0" and head[4:8] != b"n+2\0":
        raise ConversionError("unsupported_nifti", "Only single files (n+1, n+2) are converted.")
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    order = "<" if int.from_bytes(head[:4], "little") == size else ">"
    header = kind(head[:size], endianness=order, check=False)
    shape = _shape(header)
    stored = _dtype(header)
    offset = float(header["vox_offset"])
    if not offset.is_integer() or not size + 4 <= offset < 2**40:
        raise ConversionError("invalid_header", f"A whole number from {size + 4} up would be right.", "vox_offset")
    slope, intercept = _scaling(header)
    space, time = int(header["xyzt_units"]) & 7, int(header["xyzt_units"]) & 56
    if space not in _MM:
        raise ConversionError("invalid_header", "0 to 3 would be right.", "xyzt_units")
    if len(shape) == 4 and time in _NO_TIME:
        raise ConversionError("unsupported_nifti", "The fourth axis is a spectrum, not time.", "xyzt_units")
    step = abs(float(header["pixdim"][4])) * _SECONDS.get(time, math.nan)
    return Layout(
        version=SIZES[size],
        shape=shape,
        stored=stored,
        offset=int(offset),
        slope=slope,
        intercept=intercept,
        time_step_s=step if len(shape) == 4 and 0 < step <= LONGEST_STEP_S else None,
        geometry=_geometry(header, shape, _MM[space]),
    )


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    """(x, y, z) or (x, y, z, t); later axes of length one say nothing."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise ConversionError("invalid_header", "1 to 7 axes of one element or more would be right.", "dim")
    sizes = dim[1 : dim[0] + 1]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 4 or len(sizes) < 2:
        raise ConversionError("unsupported_nifti", f"{len(sizes)} axes; two to four would be right.", "dim")
    return tuple(sizes) if len(sizes) > 2 else (*sizes, 1)


def _dtype(header: nib.Nifti1Header) -> np.dtype:
    try:
        stored: np.dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError):  # nibabel: a code it knows but cannot do, a code it does not know
        raise ConversionError("unsupported_dtype", f"Its code is {int(header['datatype'])}.", "datatype") from None
    if stored.names or stored.newbyteorder("=").name not in _DTYPES:
        raise ConversionError("unsupported_dtype", f"Its code is {int(header['datatype'])}.", "datatype")
    if int(header["bitpix"]) != 8 * stored.itemsize:
        raise ConversionError("invalid_header", "Bits per voxel disagree with the data type.", "bitpix")
    return stored


def _scaling(header: nib.Nifti1Header) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):  # nifti1.h: no scaling
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise ConversionError("invalid_header", "A finite number would be right.", "scl_inter")
    return slope, intercept


def _geometry(header: nib.Nifti1Header, shape: tuple[int, ...], mm: float) -> Geometry:
    """sform before qform, both kept where they differ; what is set must be usable."""
    sform = _usable(header.get_sform(), mm) if int(header["sform_code"]) > 0 else None
    qform = _qform(header, mm) if int(header["qform_code"]) > 0 else None
    if int(header["sform_code"]) > 0 and sform is None:
        raise ConversionError("invalid_header", "The transform is singular or not finite.", "sform")
    if sform is None and int(header["qform_code"]) > 0 and qform is None:
        raise ConversionError("invalid_header", "The transform is singular or not finite.", "qform")
    chosen = sform if sform is not None else qform
    x, y, z = (abs(float(p)) * mm for p in header["pixdim"][1:4])
    pixdim = (x, y, z) if all(math.isfinite(p) and p > 0 for p in (x, y, z)) else None
    if chosen is None:
        known = "pixdim" if pixdim is not None else "unknown"
        return Geometry(None, "unknown", None, pixdim, known, None, ("geometry_unknown",))
    flags = []
    spacing = column_lengths(chosen)
    if pixdim is None or not np.allclose(spacing, pixdim, rtol=SPACING_TOLERANCE, atol=0):
        flags.append("spacing_mismatch")
    if is_sheared(chosen):
        flags.append("sheared")
    alternative = None
    if sform is not None and qform is not None and _differ(sform, qform, shape):
        flags.append("sform_qform_differ")
        alternative = to_affine(qform)
    return Geometry(
        affine=to_affine(chosen),
        source="sform" if sform is not None else "qform",
        alternative=alternative,
        spacing_mm=spacing,
        spacing_source="affine",
        orientation=orientation_code(chosen),
        flags=tuple(flags),
    )


def _qform(header: nib.Nifti1Header, mm: float) -> np.ndarray | None:
    fixed = header.copy()
    # nifti1.h method 2: zero, or anything not negative, means +1; nibabel refuses all but -1 and 1.
    fixed["pixdim"][0] = -1.0 if float(header["pixdim"][0]) < 0 else 1.0
    try:
        return _usable(fixed.get_qform(), mm)
    except (HeaderDataError, ValueError):
        return None


def _usable(matrix: np.ndarray, mm: float) -> np.ndarray | None:
    """A transform in mm; None where it is not finite or maps the volume to a plane."""
    scaled = np.diag([mm, mm, mm, 1.0]) @ np.asarray(matrix, dtype=np.float64)
    if not np.all(np.isfinite(scaled)) or np.abs(scaled).max() > 1e9:
        return None
    lengths = np.linalg.norm(scaled[:3, :3], axis=0)
    if np.any(lengths <= 0) or abs(np.linalg.det(scaled[:3, :3] / lengths)) < 1e-6:
        return None
    return np.asarray(scaled)


def _differ(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> bool:
    corners = np.array([[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])]).T
    moved = np.linalg.norm(((a - b) @ corners)[:3], axis=0)
    return bool(moved.max() > SAME_TRANSFORM * min(column_lengths(a)))
