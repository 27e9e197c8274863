"""Copies of a series on disk: in other transfer syntaxes, and shuffled, renamed, duplicated, thinned and mixed."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

NEAR = 2
"""How far a value may be off after near-lossless JPEG-LS, as asked of the encoder."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """One way to write the same pixels. ``within`` is how far a value may be off, None where nothing bounds it."""

    name: str
    uid: UID
    options: tuple[tuple[str, Any], ...] = ()
    within: int | None = 0


SYNTAXES = (
    Syntax("Explicit VR Little Endian", ExplicitVRLittleEndian),
    Syntax("Implicit VR Little Endian", ImplicitVRLittleEndian),
    Syntax("Explicit VR Big Endian", ExplicitVRBigEndian),
    Syntax("Deflated Explicit VR Little Endian", DeflatedExplicitVRLittleEndian),
    Syntax("RLE Lossless", RLELossless),
    Syntax("JPEG-LS Lossless", JPEGLSLossless),
    Syntax(f"JPEG-LS Near-Lossless (to {NEAR})", JPEGLSNearLossless, (("jls_error", NEAR),), NEAR),
    Syntax("JPEG 2000 Lossless", JPEG2000Lossless),
    Syntax("JPEG 2000 (10 : 1)", JPEG2000, (("j2k_cr", [10]),), None),
)


def reencode(series: Path, to: Path, syntax: Syntax) -> None:
    """Each slice of an uncompressed series in another transfer syntax. Raises what the encoder raises."""
    to.mkdir()
    for path in sorted(series.iterdir()):
        dataset = pydicom.dcmread(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if syntax.uid.is_encapsulated:
                dataset.compress(syntax.uid, generate_instance_uid=False, **dict(syntax.options))
            elif not syntax.uid.is_little_endian and dataset.BitsAllocated == 16:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
            dataset.file_meta.TransferSyntaxUID = syntax.uid
            dcmwrite(
                to / path.name,
                dataset,
                implicit_vr=syntax.uid.is_implicit_VR,
                little_endian=syntax.uid.is_little_endian,
                force_encoding=True,
            )


def copied(series: Path, to: Path, name: Callable[[int], str]) -> Path:
    """Its files in order of their names, each under the name that its number gets."""
    to.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(series.iterdir())):
        shutil.copyfile(path, to / name(number))
    return to


def shuffled(series: Path, to: Path) -> None:
    """Names in an order that is not that of the slices."""
    n = len(list(series.iterdir()))
    order = random.Random(n).sample(range(n), n)
    copied(series, to, lambda number: f"IM{order[number]:04d}.dcm")


def renamed(series: Path, to: Path) -> None:
    """Names without suffix or sense."""
    rng = random.Random(7)
    copied(series, to, lambda number: f"{rng.getrandbits(48):012X}")


def duplicated(series: Path, to: Path) -> None:
    """Every file twice."""
    copied(series, to, lambda number: f"{number}.dcm")
    copied(series, to, lambda number: f"{number} (copy).dcm")


def thinned(series: Path, to: Path) -> None:
    """Without one slice of one volume, and not the first or last, which nobody could miss."""
    copied(series, to, lambda number: f"{number}.dcm")
    (to / "1.dcm").unlink()


def halved(series: Path, to: Path) -> None:
    """The slices of even number in one folder, the odd in another."""
    to.mkdir()
    copied(series, to / "all", lambda number: f"{number}.dcm")
    (to / "more").mkdir()
    for path in sorted((to / "all").iterdir())[1::2]:
        path.rename(to / "more" / path.name)


def mixed(series: Path, stranger: Path, to: Path) -> None:
    """With another series in one folder."""
    copied(series, to, lambda number: f"{number} a.dcm")
    copied(stranger, to, lambda number: f"{number} b.dcm")


def mixed_under_one_uid(series: Path, stranger: Path, to: Path) -> None:
    """With another series that bears this one's UID, as careless de-identification makes."""
    mixed(series, stranger, to)
    uid = _read(next(to.glob("* a.dcm"))).SeriesInstanceUID
    for path in sorted(to.glob("* b.dcm")):
        dataset = _read(path)
        dataset.SeriesInstanceUID = uid
        dataset.save_as(path)


def series_uid(folder: Path) -> str:
    """Of its first file."""
    return str(_read(min(folder.iterdir())).SeriesInstanceUID)


def _read(path: Path) -> FileDataset:
    return pydicom.dcmread(path)
