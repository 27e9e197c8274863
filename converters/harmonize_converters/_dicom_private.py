"""Private elements: diffusion weighting, which makers wrote before the standard had elements of its own, and Philips'
scale slope.

Siemens: "SIEMENS MR HEADER", else the CSA header; directions in patient coordinates. Philips: its conformance
statements; the same. GE: b-value and direction as dcm2niix (GE/README.md) and the NA-MIC wiki describe them; the
direction is along (frequency, phase, slice) of the image and is turned into patient coordinates only where dcm2niix is
sure of the signs: axial slices, head first supine, phase encoding along the columns.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from pydicom.dataset import Dataset

from harmonize_converters._dicom_header import element, numbers, text
from harmonize_converters.contract import ConversionError

SIEMENS, _GE = "SIEMENS MR HEADER", ("GEMS_ACQU_01", "GEMS_PARM_01")
_CREATORS = (0x00190010, 0x00290010, 0x00430010, 0x20010010, 0x20050010)
_SIEMENS_B, _SIEMENS_DIRECTION, _CSA = 0x0019100C, 0x0019100E, 0x00291010
_PHILIPS_B, _PHILIPS_DIRECTION = 0x20011003, (0x200510B0, 0x200510B1, 0x200510B2)
_PHILIPS, _PHILIPS_SCALE = "Philips MR Imaging DD 001", 0x2005100E
_GE_B, _GE_DIRECTION = 0x00431039, (0x001910BB, 0x001910BC, 0x001910BD)
TAGS = (
    *_CREATORS,
    *(_SIEMENS_B, _SIEMENS_DIRECTION, _CSA, _PHILIPS_B, *_PHILIPS_DIRECTION, _PHILIPS_SCALE, _GE_B, *_GE_DIRECTION),
    *("Manufacturer", "InPlanePhaseEncodingDirection", "PatientPosition"),
)
_GE_MARK = 1_000_000_000
"""Added to b-values by some versions of GE's software (dcm2niix, ``set_bValGE``)."""
_MAX_ITEMS = 1000


def private_numbers(header: Dataset, tag: int, maker: str) -> tuple[float, ...]:
    """The numbers of a private element of block 10; none where it is absent or its block has another creator than
    ``maker``. Raises ``ConversionError``.

    Some anonymisers take away creators and leave their elements. GE's are then known by the Manufacturer
    (``is_orphaned``); no other maker's are.
    """
    value = _private(header, tag, maker)
    if value is None or value == "":
        return ()
    if isinstance(value, bytes):  # of VR UN: text, or binary numbers of whose kind nothing is known
        return _numbers_in(value)
    many = [value] if isinstance(value, str | int | float) else value
    try:
        return tuple(float(one) for one in many)  # type: ignore[attr-defined] # refused below
    except (TypeError, ValueError, OverflowError):
        where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        raise ConversionError("invalid_header", "A number would be right.", where) from None


def _numbers_in(raw: bytes) -> tuple[float, ...]:
    try:
        return tuple(map(float, raw.decode("ascii").strip(" \0").split("\\")))
    except ValueError:
        return ()


def _private(header: Dataset, tag: int, maker: str) -> object:
    owner = element(header, tag & 0xFFFF0000 | 0x10)
    if owner is None:
        return element(header, tag) if maker in _GE and is_orphaned(header) else None
    return element(header, tag) if isinstance(owner, str) and owner.strip() == maker else None


def is_orphaned(header: Dataset) -> bool:
    """Whether GE's diffusion weighting is there without the creators that say that it is GE's (PS3.5 7.8.1)."""
    creators = (element(header, tag & 0xFFFF0000 | 0x10) for tag in (_GE_B, _GE_DIRECTION[0]))
    maker = (text(header, "Manufacturer") or "").upper()
    return maker.startswith("GE MEDICAL") and not any(creators) and element(header, _GE_B) is not None


