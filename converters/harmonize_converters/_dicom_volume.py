"""Slices to volumes: which belong together, in which order, with or without a time axis. No files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harmonize_converters._dicom_slice import TIME_TAGS, Diffusion, Place, Slice
from harmonize_converters.contract import ConversionError
from harmonize_converters.geometry import Stack, plane_normal, same_positions, stack

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


def assemble(slices: Sequence[Slice], same: Same, uneven: bool = False) -> Volume:
    """Put slices in order (FIDELITY I01-I05), at steps that differ only where they may be ``uneven``. ``same`` compares
    the pixels of two slices, and is asked only about slices at one place and time. Raises ``ConversionError``."""
    first = slices[0]
    places = [s.place for s in slices if s.place is not None]
    if not places:
        return _cine(slices)
    if len(places) < len(slices):
        raise ConversionError("inconsistent_series", "Some files have a place and others none.")
    for other in slices[1:]:
        _check_agree(first, other)
    for place in places[1:]:
        check_places(places[0], place)
    lead = places[0]
    positions = np.array([place.position for place in places])
    head = stack(positions[:1], lead.orientation, lead.pixel_spacing)
    at = same_positions(positions, plane_normal(lead.orientation))
    planes, n_times, step, flags = _in_time(slices, at, same)
    n_places = len(at)
    geometry = head
    if n_places > 1 or lead.between is not None:
        geometry = stack(positions[planes[:n_places]], lead.orientation, lead.pixel_spacing, lead.between, uneven)
    ordered = tuple(planes[t * n_places + k] for t in range(n_times) for k in geometry.order)
    return Volume(ordered, n_times, step, geometry, flags)


def b_values(slices: Sequence[Slice], volume: Volume) -> tuple[float, ...] | None:
    """The b-value of each time; None where there is no diffusion weighting: an anatomical image may say b = 0."""
    found = [one.b_value for one in _weightings(slices, volume)]
    return tuple(b or 0.0 for b in found) if any(found) else None


def b_vectors(slices: Sequence[Slice], volume: Volume) -> tuple[tuple[float, float, float], ...] | None:
    """Gradient directions (RAS) of each time, zero at b = 0; None unless every other time has one."""
    found = _weightings(slices, volume)
    if not any(one.b_value for one in found) or any(one.b_value and one.direction is None for one in found):
        return None
    # adding 0.0 makes minus zero zero
    turned = ((0.0, 0.0, 0.0) if (d := one.direction) is None else (-d[0] + 0.0, -d[1] + 0.0, d[2]) for one in found)
    return tuple(turned)


def _weightings(slices: Sequence[Slice], volume: Volume) -> list[Diffusion]:
    n_places = len(volume.planes) // volume.n_times
    return [slices[index].diffusion for index in volume.planes[::n_places]]


def _cine(slices: Sequence[Slice]) -> Volume:
    """Frames of one file without a place: one, or those that follow each other in time (PS3.3 C.7.6.6)."""
    order = tuple(sorted(range(len(slices)), key=lambda index: slices[index].frame))
    if [slices[index].frame for index in order] != list(range(len(slices))):
        raise ConversionError("inconsistent_series", "Several files without a place.")
    geometry = Stack(order, None, None, None, ("geometry_unknown",))
    return Volume(order, len(order), slices[0].meaning.time_step_s, geometry, ())


def _check_agree(first: Slice, other: Slice) -> None:
    if first.pixels != other.pixels:
        raise ConversionError("inconsistent_series", "The slices differ in size, bits or compression.")
    if first.meaning.padding != other.meaning.padding:
        raise ConversionError("unsupported_rescale", "The slices differ in padding value.", "PixelPaddingValue")
    if first.meaning.table != other.meaning.table:
        raise ConversionError("unsupported_rescale", "The slices differ in Modality LUT.", "ModalityLUTSequence")
    if first.meaning != other.meaning:
        raise ConversionError("inconsistent_series", "The slices differ in modality or unit.")
    if (first.diffusion.b_value is None) != (other.diffusion.b_value is None):
        raise ConversionError("inconsistent_series", "Some slices have a b-value and others none.")


def check_places(first: Place, other: Place) -> None:
    """Refuse planes that no volume spans. Raises ``ConversionError``."""
    if clusters([first.orientation, other.orientation]) != [0, 0]:
        raise ConversionError("inconsistent_series", "The slices differ in orientation.")
    if first.pixel_spacing != other.pixel_spacing:
        raise ConversionError("inconsistent_series", "The slices differ in pixel spacing.")


def _in_time(
    slices: Sequence[Slice], places: list[list[int]], same: Same
) -> tuple[list[int], int, float | None, tuple[str, ...]]:
    """Slice indices in the order time, place; the number of times, the step in seconds, flags.

    What tells times apart is the first of: a time tag, the diffusion weighting, a time tag with the weighting; of
    volumes acquired again and again, the instance number (``_by_number``).
    """
    weightings = {(s.diffusion.b_value, s.diffusion.direction) for s in slices}
    if all(len(place) == 1 for place in places):
        _check_weighting(len(weightings) == 1)
        return [place[0] for place in places], 1, None, ()
    tags = range(len(TIME_TAGS))
    candidates: list[tuple[int | None, bool]] = [(tag, False) for tag in tags]
    if len(weightings) > 1:
        candidates += [(None, True), *((tag, True) for tag in tags)]
    for tag, weighted in candidates:
        keys = [_time_key(one, tag, weighted) for one in slices]
        rows = _cells(slices, places, keys, same)
        if rows is None:
            continue
        planes = [cell[0] for row in rows for cell in row]
        times = sorted({time for s in slices if (time := s.times[tag]) is not None}) if tag is not None else []
        step = None if weighted or tag is None else _step(TIME_TAGS[tag], times, slices[0].meaning.time_step_s)
        return planes, len(rows), step, ("duplicate_slices_dropped",) if len(planes) < len(slices) else ()
    if all(_one(slices, place, same) for place in places):
        _check_weighting(len(weightings) == 1)
        return [place[0] for place in places], 1, None, ("duplicate_slices_dropped",)
    numbered = _by_number(slices, places)
    if numbered and (rows := _cells(slices, places, numbered, same)):
        planes = [cell[0] for row in rows for cell in row]
        firsts = [min(slices[cell[0]].number or 0 for cell in row) for row in rows]
        even = len({b - a for a, b in pairwise(firsts)}) == 1
        flags = ("duplicate_slices_dropped",) if len(planes) < len(slices) else ()
        step = slices[0].meaning.time_step_s if even else None
        return planes, len(rows), step, (*flags, "times_by_instance_number")
    repeated = sum(len(place) > 1 for place in places)
    raise ConversionError(
        "conflicting_slices", f"{repeated} of {len(places)} positions, and no tag that tells their slices apart."
    )


def _by_number(slices: Sequence[Slice], places: list[list[int]]) -> list[tuple[float, ...] | None] | None:
    """Which time each slice is of, by its rank among the numbers at its place; None where not all numbers of one time
    are before all of the next, or where repeating places is not all that the sequence does (``Slice.number``)."""
    times: list[tuple[float, ...] | None] = [None] * len(slices)
    spans: dict[int, list[int]] = {}
    for place in places:
        numbers = sorted({number for index in place if (number := slices[index].number) is not None})
        for index in place:
            number = slices[index].number
            if number is None:
                return None
            times[index] = (float(numbers.index(number)),)
            spans.setdefault(numbers.index(number), []).append(number)
    ordered = [spans[time] for time in sorted(spans)]
    return times if all(max(one) < min(other) for one, other in pairwise(ordered)) else None


def _time_key(one: Slice, tag: int | None, weighted: bool) -> tuple[float, ...] | None:
    """What a slice's time is told and ordered by; None where the slice does not say."""
    time = one.times[tag] if tag is not None else 0.0
    if time is None:
        return None
    return (time, one.diffusion.b_value or 0.0, *(one.diffusion.direction or ())) if weighted else (time,)


