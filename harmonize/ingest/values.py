"""Values: a recipe's origins and a source's facts to typed values of the schema. Pure."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harmonize.ingest.facts import Facts, split_column
from harmonize.ingest.tables import Row, plain
from harmonize_schemas import Label, LabelOrigin, Origin, Recipe, vocabulary

Lookup = Callable[[str, str], Row | None]
"""(table, code) to the row of a code."""

_UNITS: dict[str, dict[str, float]] = {
    "age_years": {"years": 1, "y": 1, "months": 1 / 12, "weeks": 7 / 365.25, "days": 1 / 365.25},
    "height_cm": {"cm": 1, "m": 100, "mm": 0.1, "in": 2.54, "ft": 30.48},
    "weight_kg": {"kg": 1, "g": 1e-3, "lb": 0.45359237},
    "field_strength_t": {"T": 1, "G": 1e-4},
    "line_frequency_hz": {"Hz": 1},
    "repetition_time_s": {"s": 1, "ms": 1e-3},
    "echo_time_s": {"s": 1, "ms": 1e-3},
    "inversion_time_s": {"s": 1, "ms": 1e-3},
    "flip_angle_deg": {"deg": 1},
    "slice_thickness_mm": {"mm": 1},
}
_PLAUSIBLE = {
    "age_years": (0, 130),
    "height_cm": (10, 280),
    "weight_kg": (0.2, 700),
    "field_strength_t": (1e-3, 25),
    "line_frequency_hz": (50, 60),
    "repetition_time_s": (0, 1000),
    "echo_time_s": (0, 100),
    "inversion_time_s": (0, 100),
    "flip_angle_deg": (-360, 360),
    "slice_thickness_mm": (1e-6, 1000),
}
_WORDS = {
    "sex": {"m": "male", "male": "male", "f": "female", "female": "female", "o": "other", "other": "other"},
    "handedness": {"r": "right", "right": "right", "l": "left", "left": "left", "a": "ambidextrous",
                   "ambidextrous": "ambidextrous"},
}  # fmt: skip
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass
class Values:
    """What a recipe gave for one source. ``found`` has the text of each field before ``map``; ``problems`` are
    (place, text) that could not be read: for the user's eyes, never stored."""

    fields: dict[str, Any] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def resolve(recipe: Recipe, facts: Facts, header: Mapping[str, str], lookup: Lookup) -> Values:
    """Every field, label and text of a recipe for one source. Never raises for what a source holds."""
    values = Values()
    known = set(type(recipe.fields).model_fields)
    values.fields.update((name, text) for name, text in facts.path.items() if name in known)
    for name, origins in recipe.fields.items():
        for origin in origins:
            text = _text(recipe, origin, facts, header)
            if text is None:
                continue
            try:
                value = _field(name, origin, text)
            except ValueError:
                values.problems.append((f"fields.{name}", text))
                continue
            if value is not None:
                values.fields[name], values.found[name] = value, text
                break
    for name, origin in recipe.labels.items():
        text = _text(recipe, origin, facts, header)
        if text is not None:
            label, unread = _label(origin, text, lookup)
            values.problems.extend((f"labels.{name}", code) for code in unread)
            if label is not None:
                values.labels[name] = label
    for name, origins in recipe.text.items():
        texts = (_text(recipe, origin, facts, header) for origin in origins)
        if (found := next((text for text in texts if text), None)) is not None:
            values.text[name] = found
    return values


def _text(recipe: Recipe, origin: Origin, facts: Facts, header: Mapping[str, str]) -> str | None:
    """The text an origin finds; None where it is blank, missing, or does not fit its pattern."""
    found: object
    if origin.value is not None:
        return _scalar_text(origin.value)
    if origin.column is not None:
        table, column = split_column(recipe, origin.column)
        found = (facts.rows.get(table) or {}).get(column)
    elif origin.path is not None:
        found = facts.path.get(origin.path)
    elif origin.header is not None:
        found = header.get(origin.header)
    else:
        found = facts.sidecar.get(origin.sidecar or "")
    if found is None:
        return None
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    text = text.strip()
    if not text or text in origin.missing or plain(text) in origin.missing:
        return None
    if origin.pattern is not None:
        match = re.search(origin.pattern, text)
        if match is None:
            return None
        text = match["value"] if "value" in match.groupdict() else match[(match.lastindex and 1) or 0]
        text = (text or "").strip()
    return text or None


