"""What a recipe would fill, miss, or leave unmatched, from headers and tables alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harmonize.ingest.identify import Draft, Known
from harmonize.ingest.scan import Scan
from harmonize_schemas import Recording

FILE_FIELDS = ("subject", "session", "site", "device_maker", "device_model", "line_frequency_hz", "modality",
               "age_years", "sex", "height_cm", "weight_kg", "start_s")  # fmt: skip


@dataclass
class Filled:
    """One field, label or text: sources that have it, those that do not, and those whose value cannot be read.

    ``values`` counts what it was read as, ``unread`` the texts that could not be.
    """

    name: str
    filled: int = 0
    missing: int = 0
    values: dict[str, int] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)


@dataclass
class Joined:
    """One table: its rows, how many of them some source has, and the sources that have none."""

    name: str
    rows: int
    used: int
    sources_without_row: list[str]


@dataclass
class Check:
    """What a recipe comes to over a folder. It shows what tables and paths hold: for the user's eyes."""

    sources: int
    failures: list[dict[str, Any]]
    values: list[Filled]
    tables: list[Joined]
    unmapped_channels: dict[str, int]


def check(found: Scan) -> Check:
    """Sum up a detailed scan by its recipe."""
    recipe, known = found.policy.recipe, found.known
    drafts = [one.draft() for one in found.drafts]
    places = [f"fields.{name}" for name, _ in recipe.fields.items()]
    groups = {f"fields.{name}" for one in known for name in one.values.fields}
    places += sorted(groups - set(places))
    places += [*(f"labels.{name}" for name in recipe.labels), *(f"text.{name}" for name in recipe.text)]
    channels = (c for draft in drafts for stream in draft.recording.streams for c in stream.channels)
    given = [_filled(place, known) for place in places]
    return Check(
        sources=len(known),
        failures=found.failures,
        values=[*given, *_from_files(drafts, {place.partition(".")[2] for place in places})],
        tables=list(_joined(found)),
        unmapped_channels=_counts(channel.label for channel in channels if not channel.mapped),
    )


def _counts(texts: Iterable[str]) -> dict[str, int]:
    """How often each text comes, the most frequent first."""
    return dict(Counter(texts).most_common())


def _filled(place: str, known: Sequence[Known]) -> Filled:
    kind, _, name = place.partition(".")
    given = [getattr(one.values, kind).get(name) for one in known]
    found = [value for value in given if value is not None]
    several = (value if isinstance(value, tuple | dict) else (value,) for value in found)
    unread = (text for one in known for where, text in one.values.problems if where == place)
    return Filled(
        place, len(found), len(given) - len(found), _counts(str(v) for group in several for v in group), _counts(unread)
    )


def _from_files(drafts: Sequence[Draft], given: set[str]) -> Iterator[Filled]:
    """Fields that the recipe does not name and the files or its defaults give."""
    for name in FILE_FIELDS:
        found = [value for draft in drafts if (value := _stored(draft.recording, name)) is not None]
        if name not in given and found:
            values = _counts(map(str, found))
            yield Filled(f"{name} (file)", len(found), len(drafts) - len(found), values)


def _stored(recording: Recording, name: str) -> object:
    parts = (recording, recording.acquisition, recording.demographics)
    value: object = getattr(next(one for one in parts if name in type(one).model_fields), name)
    return value


def _joined(found: Scan) -> Iterator[Joined]:
    around = found.surroundings
    for name, table in found.policy.recipe.tables.items():
        if not table.match:
            continue
        read = [rows for (of, _), rows in around.tables.items() if of == name] if around else []
        without = [one.source.key for one in found.known if name in one.facts.rows and not one.facts.rows[name]]
        yield Joined(name, sum(len(rows.frame) for rows in read), sum(len(rows.used) for rows in read), without)
