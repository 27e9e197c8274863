"""DICOM waveforms in a store: beside images and other ECGs, streamed in mV, compared with their source again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.waveforms import multiplex_array

import harmonize as hz
from converters.dicom_files import save, stored_planes, write_series
from converters.waveform_files import annotation, group, noise, waveform_dataset
from harmonize.data import WindowDataset
from harmonize.ingest import ProjectKey
from harmonize.ingest.identify import Policy
from harmonize.maintain.verify import verify
from harmonize_schemas import Recipe

KEY = ProjectKey(b"k" * 32)
ECG = Path(get_testdata_file("waveform_ecg.dcm"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_series(tmp_path / "in" / "scan", stored_planes(4))
    shutil.copy(ECG, tmp_path / "in" / "ecg")
    notes = [
        annotation((1, 1), ("10:9472", "MDC"), TemporalRangeType="SEGMENT", ReferencedSamplePositions=[501, 1001]),
        annotation((1, 0), UnformattedTextValue="seen by Planted"),
    ]
    ds = waveform_dataset([group(noise(2, 2500)), group(noise(1, 500), rate="100")], notes)
    save(ds, tmp_path / "in" / "both")
    return tmp_path / "in"


def convert(folder: Path, into: Path) -> hz.Store:
    hz.convert([folder], into=into, recipe=Recipe(dataset="in"), key=KEY)
    return hz.open(into)


def test_i14_an_ecg_is_windows_in_mv(folder: Path, tmp_path: Path) -> None:
    store = convert(folder, tmp_path / "s.zarr")
    assert sorted(store.recordings["modality"]) == ["ct", "ecg", "ecg"]
    windows = WindowDataset(store, window=5.0, rate=1000, channels=["V6", "I"], where=pl.col("duration_s") == 10)
    assert len(windows) == 2
    got = np.concatenate([windows[number]["signal"].numpy() for number in (0, 1)], axis=1)
    wanted = multiplex_array(pydicom.dcmread(ECG), 0, as_raw=False).T / 1000  # of µV
    np.testing.assert_allclose(got, wanted[[11, 0]], rtol=1e-6, atol=1e-7)


def test_i14_events_are_those_that_a_vocabulary_has(folder: Path, tmp_path: Path) -> None:
    store = convert(folder / "both", tmp_path / "s.zarr")
    (name,) = store.recordings["recording_id"]
    meta = store[name].meta
    assert [stream.name for stream in meta.streams] == ["500hz", "100hz"]
    assert "annotation_text_dropped" in meta.flags
    events = store.annotations.select("label", "onset_s", "duration_s", "channel", "text").rows()
    assert sorted(events) == [("event", 0.0, 5.0, None, None), ("rhythm:AFIB", 1.0, 1.0, 0, None)]


def test_i14_the_store_is_the_source(folder: Path, tmp_path: Path) -> None:
    store = convert(folder, tmp_path / "s.zarr")
    report = verify(store, [folder], Policy(Recipe(dataset="in"), None, KEY))
    assert (report.compared, report.unknown, report.findings) == (3, 0, [])
