"""``python docs/judges.py``: each EDF, BDF and WFDB recording of the data at hand against each judge, as one page."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from judging import edf_judges, wfdb_judge
from judging.compare import Finding
from judging.results import Result, data_present, edf_results, explained, explanations, wfdb_results
from realdata import DATA

PAGE = Path(__file__).with_suffix(".md")
Numbers = dict[tuple[str, str, str], int]

JUDGES = {
    "raw bytes": (
        "a plain decoder in `tests/judging`, written from the specifications and sharing nothing with harmonize; FLAC "
        f"through soundfile {version('soundfile')}",
        "samples, values, annotations, triggers of BDF, segments",
    ),
    f"pyedflib {version('pyedflib')}": ("`EdfReader`", "samples, values, annotations"),
    f"edfio {version('edfio')}": ("`read_edf`, `read_bdf`", "samples, values, annotations"),
    f"MNE {version('mne')}": (
        "`read_raw_edf`, `read_raw_bdf`, `find_events`; `read_annotations` of a file without signals",
        "values, annotations (a duration of 0 is none), triggers of BDF; no samples",
    ),
    f"wfdb {version('wfdb')}": (
        "`rdrecord`, `rdann`; frames not averaged; segments one by one for samples, joined for values",
        "samples, values, annotations",
    ),
}

INTRODUCTION = """# harmonize and the judges

For each EDF, BDF and WFDB recording at hand: what harmonize makes of it, and whether other readers say the same.
Written by `python docs/judges.py` from the files below `../shared/data` (public recordings; their README says whose).
Nothing here is remembered: every judge reads every file when the page is written, and `tests/test_docs_judges.py`
does it again and fails where this page says anything else.

- **identical**: the same signals at the same rates, every integer of the file the same (*samples*), every value in
  its unit the same but for rounding (*values*: to a millionth of a digital step), the same annotations and triggers
  at the same times (to 1 µs), and, by the raw bytes, the same gaps.
- **[1](#d1)**: what differs there, and who is right by the format's specification.
- **refuses too**: neither reads it.

What harmonize says of a file: format; channels × samples @ rate of each stream; flags. A refusal has its code.
"""


def page() -> str:
    """The page as Markdown. Raises ``ValueError`` where a difference is not explained, or an explanation not needed."""
    edf, wfdb = edf_results(), wfdb_results()
    numbers = explained([*edf, *wfdb])
    parts = [INTRODUCTION, _summary([*edf, *wfdb]), _judges()]
    parts += [f"## EDF and BDF\n\n{_table(edf, list(edf_judges.JUDGES), numbers)}"]
    parts += [f"## WFDB\n\n{_table(wfdb, list(wfdb_judge.JUDGES), numbers)}"]
    parts += ["## Differences, and who is right\n", *_differences([*edf, *wfdb], numbers)]
    return "\n".join(parts)


def _summary(results: list[Result]) -> str:
    read = [result for result in results if not result.refused]
    agreed = [result for result in read if not result.differences]
    raw = [r for r in read if all(f.kind != "differs" for f in r.findings["raw bytes"] if f.aspect == "samples")]
    others = [result for result in results if result.refused and result.differences]
    return (
        f"**{len(results)} recordings**: {len(read)} converted and {len(results) - len(read)} refused.\n"
        f"Of those converted, {len(raw)} have all samples of the raw bytes, and {len(agreed)} are identical to every\n"
        f"judge in everything. In the other {len(read) - len(agreed)}, and in {len(others)} of those refused, a judge "
        "differs:\n\n" + _index()
    )


def _index() -> str:
    """One line a difference."""
    lines = ["| | difference | files | judges | right |", "|---|---|---|---|---|"]
    for number, one in explanations():
        judges = ", ".join(one.judges)
        lines.append(f"| [{number}](#d{number}) | {one.title} | {len(one.files)} | {judges} | {one.right} |")
    return "\n".join([*lines, ""])


def _judges() -> str:
    rows = [f"| {name} | {how} | {says} |" for name, (how, says) in JUDGES.items()]
    return "\n".join(["| judge | how it is called | what it says |", "|---|---|---|", *rows, ""])


def _table(results: Iterable[Result], judges: list[str], numbers: Numbers) -> str:
    lines = [f"| file | harmonize | {' | '.join(judges)} |", "|---" * (len(judges) + 2) + "|"]
    for group, members in groupby(results, key=lambda result: result.group):
        found = list(members)
        alike = [one for one in found if group is not None and not one.refused and not one.differences]
        if alike:
            lines.append(_row(*_together(str(group), alike), judges))
        for one in found:
            if one not in alike:
                cells = {judge: _cell(one, judge, numbers) for judge in judges}
                lines.append(_row(f"`{one.name}`", one.ours, cells, judges))
    return "\n".join([*lines, ""])


def _row(name: str, ours: str, cells: dict[str, str], judges: list[str]) -> str:
    texts = [name, ours, *(cells[judge] for judge in judges)]
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _together(group: str, results: list[Result]) -> tuple[str, str, dict[str, str]]:
    """One line for the records of a corpus that are identical to all judges."""
    samples: dict[str, int] = {}
    for result in results:
        for judge, findings in result.findings.items():
            samples[judge] = samples.get(judge, 0) + sum(_count(f) for f in findings if f.aspect == "samples")
    kinds = sorted({result.ours.split(";")[0] for result in results})
    cells = {judge: f"{len(results)} of {len(results)} identical, {n:,} samples" for judge, n in samples.items()}
    return f"{group}: **{len(results)} records**", f"{', '.join(kinds)}; each converted and compared", cells


def _count(finding: Finding) -> int:
    return int(finding.text.split()[0].replace(",", ""))


def _cell(result: Result, judge: str, numbers: Numbers) -> str:
    findings = result.findings[judge]
    wrong = [one for one in findings if one.kind == "differs"]
    if not wrong:
        return _agreed(findings)
    links = {one.aspect: f"[{n}](#d{n})" for one in wrong for n in [numbers[result.name, judge, one.aspect]]}
    if "file" in links:
        return f"**{'refuses' if not result.refused else 'reads it'}** {links['file']}"
    others = [one.aspect for one in findings if one.kind == "identical" and one.aspect != "segments"]
    said = ", ".join(f"{aspect} {link}" for aspect, link in links.items())
    return f"**differs**: {said}" + (f"; {', '.join(others)} identical" if others else "")


def _agreed(findings: list[Finding]) -> str:
    extra = [one.text for one in findings if one.aspect in ("annotations", "triggers") and _count(one)]
    if findings[0].aspect == "file":
        return f"{findings[0].text.split(':')[0]})"  # the file's name is in the row
    return ", ".join(["identical", *extra])


def _differences(results: list[Result], numbers: Numbers) -> Iterable[str]:
    for number, explanation in explanations():
        yield f'<a id="d{number}"></a>\n\n### {number}. {explanation.title}\n'
        yield f"Right: **{explanation.right}**. {explanation.why}\n"
        yield "| file | judge | what the judge gives |\n|---|---|---|"
        for result in results:
            for judge, one in result.differences:
                if numbers[result.name, judge, one.aspect] == number:
                    yield f"| `{result.name}` | {judge} | {one.aspect}: {one.text.replace('|', chr(92) + '|')} |"
        yield ""


if __name__ == "__main__":
    if data_present():
        PAGE.write_text(page(), "utf-8")
    else:
        print(f"{PAGE.name} is left as it is: the real recordings are not at {DATA}")
