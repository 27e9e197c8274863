"""The converters installed, by name (entry-point group ``harmonize.converters``)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from harmonize_converters.contract import Converter


@cache
def converters() -> dict[str, Converter]:
    """One instance of each installed converter, in order of name."""
    found = sorted(entry_points(group="harmonize.converters"), key=lambda entry: entry.name)
    return {entry.name: entry.load()() for entry in found}
