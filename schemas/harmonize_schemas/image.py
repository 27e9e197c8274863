"""Images: shape, geometry and the meaning of voxel values."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from harmonize_schemas.base import Strict
from harmonize_schemas.vocabulary import Unit

Row = tuple[float, float, float, float]
Affine = tuple[Row, Row, Row, Row]
"""4x4, voxel index (i, j, k, 1) to RAS+ mm. i counts along x, j along y, k along z of the stored array."""

AXES = ("t", "c", "z", "y", "x")


class CodedConcept(Strict):
    """A coded concept (PS3.3 8.8): ``code`` is "scheme:value", such as "SCT:10200004"; ``meaning`` is that of the
    public dictionaries (PS3.16), None where they lack the code. A source's own words for it are not kept."""

    code: str = Field(pattern=r"^[A-Za-z0-9]{2,16}:[A-Za-z0-9.:-]{1,64}$")
    meaning: str | None = None


class ImageSegment(Strict):
    """One segment of a segmentation (PS3.3 C.8.20.2): ``number`` as the source counts it, and what it is.

    ``type`` is what was found ("Liver", "Neoplasm") and ``type_modifiers`` say more of it ("Right"); ``category`` is
    the kind of thing that it is ("Anatomical Structure"); ``region`` is where it lies, where that is said apart.
    """

    number: int = Field(ge=1)
    category: CodedConcept | None = None
    type: CodedConcept | None = None
    type_modifiers: tuple[CodedConcept, ...] = ()
    region: CodedConcept | None = None
    region_modifiers: tuple[CodedConcept, ...] = ()
    algorithm: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"] | None = None


class ValueTable(Strict):
    """Values by stored value, from ``first`` on: what is below it has the first value, what is above the last the last
    (a Modality LUT; DICOM PS3.3 C.11.1.1)."""

    first: int
    values: tuple[int, ...] = Field(min_length=1, max_length=1 << 16)


class SlicePlaces(Strict):
    """Where slices lie whose steps differ, in RAS+ mm: voxel (i, j) of slice k is at ``positions_ras[k]`` + i *
    ``x_step_ras`` + j * ``y_step_ras`` (FIDELITY I03)."""

    positions_ras: tuple[tuple[float, float, float], ...]
    x_step_ras: tuple[float, float, float]
    y_step_ras: tuple[float, float, float]


