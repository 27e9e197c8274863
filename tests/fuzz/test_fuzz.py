"""Some thousand damaged files of each format, and all that fuzzing ever found (``make fuzz`` runs many more)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.runner import run, run_case
from fuzz.seeds import targets

CASES = 2_000
FOUND = sorted(path for path in Path(__file__).with_name("regressions").glob("*/*") if path.is_dir())


@pytest.mark.parametrize("name", targets())
def test_damaged_files_are_refused_or_right(name: str) -> None:
    tally = run(targets()[name], range(CASES))
    assert tally.found == []
    assert tally.cases == CASES
    assert tally.converted > CASES / 20, "much damage is harmless, and then the result must be right"
    assert sum(tally.refused.values()) > CASES / 20


def test_what_was_found_once_ends_well_now(tmp_path: Path) -> None:
    for folder in FOUND:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        run_case(targets()[folder.parent.name], files, tmp_path / "case")
