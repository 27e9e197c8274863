"""Files that go with a NIfTI image: BIDS JSON (typed fields only) and FSL b-values and b-vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from harmonize_converters._bids_names import DESCRIPTION, entities, inherited
from harmonize_converters.channels import known_unit
from harmonize_converters.contract import ConversionError, FoundFile, Identity, SourceFiles
from harmonize_converters.geometry import is_sheared
from harmonize_schemas import Acquisition, Affine

SUFFIXES = {"sidecar": ".json", "bval": ".bval", "bvec": ".bvec"}
LIMIT_BYTES = 1 << 24
SAME_STEP = 1e-3
"""Steps between volumes that differ by less than this part are one step."""
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


class Around:
    """All files found, by folder: which of them go with an image."""

    def __init__(self, siblings: Mapping[str, FoundFile]) -> None:
        self._siblings = siblings
        self._folders: dict[str, dict[str, FoundFile]] = {}
        for key, file in siblings.items():
            if key.endswith(tuple(SUFFIXES.values())):
                folder, _, name = key.rpartition("/")
                self._folders.setdefault(folder, {})[name] = file

    def of(self, image: FoundFile) -> list[tuple[str, FoundFile]]:
        """(role, file) of those that go with an image: of the same stem; in a BIDS data set all sidecars that apply,
        in the order in which later ones override earlier ones, and the nearest b-values and b-vectors."""
        stem = image.key.removesuffix(".gz").removesuffix(".nii")
        folder, _, name = image.key.rpartition("/")
        found, suffix = entities(name)
        levels = self._levels(folder)
        if levels is None or "sub" not in found:
            if stem == image.key:  # a name without a suffix is no stem of others
                return []
            same = ((role, self._siblings.get(stem + end)) for role, end in SUFFIXES.items())
            return [(role, file) for role, file in same if file]
        near: list[tuple[str, FoundFile]] = []
        for role, end in SUFFIXES.items():
            files = inherited(name, suffix, end, levels)
            near += [(role, file) for file in (files if role == "sidecar" else files[-1:])]
        return near

    def _levels(self, folder: str) -> list[Mapping[str, FoundFile]] | None:
        """The files of each folder from the data set's top down; None outside of a BIDS data set."""
        parts = folder.split("/")
        for depth in range(len(parts), 0, -1):
            if DESCRIPTION in self._folders.get("/".join(parts[:depth]), {}):
                return [self._folders.get("/".join(parts[:at]), {}) for at in range(depth, len(parts) + 1)]
        return None


def sidecar(source: SourceFiles) -> Mapping[str, Any] | None:
    """The JSON objects of an image, later ones over earlier ones; None where it has none. Raises
    ``ConversionError``."""
    objects = [_object(file) for role, file in zip(source.roles, source.files, strict=True) if role == "sidecar"]
    return {name: value for one in objects for name, value in one.items()} if objects else None


def _object(file: FoundFile) -> Mapping[str, Any]:
    try:
        found = json.loads(_content(file, "sidecar"))
    except (ValueError, RecursionError):
        raise ConversionError("corrupt", "The JSON file beside the image cannot be parsed.", "sidecar") from None
    if not isinstance(found, dict):
        raise ConversionError("corrupt", "The JSON file beside the image holds no object.", "sidecar")
    return found


def unit(fields: Mapping[str, Any]) -> str | None:
    """The vocabulary's term for what the sidecar says of the values' unit ("Bq/mL"), or None."""
    found = fields.get("Units")
    return known_unit(found) if isinstance(found, str) else None


def time_step_s(fields: Mapping[str, Any], n_volumes: int, header_s: float | None) -> float | None:
    """Seconds from volume to volume; None where the sidecar says when each began and that is not regular.

    A header can only say that volumes follow each other regularly, so dynamic PET (``FrameTimesStart``) and sparse
    sampling (``VolumeTiming``) go over it.
    """
    starts = next((fields[name] for name in ("FrameTimesStart", "VolumeTiming") if name in fields), None)
    if starts is None:
        return header_s
    numbers = isinstance(starts, list) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in starts)
    if not numbers or len(starts) != n_volumes or n_volumes < 2 or not np.all(np.isfinite(starts)):
        return None
    steps = np.diff(np.asarray(starts, dtype=np.float64))
    regular = steps[0] > 0 and np.allclose(steps, steps[0], rtol=SAME_STEP, atol=0)
    return float(steps[0]) if regular else None


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
