"""A folder as a DICOM export is: several series mixed under names without suffix, an index, other objects, a bad file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom

import harmonize as hz
from converters.dicom_files import SERIES, cine_dataset, save, stack, stored_planes, write_series
from harmonize.ingest import ProjectKey

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def test_an_export_is_converted_whole(tmp_path: Path) -> None:
    """Each series is one recording with the right voxels, the index none, and what is no image a failure with its name."""
    export = tmp_path / "export"
    thin, thick = stored_planes(5, seed=1), stored_planes(3, seed=2)
    frames, cine = stored_planes(4, seed=3), stored_planes(6, seed=4)
    write_series(tmp_path / "thin", thin)
    write_series(tmp_path / "thick", thick, SeriesInstanceUID=f"{SERIES}.9", step=5.0)
    save(stack(frames, [2, 0, 3, 1], SeriesInstanceUID=f"{SERIES}.10"), tmp_path / "more" / "a")
    save(cine_dataset(cine, SeriesInstanceUID=f"{SERIES}.11"), tmp_path / "more" / "b")
    shutil.copy(PYDICOM_FILES / "reportsi.dcm", tmp_path / "more" / "report")
    (tmp_path / "more" / "noise").write_bytes(bytes(128) + b"DICM" + bytes(range(256)))
    (export / "IMAGES").mkdir(parents=True)
    found = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for number, path in enumerate(found):
        shutil.copy(path, export / "IMAGES" / f"I{number * 7919 % 101:07d}")
    shutil.copy(PYDICOM_FILES / "dicomdirtests" / "DICOMDIR", export / "DICOMDIR")

    outcome = hz.convert(export, tmp_path / "s.zarr", key=ProjectKey(b"t" * 32))
    assert len(list((export / "IMAGES").iterdir())) == len(found) == 5 + 3 + 4
    assert sorted(row["code"] for row in outcome.failures) == ["invalid_header", "unsupported_sop_class"]
    assert outcome.converted == 4
    store = hz.open(tmp_path / "s.zarr")
    stored = [store[name].image.digital() for name in store.recordings["recording_id"]]
    wanted = {len(planes): planes for planes in (thin, thick, frames, cine)}
    for array in stored:
        np.testing.assert_array_equal(np.squeeze(array).T, wanted.pop(array.size // 30))
    assert not wanted
