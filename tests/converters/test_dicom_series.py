"""DICOM series over folders (FIDELITY I01, issue 7 point 2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.conformance import convert, only_source, sources_in
from converters.dicom_files import stored_planes, write_series
from harmonize_converters.contract import SourceFiles
from harmonize_converters.dicom import DicomConverter

CONVERTER = DicomConverter()
PLANES = stored_planes(8)


def spread(base: Path, folder_of: Callable[[int], str], **how: Any) -> list[SourceFiles]:
    """The sources of eight slices, slice k in folder ``folder_of(k)``."""
    write_series(base, PLANES, **how)
    for path in sorted(base.glob("*.dcm")):
        folder = base / folder_of(int(path.stem.rpartition("-")[2]))
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    return sources_in(CONVERTER, base)


@pytest.mark.parametrize(
    "folder_of",
    [lambda k: "ab"[k % 2], lambda k: "ab"[k // 4], lambda k: "." if k < 3 else f"{k}/deep"],
    ids=["in turns", "one half after the other", "below each other"],
)
def test_i01_slices_of_one_even_stack_are_one_volume(tmp_path: Path, folder_of: Callable[[int], str]) -> None:
    whole = convert(CONVERTER, only_source(CONVERTER, write_series(tmp_path / "whole", PLANES)))
    (source,) = spread(tmp_path / "spread", folder_of)
    found = convert(CONVERTER, source)
    np.testing.assert_array_equal(found.arrays[0], PLANES)
    assert found.description.image == whole.description.image
    assert source.key.rpartition("/")[0] == "spread"


@pytest.mark.parametrize(
    "z",
    [lambda k: k + 9 * (k > 3), lambda k: k % 4, lambda k: k - (k > 3)],
    ids=["a gap between", "copies", "one slice in both"],
)
def test_i01_what_makes_no_even_stack_stays_apart(tmp_path: Path, z: Callable[[int], int]) -> None:
    sources = spread(
        tmp_path / "s", lambda k: "ab"[k // 4], each=lambda k: {"ImagePositionPatient": [0, 0, float(z(k))]}
    )
    assert sorted(one.key.split("/")[1] for one in sources) == ["a", "b"]
    for source, planes in zip(sorted(sources, key=lambda one: one.key), (PLANES[:4], PLANES[4:]), strict=True):
        found = convert(CONVERTER, source)
        np.testing.assert_array_equal(found.arrays[0], planes)
        assert found.description.image is not None
        assert found.description.image.spacing_mm == (0.75, 0.5, 1.0)


def test_i01_places_of_several_times_spread_over_folders_are_one_series(tmp_path: Path) -> None:
    """Slices 2k and 2k + 1 are the two times of place k; folders hold every other place. Either folder alone would be
    an even stack of twice the step."""
    (source,) = spread(
        tmp_path / "s",
        lambda k: "ab"[k // 2 % 2],
        each=lambda k: {"ImagePositionPatient": [0, 0, 2.0 * (k // 2)], "AcquisitionNumber": k % 2 + 1},
    )
    found = convert(CONVERTER, source)
    assert found.description.image is not None
    assert found.description.image.shape == (2, 4, 6, 5)
    assert found.description.image.spacing_mm == (0.75, 0.5, 2.0)
    np.testing.assert_array_equal(found.arrays[0], np.concatenate([PLANES[::2], PLANES[1::2]]))
