"""Every DICOM series and file at hand against every judge, and copies of each series against the series itself."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import MediaStorageDirectoryStorage

from judging import dicom_copies, dicom_judges, dicom_ours
from judging.dicom_copies import SYNTAXES, Syntax
from judging.dicom_explanations import EXPLANATIONS, Explanation
from judging.dicom_model import Finding, Reading, Volume, compare, largest_difference, pairs
from judging.dicom_ours import Ours
from realdata import DATA

SERIES = DATA / "dicom"
PYDICOM = Path(pydicom.__file__).parent / "data"
REENCODED = ("siemens/anatomical/001", "ge/anatomical/001", "generic/anatomical/002_non_isotropic")
"""Of MR: unsigned 12 bits; signed 16 bits; signed 16 bits with a scale for each slice."""
SMALL = PYDICOM / "test_files" / "MR_small.dcm"
"""pydicom brings the same slice in eight encodings, ``MR_small*.dcm``."""


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison. ``what`` is said beside the name: class and syntax of a file, the kind of a copy."""

    section: str
    name: str
    what: str
    ours: str
    codes: tuple[str, ...]
    findings: dict[str, list[Finding]]

    @property
    def differences(self) -> list[tuple[str, Finding]]:
        """Judges and what differs."""
        return [(judge, one) for judge, found in self.findings.items() for one in found if one.differs]


def explanation_of(result: Result, judge: str, finding: Finding) -> int | None:
    """The number of the first explanation that fits, from 0."""
    fits = (number for number, one in enumerate(EXPLANATIONS) if _fits(one, result, judge, finding))
    return next(fits, None)


def _fits(one: Explanation, result: Result, judge: str, finding: Finding) -> bool:
    return (
        one.section == result.section
        and finding.aspect in one.aspects
        and (not one.names or result.name in one.names)
        and (not one.whats or result.what in one.whats)
        and (not one.judges or judge in one.judges)
        and (not one.code or one.code in result.codes)
    )


def explained(results: Iterable[Result]) -> dict[tuple[str, str, str, str, str], int]:
    """For each difference (section, name, what, judge, aspect) the number of its explanation, from 1 and in order of
    use. Raises ``ValueError`` where a difference has none."""
    numbers: dict[int, int] = {}
    places: dict[tuple[str, str, str, str, str], int] = {}
    missing = []
    for result in results:
        for judge, finding in result.differences:
            key = (result.section, result.name, result.what, judge, finding.aspect)
            found = explanation_of(result, judge, finding)
            if found is None:
                missing.append((*key, finding.text))
            else:
                places[key] = numbers.setdefault(found, len(numbers) + 1)
    if missing:
        raise ValueError(f"differences without an explanation: {missing}")
    return places


def used(results: Iterable[Result]) -> list[Explanation]:
    """The explanations that are needed, in the order of their numbers."""
    found = (explanation_of(result, judge, one) for result in results for judge, one in result.differences)
    return [EXPLANATIONS[number] for number in dict.fromkeys(found) if number is not None]


# --- series -----------------------------------------------------------------------------------------


@cache
def names() -> tuple[str, ...]:
    """Folders of one series each, below the data."""
    files = (path for path in SERIES.rglob("*") if path.is_file() and dicom_judges.is_dicom(path))
    return tuple(sorted({path.parent.relative_to(SERIES).as_posix() for path in files}))


@cache
def series_results() -> tuple[Result, ...]:
    """Each series against the NIfTI beside it and against dcm2niix."""
    found = []
    for name in names():
        mine = ours(name)
        readings = {**dicom_judges.beside(SERIES / name), "dcm2niix": dicom_judges.dcm2niix(SERIES / name)}
        findings = {judge: compare(mine.reading, reading) for judge, reading in readings.items()}
        found.append(Result("series", name, "", str(mine), mine.codes, findings))
    return tuple(found)


@cache
def ours(name: str) -> Ours:
    """What harmonize makes of a series as it lies."""
    return dicom_ours.folder(SERIES / name)


# --- the files of pydicom ----------------------------------------------------------------------------


@cache
def pydicom_results() -> tuple[Result, ...]:
    """Each DICOM file that pydicom's wheel brings, on its own."""
    found = []
    for file in dicom_ours.files_below(PYDICOM):
        mine = dicom_ours.file(file.path)
        if mine is not None:
            name = file.path.relative_to(PYDICOM).as_posix()
            findings = _of_file(mine, dicom_judges.pixels(file.path))
            found.append(Result("pydicom", name, _kind(file.path), str(mine), mine.codes, {"pydicom": findings}))
    return tuple(found)


def unrecognised() -> list[str]:
    """Files of pydicom without DICOM's prefix."""
    files = [file.path for file in dicom_ours.files_below(PYDICOM) if dicom_ours.file(file.path) is None]
    return [path.name for path in files if path.suffix in (".dcm", "")]


def _of_file(mine: Ours, judge: Reading) -> list[Finding]:
    """Plane by plane, and no more than the pixels: pydicom knows no place."""
    if not mine.reading.volumes or not judge.volumes:
        return compare(mine.reading, judge)  # refused, or signals
    planes = [
        Volume(volume.values[:, :, k : k + 1], None, "RAS")
        for volume in mine.reading.volumes
        for k in range(volume.values.shape[2])
    ]
    found = compare(Reading(tuple(planes)), judge)
    return [finding for finding in found if finding.aspect in ("volumes", "values")]


