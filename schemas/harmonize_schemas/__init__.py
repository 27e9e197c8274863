"""The schema of harmonize: strict pydantic models and controlled vocabularies. No I/O, no torch."""

from harmonize_schemas.base import Rate, Strict
from harmonize_schemas.image import Affine, Image
from harmonize_schemas.recipe import Defaults, Recipe
from harmonize_schemas.recording import (
    SCHEMA_VERSION,
    Acquisition,
    Annotation,
    Demographics,
    Privacy,
    Provenance,
    Recording,
    Source,
    SourceFile,
)
from harmonize_schemas.signals import Channel, Prefilter, Segment, SignalStream
from harmonize_schemas.vocabulary import vocabulary

__all__ = [
    "SCHEMA_VERSION",
    "Acquisition",
    "Affine",
    "Annotation",
    "Channel",
    "Defaults",
    "Demographics",
    "Image",
    "Prefilter",
    "Privacy",
    "Provenance",
    "Rate",
    "Recipe",
    "Recording",
    "Segment",
    "SignalStream",
    "Source",
    "SourceFile",
    "Strict",
    "vocabulary",
]
