"""Fixtures that tests of several folders share."""

import os
from pathlib import Path

import pytest

os.environ["COLUMNS"] = "200"
"""Commands print as on a wide terminal, wherever the tests run; consoles look at it when they are imported."""


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands make and find their project key below ``tmp_path``."""
    monkeypatch.delenv("HARMONIZE_KEY_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
