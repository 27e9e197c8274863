"""Reading recipes: YAML to the model, with errors that name file, line, field and the nearest valid name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harmonize.store import catalog
from harmonize_schemas import Recipe, nearest

Place = tuple[str | int, ...]


class RecipeError(ValueError):
    """A recipe, or a table that it names, is not right. The message says where and what would be."""


class _Loader(yaml.SafeLoader):
    """YAML whose ``no``, ``on``, dates and ``1:30`` stay texts, as in YAML 1.2 (sites are called NO)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "merge", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))


@dataclass(frozen=True)
class _Document:
    """A YAML file's value, and the line of each place in it."""

    value: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of a place, or of the innermost place around it."""
        at: Place = ()
        for step in place:
            # pydantic counts the items of what we wrote as one mapping.
            at = (*at, step) if (*at, step) in self.lines else at
        return self.lines.get(at, 1)


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    folder = Path(str(files("harmonize"))) / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def load_recipe(
    recipe: Recipe | str | Path | None,
    dataset: str | None,
    first: Path,
    privacy: Literal["pseudonym", "keep"] | None = None,
) -> tuple[Recipe, str | None]:
    """The recipe of a run and its SHA-256: a recipe, a file, or the name of one that ships; without one, a bare
    recipe named after the folder. ``dataset`` and ``privacy`` go over what it says.

    Raises ``RecipeError`` for a recipe that says what the model does not know.
    """
    if recipe is None:
        folder = first if first.is_dir() else first.parent
        name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._") or "dataset"
        return Recipe(dataset=dataset or name, privacy=privacy or "pseudonym"), None
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(_file(recipe))
    given = {"dataset": dataset, "privacy": privacy}
    changes = {name: value for name, value in given.items() if value}
    if changes:
        try:
            recipe = Recipe.model_validate(recipe.model_dump(exclude_unset=True) | changes, strict=False)
        except ValidationError as error:
            raise RecipeError("\n".join(_explain(one) for one in error.errors())) from None
    if taken := set(recipe.labels) & set(catalog.TABLES["recordings"] | catalog.TABLES["streams"]):
        raise RecipeError(f"labels.{min(taken)}: the store has a column of this name; call the label otherwise")
    return recipe, hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def _file(recipe: str | Path) -> Path:
    path = Path(recipe)
    shipped = shipped_recipes()
    if path.exists() or path.suffix:
        return path
    if str(recipe) not in shipped:
        raise RecipeError(f"there is no recipe {str(recipe)!r}, as file or among those that ship"
                          f"{nearest(str(recipe), shipped)}")  # fmt: skip
    return shipped[str(recipe)]


def read_recipe(file: Path) -> Recipe:
    """One recipe file. Raises ``RecipeError``, ``FileNotFoundError``."""
    document = _parse(file)
    try:
        return Recipe.model_validate(document.value, strict=False)
    except ValidationError as error:
        told = [f"{file.name}, line {document.line(_place(one))}: {_explain(one)}" for one in error.errors()]
        raise RecipeError("\n".join(told)) from None


def _parse(file: Path) -> _Document:
    text = file.read_text("utf-8")
    try:
        node = yaml.compose(text, Loader=_Loader)
        lines = dict(_lines(node, (), file)) if node else {}
        return _Document(yaml.load(text, Loader=_Loader), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RecipeError(f"{file.name}, line {mark.line + 1 if mark else 1}: {error.problem}") from None
    except yaml.YAMLError:
        raise RecipeError(f"{file.name} is not YAML") from None


def _lines(node: yaml.Node, place: Place, file: Path) -> Iterator[tuple[Place, int]]:
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise RecipeError(f"{file.name}, line {key.start_mark.line + 1}: {key.value!r} is given twice")
            seen.add(key.value)
            yield from _lines(value, (*place, key.value), file)
            yield (*place, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*place, index), file)


def _place(error: ErrorDetails) -> Place:
    """Where an error is; what concerns the whole recipe starts with the place ("fields.sex.0: ...")."""
    if error["loc"]:
        return error["loc"]
    named = error["msg"].removeprefix("Value error, ").partition(": ")[0]
    return tuple(int(step) if step.isdigit() else step for step in named.split("."))


def _explain(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        *outer, name = error["loc"]
        return f"{place}: there is no field {name!r}{nearest(str(name), _known_names(tuple(outer)))}"
    message = error["msg"].removeprefix("Value error, ")
    found = error["input"]
    shown = f" (found {found!r})" if isinstance(found, str | int | float) and repr(found) not in message else ""
    return f"{place}: {message}{shown}" if place else message


@cache
def _schema() -> Mapping[str, Any]:
    return Recipe.model_json_schema()


def _known_names(place: Place) -> Sequence[str]:
    """Names of the fields of the model at a place, from the JSON Schema."""
    at: Mapping[str, Any] = _schema()
    for step in place:
        at = _resolve(at)
        if isinstance(step, int):
            at = at.get("items", at)
        else:
            at = at.get("properties", {}).get(step, at.get("additionalProperties") or {})
    at = _resolve(at)
    return list(_resolve(at.get("items", at)).get("properties", {}))


def _resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for option in schema.get("anyOf", ()):
        if "$ref" in option or option.get("type") in ("array", "object"):
            schema = option
            break
    if "$ref" in schema:
        resolved: Mapping[str, Any] = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        return resolved
    return schema
