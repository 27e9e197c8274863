"""The voxel grid that patches of an image are counted in: as stored, turned, or of another spacing. Pure.

A grid has the axes of the image, in another order or direction where an orientation is asked for, and another step
where a spacing is. Nothing is rotated, so that patches are read by axis. Its centre is the image's centre, so turning
and resampling can be done in either order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from harmonize_converters.geometry import column_lengths, orientation_code
from harmonize_schemas import Image

DRIFT_VOXELS = 1e-3
"""An axis whose spacing is the one asked for, to within so many voxels over its length, is left as it is."""

Spacing = Sequence[float | None]
V = TypeVar("V", float, np.ndarray)


@dataclass(frozen=True, slots=True)
class GridAxis:
    """``size`` voxels; voxel j lies at index ``first + step * j`` of the stored axis ``stored`` (0, 1, 2: x, y, z)."""

    size: int
    stored: int
    first: float
    step: float

    @property
    def exact(self) -> bool:
        """Its voxels are stored ones."""
        return abs(self.step) == 1

    def index(self, voxel: V) -> V:
        """The stored index of a voxel, or of each."""
        return self.first + self.step * voxel

    def positions(self, start: int, count: int) -> np.ndarray:
        """Stored indices (count,) of voxels from ``start`` on, in ascending order."""
        at = self.index(np.arange(start, start + count))
        return at if self.step > 0 else at[::-1]


@dataclass(frozen=True, slots=True)
class VoxelGrid:
    """The axes that patches count along, in their order."""

    axes: tuple[GridAxis, GridAxis, GridAxis]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.axes
        return x.size, y.size, z.size

    def matrix(self) -> np.ndarray:
        """4x4 float64, voxel index of the grid to stored (x, y, z) index."""
        made = np.zeros((4, 4))
        for column, axis in enumerate(self.axes):
            made[axis.stored, column] = axis.step
            made[axis.stored, 3] = axis.first
        made[3, 3] = 1
        return made

    def locate(self, stored: np.ndarray) -> np.ndarray:
        """Positions (..., 3) in the grid of stored (x, y, z) indices (..., 3)."""
        columns = [(stored[..., axis.stored] - axis.first) / axis.step for axis in self.axes]
        return np.stack(columns, axis=-1)


def voxel_grid(image: Image, spacing: Spacing | None = None, orientation: str | None = None) -> VoxelGrid:
    """The grid of an image.

    ``orientation`` names the anatomical directions that the axes run to ("RAS"); each takes the image's nearest
    axis. ``spacing`` is in mm along the grid's axes; None keeps an axis as it is, and so does an image without it.
    The number of voxels is the nearest to what fills the stored extent, edge to edge.

    Raises ``ValueError`` where the image's affine (for an orientation) or spacing is unknown.
    """
    sizes = spatial_sizes(image)
    order: tuple[int, ...] = (0, 1, 2)
    signs: tuple[int, ...] = (1, 1, 1)
    if orientation is not None:
        if image.affine is None:
            raise ValueError(f"its affine is unknown, so that it cannot be turned to {orientation}")
        order, signs = _turn(orientation_code(np.array(image.affine)), orientation)
    steps = [1.0, 1.0, 1.0]
    if spacing is not None:
        native = image.spacing_mm if image.affine is None else column_lengths(np.array(image.affine))
        if native is None:
            raise ValueError("its spacing is unknown, so that it cannot be resampled")
        present = ["xyz"[stored] in image.axes for stored in order]
        steps = [
            wanted / native[stored] if wanted is not None and there else 1.0
            for wanted, stored, there in zip(spacing, order, present, strict=True)
        ]
    x, y, z = (_axis(sizes[stored], stored, step, sign) for stored, step, sign in zip(order, steps, signs, strict=True))
    return VoxelGrid((x, y, z))


def spatial_sizes(image: Image) -> tuple[int, int, int]:
    """Stored voxels along x, y, z; 1 for an axis that is not there."""
    sizes = dict(zip(image.axes, image.shape, strict=True))
    return sizes["x"], sizes["y"], sizes.get("z", 1)


def grid_affine(image: Image, grid: VoxelGrid) -> np.ndarray:
    """4x4 float64, grid voxel to RAS+ mm; NaN where unknown."""
    return np.full((4, 4), np.nan) if image.affine is None else np.array(image.affine, np.float64) @ grid.matrix()


def stored_view(box: np.ndarray, image: Image, grid: VoxelGrid, count: np.ndarray) -> np.ndarray:
    """A patch's array (t, c, z, y, x) of the grid, as far as it lies inside the image, with the image's own axes in
    ascending order of stored index."""
    *spatial, t = count.tolist()
    x, y, z = (
        slice(n - 1, None, -1) if axis.step < 0 else slice(n) for axis, n in zip(grid.axes, spatial, strict=True)
    )
    column = {axis.stored: 4 - i for i, axis in enumerate(grid.axes)}
    view = box[:t, :, z, y, x].transpose(0, 1, column[2], column[1], column[0])
    return view[tuple(slice(None) if axis in image.axes else 0 for axis in "tczyx")]


def check_orientation(orientation: str) -> None:
    """Raises ``ValueError`` unless it names a direction along each of the body's axes, as "RAS" or "LPS"."""
    if len(orientation) != 3 or sorted(map(_body_axis, orientation)) != [0, 1, 2]:
        raise ValueError(f"orientation {orientation!r}: three letters, one each of R/L, A/P and S/I, as 'RAS'")


def _body_axis(letter: str) -> int:
    return next((i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair), -1)


def _turn(found: str, wanted: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each axis wanted, the stored axis, and 1 or -1 where it runs the same or the other way."""
    by_body = {_body_axis(letter): stored for stored, letter in enumerate(found)}
    order = tuple(by_body[_body_axis(letter)] for letter in wanted)
    return order, tuple(1 if found[stored] == letter else -1 for stored, letter in zip(order, wanted, strict=True))


def _axis(size: int, stored: int, step: float, sign: int) -> GridAxis:
    if size * abs(step - 1) < DRIFT_VOXELS:
        step = 1.0
    count = max(1, round(size / step))
    step *= sign
    return GridAxis(count, stored, (size - 1) / 2 - step * (count - 1) / 2, step)
