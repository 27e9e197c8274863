"""Frames found in DICOM files and decoded alone (FIDELITY I05, I09)."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from converters.conformance import convert, find
from converters.dicom_files import (
    CONVERTER,
    code_of,
    converted,
    j2k_frame,
    one,
    rle_frame,
    save,
    stack,
    stored_planes,
)
from harmonize_converters import _dicom_planes
from harmonize_converters._dicom_pixels import PixelFormat
from harmonize_converters.contract import ConversionError


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_i09_frames_in_fragments_with_and_without_offset_tables(tmp_path, fragments, table):
    planes = stored_planes(4, 32, 32)
    order = [2, 0, 3, 1]
    ds = stack(planes, order)
    frames = [j2k_frame(planes[k]) for k in order]
    if table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table == "basic")
    ds["PixelData"].is_undefined_length = True
    outcome = converted(ds, tmp_path, JPEG2000Lossless)
    np.testing.assert_array_equal(outcome.arrays[0], planes)


def _fragmented(frames: list[bytes], cut: int, table: list[int] | None) -> bytes:
    """Encapsulated pixel data of two fragments a frame, the first ``cut`` bytes long."""
    data, starts = b"", []
    for frame in frames:
        starts.append(len(data))
        even = frame + b"\0" * (len(frame) % 2)
        for fragment in (even[:cut], even[cut:]):
            data += b"\xfe\xff\x00\xe0" + len(fragment).to_bytes(4, "little") + fragment
    offsets = b"".join(start.to_bytes(4, "little") for start in (starts if table is None else table))
    return b"\xfe\xff\x00\xe0" + len(offsets).to_bytes(4, "little") + offsets + data


@pytest.mark.parametrize(
    ("table", "code"),
    [(None, None), ([], "corrupt"), ([0, 4, 8, 12], "corrupt"), ([0, 0, 0, 0], "corrupt"), ([0], "corrupt")],
    ids=["right", "none", "wrong", "zeros", "short"],
)
def test_i09_the_basic_offset_table_tells_frames_that_nothing_else_does(tmp_path, table, code):
    planes = stored_planes(4, 32, 32)
    ds = stack(planes)  # two bytes of a codestream are no sign of its start
    ds.PixelData = _fragmented([j2k_frame(plane) for plane in planes], 2, table)
    ds["PixelData"].is_undefined_length = True
    save(ds, tmp_path / "x.dcm", JPEG2000Lossless)
    if code:
        assert code_of(tmp_path) == code
    else:
        np.testing.assert_array_equal(convert(CONVERTER, one(tmp_path)).arrays[0], planes)


def test_i09_run_lengths_without_an_offset_table(tmp_path):
    planes = stored_planes(4, 16, 16)
    ds = stack(planes)
    ds.PixelData = encapsulate([rle_frame(plane) for plane in planes], has_bot=False)
    ds["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(converted(ds, tmp_path, RLELossless).arrays[0], planes)


def test_i09_fragments_that_make_no_whole_frames_are_refused(tmp_path):
    planes = stored_planes(4, 32, 32)
    ds = stack(planes)
    ds.PixelData = encapsulate([j2k_frame(plane) for plane in planes[:3]], has_bot=False)
    ds["PixelData"].is_undefined_length = True
    save(ds, tmp_path / "a" / "x.dcm", JPEG2000Lossless)
    assert code_of(tmp_path / "a") == "corrupt"
    ds.PixelData = encapsulate([j2k_frame(plane) for plane in planes] + [j2k_frame(planes[0])])
    ds["PixelData"].is_undefined_length = True
    save(ds, tmp_path / "b" / "x.dcm", JPEG2000Lossless)
    assert code_of(tmp_path / "b") == "corrupt"


def test_i05_few_frames_are_in_memory(tmp_path, monkeypatch):
    """No read takes more bytes than one frame's, however many there are."""
    save(stack(np.concatenate([stored_planes(10, 256, 256, seed) for seed in range(4)])), tmp_path / "x.dcm")
    source = one(tmp_path)
    sizes: list[int] = []
    read = _dicom_planes.PlaneFile._copied

    def counted(self, offset, length):
        sizes.append(length)
        return read(self, offset, length)

    monkeypatch.setattr(_dicom_planes.PlaneFile, "_copied", counted)
    outcome = convert(CONVERTER, source, 1)
    assert (outcome.blocks, len(sizes), max(sizes)) == (40, 40, 256 * 256 * 2)


def test_i09_a_frame_number_that_is_not_there(tmp_path):
    save(stack(stored_planes(3)), tmp_path / "x.dcm")
    (file,) = find(tmp_path)
    expected = PixelFormat(6, 5, 16, 12, True, "MONOCHROME2", str(ExplicitVRLittleEndian), False)
    with _dicom_planes.PlaneFiles([file]) as planes, pytest.raises(ConversionError) as caught:
        planes.plane(0, 3, expected)
    assert caught.value.code == "source_changed"
