"""Good files to damage: for each format, folders of files by name, written byte by byte."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from converters import edf_bytes, wfdb_bytes
from fuzz import dicom_files
from fuzz.dicom_damage import damage
from fuzz.dicom_oracle import check_dicom
from fuzz.mutate import mutate
from fuzz.oracles import check_edf, check_wfdb
from harmonize_converters.contract import Converter, SourceFiles
from harmonize_converters.dicom import DicomConverter
from harmonize_converters.edf import EdfConverter
from harmonize_converters.wfdb import WfdbConverter

Files = dict[str, bytes]


@dataclass(frozen=True)
class Target:
    """A converter, its good folders, what a result is compared with, and how files are damaged."""

    converter: Converter
    folders: tuple[Files, ...]
    check: Callable[[SourceFiles, list[np.ndarray]], None]
    damage: Callable[[random.Random, bytes], bytes] = mutate
    apart: bool = False
    """Whether native code is run that may end its process."""


def _edf(bdf: bool) -> tuple[Files, ...]:
    kind, suffix = ("BDF", "bdf") if bdf else ("EDF", "edf")
    top = 2**23 if bdf else 2**15
    rng = np.random.default_rng(4)

    def noise(n: int) -> np.ndarray:
        return rng.integers(-top, top, n)

    plain = [edf_bytes.Signal("EEG Fpz", noise(24)), edf_bytes.Signal("Resp", noise(9), 3)]
    gaps = [b"+0.5\x14\x14\0+0.7\x150.25\x14Arousal\x14\0", b"+1.5\x14\x14\0", b"+9\x14\x14\0+9.5\x14caf\xe9\x14\0"]
    marks = edf_bytes.annotations(gaps, label=f"{kind} Annotations")
    status = edf_bytes.Signal("Status", np.array([0, 5, 5, 0] * 3), 4, unit="Boolean")
    stages = edf_bytes.annotations([b"+0\x14\x14\0+0\x15120\x14Sleep stage W\x14\0"], label=f"{kind} Annotations")
    return (
        {f"a.{suffix}": edf_bytes.edf_bytes(plain, n_records=3, bdf=bdf)},
        {f"a.{suffix}": edf_bytes.edf_bytes([plain[0], marks, status], n_records=3, bdf=bdf, reserved=f"{kind}+D")},
        {f"a.{suffix}": edf_bytes.edf_bytes([stages], n_records=1, record_s="0", bdf=bdf, reserved=f"{kind}+C")},
    )


def _wfdb() -> tuple[Files, ...]:
    rng = np.random.default_rng(5)
    folders: list[Files] = []
    for number in (8, 16, 24, 32, 61, 80, 160, 212, 310, 311):
        top = min(100, 2 ** (wfdb_bytes.BITS[number] - 1))
        signals = [wfdb_bytes.Signal(rng.integers(-top, top, 60), number, name=name) for name in ("I", "II")]
        if number == 8:  # whose differences fit a byte
            for signal in signals:
                signal.samples = np.cumsum(np.sign(signal.samples))
        else:
            signals[1].samples, signals[1].per_frame = rng.integers(-top, top, 120), 2
        folders.append(_written(wfdb_bytes.Record(signals, comments=(" Age: 74",))))
    late = wfdb_bytes.Signal(rng.integers(-99, 99, 60), 212, name="II", skew=4)
    folders.append(_written(wfdb_bytes.Record([wfdb_bytes.Signal(rng.integers(-99, 99, 60), 212), late])))
    folders.append(_segments(rng, None))
    folders.append(_segments(rng, ["I", "II", "V"]))
    folders.append(_flac(rng))
    return tuple(folders)


def _written(record: wfdb_bytes.Record | wfdb_bytes.MultiSegment) -> Files:
    """A record's files, with a file of annotations: a beat, a rhythm, a long interval, a beat."""
    beat, rhythm = wfdb_bytes.word(1, 10), wfdb_bytes.word(28, 5) + wfdb_bytes.aux(b"(AFIB\0")
    marks = beat + rhythm + wfdb_bytes.skip(20) + wfdb_bytes.word(5, 0) + wfdb_bytes.END
    with tempfile.TemporaryDirectory() as folder:
        record.write(Path(folder))
        (Path(folder) / f"{record.name}.atr").write_bytes(marks)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _segments(rng: np.random.Generator, layout: list[str] | None) -> Files:
    """A record of two segments and a gap: of one set of channels, or of two (with a layout segment)."""
    names = (["I", "II"], ["I", "II"] if layout is None else ["V", "I"])
    records = [
        wfdb_bytes.Record(
            [wfdb_bytes.Signal(rng.integers(-99, 99, 40), file=f"s{number}.dat", name=name) for name in own],
            name=f"s{number}",
        )
        for number, own in enumerate(names)
    ]
    return _written(
        wfdb_bytes.MultiSegment([records[0], 30, records[1]], layout=layout, signals=len(layout or names[0]))
    )


def _flac(rng: np.random.Generator) -> Files:
    """Format 516, through libsndfile."""
    signals = [wfdb_bytes.Signal(rng.integers(-99, 99, 60), 16, name=name) for name in ("I", "II")]
    files = _written(wfdb_bytes.Record(signals))
    sound = io.BytesIO()
    samples = np.column_stack([signal.samples for signal in signals]).astype(np.int16)
    soundfile.write(sound, samples, 250, format="FLAC", subtype="PCM_16")
    return files | {
        "rec.hea": files["rec.hea"].replace(b"rec.dat 16 ", b"rec.dat 516 "),
        "rec.dat": sound.getvalue(),
    }


def targets() -> dict[str, Target]:
    """All formats that are fuzzed, by name."""
    return {
        "edf": Target(EdfConverter(), _edf(False), check_edf),
        "bdf": Target(EdfConverter(), _edf(True), check_edf),
        "wfdb": Target(WfdbConverter(), _wfdb(), check_wfdb),
        "dicom": Target(DicomConverter(), dicom_files.folders(), check_dicom, damage, apart=True),
    }