def weighting(header: Dataset) -> tuple[float | None, tuple[float, ...]]:
    """The b-value in s/mm2, None where no maker says one, and the gradient's direction (LPS), empty where there is none
    or where it is not certain. Raises ``ConversionError``."""
    if found := private_numbers(header, _SIEMENS_B, SIEMENS):
        return _checked(found[0]), private_numbers(header, _SIEMENS_DIRECTION, SIEMENS)
    if found := private_numbers(header, _PHILIPS_B, "Philips Imaging DD 001"):
        return _checked(found[0]), _joined(header, _PHILIPS_DIRECTION, _PHILIPS)
    if found := private_numbers(header, _GE_B, "GEMS_PARM_01"):
        return _checked(found[0] - _GE_MARK if found[0] >= _GE_MARK else found[0]), _ge_direction(header)
    csa = csa_numbers(header)
    if found := csa.get("B_value", ()):
        return _checked(found[0]), csa.get("DiffusionGradientDirection", ())
    return None, ()


def scale_slope(header: Dataset) -> float | None:
    """The scale slope of Philips, None where there is none. Raises ``ConversionError``."""
    found = private_numbers(header, _PHILIPS_SCALE, _PHILIPS)
    return found[0] if found and 0 < found[0] < math.inf else None


def _joined(header: Dataset, tags: tuple[int, ...], maker: str) -> tuple[float, ...]:
    """One number of each element."""
    return tuple(part for tag in tags for part in private_numbers(header, tag, maker)[:1])


def _ge_direction(header: Dataset) -> tuple[float, ...]:
    parts = _joined(header, _GE_DIRECTION, "GEMS_ACQU_01")
    cosines = numbers(header, "ImageOrientationPatient") or ()
    sure = text(header, "InPlanePhaseEncodingDirection"), text(header, "PatientPosition")
    if len(parts) != 3 or len(cosines) != 6 or sure != ("COL", "HFS"):
        return ()
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    across = np.cross(row, column)
    if across[2] < math.sqrt(0.5):
        return ()
    direction: list[float] = (parts[2] * across - parts[0] * row - parts[1] * column).tolist()
    return tuple(direction)


def csa_numbers(header: Dataset) -> dict[str, tuple[float, ...]]:
    """The numeric elements of a Siemens CSA2 header by name; others are left out. Raises ``ConversionError``."""
    data = _private(header, _CSA, "SIEMENS CSA HEADER")
    if not isinstance(data, bytes) or data[:4] != b"SV10":
        return {}
    found: dict[str, tuple[float, ...]] = {}
    try:
        (count,) = struct.unpack_from("<I", data, 8)
        at = 16
        for _ in range(min(count, _MAX_ITEMS)):
            name, _vm, _vr, _, items, _ = struct.unpack_from("<64si4s3i", data, at)
            at += 84
            if not 0 <= items <= _MAX_ITEMS:
                raise ConversionError("invalid_header", "The CSA header cannot be read.", "(0029,1010)")
            values = []
            for _ in range(items):
                (length,) = struct.unpack_from("<i", data, at + 4)
                at += 16
                if not 0 <= length <= len(data) - at:
                    raise ConversionError("invalid_header", "The CSA header cannot be read.", "(0029,1010)")
                if length:
                    values.append(data[at : at + length].split(b"\0")[0])
                at += -(-length // 4) * 4
            try:
                numeric = tuple(float(value) for value in values)
            except ValueError:
                continue
            if all(math.isfinite(value) for value in numeric):
                found[name.split(b"\0")[0].decode("latin-1")] = numeric
    except struct.error:
        raise ConversionError("invalid_header", "The CSA header ends early.", "(0029,1010)") from None
    return found


def _checked(b_value: float) -> float:
    if not 0 <= b_value < math.inf:
        raise ConversionError("invalid_header", "A b-value of zero or more would be right.", "private elements")
    return b_value
