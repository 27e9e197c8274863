"""Small steps that the tests of EDF share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.conformance import Outcome, convert, found
from harmonize_converters.contract import ConversionError, SourceFiles
from harmonize_converters.edf import EdfConverter

CONVERTER = EdfConverter()


def source_of(path: Path) -> SourceFiles:
    file = found(path, path.parent)
    return SourceFiles("edf", file.key, (file,), ("signal",))


def write(folder: Path, data: bytes, name: str = "recording.edf") -> SourceFiles:
    path = folder / name
    path.write_bytes(data)
    return source_of(path)


def ramp(n: int, start: int = -20, step: int = 3) -> np.ndarray:
    return start + step * np.arange(n)


def run(tmp_path: Path, data: bytes) -> Outcome:
    return convert(CONVERTER, write(tmp_path, data))


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(ConversionError) as caught:
        run(tmp_path, data)
    return caught.value.code
