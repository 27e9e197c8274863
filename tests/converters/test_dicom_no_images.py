"""DICOM objects that are neither images of a scan nor signals, refused by the name of what they are (FIDELITY I14)."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from converters.conformance import convert, find, head, sources_in
from converters.dicom_files import CONVERTER, save, slice_dataset, stored_planes
from harmonize_converters._dicom_frames import n_frames
from harmonize_converters._dicom_header import opened_header
from harmonize_converters.contract import ConversionError

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set Storage"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "RT Plan Storage"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RT Dose Storage"),
        ("1.2.840.10008.5.1.4.1.1.88.22", "Enhanced SR Storage"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection Document Storage"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State Storage"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage"),
        ("1.2.840.10008.5.1.4.1.1.9.4.1", "Basic Voice Audio Waveform Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.1", "Spatial Registration Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.5", "Surface Segmentation Storage"),
        ("1.2.840.10008.5.1.4.1.1.30", "Parametric Map Storage"),
    ],
)
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_i14_objects_that_are_no_images_are_named(tmp_path, uid, name, several):
    pixels = dict.fromkeys(("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient"))
    for number in (1, 2) if several else (1,):
        ds = slice_dataset(stored_planes(1)[0], number, 0.0, SOPClassUID=uid, Modality="OT", **pixels)
        save(ds, tmp_path / f"{number}.dcm")
    for source in sources_in(CONVERTER, tmp_path):
        with pytest.raises(ConversionError, match=name) as caught:
            CONVERTER.describe(source)
        assert caught.value.code == "unsupported_sop_class"
    assert sum(len(source.files) for source in sources_in(CONVERTER, tmp_path)) == 1 + several


def test_i05_multiframe_files_of_pydicom_are_refused_by_name():
    codes = {}
    for file in find(PYDICOM_FILES):
        if not CONVERTER.recognize(head(file), file.path.name):
            continue
        try:
            with opened_header(file.path, ("NumberOfFrames",)) as (header, _):
                if n_frames(header) == 1:
                    continue
        except ConversionError:  # test_dicom_real has the damaged ones
            continue
        for source in CONVERTER.group([file], {}):
            try:
                convert(CONVERTER, source)
            except ConversionError as error:
                codes[file.path.name] = error.code
    # All are doses, segmentations, or captures whose frames are not said to be times.
    assert set(codes.values()) == {"unsupported_multiframe", "unsupported_sop_class"}
    assert {"SC_rgb_rle_2frame.dcm", "rtdose.dcm"} <= set(codes)
