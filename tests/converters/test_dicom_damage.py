"""Damaged DICOM headers that fuzzing found a wrong end of (``make fuzz``), written by hand."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from converters.dicom_files import code_of, planar_dataset, save, slice_dataset, stack, stored_planes, write_series
from harmonize_converters._dicom_header import MOST_ELEMENTS

PLANES = stored_planes(3)
STORAGE_CLASS, ROWS, COLUMNS = b"\x02\x00\x02\x00UI", b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US"


def damaged(path: Path, before: bytes, after: bytes) -> None:
    """One place of a file that must be there, changed."""
    data = path.read_bytes()
    assert data.count(before) == 1
    path.write_bytes(data.replace(before, after))


@pytest.mark.parametrize("ds", [slice_dataset(PLANES[0], 1, 0.0), stack(PLANES)], ids=["slice", "frames"])
def test_an_empty_element_of_an_unknown_kind_is_refused(tmp_path, ds):
    damaged(save(ds, tmp_path / "x"), ROWS + b"\2\0" + bytes([6, 0]), ROWS[:4] + b"ZZ\0\0")
    assert code_of(tmp_path) == "invalid_header"


def test_a_storage_class_that_is_no_text_is_refused(tmp_path):
    damaged(save(slice_dataset(PLANES[0], 1, 0.0), tmp_path / "x"), STORAGE_CLASS, STORAGE_CLASS[:4] + b"SQ")
    assert code_of(tmp_path) == "invalid_header"


def test_a_sequence_where_a_text_is_due_is_refused_unread(tmp_path):
    path = save(slice_dataset(PLANES[0], 1, 0.0), tmp_path / "x")
    item = b"\xfe\xff\x00\xe0" + b"\x0c\0\0\0" + b"\x20\x20\x20\x20\4\0\0\0DoeX"
    damaged(path, b"\x08\x00\x60\x00CS\2\0CT", b"\x08\x00\x60\x00SQ\0\0" + bytes([len(item), 0, 0, 0]) + item)
    assert code_of(tmp_path) == "invalid_header"


def test_a_transfer_syntax_that_is_none_is_refused_of_colors_too(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    damaged(save(planar_dataset(pixels), tmp_path / "x"), b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.5.1.4\0")
    assert code_of(tmp_path) == "unsupported_transfer_syntax"


@pytest.mark.parametrize("far", ["1e306", "-1e12", "2000000"])
def test_a_position_that_no_scanner_has_is_refused(tmp_path, far):
    write_series(tmp_path, PLANES, each=lambda k: {"ImagePositionPatient": [0, 0, far if k == 1 else k]})
    assert code_of(tmp_path) == "invalid_header"


@pytest.mark.parametrize("tag", [b"\0\0\0\0", b"\x09\0\0\0"], ids=["commands", "elements"])
def test_an_inflated_data_set_of_empty_elements_is_not_read_to_its_end(tmp_path, tag):
    path = save(slice_dataset(PLANES[0], 1, 0.0), tmp_path / "x", DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    empty = tag + b"LO\0\0"
    packed = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(data[:start] + packed.compress(empty * (200 * MOST_ELEMENTS)) + packed.flush())
    began = time.monotonic()
    assert code_of(tmp_path) == "invalid_header"
    assert time.monotonic() - began < 3, "all of its 13 million elements take 20 s"
