"""Files beside a NIfTI image: BIDS JSON (typed fields only) and FSL b-values and b-vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from harmonize_converters.contract import ConversionError, FoundFile, Identity
from harmonize_converters.geometry import is_sheared
from harmonize_schemas import Acquisition, Affine

SUFFIXES = {"sidecar": ".json", "bval": ".bval", "bvec": ".bvec"}
LIMIT_BYTES = 1 << 24
MODALITIES = {"MR": "mr", "CT": "ct", "PT": "pt"}
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


def _content(file: FoundFile, what: str) -> str:
    try:
        if file.size > LIMIT_BYTES:
            raise ConversionError("implausible_size", "A file beside the image is too large for its kind.", what)
        with file.path.open("rb") as opened:
            return opened.read(LIMIT_BYTES).decode("utf-8-sig")
    except OSError:
        raise ConversionError("unreadable_file", "It lies beside the image.", what) from None
    except UnicodeDecodeError:
        raise ConversionError("corrupt", "A file beside the image is no text.", what) from None


def sidecar(file: FoundFile) -> Mapping[str, Any]:
    """The JSON object beside an image. Raises ``ConversionError``."""
    try:
        found = json.loads(_content(file, "sidecar"))
    except (ValueError, RecursionError):
        raise ConversionError("corrupt", "The JSON file beside the image cannot be parsed.", "sidecar") from None
    if not isinstance(found, dict):
        raise ConversionError("corrupt", "The JSON file beside the image holds no object.", "sidecar")
    return found


def acquisition(fields: Mapping[str, Any]) -> Acquisition:
    """The fields of BIDS 1.10 that are typed and name no one. Units there: s, deg, T, mm, kV."""

    def number(name: str, low: float, high: float) -> float | None:
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return None
        return float(value)

    return Acquisition(
        device_maker=_text(fields, "Manufacturer"),
        device_model=_text(fields, "ManufacturersModelName"),
        device_software=_text(fields, "SoftwareVersions"),
        field_strength_t=number("MagneticFieldStrength", 1e-3, 25),
        tube_voltage_kv=number("XRayTubeVoltage", 1, 1000),
        repetition_time_s=number("RepetitionTime", 0, 1000),
        echo_time_s=number("EchoTime", 0, 100),
        inversion_time_s=number("InversionTime", 0, 100),
        flip_angle_deg=number("FlipAngle", -360, 360),
        convolution_kernel=_text(fields, "ConvolutionKernel"),
        slice_thickness_mm=number("SliceThickness", 1e-6, 1000),
        body_part=_text(fields, "BodyPartExamined", r"[A-Z0-9_ ]{1,16}"),
        patient_position=_text(fields, "PatientPosition", r"[A-Z]{2,4}"),
    )


def modality(fields: Mapping[str, Any]) -> str:
    """The image's kind where the sidecar says it."""
    return MODALITIES.get(str(fields.get("Modality")), "image")


def identity(fields: Mapping[str, Any]) -> Identity:
    """The identifying fields of a sidecar, for the privacy step only."""
    start = None
    if stamp := _text(fields, "AcquisitionDateTime"):
        try:
            start = datetime.fromisoformat(stamp).replace(tzinfo=None)
        except ValueError:
            start = None
    return Identity(
        subject=_text(fields, "PatientID"),
        session=_text(fields, "StudyInstanceUID"),
        site=_text(fields, "InstitutionName"),
        device_id=_text(fields, "DeviceSerialNumber") or _text(fields, "StationName"),
        start=start,
    )


def _text(fields: Mapping[str, Any], name: str, pattern: str | None = None) -> str | None:
    value = fields.get(name)
    found = isinstance(value, str) and re.fullmatch(pattern or _TEXT, value.strip())
    return found.group() if found else None


def _numbers(file: FoundFile, what: str) -> list[list[float]]:
    try:
        rows = [[float(n) for n in line.split()] for line in _content(file, what).splitlines() if line.strip()]
    except ValueError:
        raise ConversionError("corrupt", "Numbers would be right.", what) from None
    if not all(np.isfinite(n) for row in rows for n in row):
        raise ConversionError("corrupt", "Finite numbers would be right.", what)
    return rows


def b_values(file: FoundFile, n_volumes: int) -> tuple[float, ...]:
    """b-values in s/mm², one a volume. Raises ``ConversionError``."""
    found = tuple(n for row in _numbers(file, "bval") for n in row)
    if len(found) != n_volumes or min(found) < 0:
        raise ConversionError("corrupt", f"{len(found)} b-values for {n_volumes} volumes.", "bval")
    return found


def b_vectors(file: FoundFile, n_volumes: int, affine: Affine | None) -> tuple[tuple[float, float, float], ...] | None:
    """b-vectors in RAS, one a volume; None where the image's axes are no rotation of RAS.

    FSL writes them along the voxel axes, x reversed where the affine's determinant is positive.
    """
    rows = _numbers(file, "bvec")
    if len(rows) != 3 or any(len(row) != n_volumes for row in rows):
        raise ConversionError("corrupt", f"The b-vectors are not 3 rows for {n_volumes} volumes.", "bvec")
    if affine is None or is_sheared(np.array(affine)):
        return None
    matrix = np.array(affine)[:3, :3]
    axes = matrix / np.linalg.norm(matrix, axis=0)
    if np.linalg.det(matrix) > 0:
        axes[:, 0] = -axes[:, 0]
    x, y, z = (axes @ np.array(rows)).tolist()
    return tuple((a + 0.0, b + 0.0, c + 0.0) for a, b, c in zip(x, y, z, strict=True))
