"""Every EDF, BDF and WFDB recording of the data against every judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harmonize_converters.contract import Description, SourceFiles
from judging import edf_judges, ours, wfdb_judge
from judging.compare import Finding, compare
from judging.explanations import EXPLANATIONS, Explanation
from judging.model import Refusal
from realdata import DATA, real_files

CORPORA = ("cinc2021", "cpsc2021", "ptb-xl/records100", "ptb-xl/records500")
"""Folders of records that are alike: one line on the page for those without a difference."""


@dataclass(frozen=True, slots=True)
class Result:
    """One recording. ``name`` is its path below the data, ``group`` the corpus whose line it may share."""

    name: str
    ours: str
    refused: bool
    findings: dict[str, list[Finding]]
    group: str | None = None

    @property
    def differences(self) -> list[tuple[str, Finding]]:
        """Judges and what differs."""
        return [(judge, one) for judge, found in self.findings.items() for one in found if one.kind == "differs"]


@cache
def edf_results() -> tuple[Result, ...]:
    """One of each .edf, .bdf and .rec file."""
    found = []
    for path in real_files(".", ".edf", ".bdf", ".rec"):
        mine = ours.read(ours.edf_source(path))
        readings = {name: judge(path) for name, judge in edf_judges.JUDGES.items()}
        findings = {name: compare(mine.reading, reading) for name, reading in readings.items()}
        name = path.relative_to(DATA).as_posix()
        found.append(Result(name, _say(mine), isinstance(mine.reading, Refusal), findings))
    return tuple(found)


@cache
def wfdb_results() -> tuple[Result, ...]:
    """One of each WFDB record, those of ``wfdb`` first."""
    return tuple(_wfdb("wfdb")) + tuple(result for folder in CORPORA for result in _wfdb(folder))


def _wfdb(folder: str) -> Iterator[Result]:
    for source in ours.wfdb_sources(DATA / folder):
        result = _record(source, folder if folder in CORPORA else None)
        yield result
        if result.refused and "segment" in source.roles:
            whole = f"`{result.name}`, its segments that are there, each on its own"
            yield from (_record(part, whole) for part in ours.segments_alone(source))


def _record(source: SourceFiles, group: str | None) -> Result:
    mine = ours.read(source)
    path, suffixes = source.primary.path, ours.annotators(source)
    findings = {name: compare(mine.reading, judge(path, suffixes)) for name, judge in wfdb_judge.JUDGES.items()}
    name = path.with_suffix("").relative_to(DATA).as_posix()
    return Result(name, _say(mine), isinstance(mine.reading, Refusal), findings, group)


def explained(results: Iterable[Result]) -> dict[tuple[str, str, str], int]:
    """For each difference (file, judge, aspect) the number of its explanation, from 1. Raises ``ValueError`` where
    a difference has none or several, or an explanation has no difference."""
    places: dict[tuple[str, str, str], int] = {}
    for number, explanation in enumerate(EXPLANATIONS, 1):
        for place in explanation.places():
            if place in places:
                raise ValueError(f"two explanations for {place}")
            places[place] = number
    found = {(r.name, judge, one.aspect) for r in results for judge, one in r.differences}
    if unexplained := sorted(found - set(places)):
        raise ValueError(f"differences without an explanation: {unexplained}")
    if unneeded := sorted(set(places) - found):
        raise ValueError(f"explanations without a difference: {unneeded}")
    return places


def explanations() -> Iterator[tuple[int, Explanation]]:
    """With their numbers on the page."""
    return enumerate(EXPLANATIONS, 1)


def _say(mine: ours.Ours) -> str:
    """What harmonize makes of a file, in one cell."""
    if isinstance(mine.reading, Refusal):
        return f"refused, `{mine.reading.kind}`: {mine.reading.words}"
    assert mine.description is not None
    parts = [mine.description.format, _streams(mine.description)]
    if (n := len(mine.reading.segments or ())) > 1:
        parts.append(f"{n} segments")
    if flags := mine.description.flags:
        parts.append(" ".join(f"`{flag}`" for flag in flags))
    return "; ".join(parts)


def _streams(description: Description) -> str:
    """Channels x samples @ rate of each stream; streams that differ in calibration only are counted."""
    streams = description.streams
    if not streams:
        return "annotations only"
    if len(streams) > 5:
        rates = Counter(float(stream.rate_hz) for stream in streams)
        channels = sorted({len(stream.channels) for stream in streams})
        said = ", ".join(f"{n} streams @ {rate:g} Hz" for rate, n in rates.items())
        return f"{said} of {channels[0]} to {channels[-1]} channels, {sum(s.n_samples for s in streams):,} samples"
    return " + ".join(f"{len(s.channels)} × {s.n_samples:,} @ {float(s.rate_hz):g} Hz" for s in streams)


def data_present() -> bool:
    """Whether there is anything to compare."""
    return Path(DATA).is_dir()