def _scalar_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mapped(origin: Origin, text: str) -> Any:
    """A text through ``map``. Raises ``ValueError`` for a code that it does not name."""
    if origin.map is None:
        return text
    for spelling in (text, plain(text)):
        if spelling in origin.map:
            return origin.map[spelling]
    if origin.otherwise == "keep":
        return text
    raise ValueError(text)


def _field(name: str, origin: Origin, text: str) -> Any:
    """One field's value in its own type and unit; None: the map says it is missing. Raises ``ValueError``."""
    mapped = _mapped(origin, text)
    if mapped is None:
        return None
    if name in _UNITS:
        value = float(mapped) * _UNITS[name][origin.unit or next(iter(_UNITS[name]))]
        low, high = _PLAUSIBLE[name]
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(name)
        return _line_frequency(value) if name == "line_frequency_hz" else value
    word = _scalar_text(mapped)
    if name == "start":
        # A start counts relative to others of the subject: one clock, zones aside.
        at = datetime.strptime(word, origin.format) if origin.format else datetime.fromisoformat(word)
        return at.replace(tzinfo=None)
    if name in _WORDS:
        if (term := _WORDS[name].get(word.casefold())) is None:
            raise ValueError(name)
        return term
    if name == "modality" and word not in vocabulary("modalities"):
        raise ValueError(name)
    return " ".join(word.split())


def _line_frequency(value: float) -> int:
    if value not in (50, 60):
        raise ValueError("line_frequency_hz")
    return int(value)


def _label(origin: LabelOrigin, text: str, lookup: Lookup) -> tuple[Label | None, list[str]]:
    """A label, and the codes in it that could not be read."""
    try:
        if origin.parse in ("list", "dict"):
            return _codes(origin, text, lookup)
        mapped = _mapped(origin, text)
        if mapped is None:
            return None, []
        if origin.parse == "number":
            number = float(mapped)
            return (number, []) if math.isfinite(number) else (None, [text])
        if origin.parse == "bool":
            return _TRUTH[plain(_scalar_text(mapped)).casefold()], []
        if origin.parse == "word" and not re.fullmatch(r"[A-Za-z0-9]{1,32}", text):
            raise ValueError(text)
        if origin.lookup is not None:
            return _looked_up(origin.lookup, str(mapped), lookup), []
        return mapped, []
    except (ValueError, KeyError):
        return None, [text]


def _looked_up(place: str, code: str, lookup: Lookup) -> str | None:
    table, _, column = place.partition(".")
    return (lookup(table, code) or {}).get(column)


def _codes(origin: LabelOrigin, text: str, lookup: Lookup) -> tuple[Label | None, list[str]]:
    found: dict[str, float] = {}
    unread: list[str] = []
    for code, number in _pairs(origin, text):
        try:
            mapped: Any = _mapped(origin, code)
        except ValueError:
            unread.append(code)
            continue
        if origin.lookup is not None and mapped is not None:
            mapped = _looked_up(origin.lookup, str(mapped), lookup)
        if mapped is not None:
            name = _scalar_text(mapped)
            found[name] = max(number, found.get(name, number))
    if not found:
        return None, unread
    return (found if origin.parse == "dict" else tuple(found)), unread


def _pairs(origin: LabelOrigin, text: str) -> list[tuple[str, float]]:
    """Codes and numbers of a text. Raises ``ValueError`` where it is not in the notation promised."""
    if text[0] not in "[{(":
        if origin.parse == "dict":
            raise ValueError(text)
        return [(code.strip(), 1.0) for code in text.split(origin.separator) if code.strip()]
    try:
        items = json.loads(text)
    except ValueError:
        try:
            items = ast.literal_eval(text)
        except (SyntaxError, MemoryError, RecursionError):
            raise ValueError(text) from None
    if isinstance(items, dict):
        numbers = [float(number) if origin.parse == "dict" else 1.0 for number in items.values()]
        return list(zip(map(_scalar_text, items), numbers, strict=True))
    if origin.parse == "dict":
        raise ValueError(text)
    return [(_scalar_text(code), 1.0) for code in items]
