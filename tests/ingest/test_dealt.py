"""Work shared by processes and the one that deals it out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from converters.dicom_files import stored_planes, write_series
from harmonize.ingest import dealt as module
from harmonize.ingest.dealt import dealt
from harmonize.ingest.find import find, group, walk
from harmonize.ingest.pool import process_pool
from harmonize.ingest.registry import converters
from realdata import DATA, needs_data


class Idle(Executor):
    """Never begins."""

    def __init__(self) -> None:
        self.given: list[Future] = []

    def submit(self, fn, /, *args, **kwargs):
        self.given.append(Future())
        return self.given[-1]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks as small as these tests."""
    monkeypatch.setattr(module, "ALONE", 2)
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "AHEAD", 4)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with process_pool(2) as executor:
        assert executor is not None
        yield executor


def square(number: int) -> int:
    return number * number


def deadly(parent: int, number: int) -> int:
    """Killed at 5, as for memory, in any other process."""
    if number == 5 and os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wrong(number: int) -> int:
    raise KeyError(number)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 50, 100])
def test_every_item_once_and_in_order(pool: Executor, n: int) -> None:
    expected = [k * k for k in range(n)]
    assert list(dealt(pool, square, range(n), -1)) == expected
    assert list(dealt(None, square, range(n), -1)) == expected
    with ThreadPoolExecutor(2) as threads:
        assert list(dealt(threads, square, range(n), -1)) == expected


def test_this_process_does_what_no_other_has_begun() -> None:
    idle = Idle()
    assert list(dealt(idle, square, range(100), -1)) == [k * k for k in range(100)]
    assert len(idle.given) == 34
    assert all(one.cancelled() for one in idle.given)


def test_a_killed_process_loses_one_item(pool: Executor) -> None:
    # One chunk, which a process that waits begins at once.
    assert list(dealt(pool, partial(deadly, os.getpid()), range(5, 8), -1)) == [-1, 6, 7]
    assert list(dealt(pool, square, range(50), -1)) == [k * k for k in range(50)]


def test_errors_are_raised(pool: Executor) -> None:
    with pytest.raises(KeyError):
        list(dealt(pool, wrong, range(10), -1))


@needs_data
def test_many_files_are_found_as_few_are(pool: Executor, tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "series", stored_planes(9))
    (tmp_path / "in" / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM")
    paths = [tmp_path / "in", *(DATA / name for name in ("ptb-xl/records100", "wfdb", "edf", "dicom/ge"))]
    walked = walk(paths)
    one, several = find(paths, converters()), group(walked, converters(), None, pool)
    assert len(one.sources) > 180
    assert several.sources == one.sources
    assert several.side_files == one.side_files
    assert [(file, error.code) for file, error in several.failures] == [
        (file, error.code) for file, error in one.failures
    ]


def test_a_lost_look_leaves_a_file_alone(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", stored_planes(3))
    files = list(walk([folder]).files.values())
    dicom = converters()["dicom"]
    (whole,) = dicom.group(files, {}, map(dicom.peek, files))
    assert whole.files == tuple(sorted(files, key=lambda file: file.key))
    lost = dicom.group(files, {}, (None if k == 1 else dicom.peek(file) for k, file in enumerate(files)))
    assert sorted(len(source.files) for source in lost) == [1, 2]
