"""Where the real recordings lie, and the mark for tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Read-only real files, no part of the project (``../shared/data`` from its root)."""

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real recordings are not at {DATA}")


def real_files(folder: str, *suffixes: str) -> list[Path]:
    """All files below ``DATA/folder`` with one of ``suffixes``, sorted; none where the data are absent."""
    return sorted(path for path in (DATA / folder).rglob("*") if path.suffix.lower() in suffixes)
