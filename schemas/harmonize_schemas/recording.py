"""The recording: one subject, one device, one stretch of acquisition, and all that is known of it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from harmonize_schemas.base import Strict
from harmonize_schemas.image import Image
from harmonize_schemas.signals import SignalStream
from harmonize_schemas.vocabulary import AnnotationLabel, Flag, Modality, PrivacyMethod

SCHEMA_VERSION: Literal["0.1"] = "0.1"

Label = bool | int | float | str | tuple[str, ...] | dict[str, float]
"""One label of a recording: a value, several at once, or several with a number each (PTB-XL's
``scp_codes`` give a likelihood in percent)."""


class Tracer(Strict):
    """The radiopharmaceutical of a PET image, and what standardized uptake values are computed from (PS3.3 C.8.9.2).

    ``radionuclide`` and ``radiopharmaceutical`` are codes ("SCT:77004003", CID 4020 and 4021). ``dose_bq`` is the
    activity at injection. Values are corrected for decay to ``decay_s`` after injection (0: to the injection itself);
    None where they are not, or where the times do not say. ``suv_per_count`` makes SUVs of a Philips image in counts.
    """

    radionuclide: str | None = None
    radiopharmaceutical: str | None = None
    dose_bq: float | None = Field(None, gt=0)
    half_life_s: float | None = Field(None, gt=0)
    decay_s: float | None = Field(None, ge=0)
    suv_per_count: float | None = Field(None, gt=0)

    def suv_factor(self, unit: str | None, weight_kg: float | None) -> float | None:
        """What a value in ``unit`` is multiplied by for an SUV by body weight, in g/ml; None where it is not known.

        The activity left at the time that values are corrected to, over the weight (QIBA, SUV vendor-neutral
        pseudo-code, 2018).
        """
        if unit is None:
            return self.suv_per_count
        if unit != "Bq/ml" or None in (self.dose_bq, self.half_life_s, self.decay_s, weight_kg):
            return None
        left: float = self.dose_bq * 0.5 ** (self.decay_s / self.half_life_s)  # type: ignore[operator] # ruled out
        return weight_kg * 1000 / left  # type: ignore[operator]


class Acquisition(Strict):
    """How the data were acquired. ``site`` and ``device_id`` are pseudonyms unless privacy is "keep"."""

    site: str | None = None
    device_maker: str | None = None
    device_model: str | None = None
    device_software: str | None = None
    device_id: str | None = None
    reference: str | None = None
    line_frequency_hz: Literal[50, 60] | None = None
    field_strength_t: float | None = Field(None, gt=0)
    tube_voltage_kv: float | None = Field(None, gt=0)
    repetition_time_s: float | None = Field(None, ge=0)
    echo_time_s: float | None = Field(None, ge=0)
    inversion_time_s: float | None = Field(None, ge=0)
    flip_angle_deg: float | None = None
    convolution_kernel: str | None = None
    slice_thickness_mm: float | None = Field(None, gt=0)
    gantry_tilt_deg: float | None = None
    body_part: str | None = None
    patient_position: str | None = None
    tracer: Tracer | None = None


class Demographics(Strict):
    """The subject at the time of recording. Ages above 89 are pooled: ``age_years`` is 90 and
    ``age_pooled`` True (45 CFR 164.514(b)(2)). ``sex_found`` keeps the source's coding."""

    age_years: float | None = Field(None, ge=0, le=90)
    age_pooled: bool = False
    sex: Literal["female", "male", "other"] | None = None
    sex_found: str | None = None
    height_cm: float | None = Field(None, gt=0)
    weight_kg: float | None = Field(None, gt=0)
    handedness: Literal["left", "right", "ambidextrous"] | None = None


class Annotation(Strict):
    """An event: ``onset_s`` from the recording's start, ``duration_s`` None where the source has none.

    ``label`` is a term of the vocabulary; ``text`` is the text as found, kept only where privacy allows.
    ``channel`` is an index into the channels of all streams in order, None for all. ``number`` is the code that the
    device or the format gave the event (a trigger's value, NUM of a WFDB annotation) and ``subtype`` SUB of a WFDB
    annotation, whose meaning is the annotator's (annot(5)). ``source`` says where it is from: the converter, and
    which annotator ("wfdb:atr").
    """

    onset_s: float
    duration_s: float | None = Field(None, ge=0)
    label: AnnotationLabel
    text: str | None = None
    channel: int | None = Field(None, ge=0)
    subtype: int | None = None
    number: int | None = None
    source: str


class SourceFile(Strict):
    """One file of a source: its part in it, size in bytes and SHA-256 (hex)."""

    role: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Source(Strict):
    """The files that made the recording. ``id`` and ``root`` are pseudonyms of where they lay (their path
    below the folder given, and that folder), ``id`` the path itself where privacy is "keep"."""

    id: str
    root: str
    format: str
    files: tuple[SourceFile, ...]
    transfer_syntax: str | None = None


class Provenance(Strict):
    """What converted it."""

    converter: str
    converter_version: str
    libraries: dict[str, str]
    recipe_sha256: str | None = None


class Privacy(Strict):
    """How identifiers were treated. ``key_id`` names the project key without revealing it."""

    method: Literal["pseudonym", "keep"]
    key_id: str
    annotation_text: Literal["vocabulary", "kept"]
    methods: tuple[PrivacyMethod, ...] = ()


class Recording(Strict):
    """One recording: signal streams, or one image, or events alone."""

    schema_version: Literal["0.1"] = SCHEMA_VERSION
    recording_id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*/[A-Za-z0-9._/=+-]+$")
    dataset: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    subject: str | None
    session: str | None = None
    series: str | None = None
    """The DICOM series that the image is of: a pseudonym, as all identifiers, unless privacy is "keep"."""
    frame_of_reference: str | None = None
    """The patient coordinates that the image's affine is in (FrameOfReferenceUID): affines of two images of one subject
    may be compared where these are equal."""
    derived_from: tuple[str, ...] = ()
    """The ``series`` that a segmentation was made from."""
    modality: Modality
    start_s: float | None = None
    """Seconds from the subject's first recording; None when the source gives no date."""
    duration_s: float | None = Field(None, ge=0)
    """From the first to the end of the last sample, gaps included; None for still images."""
    streams: tuple[SignalStream, ...] = ()
    image: Image | None = None
    acquisition: Acquisition
    demographics: Demographics
    labels: dict[str, Label] = Field(default_factory=dict)
    text: dict[str, str] = Field(default_factory=dict)
    fold: str | None = None
    """The data set's official fold or split ("3", "test"), as found."""
    flags: tuple[Flag, ...] = ()
    source: Source
    provenance: Provenance
    privacy: Privacy

    @model_validator(mode="after")
    def _signals_or_image(self) -> Self:
        if self.streams and self.image is not None:
            raise ValueError("a recording has streams or an image, not both")
        names = [stream.name for stream in self.streams]
        if len(set(names)) != len(names):
            raise ValueError(f"stream names repeat: {names}")
        return self