def _cells(
    slices: Sequence[Slice], places: list[list[int]], keys: Sequence[tuple[float, ...] | None], same: Same
) -> list[list[list[int]]] | None:
    """Slices by time and place, where the keys put one slice (and copies of it) into every cell."""
    times = sorted({key for key in keys if key is not None})
    if len(times) < 2 or None in keys:
        return None
    number = {key: t for t, key in enumerate(times)}
    rows: list[list[list[int]]] = [[[] for _ in places] for _ in times]
    for column, place in enumerate(places):
        for index in place:
            rows[number[keys[index]]][column].append(index)  # type: ignore[index] # None was ruled out above
    if not all(cell for row in rows for cell in row):
        return None
    if any(len({slices[cell[0]].diffusion for cell in row}) > 1 for row in rows):
        return None
    return rows if all(_one(slices, cell, same) for row in rows for cell in row) else None


def _check_weighting(one: bool) -> None:
    if not one:
        raise ConversionError("inconsistent_series", "The slices of one volume differ in diffusion weighting.")


def _one(slices: Sequence[Slice], cell: list[int], same: Same) -> bool:
    """Whether all slices of a cell are copies of one."""
    first = slices[cell[0]]
    return all(
        (slices[i].slope, slices[i].intercept, slices[i].diffusion) == (first.slope, first.intercept, first.diffusion)
        and same(cell[0], i)
        for i in cell[1:]
    )


def _step(tag: str, times: list[float], declared_s: float | None) -> float | None:
    """The time from volume to volume in seconds: from times where the tag holds them, else as declared."""
    if tag not in _MILLISECOND_TAGS:
        return declared_s
    steps = [b - a for a, b in pairwise(times)]
    even = max(steps) - min(steps) <= 0.01 * min(steps)
    return (times[-1] - times[0]) / len(steps) / 1000 if even else None
