"""Some thousand damaged files of each format, and all that fuzzing ever found (``make fuzz`` runs many more)."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from libjpeg import decode

from converters.dicom_files import stored_planes
from fuzz.dicom_files import lossless_jpeg
from fuzz.runner import run, run_case
from fuzz.seeds import targets
from harmonize_converters.contract import SourceFiles

CASES = {"edf": 2_000, "bdf": 2_000, "wfdb": 2_000, "dicom": 1_000}
FOUND = sorted(path for path in Path(__file__).with_name("regressions").glob("*/*") if path.is_dir())


@pytest.mark.parametrize("name", targets())
def test_damaged_files_are_refused_or_right(name: str) -> None:
    tally = run(targets()[name], range(CASES[name]))
    assert tally.found == []
    assert tally.cases == CASES[name]
    assert tally.converted > tally.cases / 20, "much damage is harmless, and then the result must be right"
    assert sum(tally.refused.values()) > tally.cases / 20


def test_what_was_found_once_ends_well_now(tmp_path: Path) -> None:
    for folder in FOUND:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        run_case(targets()[folder.parent.name], files, tmp_path / "case")


def _end(how: str, source: SourceFiles, arrays: list[np.ndarray]) -> None:
    """What a result is compared with, in a process of its own."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("wrong")


@pytest.mark.parametrize(("how", "message"), [("crash", "the process ended with -11"), ("wrong", "AssertionError")])
def test_a_case_that_ends_its_process_is_found_and_the_next_one_is_run(how: str, message: str) -> None:
    target = targets()["dicom"]
    bad = replace(target, folders=target.folders[:1], check=partial(_end, how), damage=_harmless)
    found = run(bad, range(2)).found
    assert [message in text for _, text in found] == [True, True]


def _harmless(rng: random.Random, data: bytes) -> bytes:
    return data


def test_the_lossless_jpeg_that_is_damaged_is_right_before() -> None:
    plane = stored_planes(1, 9, 7)[0].astype(int) + 2048
    np.testing.assert_array_equal(decode(lossless_jpeg(plane)), plane)
