"""A few kills; ``make crash`` does hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash import harness
from crash.harness import Undisturbed


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Undisturbed]:
    folder = tmp_path_factory.mktemp("crash")
    harness.write_cohort(folder / "cohort")
    return folder / "cohort", harness.undisturbed(folder / "cohort", folder / "whole.zarr")


@pytest.mark.parametrize(
    ("step", "when", "count"),
    [
        ("chunk", "after", 5),
        ("sync", "before", 9),
        ("table", "after", 14),
        ("failures", "after", 1),
        ("merge", "before", 3),
    ],
)
def test_killed_at_a_step(cohort: tuple[Path, Undisturbed], tmp_path: Path, step: str, when: str, count: int) -> None:
    source, expected = cohort
    assert harness.killed_at_step(source, tmp_path / "s.zarr", step, when, count)
    harness.check(source, tmp_path / "s.zarr", expected)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_killed_at_a_moment(cohort: tuple[Path, Undisturbed], tmp_path: Path, share: float) -> None:
    source, expected = cohort
    harness.killed_after(source, tmp_path / "s.zarr", share * expected.seconds)
    harness.check(source, tmp_path / "s.zarr", expected)
