"""Draft a recipe from what a folder holds: a text for a person to finish."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
import yaml

from harmonize.ingest.facts import path_facts
from harmonize.ingest.recipes import RecipeError
from harmonize.ingest.tables import plain, read_table
from harmonize_converters.contract import SourceFiles
from harmonize_schemas import Recipe, Table

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".json")
MAX_TABLE_BYTES = 1 << 30
LIKELY: Mapping[str, str] = {
    "subject": r"(patient|subject|participant|pat|sub)(_?(id|nr|no|num|number))?|mrn",
    "session": r"(session|visit|study|admission|ecg|exam)(_?(id|nr|no))?",
    "age_years": r"age(_?(years?|at_\w+))?|alter",
    "sex": r"sex|gender|is_male|geschlecht",
    "height_cm": r"height(_?cm)?",
    "weight_kg": r"weight(_?kg)?",
    "handedness": r"hand(edness)?",
    "site": r"site(_?id)?|center|centre|hospital|institution",
    "device_model": r"device(_?model)?|scanner|model",
    "device_maker": r"manufacturer|maker|vendor",
    "fold": r"(strat_?)?folds?|split|partition",
    "start": r"(recording|acquisition|study|exam|ecg)_?(date|time|datetime)|date",
}
"""Column names that mean a field, as whole names in any case."""
_SEXES = {"m": "male", "male": "male", "f": "female", "female": "female", "o": "other", "other": "other"}
_REPORTS = re.compile(r"report|comment|note|findings|impression", re.IGNORECASE)


def draft_recipe(folder: Path, dataset: str, sources: Sequence[SourceFiles]) -> str:
    """The YAML of a recipe to start from: tables whose keys match the sources, columns whose names say what
    they are, and comments on what a person must decide."""
    recipe = Recipe(dataset=dataset)
    paths = [path_facts(recipe, source) for source in sources]
    lines = [
        f"# Drafted from {len(sources)} recordings; check every line. `harmonize recipe check` says what it gives.",
        f"dataset: {dataset}",
        "# title:    licence:    citation:    url:    access: open | registered | credentialed | restricted",
        "privacy: pseudonym  # keep: only for data that are public already",
        "",
        *_paths(paths),
    ]
    for name, file, frame in _tables(folder):
        joined = _key(frame, paths)
        if joined is None:
            lines.append(f"# {file}: no column names the recordings by path, name, or a part of them")
            continue
        column, template = joined
        lines += ["tables:", f"  {name}: {{file: {_quoted(file)}, key: {_quoted(column)}, match: {_quoted(template)}}}"]
        lines += ["", *_fields(frame, column)]
        break  # one table to start from; others are for a person to join
    return "\n".join(lines) + "\n"


def _tables(folder: Path) -> Iterable[tuple[str, str, pl.DataFrame]]:
    """Tables in the folder itself, the longest first."""
    found = []
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in TABLE_SUFFIXES and file.is_file() and file.stat().st_size < MAX_TABLE_BYTES:
            try:
                frame = read_table(file, Table(file=file.name, key=("",)))
            except RecipeError:
                continue
            found.append((re.sub(r"\W+", "_", file.stem).lower(), file.name, frame))
    return sorted(found, key=lambda one: -len(one[2]))


def _key(frame: pl.DataFrame, paths: Sequence[Mapping[str, str]]) -> tuple[str, str] | None:
    """The column and template that match the most sources, if they match half of them."""
    best: tuple[int, str, str] = (0, "", "")
    for column in frame.columns:
        values = {plain(value) for value in frame[column].drop_nulls()}
        for name in ("path", "name", "stem"):
            hits = sum(path[name] in values for path in paths)
            best = max(best, (hits, column, f"{{{name}}}"))
    return best[1:] if best[0] * 2 >= max(1, len(paths)) else None


def _paths(paths: Sequence[Mapping[str, str]]) -> list[str]:
    """A pattern where the file names start with BIDS-like entities, else examples to write one from."""
    if not paths:
        return []
    entities = Counter(tuple(re.findall(r"(?:^|_)([a-z]+)-[A-Za-z0-9]+", path["stem"])) for path in paths)
    (common, count) = entities.most_common(1)[0]
    if "sub" in common and count * 2 >= len(paths):
        return ["layout: bids", ""]
    examples = ", ".join(path["path"] for path in paths[:: max(1, len(paths) // 3)][:3])
    return [f"# paths such as: {examples}", "# paths:", "#   - '(?P<subject>[^/]+)/(?P<session>[^/]+)$'", ""]


def _fields(frame: pl.DataFrame, key: str) -> list[str]:
    used: set[str] = {key}
    lines = ["fields:"]
    for name, pattern in LIKELY.items():
        for column in frame.columns:
            if column not in used and re.fullmatch(pattern, column, re.IGNORECASE):
                used.add(column)
                lines.append(f"  {name}: {{column: {_quoted(column)}{_codes(name, frame[column])}}}")
                break
    rest = [column for column in frame.columns if column not in used and column]
    texts = [column for column in rest if _REPORTS.search(column)]
    lines += ["", "# labels:", *(f"#   {re.sub(r'[^a-z0-9]+', '_', c.lower())}: {{column: {_quoted(c)}}}"
                                 for c in rest if c not in texts)]  # fmt: skip
    if texts:
        lines += ["", "# free text is stored only where text_deidentified says who states that it is de-identified",
                  "# text:", *(f"#   {column.lower()}: {{column: {_quoted(column)}}}" for column in texts)]  # fmt: skip
    return lines if len(lines) > 1 else []


def _codes(name: str, values: pl.Series) -> str:
    """A map to finish, for a coded sex; nothing where the words are known."""
    found = sorted({plain(value) for value in values.drop_nulls() if value.strip()})
    if name != "sex" or all(value.casefold() in _SEXES for value in found):
        return ""
    guess = ", ".join(f"{_quoted(value)}: {_SEXES.get(value.casefold(), 'null')}" for value in found[:8])
    return f", map: {{{guess}}}"


def _quoted(text: str) -> str:
    """A YAML scalar."""
    return yaml.safe_dump(text, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
