"""Slices to volumes: which belong together, in which order, with or without a time axis. No files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harmonize_converters._dicom_slice import TIME_TAGS, Slice
from harmonize_converters.contract import ConversionError
from harmonize_converters.geometry import Stack, same_positions, stack

ORIENTATION_TOLERANCE = 1e-3
_MILLISECOND_TAGS = ("TriggerTime", "FrameReferenceTime")
Same = Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Volume:
    """``planes`` are indices of slices in the order t, z; ``n_times`` is 1 without a time axis."""

    planes: tuple[int, ...]
    n_times: int
    time_step_s: float | None
    geometry: Stack
    flags: tuple[str, ...]


def clusters(orientations: Sequence[tuple[float, ...] | None]) -> list[int]:
    """A number for each orientation; those equal within rounding get the same, in order of appearance.

    Comparing with a member found before, not rounding, so that no volume breaks at a rounding edge.
    """
    kinds: list[tuple[float, ...] | None] = []
    numbers = []
    for orientation in orientations:
        for number, kind in enumerate(kinds):
            if kind == orientation or (
                kind is not None
                and orientation is not None
                and len(kind) == len(orientation)
                and max(abs(a - b) for a, b in zip(kind, orientation, strict=True)) <= ORIENTATION_TOLERANCE
            ):
                numbers.append(number)
                break
        else:
            numbers.append(len(kinds))
            kinds.append(orientation)
    return numbers


def assemble(slices: Sequence[Slice], same: Same) -> Volume:
    """Put slices in order (FIDELITY I01-I04). ``same`` compares the pixels of two slices, and is asked
    only about slices at one place and time. Raises ``ConversionError``."""
    first = slices[0]
    for other in slices[1:]:
        _check_agree(first, other)
    positions = np.array([s.position for s in slices])
    # The normal of the stack; ``stack`` checks that the cosines are right before they are used further.
    head = stack(positions[:1], first.orientation, first.pixel_spacing)
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    places = same_positions(positions, normal / np.linalg.norm(normal))
    planes, n_times, step, dropped = _in_time(slices, places, same)
    n_places = len(places)
    geometry = head
    if n_places > 1 or first.between is not None:
        geometry = stack(positions[planes[:n_places]], first.orientation, first.pixel_spacing, first.between)
    ordered = tuple(planes[t * n_places + k] for t in range(n_times) for k in geometry.order)
    flags = ("duplicate_slices_dropped",) if dropped else ()
    return Volume(ordered, n_times, step, geometry, flags)


def _check_agree(first: Slice, other: Slice) -> None:
    if first.pixels != other.pixels:
        raise ConversionError("inconsistent_series", "The slices differ in size, bits or compression.")
    if clusters([first.orientation, other.orientation]) != [0, 0]:
        raise ConversionError("inconsistent_series", "The slices differ in orientation.")
    if first.pixel_spacing != other.pixel_spacing:
        raise ConversionError("inconsistent_series", "The slices differ in pixel spacing.")
    if first.meaning.padding != other.meaning.padding:
        raise ConversionError("unsupported_rescale", "The slices differ in padding value.", "PixelPaddingValue")
    if first.meaning != other.meaning:
        raise ConversionError("inconsistent_series", "The slices differ in modality, unit or b-value.")


def _in_time(slices: Sequence[Slice], places: list[list[int]], same: Same) -> tuple[list[int], int, float | None, bool]:
    """Slice indices in the order time, place; the number of times, the step in seconds, drops."""
    if all(len(place) == 1 for place in places):
        return [place[0] for place in places], 1, None, False
    for number, tag in enumerate(TIME_TAGS):
        times = sorted({s.times[number] for s in slices} - {None}, key=float)  # type: ignore[arg-type]
        if len(times) < 2 or any(s.times[number] is None for s in slices):
            continue
        cells = [[[i for i in place if slices[i].times[number] == time] for place in places] for time in times]
        if not all(cell for row in cells for cell in row):
            continue
        if not all(_one(slices, cell, same) for row in cells for cell in row):
            continue
        planes = [cell[0] for row in cells for cell in row]
        step = _step(tag, [float(time) for time in times if time is not None], slices[0].meaning.time_step_s)
        return planes, len(times), step, len(planes) < len(slices)
    if all(_one(slices, place, same) for place in places):
        return [place[0] for place in places], 1, None, True
    repeated = sum(len(place) > 1 for place in places)
    raise ConversionError(
        "conflicting_slices", f"{repeated} of {len(places)} positions, and no tag that tells their slices apart."
    )


def _one(slices: Sequence[Slice], cell: list[int], same: Same) -> bool:
    """Whether all slices of a cell are copies of one."""
    first = slices[cell[0]]
    return all(
        (slices[i].slope, slices[i].intercept) == (first.slope, first.intercept) and same(cell[0], i) for i in cell[1:]
    )


def _step(tag: str, times: list[float], declared_s: float | None) -> float | None:
    """The time from volume to volume in seconds: from times where the tag holds them, else as declared."""
    if tag not in _MILLISECOND_TAGS:
        return declared_s
    steps = [b - a for a, b in pairwise(times)]
    even = max(steps) - min(steps) <= 0.01 * min(steps)
    return (times[-1] - times[0]) / len(steps) / 1000 if even else None
