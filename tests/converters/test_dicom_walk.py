"""The fast ways through a header and its values, beside pydicom's, which are their reference."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from converters.conformance import convert, find
from converters.dicom_files import (
    CONVERTER,
    cine_dataset,
    mosaic_dataset,
    one,
    save,
    slice_dataset,
    stack,
    stored_planes,
    write_series,
)
from harmonize_converters import _dicom_planes
from harmonize_converters._dicom_header import opened_header, parsing, quiet
from harmonize_converters._dicom_kept import TAGS as ALL_TAGS
from harmonize_converters._dicom_plain import plain_numbers, plain_texts
from harmonize_converters._dicom_walk import walk
from realdata import DATA, needs_data

TAGS = {int(tag): tag for tag in map(Tag, ("SpecificCharacterSet", *ALL_TAGS))}
PLANES = stored_planes(4)


def made(folder: Path) -> Iterator[Path]:
    """Files of ours: both kinds of VR, sequences within sequences of both kinds of length, long private elements."""
    deep, item = Dataset(), Dataset()
    item.CodeValue = "1"
    for _ in range(5):
        deep.AnatomicRegionSequence = [item]
        item = deep
        deep = Dataset()
    for number, syntax in enumerate((ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)):
        for name, ds in {
            "slice": slice_dataset(PLANES[0], 1, 0.0, PatientName="Äß^Ö", SpecificCharacterSet="ISO_IR 192"),
            "frames": stack(PLANES),
            "cine": cine_dataset(PLANES),
            "mosaic": mosaic_dataset(PLANES, (0, 0, 0), (1, 0, 0, 0, 1, 0), 2.0),
        }.items():
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = PLANES.astype(">i2").tobytes()
            ds.ReferencedImageSequence = [item, item]
            ds["ReferencedImageSequence"].is_undefined_length = name != "frames"
            ds.private_block(0x0021, "ACME", create=True).add_new(1, "OB", bytes(100_000))
            yield save(ds, folder / f"{name}{number}", syntax)
        ds = slice_dataset(PLANES[0], 1, 0.0, PixelData=None)
        yield save(ds, folder / f"no pixels{number}", syntax)


def agree(path: Path) -> bool:
    """Whether the walk reads a file; where it does, the same as ``dcmread``, and the file is left at the same place."""
    with path.open("rb") as ours, path.open("rb") as theirs, quiet():
        found = walk(ours, TAGS)
        if found is None:
            return False
        wanted = dcmread(theirs, stop_before_pixels=True, specific_tags=list(TAGS))
        assert ours.tell() == theirs.tell()
        assert set(found.keys()) == set(wanted.keys())
        lying = {int(one.tag): one for one in wanted.values() if isinstance(one, RawDataElement)}
        assert lying == {int(one.tag): one for one in found.values() if int(one.tag) in lying}
        for tag in wanted.keys() - lying.keys():  # dcmread parses sequences of undefined length, and the character set
            assert found[tag] == wanted[tag]
        assert found.original_encoding == wanted.original_encoding
        assert found.original_character_set == wanted.original_character_set
        for name in ("TransferSyntaxUID", "MediaStorageSOPClassUID"):
            assert found.file_meta.get(name) == wanted.file_meta.get(name)
        assert str(found.get("PatientName")) == str(wanted.get("PatientName"))
    return True


def test_headers_of_ours_are_read_as_pydicom_reads_them(tmp_path):
    read = {path.name: agree(path) for path in made(tmp_path)}
    assert {name for name, fast in read.items() if not fast} == {
        f"{name}2" for name in ("slice", "frames", "cine", "mosaic", "no pixels")
    }, "big-endian"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_header_is_read_up_to_an_element_that_is_named(tmp_path, syntax):
    path = save(slice_dataset(PLANES[0], 1, 0.0), tmp_path / "a", syntax)
    rows = int(Tag("Rows"))
    with opened_header(path, ("Rows", "PatientID"), until=(rows,)) as (header, stream):
        assert ("Rows" in header, header.PatientID) == (False, "MRN-4711-PLANTED")
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        assert struct.unpack(f"{order}HH", stream.read(4)) == (rows >> 16, rows & 0xFFFF)


@pytest.mark.parametrize("elements", [-1, 1, 2])
def test_a_wrong_length_of_the_files_own_group_leaves_no_element_out(tmp_path, elements):
    """It points to another element than the first behind the group (found by ``make fuzz``)."""
    path = save(slice_dataset(PLANES[0], 1, 0.0), tmp_path / "a")
    data = bytearray(path.read_bytes())
    ends = [144 + int.from_bytes(data[140:144], "little")]
    assert data[ends[0] : ends[0] + 4] == b"\x08\x00\x08\x00", "ImageType"
    for _ in range(2):
        ends.append(ends[-1] + 8 + int.from_bytes(data[ends[-1] + 6 : ends[-1] + 8], "little"))
    uid = data.index(b"\x02\x00\x13\x00")  # ImplementationVersionName, the last of the group
    ends.append(uid)
    data[140:144] = (ends[elements] - 144).to_bytes(4, "little")
    path.write_bytes(data)
    with path.open("rb") as ours:
        assert walk(ours, TAGS) is None
    with opened_header(path, ("ImageType",)) as (header, _):
        assert header.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_a_file_that_ends_within_an_element_is_left_to_pydicom(tmp_path):
    path = save(slice_dataset(PLANES[0], 1, 0.0, PixelData=None), tmp_path / "whole", ExplicitVRLittleEndian)
    assert agree(path)
    for gone in (1, 5, 9, 11):
        path.write_bytes(path.read_bytes()[:-gone])
        with path.open("rb") as ours:
            assert walk(ours, TAGS) is None


def test_headers_of_pydicoms_files_are_read_as_pydicom_reads_them():
    paths = [path for path in (Path(DATA_ROOT) / "test_files").rglob("*") if path.is_file()]
    paths = [path for path in paths if path.read_bytes()[128:132] == b"DICM"]
    assert sum(map(agree, paths)) > len(paths) / 2 > 50


@needs_data
def test_headers_of_scanners_are_read_as_pydicom_reads_them():
    files = [file.path for file in find(DATA / "dicom")]
    read = [agree(path) for path in files if path.read_bytes()[128:132] == b"DICM"]
    assert sum(read) > 0.9 * len(read) > 100


def element(vr: str, value: bytes, explicit: bool = True) -> RawDataElement:
    tag = {"DS": 0x00280030, "IS": 0x00200013, "US": 0x00280010, "FD": 0x00189087}.get(vr, 0x00080008)
    return RawDataElement(BaseTag(tag), vr if explicit else None, len(value), value, 0, not explicit, True)


def by_pydicom(raw: RawDataElement) -> list[object] | None:
    """All values of an element; None where pydicom cannot convert them."""
    ds = Dataset({raw.tag: raw})
    ds.set_original_encoding(raw.is_implicit_VR, True, "iso8859")
    try:
        with quiet():
            value = ds[raw.tag].value
    except Exception:  # noqa: BLE001 (whatever pydicom raises)
        return None
    return list(value) if isinstance(value, MultiValue | list) else [value]


WRITTEN = st.text("0123456789+-.eE \\\0_naif", max_size=12).map(str.encode)
TEXT = st.binary(max_size=12) | st.text("AB1.^=\\ \0\x1b~", max_size=12).map(str.encode)


@given(st.sampled_from(["DS", "IS"]), WRITTEN | TEXT, st.booleans())
@example("IS", b"3.5", True)
@example("DS", b"1\\\\2 ", True)
@example("DS", b" 1.50 ", False)
def test_numbers_that_are_plain_are_those_of_pydicom(vr, value, explicit):
    raw = element(vr, value, explicit)
    numbers, texts = plain_numbers(raw), plain_texts(raw)
    wanted = by_pydicom(raw)
    if numbers is not None:
        np.testing.assert_array_equal(numbers, [float(one) for one in wanted])
    if texts is not None:
        assert texts == tuple(str(one).strip("\0 ") for one in wanted)


@given(st.sampled_from(["US", "SS", "UL", "SL", "FL", "FD"]), st.binary(max_size=24))
def test_binary_numbers_that_are_plain_are_those_of_pydicom(vr, value):
    raw = element(vr, value)
    numbers, texts = plain_numbers(raw), plain_texts(raw)
    wanted = by_pydicom(raw)
    if numbers is not None:
        np.testing.assert_array_equal(numbers, [float(one) for one in wanted])
    if texts is not None:
        assert texts == tuple(str(one) for one in wanted)


@given(st.sampled_from(["AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI", "PN", "ST", "UN", "OB"]), TEXT, st.booleans())
def test_texts_that_are_plain_are_those_of_pydicom(vr, value, explicit):
    raw = element(vr, value, explicit)
    texts = plain_texts(raw)
    if texts is not None:
        assert texts == tuple(str(one).strip("\0 ") for one in by_pydicom(raw))


def test_what_is_plain_is_taken():
    assert plain_numbers(element("DS", b"0.5\\0.75")) == (0.5, 0.75)
    assert plain_numbers(element("US", b"\x05\x00\x06\x00")) == (5, 6)
    assert plain_texts(element("CS", b"ORIGINAL\\PRIMARY ")) == ("ORIGINAL", "PRIMARY")
    assert plain_texts(element("DS", b"0.50", explicit=False)) == ("0.50",)


@pytest.mark.parametrize(
    ("allocated", "stored", "signed", "syntax"),
    [
        (8, 8, 0, ExplicitVRLittleEndian), (8, 7, 1, ImplicitVRLittleEndian), (16, 12, 1, ExplicitVRLittleEndian),
        (16, 12, 0, ImplicitVRLittleEndian), (16, 16, 1, ExplicitVRLittleEndian), (32, 20, 1, ExplicitVRLittleEndian),
    ],
)  # fmt: skip
def test_uncompressed_planes_are_those_that_pydicom_decodes(tmp_path, monkeypatch, allocated, stored, signed, syntax):
    raw = np.random.default_rng(3).integers(0, 256, (3, 7, 4 * allocated // 8), np.uint8).tobytes()
    planes = [raw[k * len(raw) // 3 : (k + 1) * len(raw) // 3] for k in range(3)]
    bits = {"BitsAllocated": allocated, "BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": signed}

    def each(k: int) -> dict:
        return {**bits, "PixelData": planes[k], "Rows": 7, "Columns": 4}

    write_series(tmp_path, np.zeros((3, 7, 4), np.int16), each=each)
    for path in tmp_path.glob("*.dcm"):
        ds = dcmread(path)
        save(ds, path, syntax)
    fast = convert(CONVERTER, one(tmp_path)).arrays[0]
    monkeypatch.setattr(_dicom_planes.PlaneFile, "_as_it_lies", False)
    np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path)).arrays[0], fast)


def test_a_header_may_be_longer_than_what_is_read_at_once(tmp_path):
    ds = slice_dataset(PLANES[0], 1, 0.0)
    for number in range(40):
        ds.private_block(0x0009 + 2 * number, "ACME", create=True).add_new(1, "OB", bytes(5000))
    path = save(ds, tmp_path / "x.dcm")
    assert agree(path)
    with parsing(), opened_header(path, ("Rows",)) as (header, _):
        assert header.Rows == 6
