"""Controlled vocabularies: data files of terms, each with its reference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator

Entry = Mapping[str, Any]


@cache
def vocabulary(name: str) -> Mapping[str, Entry]:
    """All terms of one vocabulary: term -> entry (``reference`` and fields of its own).

    Raises ``FileNotFoundError`` when there is no vocabulary of that name.
    """
    text = files("harmonize_schemas").joinpath("vocab", f"{name}.json").read_text("utf-8")
    return MappingProxyType(json.loads(text)["terms"])


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" for a name that is close to a known one; else the known ones, if they are few."""
    names = sorted(known)
    if close := get_close_matches(name, names, 1, 0.6):
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 40 else ""


def term_type(name: str) -> Any:
    """A pydantic type that accepts only the terms of a vocabulary."""

    def check(value: str) -> str:
        if value not in vocabulary(name):
            raise ValueError(f"{value!r} is not a term of the vocabulary {name!r}{nearest(value, vocabulary(name))}")
        return value

    return Annotated[str, AfterValidator(check)]


ChannelType = term_type("channel_types")
Modality = term_type("modalities")
Unit = term_type("units")
Flag = term_type("flags")
FailureCode = term_type("failures")
PrivacyMethod = term_type("privacy_methods")
AnnotationLabel = term_type("annotation_labels")
