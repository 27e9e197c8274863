"""What a reader makes of a DICOM series or waveform, in terms that all of them share, and how two of them compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import nibabel as nib
import numpy as np

Aspect = Literal["file", "volumes", "values", "geometry", "b-values"]

VALUE_TOLERANCE = 1e-6
"""Values are equal where they differ by less than this part of the largest: the judges write float32."""
CORNER_TOLERANCE_MM = 1e-3
"""Places are equal where they are nearer than this: NIfTI headers hold the affine in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Rescaled ``values``, (x, y, z) or (x, y, z, colour); ``affine`` maps voxels to RAS+ mm, None where unknown.

    ``orientation`` is where x, y and z run to, such as ``LPS``.
    """

    values: np.ndarray
    affine: np.ndarray | None
    orientation: str
    b_value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """Physical ``values`` (channel, time) that were sampled together, in the units that the file names."""

    values: np.ndarray
    rate_hz: float

    def __str__(self) -> str:
        return f"{len(self.values)} channels of {self.values.shape[1]} samples at {self.rate_hz:g} Hz"


@dataclass(frozen=True, slots=True)
class Reading:
    """The volumes or signals that a reader makes, or why it makes none."""

    volumes: tuple[Volume, ...] = ()
    refusal: str = ""
    signals: tuple[Signals, ...] = ()

    def __str__(self) -> str:
        made = [*([said(self.volumes)] if self.volumes else []), *map(str, self.signals)]
        return ", ".join(made) or f"refuses: {self.refusal}"

    def __bool__(self) -> bool:
        return bool(self.volumes or self.signals)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of comparing one aspect. ``text`` begins in small letters and has no full stop."""

    aspect: Aspect
    differs: bool
    text: str


def said(volumes: Sequence[Volume]) -> str:
    """Number and size, such as "2 volumes of 64 × 64 × 4"."""
    sizes = sorted({" × ".join(map(str, volume.values.shape[:3])) for volume in volumes})
    colour = " in colour" if any(volume.values.ndim == 4 for volume in volumes) else ""
    return f"{len(volumes)} volume{'' if len(volumes) == 1 else 's'} of {', '.join(sizes)}{colour}"


def turned(volume: Volume, to: Volume) -> Volume | None:
    """A volume with its axes flipped and swapped to run as those of another; None where the sizes differ then."""
    if volume.affine is not None and to.affine is not None:
        turns = nib.io_orientation(np.linalg.solve(to.affine, volume.affine))
    else:
        turns = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt(tuple(volume.orientation)),
            nib.orientations.axcodes2ornt(tuple(to.orientation)),
        )
    if np.isnan(turns).any():
        return None
    values = nib.apply_orientation(volume.values, turns)
    if values.shape != to.values.shape:
        return None
    affine = volume.affine
    if affine is not None:
        affine = affine @ nib.orientations.inv_ornt_aff(turns, volume.values.shape[:3])
    return Volume(values, affine, to.orientation, volume.b_value)


def corners(volume: Volume) -> np.ndarray:
    """World positions (8, 3) in mm of the centres of the corner voxels."""
    assert volume.affine is not None
    ends = product(*((0, n - 1) for n in volume.values.shape[:3]))
    return np.array([volume.affine[:3, :3] @ end + volume.affine[:3, 3] for end in ends])


def apart_mm(a: Volume, b: Volume) -> float | None:
    """The largest distance of two corners that are the same; None where one has no place."""
    if a.affine is None or b.affine is None:
        return None
    return float(np.linalg.norm(corners(a) - corners(b), axis=1).max())


def largest_difference(a: Volume | Signals, b: Volume | Signals) -> float:
    """Of all values; NaN equals NaN."""
    both = np.isnan(a.values) & np.isnan(b.values)
    return float(np.where(both, 0.0, np.abs(a.values - b.values)).max(initial=0.0))


def pairs(ours: Sequence[Volume], judge: Sequence[Volume]) -> Iterator[tuple[Volume, Volume]]:
    """Each of our volumes with the nearest of the judge's that no other has, in place and then in values."""
    left = list(judge)
    for one in ours:
        fits = [(turned(other, one), other) for other in left]
        scores = [
            ((round(apart_mm(one, seen) or 0.0, 2), largest_difference(one, seen)), number)
            for number, (seen, _) in enumerate(fits)
            if seen is not None
        ]
        if scores:
            number = min(scores)[1]
            seen = fits[number][0]
            assert seen is not None
            yield one, seen
            del left[number]


def compare(ours: Reading, judge: Reading) -> list[Finding]:
    """All aspects that both speak of."""
    if not ours and not judge:
        return [Finding("file", False, "makes nothing of it either")]
    if not ours or not judge:
        return [Finding("file", True, f"{'makes ' if judge else ''}{judge}")]
    if ours.signals or judge.signals:
        return _signals(ours, judge)
    matched = list(pairs(ours.volumes, judge.volumes))
    if len(matched) < len(ours.volumes) or len(ours.volumes) < len(judge.volumes):
        found = [Finding("volumes", True, f"{said(judge.volumes)}; harmonize: {said(ours.volumes)}")]
    else:
        found = [Finding("volumes", False, said(judge.volumes))]
    if matched:
        found += [_values(matched), _geometry(matched), *_b_values(matched)]
    return found


def _signals(ours: Reading, judge: Reading) -> list[Finding]:
    if str(ours) != str(judge):
        return [Finding("volumes", True, f"{judge}; harmonize: {ours}")]
    return [Finding("volumes", False, str(judge)), _values(list(zip(ours.signals, judge.signals, strict=True)))]


def _values(matched: Sequence[tuple[Volume, Volume]] | Sequence[tuple[Signals, Signals]]) -> Finding:
    apart = max(largest_difference(one, other) for one, other in matched)
    top = max(float(np.nanmax(np.abs(one.values), initial=0.0)) for one, _ in matched)
    if apart == 0:
        return Finding("values", False, "values equal")
    differs = not apart <= VALUE_TOLERANCE * top
    return Finding(
        "values", differs, f"values differ by up to {apart:.2g}" if differs else f"values within {apart:.0e}"
    )


def _geometry(matched: Sequence[tuple[Volume, Volume]]) -> Finding:
    distances = [apart_mm(one, other) for one, other in matched]
    known = [distance for distance in distances if distance is not None]
    if len(known) < len(distances):
        with_place = "has" if any(other.affine is not None for _, other in matched) else "has neither"
        return Finding("geometry", with_place == "has", f"{with_place} a place for every voxel")
    return Finding("geometry", max(known) > CORNER_TOLERANCE_MM, f"corners {max(known):.4f} mm")


def _b_values(matched: Sequence[tuple[Volume, Volume]]) -> list[Finding]:
    if all(other.b_value is None for _, other in matched):
        return []
    differs = any((one.b_value or 0.0) != (other.b_value or 0.0) for one, other in matched)
    values = ", ".join(f"{value:g}" for value in sorted({other.b_value or 0.0 for _, other in matched}))
    return [Finding("b-values", differs, f"b-values {values}")]