def _kind(path: Path) -> str:
    """SOP class and transfer syntax by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        sop_class = meta.get("SOPClassUID") or meta.file_meta.get("MediaStorageSOPClassUID")
        syntax = meta.file_meta.get("TransferSyntaxUID")
    if sop_class == MediaStorageDirectoryStorage:
        return f"DICOMDIR; {syntax.name if syntax else 'no transfer syntax'}"
    return f"{sop_class.name if sop_class else 'no SOP class'}; {syntax.name if syntax else 'no transfer syntax'}"


# --- the same pixels in each transfer syntax -----------------------------------------------------------


@cache
def syntax_results() -> tuple[Result, ...]:
    """Series encoded anew, and a slice that pydicom brings in several; the judge is pydicom on the original."""
    found = []
    for name in REENCODED:
        original = dicom_judges.stacked(SERIES / name)
        found += [_reencoded(name, syntax, original) for syntax in SYNTAXES]
    for alike in same_pixels():
        original = dicom_judges.stacked(SERIES / alike[0])
        for name in alike:
            findings = {"pydicom, original": compare(ours(name).reading, original)}
            what = f"{_syntax(min((SERIES / name).iterdir()))} (`{name}`)"
            found.append(Result("syntaxes", alike[0], what, str(ours(name)), ours(name).codes, findings))
    original = dicom_judges.pixels(SMALL)
    for path in sorted(SMALL.parent.glob("MR_small*.dcm")):
        mine = dicom_ours.file(path)
        assert mine is not None
        findings = {"pydicom, original": _of_file(mine, original)}
        name = SMALL.relative_to(PYDICOM).as_posix()
        found.append(Result("syntaxes", name, f"{_syntax(path)} (`{path.name}`)", str(mine), mine.codes, findings))
    return tuple(found)


def _reencoded(name: str, syntax: Syntax, original: Reading) -> Result:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "series"
        try:
            dicom_copies.reencode(SERIES / name, folder, syntax)
        except RuntimeError:
            none = {"pydicom, original": [Finding("file", False, "the encoder refuses this size")]}
            return Result("syntaxes", name, syntax.name, "–", (), none)
        mine = dicom_ours.folder(folder)
        findings = {"pydicom, original": compare(mine.reading, original)}
        if syntax.within != 0:
            findings |= {"pydicom, encoded": compare(mine.reading, dicom_judges.stacked(folder))}
    return Result("syntaxes", name, syntax.name, str(mine), mine.codes, findings)


def same_pixels() -> list[tuple[str, ...]]:
    """Series of the data that hold the same stored pixels by pydicom."""
    found: dict[object, list[str]] = {}
    for name in names():
        found.setdefault(dicom_judges.stored_pixels(SERIES / name), []).append(name)
    return [tuple(alike) for alike in found.values() if len(alike) > 1]


def _syntax(path: Path) -> str:
    return _kind(path).partition("; ")[2]


# --- copies -----------------------------------------------------------------------------------------

ALONE: dict[str, Callable[[Path, Path], None]] = {
    "shuffled": dicom_copies.shuffled,
    "renamed": dicom_copies.renamed,
    "duplicated": dicom_copies.duplicated,
    "thinned": dicom_copies.thinned,
    "in two folders": dicom_copies.halved,
}
TOGETHER: dict[str, Callable[[Path, Path, Path], None]] = {
    "mixed": dicom_copies.mixed,
    "mixed under one UID": dicom_copies.mixed_under_one_uid,
}
COPIES = (*ALONE, *TOGETHER)


def copy_results(of: Iterable[str] | None = None) -> tuple[Result, ...]:
    """Each series in each kind of copy."""
    return tuple(result for name in (names() if of is None else of) for result in _copies(name))


@cache
def _copies(name: str) -> tuple[Result, ...]:
    stranger = _stranger(name)
    found = []
    for what in COPIES:
        if what in ("thinned", "in two folders") and len(list((SERIES / name).iterdir())) < 3:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "series"
            if what in ALONE:
                ALONE[what](SERIES / name, folder)
            else:
                TOGETHER[what](SERIES / name, SERIES / stranger, folder)
            mine = dicom_ours.folder(folder)
        finding = _like(what, mine, ours(name), ours(stranger))
        found.append(Result("copies", name, what, str(mine), mine.codes, {"the series": [finding]}))
    return tuple(found)


def _stranger(name: str) -> str:
    """The next series with another UID."""
    at = names().index(name)
    uid = dicom_copies.series_uid(SERIES / name)
    around = (*names()[at + 1 :], *names()[:at])
    return next(other for other in around if dicom_copies.series_uid(SERIES / other) != uid)


def _like(what: str, mine: Ours, alone: Ours, stranger: Ours) -> Finding:
    """Whether a copy gives what it must: see the page."""
    if what == "thinned":
        return Finding("file", bool(mine.reading.volumes), str(mine))
    expected, codes = alone.reading.volumes, set(alone.codes)
    if what.startswith("mixed"):
        expected, codes = (*expected, *stranger.reading.volumes), codes | set(stranger.codes)
    if what == "mixed under one UID" and not mine.reading.volumes:
        return Finding("file", False, str(mine))
    matched = list(pairs(mine.reading.volumes, expected))
    exact = all(largest_difference(one, other) == 0 and _same_place(one.affine, other.affine) for one, other in matched)
    same = exact and len(matched) == len(expected) == len(mine.reading.volumes) and set(mine.codes) == codes
    text = "same" if same and not mine.codes else "same, " + str(mine) if same else str(mine)
    return Finding("file", not same, text)


def _same_place(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b is None or (a is not None and b is not None and bool(np.allclose(a, b, rtol=0, atol=1e-9)))


def together(results: Iterable[Result]) -> Iterator[list[Result]]:
    """Neighbours that differ in nothing but the file's name."""

    def key(result: Result) -> object:
        return Path(result.name).parent, result.what, result.ours, repr(result.findings)

    for _, members in groupby(results, key=key):
        yield list(members)
