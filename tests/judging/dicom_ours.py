"""What harmonize makes of DICOM files, in the judges' terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.conformance import collect, find, found, head, sources_in
from harmonize.store.calibrate import look_up
from harmonize_converters.channels import unit_factor
from harmonize_converters.contract import ConversionError, FoundFile, SourceFiles
from harmonize_converters.dicom import DicomConverter
from harmonize_schemas import Image, SignalStream
from judging.dicom_model import Reading, Signals, Volume

CONVERTER = DicomConverter()
BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Ours:
    """Our reading, the codes and words of what was refused, the flags of what was not. ``seen``: any source at all."""

    reading: Reading
    codes: tuple[str, ...] = ()
    words: str = ""
    flags: tuple[str, ...] = ()
    sources: int = 0

    def __str__(self) -> str:
        if not self.sources:
            return "no recording"
        parts = [str(self.reading)] if self.reading else []
        parts += [f"`{flag}`" for flag in self.flags]
        refused = ", ".join(f"`{code}`" for code in self.codes)
        return "; ".join([*parts, *([f"refused, {refused}"] if refused else [])])


def folder(path: Path) -> Ours:
    """All that is below a folder."""
    return read(sources_in(CONVERTER, path))


def file(path: Path) -> Ours | None:
    """One file alone; None where its bytes are not DICOM's."""
    one = found(path, path.parent)
    return read(CONVERTER.group([one], {})) if CONVERTER.recognize(head(one), path.name) else None


def files_below(path: Path) -> list[FoundFile]:
    """In order of their names."""
    return find(path)


def read(sources: Sequence[SourceFiles]) -> Ours:
    """Describe and read each."""
    volumes: list[Volume] = []
    signals: list[Signals] = []
    refusals: list[ConversionError] = []
    flags: dict[str, None] = {}
    for source in sources:
        try:
            description = CONVERTER.describe(source).description
            arrays = collect(description, list(CONVERTER.read(source, description, BLOCK_BYTES)))
        except ConversionError as error:
            refusals.append(error)
            continue
        if description.image is not None:
            volumes += _volumes(description.image, arrays[0])
        signals += map(_signals, description.streams, arrays if description.streams else ())
        flags |= dict.fromkeys(description.flags)
    codes = tuple(dict.fromkeys(error.code for error in refusals))
    words = "; ".join(dict.fromkeys(str(error).removeprefix(f"{error.code}: ") for error in refusals))
    reading = Reading(tuple(volumes), ", ".join(codes), tuple(signals))
    return Ours(reading, codes, words, tuple(flags), len(sources))


def _signals(stream: SignalStream, stored: np.ndarray) -> Signals:
    """Stored samples to physical values in the units that were found."""
    rows = [
        (row * one.scale + one.offset) / unit_factor(one.unit_found, one.type)[1]
        for row, one in zip(stored, stream.channels, strict=True)
    ]
    return Signals(np.array(rows), float(stream.rate_hz))


def _volumes(image: Image, planes: np.ndarray) -> list[Volume]:
    """Stored planes to rescaled volumes, one a time."""
    if image.value_table is not None:
        planes = look_up(image.value_table, planes)
    slopes, intercepts = (np.array(pair).reshape(-1, 1, 1) for pair in (image.slopes, image.intercepts))
    sizes = dict(zip(image.axes, image.shape, strict=True))
    values = (planes * slopes + intercepts).reshape([sizes.get(axis, 1) for axis in ("t", "c", "z", "y", "x")])
    affine = None if image.affine is None else np.array(image.affine)
    b_values = image.b_values_s_mm2 or (None,) * len(values)
    return [
        Volume(one.transpose(3, 2, 1, 0) if "c" in sizes else one[0].T, affine, image.orientation or "RAS", b_value)
        for one, b_value in zip(values, b_values, strict=True)
    ]
