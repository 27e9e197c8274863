"""Volumes at the same places without a time tag: only what repeats in time is ordered by number (FIDELITY I03)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import MRImageStorage

from converters.conformance import Outcome, code_of_refusal, convert, only_source
from converters.dicom_files import SERIES, save, slice_dataset, stored_planes
from harmonize_converters.dicom import DicomConverter

CONVERTER = DicomConverter()
TIMES, PLACES = 3, 4
PLANES = stored_planes(TIMES * PLACES)
ECHO_PLANAR = {
    **{"SOPClassUID": MRImageStorage, "Modality": "MR", "ScanningSequence": ["EP", "GR"], "MRAcquisitionType": "2D"},
    **{"RepetitionTime": "2500", "EchoTime": "28", "AcquisitionNumber": None},
}


def write(folder: Path, numbers: list[int], **changes: Any) -> Path:
    """Plane ``t * PLACES + k`` at place k, with these instance numbers and no time."""
    for index, number in enumerate(numbers):
        ds = slice_dataset(PLANES[index], number, 2.0 * (index % PLACES), **{**ECHO_PLANAR, **changes})
        ds.SOPInstanceUID = f"{SERIES}.{index + 1}"
        save(ds, folder / f"{(index * 5) % 12:02d}.dcm")
    return folder


def converted(folder: Path) -> Outcome:
    return convert(CONVERTER, only_source(CONVERTER, folder))


BY_VOLUME = [1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24]


def test_echo_planar_volumes_follow_their_numbers(tmp_path: Path) -> None:
    found = converted(write(tmp_path, BY_VOLUME))
    assert found.description.image is not None
    assert found.description.image.shape == (TIMES, PLACES, 6, 5)
    assert found.description.image.time_step_s == 2.5
    assert "times_by_instance_number" in found.description.flags
    np.testing.assert_array_equal(found.arrays[0], PLANES)


def test_a_step_between_numbers_that_is_not_even_gives_no_time_step(tmp_path: Path) -> None:
    found = converted(write(tmp_path, [1, 2, 3, 4, 11, 12, 13, 14, 31, 32, 33, 34]))
    assert found.description.image is not None
    assert found.description.image.time_step_s is None


def test_slices_taken_in_another_order_than_they_lie_are_as_good(tmp_path: Path) -> None:
    found = converted(write(tmp_path, [1, 3, 2, 4, 11, 13, 12, 14, 21, 23, 22, 24]))
    np.testing.assert_array_equal(found.arrays[0], PLANES)


def test_copies_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, BY_VOLUME)
    for file in sorted(tmp_path.iterdir())[:5]:
        (tmp_path / f"copy-{file.name}").write_bytes(file.read_bytes())
    found = converted(tmp_path)
    assert {"duplicate_slices_dropped", "times_by_instance_number"} <= set(found.description.flags)
    np.testing.assert_array_equal(found.arrays[0], PLANES)


@pytest.mark.parametrize(
    ("numbers", "changes"),
    [
        ([1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12], {}),
        ([1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 14], {}),
        ([1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23], {}),
        (BY_VOLUME, {"ScanningSequence": ["GR"]}),
        (BY_VOLUME, {"ImageType": ["DERIVED", "PRIMARY", "OTHER"]}),
        (BY_VOLUME, {"Modality": "CT"}),
        (BY_VOLUME, {"InstanceNumber": None}),
    ],
    ids=["place by place", "a number twice", "a slice short", "no echo-planar", "derived", "ct", "no numbers"],
)
def test_what_else_lies_at_the_same_places_is_refused(tmp_path: Path, numbers: list[int], changes: Any) -> None:
    assert code_of_refusal(CONVERTER, write(tmp_path, numbers, **changes)) == "conflicting_slices"
