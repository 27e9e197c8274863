"""Headers are read once for grouping, a description and its samples, and again where a file may have changed."""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import EnhancedMRImageStorage, ImplicitVRLittleEndian

from converters.conformance import only_source, sources_in
from converters.dicom_files import CONVERTER, at, cine_dataset, enhanced_dataset, save, stored_planes, write_series
from converters.seg_files import seg_dataset
from converters.waveform_files import annotation, group, noise, waveform_dataset
from harmonize_converters import _dicom_header, _dicom_series
from harmonize_converters._dicom_recent import Recent
from harmonize_converters._dicom_series import KEPT_BYTES
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles

PLANES = stored_planes(5)


@pytest.fixture
def headers_read(monkeypatch) -> list[Path]:
    """The files whose headers are read, in order."""
    paths: list[Path] = []
    walk = _dicom_header.walk

    def counted(opened, tags, until):
        paths.append(Path(opened.name))
        return walk(opened, tags, until)

    monkeypatch.setattr(_dicom_header, "walk", counted)
    return paths


def read(source: SourceFiles) -> np.ndarray:
    description = CONVERTER.describe(source).description
    return np.concatenate([block.samples for block in CONVERTER.read(source, description, 1)])


def test_headers_are_read_once(tmp_path: Path, headers_read: list[Path]) -> None:
    source = only_source(CONVERTER, write_series(tmp_path, PLANES))
    np.testing.assert_array_equal(read(source), PLANES)
    assert sorted(headers_read) == sorted(file.path for file in source.files)


def of_every_kind(folder: Path) -> dict[str, np.ndarray]:
    """Images of each kind of object, by key of their source without what names a series."""
    write_series(folder / "series", PLANES)
    macros = [at((0.0, 0.0, k % 2), MREchoSequence={"EffectiveEchoTime": 1.0 + k // 2}) for k in range(4)]
    echoes = enhanced_dataset(PLANES[:4], macros, SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    echoes["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    save(echoes, folder / "echoes" / "x.dcm")
    save(cine_dataset(PLANES), folder / "cine.dcm", ImplicitVRLittleEndian)
    mask = (PLANES[:2] > PLANES[:2].mean()).astype(np.uint8)
    save(seg_dataset([(0.0, 1, mask[0]), (2.5, 1, mask[1])]), folder / "seg.dcm")
    return {
        "series": PLANES,
        "echoes#EchoTime%3D1.0": PLANES[:2],
        "echoes#EchoTime%3D2.0": PLANES[2:4],
        "cine.dcm": PLANES,
        "seg.dcm": mask,
    }


@pytest.mark.parametrize("most", [KEPT_BYTES, 0])
def test_headers_of_every_kind_of_image_are_read_once_if_they_fit(
    tmp_path: Path, headers_read: list[Path], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(_dicom_series, "KEPT_BYTES", most)
    images = of_every_kind(tmp_path / "in")
    found = {}
    for source in sources_in(CONVERTER, tmp_path / "in"):
        source = pickle.loads(pickle.dumps(source))  # as another process gets it
        described = CONVERTER.describe(source).description
        there = replace(source, peeked=())
        samples = np.concatenate([block.samples for block in CONVERTER.read(there, described, 1)])
        found[re.sub("^in/|/[^#]*", "", source.key)] = samples
    assert found.keys() == images.keys()
    for name, samples in found.items():
        np.testing.assert_array_equal(samples, images[name])
    files = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert len(files) == 8
    # Else for grouping, again for descriptions, of the echoes also to name them, and of labels also to read them.
    assert len(headers_read) == (8 if most else 8 + (5 + 2 + 1 + 1) + 1 + 1)
    assert set(headers_read) == set(files)


def test_a_header_that_was_kept_is_of_the_file_as_it_was_found(tmp_path: Path, headers_read: list[Path]) -> None:
    source = only_source(CONVERTER, write_series(tmp_path, PLANES))
    kept = dict(zip(source.files, source.peeked, strict=True))
    a, b = source.files[:2]
    swapped = replace(source, peeked=(kept[b], kept[a], *source.peeked[2:]))
    headers_read.clear()
    np.testing.assert_array_equal(read(swapped), PLANES)
    assert headers_read == [a.path, b.path]


def test_samples_are_read_elsewhere_without_headers(tmp_path: Path, headers_read: list[Path]) -> None:
    """A description goes to other processes with where the planes lie, which is no part of what it says."""
    found = only_source(CONVERTER, write_series(tmp_path, PLANES))
    source, description = pickle.loads(pickle.dumps((found, CONVERTER.describe(found).description)))
    headers_read.clear()
    blocks = list(CONVERTER.read(source, description, 1))
    assert headers_read == []
    bare = replace(description, reading=b"")
    assert bare == description
    again = list(CONVERTER.read(replace(source, peeked=()), bare, 1))
    assert len(headers_read) == len(source.files)
    for one, other in zip(blocks, again, strict=True):
        assert one.start == other.start
        np.testing.assert_array_equal(one.samples, other.samples)


def test_headers_are_read_again_where_a_time_differs(tmp_path: Path, headers_read: list[Path]) -> None:
    source = only_source(CONVERTER, write_series(tmp_path, PLANES))
    headers_read.clear()
    os.utime(source.files[2].path, ns=(0, source.files[2].mtime_ns + 1))
    np.testing.assert_array_equal(read(source), PLANES)
    assert len(headers_read) == 2 * len(source.files)


def source_of(path: Path) -> SourceFiles:
    state = path.stat()
    return SourceFiles("x", path.name, (FoundFile(path, path.name, state.st_size, state.st_mtime_ns),), ("slice",))


def test_what_is_kept_is_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    sources = []
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
        sources.append(source_of(tmp_path / name))
    a, b, c = sources
    recent: Recent[str] = Recent(10)
    recent.keep(a, "a", 4)
    recent.keep(b, "b", 4)
    assert recent.of(a) == "a"
    recent.keep(c, "c", 4)
    assert [recent.of(one) for one in sources] == ["a", None, "c"]
    recent.keep(b, "too large", 11)
    assert [recent.of(one) for one in sources] == ["a", None, "c"]
    recent.keep(a, "more", 10)
    assert [recent.of(one) for one in sources] == ["more", None, None]


def test_a_file_that_is_gone_or_another_is_not_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    source = source_of(path)
    recent: Recent[str] = Recent(10)
    recent.keep(source, "a", 1)
    assert recent.of(replace(source, member="other")) is None
    path.unlink()
    assert recent.of(source) is None


def test_the_header_of_a_waveform_is_read_once_for_its_samples(tmp_path: Path, headers_read: list[Path]) -> None:
    save(waveform_dataset([group(noise(2, 40))], [annotation()]), tmp_path / "x.dcm")
    source = only_source(CONVERTER, tmp_path)
    headers_read.clear()
    description = CONVERTER.describe(source).description
    list(CONVERTER.read(source, description, 1 << 20))
    assert len(headers_read) == 1
    assert len(list(CONVERTER.annotations(source, description))) == 1
    assert len(headers_read) == 2, "up to the annotations"
    save(waveform_dataset([group(noise(3, 40))]), tmp_path / "x.dcm")  # not the file that was found
    with pytest.raises(ConversionError):
        list(CONVERTER.read(source, description, 1 << 20))
