"""The schema of harmonize: strict pydantic models and controlled vocabularies. No I/O, no torch."""

from harmonize_schemas.arrays import ArrayEvents, ArraySource, ArrayStream
from harmonize_schemas.base import Rate, Strict
from harmonize_schemas.image import Affine, CodedConcept, Image, ImageSegment, SlicePlaces, ValueTable
from harmonize_schemas.recipe import ChannelRule, Defaults, EventSource, LabelOrigin, Origin, Recipe, Table
from harmonize_schemas.recording import (
    SCHEMA_VERSION,
    Acquisition,
    Annotation,
    Demographics,
    Label,
    Privacy,
    Provenance,
    Recording,
    Source,
    SourceFile,
    Tracer,
)
from harmonize_schemas.signals import Channel, Prefilter, Segment, SignalStream
from harmonize_schemas.vocabulary import nearest, vocabulary

__all__ = [
    "SCHEMA_VERSION",
    "Acquisition",
    "Affine",
    "Annotation",
    "ArrayEvents",
    "ArraySource",
    "ArrayStream",
    "Channel",
    "ChannelRule",
    "CodedConcept",
    "Defaults",
    "Demographics",
    "EventSource",
    "Image",
    "ImageSegment",
    "Label",
    "LabelOrigin",
    "Origin",
    "Prefilter",
    "Privacy",
    "Provenance",
    "Rate",
    "Recipe",
    "Recording",
    "Segment",
    "SignalStream",
    "SlicePlaces",
    "Source",
    "SourceFile",
    "Strict",
    "Table",
    "Tracer",
    "ValueTable",
    "nearest",
    "vocabulary",
]