class Image(Strict):
    """One image of up to five axes, stored in the order t, c, z, y, x (OME-NGFF 0.5).

    ``affine`` maps (i, j, k) = (x, y, z) index to RAS+ mm, as nibabel does; None when unknown.
    ``slice_places`` says where slices lie that are at uneven steps, which no affine can say.
    ``alternative_affine`` is a second transform in the source that differs (FIDELITY I11).
    ``spacing_mm`` is along x, y and z, or along x and y of an image without z; ``spacing_source`` says what it
    was read from (``imager_pixel_spacing`` is at the detector and ``nominal_scanned_pixel_spacing`` on the film, not in
    the patient; FIDELITY I10). ``photometric`` "RGB" goes with an axis c of red, green and blue.
    Value = stored * slope + intercept, in ``unit``; one pair for the image, or one for each plane in the
    C order of the axes before y and x (``slopes`` of length 1 or of the number of planes; FIDELITY I06).
    Where there is a ``value_table``, it gives the values in place of slope and intercept.
    A stored value equal to ``padding_value``, or from there to ``padding_limit`` where there is one, is no data.
    ``scale_slopes`` are Philips' (2005,100E), one or one for each plane: a value divided by slope * scale slope is on
    the scanner's own scale and can be compared between series (Chenevert et al. 2014, doi:10.1593/tlo.13811).
    A segmentation has ``segments``, and ``segment_values`` says how voxels tell them: "label", each holds the number of
    its segment or 0; otherwise channel i of axis c is that of ``segments[i]``: "mask", 1 inside and 0 outside;
    "probability" or "occupancy", a share from 0 to 1 (PS3.3 C.8.20.2.3).
    """

    axes: tuple[Literal["t", "c", "z", "y", "x"], ...]
    shape: tuple[int, ...]
    dtype: str = Field(pattern=r"^(u?int(8|16|32|64)|float(32|64))$")
    affine: Affine | None
    affine_source: Literal["sform", "qform", "plane_position", "unknown"]
    alternative_affine: Affine | None = None
    alternative_affine_source: Literal["sform", "qform"] | None = None
    slice_places: SlicePlaces | None = None
    spacing_mm: tuple[float, float, float] | tuple[float, float] | None
    spacing_source: Literal[
        "affine",
        "pixdim",
        "pixel_spacing",
        "imager_pixel_spacing",
        "nominal_scanned_pixel_spacing",
        "ultrasound_regions",
        "unknown",
    ]
    orientation: str | None = Field(None, pattern=r"^[RL][AP][SI]$|^[RLAPSI]{3}$")
    slopes: tuple[float, ...] = (1.0,)
    intercepts: tuple[float, ...] = (0.0,)
    scale_slopes: tuple[float, ...] = ()
    value_table: ValueTable | None = None
    unit: Unit | None = None
    padding_value: int | None = None
    padding_limit: int | None = None
    time_step_s: float | None = Field(None, gt=0)
    b_values_s_mm2: tuple[float, ...] | None = None
    b_vectors_ras: tuple[tuple[float, float, float], ...] | None = None
    photometric: Literal["MONOCHROME1", "MONOCHROME2", "RGB"] | None = None
    segments: tuple[ImageSegment, ...] = ()
    segment_values: Literal["label", "mask", "probability", "occupancy"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.axes != tuple(a for a in AXES if a in self.axes) or not {"y", "x"} <= set(self.axes):
            raise ValueError(f"axes {self.axes} are not an ordered part of {AXES} with y and x")
        if len(self.shape) != len(self.axes) or min(self.shape) < 1:
            raise ValueError(f"shape {self.shape} does not fit axes {self.axes}")
        if len(self.slopes) != len(self.intercepts) or len(self.slopes) not in (1, self.n_planes):
            raise ValueError(f"{len(self.slopes)} slopes and {len(self.intercepts)} intercepts, {self.n_planes} planes")
        if self.slice_places is not None and (
            self.affine is not None
            or "z" not in self.axes
            or len(self.slice_places.positions_ras) != self.shape[self.axes.index("z")]
        ):
            raise ValueError("a place for each slice goes with an axis z and no affine")
        if self.padding_limit is not None and self.padding_value is None:
            raise ValueError("padding has a limit and no value")
        if self.value_table is not None and (self.slopes, self.intercepts) != ((1.0,), (0.0,)):
            raise ValueError("values have a table, and slopes or intercepts as well")
        if len(self.scale_slopes) not in (0, 1, self.n_planes):
            raise ValueError(f"{len(self.scale_slopes)} scale slopes, {self.n_planes} planes")
        if (self.affine is None) != (self.affine_source == "unknown"):
            raise ValueError("an affine and its source go together")
        if self.spacing_mm is not None and len(self.spacing_mm) == 2 and "z" in self.axes:
            raise ValueError(f"two spacings for axes {self.axes}")
        if bool(self.segments) != (self.segment_values is not None):
            raise ValueError("segments and what voxels say of them go together")
        if self.segments and self.n_channels != (None if self.segment_values == "label" else len(self.segments)):
            raise ValueError(f"{len(self.segments)} segments, {self.n_channels} channels")
        return self

    @property
    def padding(self) -> tuple[int, int] | None:
        """The lowest and the highest stored value that is no data; None where all are data."""
        if self.padding_value is None:
            return None
        limit = self.padding_value if self.padding_limit is None else self.padding_limit
        return min(self.padding_value, limit), max(self.padding_value, limit)

    @property
    def n_channels(self) -> int | None:
        """Size of axis c; None without it."""
        return self.shape[self.axes.index("c")] if "c" in self.axes else None

    @property
    def n_planes(self) -> int:
        """How many (y, x) planes the image has."""
        n = 1
        for size in self.shape[:-2]:
            n *= size
        return n
