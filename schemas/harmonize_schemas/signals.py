"""Signals: channels, gap-free segments, and streams of one sampling rate."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from harmonize_schemas.base import Rate, Strict
from harmonize_schemas.vocabulary import ChannelType, Unit


class Prefilter(Strict):
    """Analogue or digital filters the device applied, in Hz (EDF "prefiltering" field, parsed)."""

    highpass_hz: float | None = Field(None, ge=0)
    lowpass_hz: float | None = Field(None, gt=0)
    notch_hz: float | None = Field(None, gt=0)


PositionFrame = Literal["head", "acpc"]


class Channel(Strict):
    """One channel. Physical value = digital * ``scale`` + ``offset``, in ``unit`` (DESIGN 4).

    ``label`` is the text found in the file and ``name`` the canonical name (the label where the
    vocabulary has none: ``mapped`` is then False and ``type`` mostly "misc"; "local:C3" where that label means
    something else than the vocabulary's C3). ``unit`` is the canonical
    unit of the type; it is None where the unit found is blank, unknown or of another dimension, and
    values are then in ``unit_found``. ``physical_*`` are in ``unit_found``. A digital sample equal to
    ``missing_value`` is missing data and reads as NaN (FIDELITY S09). ``calibrated`` is False where the
    source gives no usable calibration: then scale is 1 and offset 0 unless the format has a default
    (FIDELITY S04, S08). A bipolar derivation is ``anode`` minus ``cathode``, both canonical names; ``reference``
    is what all of a montage's electrodes are measured against. ``position`` is in mm in the subject's own head,
    axes to the right, front and top. Its ``position_frame`` says where the origin is: "head" between the ears
    (CapTrak, Neuromag), "acpc" at the anterior commissure; None where the source does not say.
    ``status``: what people found of the whole recording's channel; its samples are kept as they are.
    """

    label: str
    name: str = Field(min_length=1)
    mapped: bool
    type: ChannelType
    unit_found: str
    unit: Unit | None
    scale: float
    offset: float
    calibrated: bool = True
    digital_min: int | None = None
    digital_max: int | None = None
    physical_min: float | None = None
    physical_max: float | None = None
    missing_value: int | None = None
    prefilter: Prefilter | None = None
    reference: str | None = None
    anode: str | None = None
    cathode: str | None = None
    position: tuple[float, float, float] | None = None
    position_frame: PositionFrame | None = None
    status: Literal["good", "bad"] | None = None


class Segment(Strict):
    """A gap-free run: ``n_samples`` from sample ``start`` on, whose first is at ``onset_s`` (s from the
    recording's start)."""

    start: int = Field(ge=0)
    n_samples: int = Field(gt=0)
    onset_s: float


class SignalStream(Strict):
    """Channels that were sampled together at one rate; ``n_samples`` each, in ``segments`` end to end."""

    name: str = Field(min_length=1)
    rate_hz: Rate
    dtype: str = Field(pattern=r"^(u?int(8|16|32)|float(32|64))$")
    n_samples: int = Field(gt=0)
    channels: tuple[Channel, ...] = Field(min_length=1)
    segments: tuple[Segment, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _segments_cover_the_stream(self) -> Self:
        at, free_s = 0, float("-inf")
        for segment in self.segments:
            if segment.start != at:
                raise ValueError(f"a segment starts at sample {segment.start}, not at {at}")
            if segment.onset_s < free_s - 0.5 / float(self.rate_hz):
                raise ValueError("segments overlap in time")
            at += segment.n_samples
            free_s = segment.onset_s + segment.n_samples / float(self.rate_hz)
        if at != self.n_samples:
            raise ValueError(f"segments hold {at} samples, the stream {self.n_samples}")
        return self

    @property
    def duration_s(self) -> float:
        """Seconds of samples, gaps not counted."""
        return float(self.n_samples / self.rate_hz)
