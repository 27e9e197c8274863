"""Siemens mosaics made by hand (FIDELITY I05); real ones are in test_dicom_real."""

from __future__ import annotations

import numpy as np
import pytest

from converters.dicom_files import (
    AXIAL,
    converted,
    csa_header,
    mosaic_dataset,
    refused,
    stored_planes,
)

OBLIQUE = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(("count", "step"), [(1, 3.0), (2, 3.0), (4, -3.0), (7, 3.0), (7, -3.0)])
def test_i05_a_bright_voxel_of_a_mosaic_is_found_at_its_place(tmp_path, orientation, count, step):
    x, y = np.array(orientation[:3], float), np.array(orientation[3:], float)
    first = np.array([5.0, -7.0, 11.0])
    planes = np.zeros((count, 6, 5), np.int16)
    planes[count - 1, 1, 3] = 1000
    world = first + 3 * 0.75 * x + 1 * 0.5 * y + (count - 1) * step * np.cross(x, y)
    outcome = converted(mosaic_dataset(planes, first, orientation, step), tmp_path)
    ((k, j, i),) = np.argwhere(outcome.arrays[0] == 1000)
    found = np.array(outcome.description.image.affine) @ [i, j, k, 1]
    np.testing.assert_allclose(found[:3], world * [-1, -1, 1], atol=1e-6)


def test_i05_a_mosaic_numbered_in_reverse_is_refused(tmp_path):
    ds = mosaic_dataset(stored_planes(4), [0, 0, 0], AXIAL, 3.0)
    csa = csa_header(NumberOfImagesInMosaic=[4], SliceNormalVector=[0, 0, 1], ProtocolSliceNumber=[3])
    ds[0x00291010].value = csa
    assert refused(ds, tmp_path) == "unsupported_multiframe"
