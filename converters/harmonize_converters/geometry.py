"""Geometry of image stacks and affines: pure functions, no files.

Positions, orientations and spacings are those of DICOM (PS3.3 C.7.6.2): LPS, mm, ``PixelSpacing`` as
(between rows, between columns). Affines map (i, j, k) = (column, row, slice) index to RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harmonize_converters.contract import ConversionError
from harmonize_schemas import Affine, SlicePlaces

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_POSITION_MM = 1e-3
FARTHEST_MM = 1e6
"""Beyond it a position is a damaged number: such make other numbers overflow."""
STEP_TOLERANCE = 0.01
SHEAR_TOLERANCE = 5e-3
"""Cosine between two axes from which they count as oblique: 0.3 degrees. Directions written with three
decimals stay below it; gantries tilt in steps of 0.5 degrees or more."""
COSINE_TOLERANCE = 0.01
"""How far written direction cosines may be from unit length and from orthogonal: two decimals do that."""
MAX_GAPS_LISTED = 5
COUNT_TOLERANCE = 0.1
"""How far, in steps, the gap between two slices may be from a whole number of them, where slices were left out."""
MAX_SLICES = 10_000
"""Most slices that a stack is taken to have where some were left out."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices put in order.

    ``order`` holds indices into the positions given, from the first slice along the normal to the last.
    ``affine`` is None where the step between slices is unknown or differs (``places`` says where they lie then),
    ``orientation`` where directions are. ``spacing_mm`` is for (i, j, k).
    """

    order: tuple[int, ...]
    affine: Affine | None
    spacing_mm: tuple[float, float, float] | None
    orientation: str | None
    flags: tuple[str, ...]
    places: SlicePlaces | None = None


def plane_normal(orientation: Sequence[float]) -> np.ndarray:
    """Unit normal X x Y (LPS) of ImageOrientationPatient. Raises ``ConversionError``."""
    cosines = np.asarray(orientation, dtype=np.float64)
    if cosines.shape != (6,) or not np.all(np.isfinite(cosines)):
        raise ConversionError("invalid_header", "Six direction cosines would be right.", "ImageOrientationPatient")
    x, y = cosines[:3], cosines[3:]
    lengths = np.array([np.linalg.norm(x), np.linalg.norm(y)])
    if np.any(np.abs(lengths - 1) > COSINE_TOLERANCE) or abs(x @ y) > COSINE_TOLERANCE:
        raise ConversionError(
            "invalid_header",
            "The direction cosines of rows and columns are not orthogonal unit vectors.",
            "ImageOrientationPatient",
        )
    normal = np.cross(x, y)
    return np.asarray(normal / np.linalg.norm(normal))


def same_positions(positions: np.ndarray, normal: np.ndarray) -> list[list[int]]:
    """Indices of positions (n, 3) that are one position, in order along the normal.

    Two slices at one distance along the normal, but shifted in their plane, are two positions. Raises
    ``ConversionError`` for positions that no scanner has.
    """
    _check_points(positions)
    # Rounding makes the order of near equals stable: first by distance, then by index.
    distances = np.round(positions @ normal / SAME_POSITION_MM).astype(np.int64)
    groups: list[list[int]] = []
    for index in np.lexsort((np.arange(len(positions)), distances)).tolist():
        # A position shared with an earlier slice lies among the last groups, those just as far along.
        for group in reversed(groups):
            if distances[index] - distances[group[0]] > 1:
                groups.append([index])
                break
            if np.linalg.norm(positions[index] - positions[group[0]]) <= SAME_POSITION_MM:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def stack(
    positions: np.ndarray,
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    spacing_between_slices: float | None = None,
    uneven: bool = False,
) -> Stack:
    """Order slices and give the affine of the volume (FIDELITY I02-I04).

    Parameters
    ----------
    positions
        ImagePositionPatient of each slice, (n, 3), mm, LPS, in any order.
    orientation, pixel_spacing
        ImageOrientationPatient and PixelSpacing, those of all slices.
    spacing_between_slices
        SpacingBetweenSlices, mm. With one slice it is the step along the normal; with several it is
        only compared, since positions come first (PS3.3 C.7.6.2.1.1).
    uneven
        Whether slices may lie at uneven steps. They have places of their own then, and no affine.

    Raises
    ------
    ConversionError
        ``conflicting_slices`` for two slices at one position, ``missing_slices`` for uneven steps (unless ``uneven``),
        ``inconsistent_series`` for slices shifted in their plane, ``invalid_header`` for nonsense.

    Notes
    -----
    One slice without SpacingBetweenSlices has no affine: SliceThickness is not spacing, and a made-up
    step would be read as a voxel size. Its orientation is known and kept.
    """
    normal = plane_normal(orientation)
    spacing = np.asarray(pixel_spacing, dtype=np.float64)
    if spacing.shape != (2,) or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise ConversionError("invalid_header", "Two spacings above zero would be right.", "PixelSpacing")
    points = np.asarray(positions, dtype=np.float64)
    _check_points(points)
    order = np.argsort(points @ normal, kind="stable")
    points = points[order]
    flags: list[str] = []
    between = abs(spacing_between_slices) if spacing_between_slices else None
    if between is not None and not np.isfinite(between):
        between = None

    gaps = _gaps(points, normal) if len(points) > 1 else ""
    if gaps and not uneven:
        raise ConversionError("missing_slices", gaps)
    if gaps:
        step = points[-1] - points[0]  # no step, but the way that slices run
    elif len(points) > 1:
        step = _even_step(points, normal)
        length = float(np.linalg.norm(step))
        if between is not None and not np.isclose(between, [length, step @ normal], rtol=STEP_TOLERANCE).any():
            flags.append("spacing_mismatch")
    else:
        flags.append("single_slice_spacing")
        step = normal * (between if between is not None else 1.0)

    cosines = np.asarray(orientation, dtype=np.float64)
    matrix = np.eye(4)
    matrix[:3, 0] = cosines[:3] * spacing[1]
    matrix[:3, 1] = cosines[3:] * spacing[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = points[0]
    matrix = LPS_TO_RAS @ matrix
    if gaps:
        code, places = orientation_code(matrix), _places(points, matrix)
        return Stack(tuple(order.tolist()), None, None, code, ("uneven_slices",), places)
    if is_sheared(matrix):
        flags.append("sheared")
    known = len(points) > 1 or between is not None
    return Stack(
        order=tuple(int(index) for index in order),
        affine=to_affine(matrix) if known else None,
        spacing_mm=column_lengths(matrix) if known else None,
        orientation=orientation_code(matrix),
        flags=tuple(flags),
    )


def _places(points: np.ndarray, matrix: np.ndarray) -> SlicePlaces:
    """Where slices in order (LPS) lie, whose columns and rows run as those of ``matrix`` (RAS)."""

    def triple(one: np.ndarray) -> tuple[float, float, float]:
        x, y, z = (one + 0.0).tolist()  # adding 0.0 makes minus zero zero
        return x, y, z

    positions = points @ LPS_TO_RAS[:3, :3]
    return SlicePlaces(
        positions_ras=tuple(map(triple, positions)), x_step_ras=triple(matrix[:3, 0]), y_step_ras=triple(matrix[:3, 1])
    )


def _check_points(points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or not np.all(np.abs(points) <= FARTHEST_MM):
        raise ConversionError(
            "invalid_header", "Three numbers below a kilometre would be right.", "ImagePositionPatient"
        )


def with_gaps(
    points: np.ndarray, normal: np.ndarray, spacing_between_slices: float | None
) -> tuple[np.ndarray, list[int]]:
    """Positions (m, 3) of all slices of a stack whose empty slices were left out, and the number of each one given.

    ``points`` (n, 3) are in order along ``normal``, no two the same. Their gaps must be whole multiples of
    SpacingBetweenSlices, which is measured along the normal (PS3.3 C.7.6.16.2.1), and the slices an even line, within
    the tolerance of ``stack``. Otherwise the points are given back as they are, for ``stack`` to judge. Raises
    ``ConversionError`` for more than ``MAX_SLICES`` slices.
    """
    as_given = points, list(range(len(points)))
    between = abs(spacing_between_slices or 0.0)
    if len(points) < 2 or between <= SAME_POSITION_MM:
        return as_given
    steps = np.diff(points @ normal) / between
    if steps.sum() > MAX_SLICES:
        raise ConversionError("implausible_size", f"There would be more than {MAX_SLICES} slices.")
    counts = np.rint(steps).astype(np.int64)
    if np.any(counts < 1) or np.any(np.abs(steps - counts) > COUNT_TOLERANCE):
        return as_given
    at = np.concatenate([[0], np.cumsum(counts)])
    step = (points[-1] - points[0]) / at[-1]
    line = points[0] + np.arange(at[-1] + 1)[:, None] * step
    tolerance = max(STEP_TOLERANCE * float(step @ normal), SAME_POSITION_MM)
    if not np.isclose(step @ normal, between, rtol=STEP_TOLERANCE):
        return as_given
    return (line, at.tolist()) if np.all(np.linalg.norm(points - line[at], axis=1) <= tolerance) else as_given


def is_one_stack(parts: Sequence[Sequence[Sequence[float]]], orientation: Sequence[float]) -> bool:
    """Whether parts, each the positions of some slices, make one even stack of at least three places together, with as
    many slices (times) at each place, and no part is all of it alone."""
    positions = np.array([position for part in parts for position in part])
    try:
        places = same_positions(positions, plane_normal(orientation))
        stack(positions[[place[0] for place in places]], orientation, (1.0, 1.0))
    except ConversionError:
        return False
    part_of = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    whole = [number for number in range(len(parts)) if all((part_of[place] == number).any() for place in places)]
    return len(places) > 2 and len(set(map(len, places))) == 1 and not whole


def _even_step(points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The vector from slice to slice, of points in order without gaps; refuses what is not on a line."""
    step = (points[-1] - points[0]) / (len(points) - 1)
    tolerance = max(STEP_TOLERANCE * float(step @ normal), SAME_POSITION_MM)
    off = points - (points[0] + np.arange(len(points))[:, None] * step)
    if np.any(np.linalg.norm(off, axis=1) > tolerance * np.sqrt(2)):
        raise ConversionError("inconsistent_series", "The slices are shifted unevenly within their planes.")
    return np.asarray(step)


