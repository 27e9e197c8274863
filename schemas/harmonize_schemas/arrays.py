"""Files of bare arrays (HDF5, NPZ, NPY, pickled arrays): what a recipe must say that they do not."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from harmonize_schemas.base import Rate, Strict
from harmonize_schemas.vocabulary import AnnotationLabel


def _keys_as_text(value: Any) -> Any:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


class ArrayStream(Strict):
    """One array of samples: where it lies in the file ("tracings", "signal/chest/ECG"; "" for NPY), what its
    axes are, its rate, channel labels and the unit of its values.

    Value in ``unit`` = stored * ``scale``. ``padding``: a value that fills the ends of records that are shorter
    than the array; runs of it over all channels at both ends are no samples.
    """

    samples: str
    axes: tuple[Literal["record", "time", "channel"], ...]
    rate_hz: Rate
    channels: tuple[str, ...] = Field(min_length=1)
    unit: str
    scale: float = 1.0
    padding: float | None = None

    @model_validator(mode="after")
    def _axes_are_whole(self) -> Self:
        if len(set(self.axes)) != len(self.axes) or "time" not in self.axes:
            raise ValueError(f"axes {self.axes} need one time axis, and none twice")
        if "channel" not in self.axes and len(self.channels) != 1:
            raise ValueError("several channels need a channel axis")
        return self


class ArrayEvents(Strict):
    """States sampled in an array beside the samples (WESAD's ``label``): each run of one value is an event of
    the term that ``map`` names; other values are no events."""

    samples: str
    rate_hz: Rate
    map: Annotated[dict[str, AnnotationLabel], BeforeValidator(_keys_as_text)]


class ArraySource(Strict):
    """Files (a glob below the folder given) of bare arrays. With a "record" axis one file holds many
    recordings, named by the array ``ids`` (else by their number)."""

    files: str
    streams: tuple[ArrayStream, ...] = Field(min_length=1)
    ids: str | None = None
    events: ArrayEvents | None = None

    @model_validator(mode="after")
    def _records_in_all(self) -> Self:
        if len({"record" in stream.axes for stream in self.streams}) != 1:
            raise ValueError("all streams of a file have a record axis, or none")
        return self
