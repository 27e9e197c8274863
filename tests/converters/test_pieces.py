"""Pieces of a file from a map equal those of plain reads, and what cannot be had is an error, not a signal."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonize_converters import _pieces
from harmonize_converters._pieces import Load, loader, plain
from harmonize_converters.contract import ConversionError

PAGE = mmap.PAGESIZE
SIZE = 5 * PAGE + 123


def populates() -> bool:
    """Whether this system loads pages on request (Linux 5.14)."""
    try:
        with mmap.mmap(-1, PAGE) as pages:
            pages.madvise(_pieces._POPULATE_READ, 0, 1)
    except (OSError, ValueError, AttributeError):
        return False
    return True


needs_populate = pytest.mark.skipif(not populates(), reason="MADV_POPULATE_READ needs Linux 5.14")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "bytes"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes())
    return path


@pytest.fixture(params=[PAGE, 4 << 20])
def stretch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes are loaded at once: less than the file, more than it."""
    monkeypatch.setattr(_pieces, "_STRETCH_BYTES", request.param)
    return int(request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # which changes nothing between examples
@given(pieces=st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=20))
def test_map_and_plain_reads_are_the_files_bytes(file: Path, stretch: int, pieces: list[tuple[int, int]]) -> None:
    whole = file.read_bytes()
    with file.open("rb", buffering=0) as handle:
        mapped, read = loader(handle, SIZE), plain(handle, SIZE)
        for offset, length in pieces:
            expected = whole[offset : offset + length]
            assert mapped(offset, len(expected)).tobytes() == expected
            assert read(offset, len(expected)).tobytes() == expected


@needs_populate
def test_map_is_used_where_the_system_can(file: Path) -> None:
    with file.open("rb", buffering=0) as handle:
        assert not loader(handle, SIZE)(0, 10).flags.writeable
        assert plain(handle, SIZE)(0, 10).flags.writeable


@pytest.mark.parametrize("fault", [OSError(errno.EINVAL, "old kernel"), AttributeError("no madvise")])
def test_plain_reads_where_the_system_cannot(file: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise fault

    monkeypatch.setattr(_pieces.mmap, "mmap", Old)
    with file.open("rb", buffering=0) as handle:
        assert loader(handle, SIZE)(7, 10).tobytes() == file.read_bytes()[7:17]


@pytest.mark.parametrize("make", [loader, plain])
@pytest.mark.parametrize("left", [0, 1, PAGE, 2 * PAGE - 1, 2 * PAGE + 5, SIZE - 1])
def test_file_that_is_cut_is_an_error(
    make: Callable[[BinaryIO, int], Load], left: int, tmp_path: Path, file: Path, stretch: int
) -> None:
    path = tmp_path / "cut"
    path.write_bytes(file.read_bytes())
    with path.open("rb", buffering=0) as handle:
        load = make(handle, SIZE)
        load(0, SIZE)
        os.truncate(path, left)
        with pytest.raises(ConversionError, match="truncated"):
            load(left // 2, SIZE - left // 2)
        with pytest.raises(ConversionError, match="truncated"):
            load(SIZE - 10, 10)
        assert load(0, left).tobytes() == file.read_bytes()[:left]


def test_what_follows_a_piece_may_be_cut_off(tmp_path: Path, file: Path, stretch: int) -> None:
    """Then the piece itself is still right, though more than it is loaded at once."""
    path = tmp_path / "cut"
    path.write_bytes(file.read_bytes())
    with path.open("rb", buffering=0) as handle:
        load = loader(handle, SIZE)
        load(3 * PAGE, 10)
        os.truncate(path, PAGE + 7)
        assert load(0, PAGE).tobytes() == file.read_bytes()[:PAGE]


@needs_populate
def test_page_that_cannot_be_read_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            if option == _pieces._POPULATE_READ and start:
                raise OSError(errno.EFAULT, "a page could not be had")
            super().madvise(option, start, length)

    monkeypatch.setattr(_pieces, "_STRETCH_BYTES", PAGE)
    monkeypatch.setattr(_pieces.mmap, "mmap", Broken)
    with file.open("rb", buffering=0) as handle:
        load = loader(handle, SIZE)
        load(0, PAGE)
        with pytest.raises(ConversionError, match="unreadable_file"):
            load(2 * PAGE, PAGE)


@needs_populate
def test_memory_in_use_is_a_piece(tmp_path: Path) -> None:
    """Of a file of 256 MB, read in pieces of 1 MB by a process of its own."""
    path = tmp_path / "large"
    with path.open("wb") as handle:
        handle.truncate(256 << 20)
    code = f"""
import resource
from harmonize_converters._pieces import loader
with open({str(path)!r}, "rb", buffering=0) as handle:
    load = loader(handle, 1 << 20)
    load(0, 1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at in range(0, 256 << 20, 1 << 20):
        assert not load(at, 1 << 20).any()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(grown) * 1024 < 16 << 20
