"""The models as JSON Schema (2020-12), for readers that are not Python."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from harmonize_schemas.recipe import Recipe
from harmonize_schemas.recording import Annotation, Recording

SCHEMAS: dict[str, type[BaseModel]] = {"recording": Recording, "annotation": Annotation, "recipe": Recipe}


def schema_text(name: str) -> str:
    """The JSON Schema of one document, as it is kept in ``schemas/json``."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SCHEMAS[name].model_json_schema()
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into a folder as ``<name>.schema.json``."""
    files = []
    for name in SCHEMAS:
        file = folder / f"{name}.schema.json"
        file.write_text(schema_text(name), "utf-8")
        files.append(file)
    return files