def _gaps(points: np.ndarray, normal: np.ndarray) -> str:
    """Where the steps between points in order differ along ``normal``; nothing where they are even (FIDELITY I03).
    Refuses points that lie on another."""
    distances = points @ normal
    count, gaps = len(points), np.diff(distances)
    if np.any(gaps <= SAME_POSITION_MM):
        raise ConversionError(
            "conflicting_slices", f"{int(np.sum(gaps <= SAME_POSITION_MM))} of {count} slices lie on another."
        )
    even = np.linspace(distances[0], distances[-1], count)
    tolerance = max(STEP_TOLERANCE * float(distances[-1] - distances[0]) / (count - 1), SAME_POSITION_MM)
    if np.all(np.abs(distances - even) <= tolerance):
        return ""
    usual = float(np.median(gaps))
    odd = [
        f"{a + 1}-{b + 1}: {gap:.3f} mm"
        for (a, b), gap in zip(pairwise(range(count)), gaps, strict=True)
        if abs(gap - usual) > max(STEP_TOLERANCE * usual, SAME_POSITION_MM)
    ]
    listed = ", ".join(odd[:MAX_GAPS_LISTED]) + (", ..." if len(odd) > MAX_GAPS_LISTED else "")
    return f"{count} slices, {usual:.3f} mm apart but for slices {listed or 'throughout'}."


