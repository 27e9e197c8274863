"""Values that come through a Modality LUT (FIDELITY I06; PS3.3 C.11.1.1), beside pydicom's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import harmonize as hz
from converters.dicom_files import code_of, planar_dataset, save, stored_planes, write_series
from harmonize.data import PatchDataset
from harmonize.ingest import ProjectKey
from harmonize.maintain.verify import verify
from harmonize_schemas import Image, ValueTable

KEY = ProjectKey(b"k" * 32)


def lut(first: int, entries: np.ndarray, bits: int = 16, signed: bool = False, vr: str = "US") -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 65536, first, bits])
    item.ModalityLUTType = "US"
    words = [int(one) for one in entries]
    item.add_new("LUTData", vr, words if vr == "US" else np.array(words, "<u2").tobytes())
    return [item]


def curve(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, count)


def radiograph(low: int, high: int, signed: bool = False, **changes: Any) -> Dataset:
    """Every stored value from ``low`` to ``high``."""
    plane = np.resize(np.arange(low, high + 1), (64, 64)).astype(np.int16 if signed else np.uint16)
    sizes = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": int(signed)}
    pair = dict.fromkeys(("RescaleSlope", "RescaleIntercept"))
    return planar_dataset(plane, **{**sizes, **pair, "BurnedInAnnotation": "NO", **changes})


def image_of(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> hz.store.views.ImageView:
    save(ds, folder / "in" / "x.dcm", syntax)
    assert hz.convert([folder / "in"], into=folder / "s.zarr", key=KEY).failures == []
    store = hz.open(folder / "s.zarr")
    (name,) = store.recordings["recording_id"]
    image = store[name].image
    assert image is not None
    return image


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(("first", "count", "signed"), [(0, 4096, False), (100, 900, False), (-200, 300, True)])
def test_i06_values_come_from_the_table(tmp_path, vr, syntax, first, count, signed):
    """Stored values lie below its first entry and above its last, too."""
    low, high = (-500, 500) if signed else (0, 4000)
    ds = radiograph(low, high, signed, ModalityLUTSequence=lut(first, curve(count), signed=signed, vr=vr))
    image = image_of(ds, tmp_path, syntax)
    read = pydicom.dcmread(tmp_path / "in" / "x.dcm")
    stored = read.pixel_array
    np.testing.assert_array_equal(image.digital().T, stored)  # as they lie
    index = np.clip(stored.astype(int) - first, 0, count - 1)
    np.testing.assert_array_equal(image.read().T, curve(count)[index])
    if not signed:  # pydicom takes signed first values for unsigned
        np.testing.assert_array_equal(image.read().T, apply_modality_lut(stored, read))


def test_i06_a_table_of_a_big_endian_file(tmp_path):
    table = lut(0, curve(4096), vr="OW")
    table[0]["LUTData"].value = curve(4096).astype(">u2").tobytes()
    ds = radiograph(0, 4000, ModalityLUTSequence=table)
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    image = image_of(ds, tmp_path, ExplicitVRBigEndian)
    np.testing.assert_array_equal(image.read(), curve(4096)[image.digital()])


def test_i06_a_table_of_bytes_and_of_65536_entries(tmp_path):
    data = curve(256) % 256
    ds = radiograph(0, 300, ModalityLUTSequence=lut(0, data, bits=8))
    image = image_of(ds, tmp_path / "8")
    np.testing.assert_array_equal(image.read(), data[np.minimum(image.digital(), 255)])
    ds = radiograph(60_000, 63_999, ModalityLUTSequence=lut(0, curve(65536), vr="OW"))
    image = image_of(ds, tmp_path / "16")
    np.testing.assert_array_equal(image.read(), curve(65536)[image.digital()])


def test_i06_padding_is_told_before_the_table(tmp_path):
    ds = radiograph(0, 4000, ModalityLUTSequence=lut(0, np.zeros(4096, int)), PixelPaddingValue=7)
    image = image_of(ds, tmp_path)
    assert np.array_equal(np.isnan(image.read()), image.digital() == 7)


def test_i06_patches_and_whole_images_have_the_same_values(tmp_path):
    planes = stored_planes(6, 16, 16)
    table = lut(-2048, np.arange(4096)[::-1], signed=True)
    write_series(tmp_path / "in", planes, ModalityLUTSequence=table, RescaleSlope=None, RescaleIntercept=None)
    hz.convert([tmp_path / "in"], into=tmp_path / "s.zarr", key=KEY)
    store = hz.open(tmp_path / "s.zarr")
    (name,) = store.recordings["recording_id"]
    values = store[name].image.read()
    np.testing.assert_array_equal(values.T, (4095 - (planes.astype(int) + 2048)))
    (patch,) = PatchDataset(store, patch=values.shape)
    np.testing.assert_array_equal(patch["image"][0].numpy(), values)
    assert verify(store).findings == []


def test_i06_slices_with_other_tables_are_refused(tmp_path):
    tables = [lut(-2048, curve(4096, seed=k), signed=True) for k in range(3)]
    pair = {"RescaleSlope": None, "RescaleIntercept": None}
    write_series(tmp_path / "a", stored_planes(3), each=lambda k: {"ModalityLUTSequence": tables[k]}, **pair)
    assert code_of(tmp_path / "a") == "unsupported_rescale"


@pytest.mark.parametrize(
    "changes",
    [
        {"LUTDescriptor": [300, 0, 16]},  # of 256 entries
        {"LUTDescriptor": [256, 0, 32]},
        {"LUTDescriptor": [256, 0]},
        {"LUTDescriptor": None},
        {"LUTData": None},
    ],
)
def test_i06_a_table_that_does_not_close_is_refused(tmp_path, changes):
    table = lut(0, curve(256))
    for name, value in changes.items():
        if value is None:
            delattr(table[0], name)
        else:
            table[0][name].value = value
    save(radiograph(0, 300, ModalityLUTSequence=table), tmp_path / "x.dcm")
    assert code_of(tmp_path) == "invalid_header"


def test_i06_units_of_tables(tmp_path):
    table = lut(-2048, np.arange(4096), signed=True)
    table[0].ModalityLUTType = "HU"
    write_series(tmp_path / "in", stored_planes(3), ModalityLUTSequence=table, RescaleType=None)
    hz.convert([tmp_path / "in"], into=tmp_path / "s.zarr", key=KEY)
    store = hz.open(tmp_path / "s.zarr")
    image = store[store.recordings["recording_id"][0]].image.meta
    assert (image.unit, image.slopes, image.intercepts) == ("HU", (1.0,), (0.0,)), "the table goes before the pair"


def test_a_table_and_a_slope_exclude_each_other():
    fields: dict[str, Any] = {"axes": ("y", "x"), "shape": (2, 2), "dtype": "int16", "affine": None}
    fields |= {"affine_source": "unknown", "spacing_mm": None, "spacing_source": "unknown"}
    table = ValueTable(first=0, values=(1, 2))
    assert Image(**fields, value_table=table).value_table == table
    with pytest.raises(ValueError, match="a table"):
        Image(**fields, value_table=table, slopes=(2.0,))
