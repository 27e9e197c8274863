"""What every converter must do (DESIGN 7), as one class of tests to inherit.

A converter's test class gives ``converter``, ``source_files``, ``independent`` and ``large_source``::

    class TestEdf(ConverterConformance):
        converter = EdfConverter()
        planted = ("Doe",)

        @pytest.fixture
        def source_files(self, tmp_path): ...
"""

from __future__ import annotations

import pickle
import random
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from harmonize_converters.contract import (
    HEAD_BYTES,
    Block,
    ConversionError,
    Converter,
    Described,
    Description,
    FoundAnnotation,
    FoundFile,
    SourceFiles,
)
from harmonize_schemas import vocabulary


def found(path: Path, folder: Path) -> FoundFile:
    """One file as the finder gives it."""
    status = path.stat()
    key = f"{folder.name}/{path.relative_to(folder).as_posix()}"
    return FoundFile(path, key, status.st_size, status.st_mtime_ns)


def find(folder: Path) -> list[FoundFile]:
    """All files below a folder, in order of their keys."""
    return sorted((found(p, folder) for p in folder.rglob("*") if p.is_file()), key=lambda f: f.key)


def head(file: FoundFile) -> bytes:
    """What ``recognize`` is given."""
    with file.path.open("rb") as opened:
        return opened.read(HEAD_BYTES)


def sources_in(converter: Converter, folder: Path) -> list[SourceFiles]:
    """Find, recognise and group, as ingestion does."""
    files = find(folder)
    recognised = [file for file in files if converter.recognize(head(file), file.path.name)]
    return converter.group(recognised, {file.key: file for file in files})


def only_source(converter: Converter, folder: Path) -> SourceFiles:
    """The one source that a folder must hold."""
    (source,) = sources_in(converter, folder)
    return source


def code_of_refusal(converter: Converter, folder: Path) -> str:
    """The code with which a folder's one source must be refused."""
    with pytest.raises(ConversionError) as caught:
        convert(converter, only_source(converter, folder))
    return caught.value.code


@dataclass(frozen=True)
class Outcome:
    """All that one source gives."""

    described: Described
    arrays: list[np.ndarray]
    blocks: int
    annotations: list[FoundAnnotation]

    @property
    def description(self) -> Description:
        return self.described.description


def shapes(description: Description) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of what must be read: (channel, time) of each stream, or (plane, y, x)."""
    if description.image is not None:
        image = description.image
        return [((image.n_planes, *image.shape[-2:]), np.dtype(image.dtype))]
    return [((len(s.channels), s.n_samples), np.dtype(s.dtype)) for s in description.streams]


def collect(description: Description, blocks: Sequence[Block]) -> list[np.ndarray]:
    """Blocks put together, checked against the description on the way."""
    wanted = shapes(description)
    arrays = [np.empty(shape, dtype) for shape, dtype in wanted]
    at = [0] * len(arrays)
    for block in blocks:
        index = 0 if description.image is not None else block.stream
        assert (block.stream is None) == (description.image is not None)
        assert index is not None
        assert block.start == at[index], "blocks of a stream come in order without gaps"
        assert block.samples.dtype == wanted[index][1]
        assert block.samples.ndim == len(wanted[index][0])
        if description.image is None:
            assert block.samples.shape[0] == wanted[index][0][0]
            assert block.samples.shape[1] > 0
            at[index] += block.samples.shape[1]
            assert at[index] <= wanted[index][0][1]
            arrays[index][:, block.start : at[index]] = block.samples
        else:
            assert block.samples.shape[1:] == wanted[index][0][1:]
            assert block.samples.shape[0] > 0
            at[index] += block.samples.shape[0]
            assert at[index] <= wanted[index][0][0]
            arrays[index][block.start : at[index]] = block.samples
    full = [shape[0] if description.image is not None else shape[1] for shape, _ in wanted]
    assert at == full, "the blocks cover what the description says"
    return arrays


def convert(converter: Converter, source: SourceFiles, block_bytes: int = 1 << 20) -> Outcome:
    """Describe and read one source, checking that the types are right."""
    described = converter.describe(source)
    description = described.description
    assert set(description.flags) <= set(vocabulary("flags"))
    assert description.modality in vocabulary("modalities")
    blocks = list(converter.read(source, description, block_bytes))
    arrays = collect(description, blocks)
    annotations = list(converter.annotations(source, description))
    assert annotations == sorted(annotations, key=lambda a: a.onset_s)
    assert all(a.label is None or a.label in vocabulary("annotation_labels") for a in annotations)
    return Outcome(described, arrays, len(blocks), annotations)


def changed(source: SourceFiles, index: int, data: bytes, folder: Path) -> SourceFiles:
    """The same source with file ``index`` holding other bytes; the source's files lie in ``folder``."""
    files = []
    for i, file in enumerate(source.files):
        path = folder / file.path.name
        path.write_bytes(data if i == index else file.path.read_bytes())
        files.append(replace(file, path=path, size=path.stat().st_size, mtime_ns=path.stat().st_mtime_ns))
    return replace(source, files=tuple(files))