def mosaic_positions(
    position: Sequence[float],
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    shape: tuple[int, int],
    tile_shape: tuple[int, int],
    stacking: Sequence[float],
    step: float,
    count: int,
) -> list[tuple[float, float, float]]:
    """Positions (LPS, mm) of the first voxel of each slice of a Siemens mosaic.

    ``position`` is ImagePositionPatient, that of the first pixel of a plane as large as the whole mosaic
    (``shape``, rows and columns) whose centre is the first slice's: half the difference to a tile is added
    (nibabel, doc/source/dicom/dicom_mosaic.rst). ``stacking`` is the unit vector from slice to slice.
    Raises ``ConversionError`` where it is not along the normal of the planes.
    """
    normal = plane_normal(orientation)
    along = np.asarray(stacking, dtype=np.float64)
    if along.shape != (3,) or not abs(abs(along @ normal) - 1) <= COSINE_TOLERANCE:
        raise ConversionError("invalid_header", "A vector along the normal would be right.", "SliceNormalVector")
    cosines, spacing = np.asarray(orientation, dtype=np.float64), np.asarray(pixel_spacing, dtype=np.float64)
    if spacing.shape != (2,):
        raise ConversionError("invalid_header", "Two spacings above zero would be right.", "PixelSpacing")
    more_rows, more_columns = (shape[0] - tile_shape[0]) / 2, (shape[1] - tile_shape[1]) / 2
    first = position + cosines[:3] * spacing[1] * more_columns + cosines[3:] * spacing[0] * more_rows
    points = first + np.arange(count)[:, None] * step * np.sign(along @ normal) * normal
    return [(float(x), float(y), float(z)) for x, y, z in points]


def column_lengths(matrix: np.ndarray) -> tuple[float, float, float]:
    """Voxel spacing (i, j, k): lengths of an affine's columns."""
    x, y, z = (float(length) for length in np.linalg.norm(matrix[:3, :3], axis=0))
    return x, y, z


def is_sheared(matrix: np.ndarray) -> bool:
    """Whether two axes of an affine are oblique to each other (FIDELITY I04)."""
    unit = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    cosines = unit.T @ unit - np.eye(3)
    return bool(np.abs(cosines).max() > SHEAR_TOLERANCE)


def orientation_code(matrix: np.ndarray) -> str:
    """The anatomical direction that i, j and k run to, such as ``RAS`` (the nearest; each axis once)."""
    unit = np.abs(matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0))
    axes = [0, 0, 0]
    for _ in range(3):
        world, voxel = np.unravel_index(int(np.argmax(unit)), unit.shape)
        axes[int(voxel)] = int(world)
        unit[world, :] = unit[:, voxel] = -1.0
    return "".join("RAS"[world] if matrix[world, voxel] >= 0 else "LPI"[world] for voxel, world in enumerate(axes))


def to_affine(matrix: np.ndarray) -> Affine:
    """A 4x4 array as the schema's tuple of rows; minus zero becomes zero."""
    rows = [tuple(float(value) + 0.0 for value in row) for row in matrix]
    return tuple(rows)  # type: ignore[return-value] # numpy knows no lengths; the schema checks them
