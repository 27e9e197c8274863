"""Recipes: what a data set's folders say about its recordings (issue 3 adds tables and labels)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harmonize_schemas.base import Strict
from harmonize_schemas.vocabulary import Modality

PATH_FIELDS = frozenset({"subject", "session", "site", "device_maker", "device_model", "modality"})


def _pattern(value: str) -> str:
    groups = set(re.compile(value).groupindex)
    if unknown := groups - PATH_FIELDS:
        raise ValueError(f"unknown groups {sorted(unknown)}; known: {sorted(PATH_FIELDS)}")
    return value


class Defaults(Strict):
    """Values for recordings whose source says nothing. They are given by a person and kept as given."""

    site: str | None = None
    device_maker: str | None = None
    device_model: str | None = None
    line_frequency_hz: Literal[50, 60] | None = None
    modality: Modality | None = None


class Recipe(Strict):
    """How the files of one data set give the schema's fields.

    ``paths`` are regular expressions with named groups (subject, session, site, device_maker,
    device_model, modality), searched in a source's path below the folder given; the first that matches counts, and
    what it finds goes over what the file says. ``privacy`` "keep" is for data that are public already:
    identifiers, relative paths and annotation texts are then kept as found.
    """

    dataset: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    paths: tuple[Annotated[str, AfterValidator(_pattern)], ...] = ()
    defaults: Defaults = Defaults()
    privacy: Literal["pseudonym", "keep"] = "pseudonym"
    licence: str | None = None
    citation: str | None = None