class ConverterConformance:
    """Inherit and give the four things below."""

    converter: Converter
    planted: Sequence[str] = ()
    """Identifying texts that the good sources hold; none may reach the description."""
    corruption_rounds = 60
    """Damaged copies made of each file."""

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        """Good, small sources."""
        raise NotImplementedError

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        """One good source of some MB."""
        raise NotImplementedError

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        """Native samples by another reader, or as they were written: (channel, time) of each stream, or
        one array (plane, y, x)."""
        raise NotImplementedError

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        """Lengths to which a file is cut; each must be refused. None for a file that may be cut anywhere."""
        return sorted({n for n in (0, 1, 100, file.size // 2, file.size - 1) if n < file.size})

    def _folder(self, tmp_path: Path, name: str) -> Path:
        folder = tmp_path / f"conformance-{name}"
        folder.mkdir(exist_ok=True)
        return folder

    def test_is_a_converter(self) -> None:
        assert isinstance(self.converter, Converter)
        assert self.converter.name
        assert self.converter.version
        assert all(s == s.lower() and s.startswith(".") for s in self.converter.suffixes)

    def test_survives_pickling(self, source_files: list[SourceFiles]) -> None:
        again = pickle.loads(pickle.dumps(self.converter))
        assert again.name == self.converter.name
        for source in source_files:
            described = again.describe(pickle.loads(pickle.dumps(source)))
            assert pickle.loads(pickle.dumps(described)) == described

    def test_recognises_by_bytes(self, source_files: list[SourceFiles]) -> None:
        for source in source_files:
            assert self.converter.recognize(head(source.primary), source.primary.path.name)

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0", b"\0" * HEAD_BYTES, b"Dear reader,\nthis is a letter.\n" * 50, b"\xff" * HEAD_BYTES],
        ids=["empty", "one", "zeros", "text", "ones"],
    )
    def test_recognises_no_other_bytes(self, data: bytes) -> None:
        for suffix in ("", *sorted(self.converter.suffixes)):
            assert not self.converter.recognize(data[:HEAD_BYTES], f"file{suffix}")

    def test_recognises_no_noise(self) -> None:
        rng = random.Random(7)
        for suffix in ("", *sorted(self.converter.suffixes)):
            for size in (16, 300, HEAD_BYTES):
                for _ in range(20):
                    assert not self.converter.recognize(rng.randbytes(size), f"file{suffix}")

    def test_grouping_keeps_every_file(self, source_files: list[SourceFiles]) -> None:
        files = {file.key: file for source in source_files for file in source.files}
        primaries = [file for file in files.values() if self.converter.recognize(head(file), file.path.name)]
        grouped = self.converter.group(primaries, files)
        assert {f.key for f in primaries} <= {f.key for source in grouped for f in source.files}
        for source in grouped:
            assert source.converter == self.converter.name
            assert len(source.files) == len(source.roles)

    def test_description_is_deterministic(self, source_files: list[SourceFiles]) -> None:
        for source in source_files:
            assert self.converter.describe(source) == self.converter.describe(source)

    def test_round_trip_against_an_independent_reader(self, source_files: list[SourceFiles]) -> None:
        for source in source_files:
            outcome = convert(self.converter, source)
            expected = self.independent(source)
            assert len(outcome.arrays) == len(expected)
            for got, want in zip(outcome.arrays, expected, strict=True):
                np.testing.assert_array_equal(got, want)

    def test_block_sizes_do_not_matter(self, source_files: list[SourceFiles]) -> None:
        for source in source_files:
            whole = convert(self.converter, source, 1 << 40)
            for block_bytes in (1, 1000, 65536):
                parts = convert(self.converter, source, block_bytes)
                assert parts.description == whole.description
                assert parts.annotations == whole.annotations
                for got, want in zip(parts.arrays, whole.arrays, strict=True):
                    np.testing.assert_array_equal(got, want)

    def test_reading_does_not_depend_on_state(self, source_files: list[SourceFiles]) -> None:
        for source in source_files:
            description = self.converter.describe(source).description
            first = self.converter.read(source, description, 1000)
            next(first)
            arrays = collect(description, list(self.converter.read(source, description, 1 << 20)))
            for got, want in zip(arrays, self.independent(source), strict=True):
                np.testing.assert_array_equal(got, want)

    def test_truncation_is_refused(self, source_files: list[SourceFiles], tmp_path: Path) -> None:
        for number, source in enumerate(source_files):
            for index, (file, role) in enumerate(zip(source.files, source.roles, strict=True)):
                data = file.path.read_bytes()
                for length in self.truncation_points(file, role):
                    folder = self._folder(tmp_path, f"cut-{number}-{index}-{length}")
                    cut = changed(source, index, data[:length], folder)
                    with pytest.raises(ConversionError) as caught:
                        convert(self.converter, cut)
                    assert caught.value.code != "internal_error"

    def test_corruption_never_escapes(self, source_files: list[SourceFiles], tmp_path: Path) -> None:
        folder = self._folder(tmp_path, "noise")
        for number, source in enumerate(source_files):
            for index, file in enumerate(source.files):
                data = file.path.read_bytes()
                rng = random.Random(1000 * number + index)
                for round_ in range(self.corruption_rounds):
                    damaged = bytearray(data)
                    # Half of the damage near the start, where headers are.
                    reach = len(damaged) if round_ % 2 else min(len(damaged), 1024)
                    for _ in range(rng.choice((1, 4, 40))):
                        damaged[rng.randrange(reach)] = rng.randrange(256)
                    try:
                        convert(self.converter, changed(source, index, bytes(damaged), folder), 65536)
                    except ConversionError as error:
                        assert error.code != "internal_error"  # noqa: PT017 (either outcome is right)

    def test_missing_file_is_refused(self, source_files: list[SourceFiles], tmp_path: Path) -> None:
        for source in source_files:
            gone = replace(source.primary, path=tmp_path / "gone")
            with pytest.raises(ConversionError):
                convert(self.converter, replace(source, files=(gone, *source.files[1:])))

    def test_description_holds_nothing_identifying(self, source_files: list[SourceFiles]) -> None:
        texts = [file.path.read_bytes() for source in source_files for file in source.files]
        for secret in self.planted:
            assert any(secret.encode() in text for text in texts), f"{secret} is not in the sources"
            for source in source_files:
                assert secret not in repr(self.converter.describe(source).description)

    def test_failures_hold_nothing_identifying(self, source_files: list[SourceFiles], tmp_path: Path) -> None:
        for number, source in enumerate(source_files):
            data = source.primary.path.read_bytes()
            for length in (0, 200, len(data) // 2):
                folder = self._folder(tmp_path, f"secret-{number}-{length}")
                try:
                    convert(self.converter, changed(source, 0, data[:length], folder))
                except ConversionError as error:
                    text = repr(error) + str(error)
                    assert str(folder) not in text
                    assert source.primary.path.name not in text
                    assert not any(secret in text for secret in self.planted)

    def test_memory_is_bounded(self, large_source: SourceFiles) -> None:
        description = self.converter.describe(large_source).description
        total = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in shapes(description))
        assert total > 2_000_000, "the large source is too small to tell"
        block_bytes = 50_000
        for _ in self.converter.read(large_source, description, block_bytes):
            break  # imports and caches are not what is measured
        tracemalloc.start()
        try:
            count = sum(1 for _ in self.converter.read(large_source, description, block_bytes))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count > 1
        assert peak < 10 * block_bytes + 500_000
