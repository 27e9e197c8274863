"""Fixtures that tests of several folders share."""

from pathlib import Path

import pytest


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands make and find their project key below ``tmp_path``, and print as on a wide terminal."""
    monkeypatch.delenv("HARMONIZE_KEY_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
