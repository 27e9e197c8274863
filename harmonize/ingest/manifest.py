"""What a run was: for the store's table ``runs``. Nothing that identifies: no path, no name of a machine."""

from __future__ import annotations

import json
import os
import platform
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from harmonize.store.catalog import Row

LIBRARIES = (
    "harmonize-biomed", "numpy", "zarr", "numcodecs", "deltalake", "polars", "pydicom", "nibabel", "mne", "wfdb",
)  # fmt: skip


def run_row(
    dataset: str, recipe_sha256: str | None, options: Mapping[str, object], seconds: float, **counts: int
) -> Row:
    """A row of ``runs`` for a run that ends now. ``options`` are those of ``convert`` that are no paths; ``counts``
    are its counts."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = {name: found for name in LIBRARIES if (found := _version(name))}
    return {
        "run": uuid.uuid4().hex,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "dataset": dataset,
        "recipe_sha256": recipe_sha256,
        "options": json.dumps(options, sort_keys=True),
        "versions": json.dumps(versions, sort_keys=True),
        "machine": machine,
        **counts,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
