"""Arguments, options and output that several commands share."""

from __future__ import annotations

import json
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

StorePath = Annotated[str, typer.Argument(help="A store: its path or URL.", metavar="STORE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="Project key file; default: made on first use.")]


def print_json(document: Any) -> None:
    """A document on standard output: dataclasses by their fields, what JSON does not know as text."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return vars(value) if is_dataclass(value) else str(value)
