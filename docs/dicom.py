"""``python docs/dicom.py``: each DICOM series and file at hand against other readers, and copies of it, as one page."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from judging import dicom_judges, dicom_results
from judging.dicom_explanations import Explanation
from judging.dicom_results import COPIES, Result, explained, used
from realdata import DATA

PAGE = Path(__file__).with_suffix(".md")
Numbers = dict[tuple[str, str, str, str, str], int]

INTRODUCTION = """# DICOM: harmonize and the judges

What harmonize makes of each DICOM series and file at hand, and whether other readers say the same. Written by
`python docs/dicom.py` from `../shared/data/dicom` (public series; the README there says whose) and from the files that
pydicom's wheel brings. Nothing here is remembered: every judge reads every file when the page is written, and
`tests/test_docs_dicom.py` does it again and fails where this page says anything else.

- **values**: the largest absolute difference of rescaled voxels, axes turned alike; *equal* is a difference of 0,
  *within* is what float32 rounds (a millionth of the largest value).
- **corners**: the largest distance in mm between the world positions of a volume's eight corners (centres of the corner
  voxels), each with its own; up to 0.001 mm is rounding of a NIfTI's header.
- **[1](#d1)**: what differs there, and who is right.
"""

JUDGES = """| judge | what it is |
|---|---|
| NIfTI beside | `*_ground_truth.nii.gz` beside the series, made with dicom2nifti and shipped with the data |
| the same, reoriented | `*_ground_truth_reoriented.nii.gz`: its axes turned, its affine another |
| dcm2niix {dcm2niix} | `dcm2niix -z n -b n`, run when the page is written |
| pydicom {pydicom} | `pixel_array`, rescaled or through its palette; slices in order by PS3.3 C.7.6.2.1.1 |
"""

FILES = """## The files of pydicom

Each DICOM file of pydicom's wheel on its own, beside pydicom's own pixels after the same rescale, or as RGB; waveforms
beside its `multiplex_array` of the groups that are original. Files of one folder that are alike share a line. What has
the flag `burned_in_risk` is quarantined by a conversion, unless its recipe allows it ([privacy](privacy.md)). Not DICOM
files by PS3.10 (no prefix), so left to other converters: {others}.
"""

SYNTAXES = """## The same pixels in each transfer syntax

Three series encoded anew by pydicom (pylibjpeg and pyjpegls encode); the series of the data that hold the same stored
pixels by pydicom; and the slice that pydicom brings in several encodings. The judge is pydicom's reading of the
original. There is no encoder of the other JPEGs and of HTJ2K here. Series of the data that are named alike, but are not
listed here, have each their own pixels.
"""

COPIES_SAY = """## Copies

Each series copied into a new folder and converted. *Same*: volumes, voxels and places are those of the series as it
lies (first table), or it is refused for the same reason.

- **shuffled**, **renamed**: file names in another order; without suffix or sense. **duplicated**: every file twice.
- **thinned**: without its second slice; must be refused. (A first or last slice leaves no gap.)
- **in two folders**: every second slice in another folder.
- **mixed**: with the next series of the table that has another UID, in one folder: both must come out. **Under one
  UID**: the other series bears this one's UID; both, or a refusal.
"""


def page() -> str:
    """The page as Markdown. Raises ``ValueError`` where a difference is not explained."""
    series, files = dicom_results.series_results(), dicom_results.pydicom_results()
    syntaxes, copies = dicom_results.syntax_results(), dicom_results.copy_results()
    everything = [*series, *files, *syntaxes, *copies]
    numbers = explained(everything)
    judges = JUDGES.format(dcm2niix=dicom_judges.dcm2niix_version(), pydicom=version("pydicom"))
    others = ", ".join(f"`{name}`" for name in dicom_results.unrecognised())
    parts = [INTRODUCTION, *_totals(series, files, syntaxes, copies), _index(everything, numbers), judges]
    parts += ["## Series\n", _series(series, numbers)]
    parts += [FILES.format(others=others), _codes(files), _files(files, numbers)]
    parts += [SYNTAXES, _syntaxes(syntaxes, numbers), COPIES_SAY, _copies(copies, numbers)]
    parts += ["## Differences, and who is right\n", *_differences(everything, numbers)]
    return "\n".join(parts)


def _totals(*sections: Sequence[Result]) -> Iterator[str]:
    series, files, syntaxes, copies = sections
    read, whole = [one for one in series if not one.codes], [one for one in files if one.ours != "no recording"]
    agreed = [one for one in read if not one.differences]
    equal = [one for one in whole if not one.codes and not one.differences]
    kept = [one for one in syntaxes if not one.differences and one.ours != "–"]
    tried = [one for one in syntaxes if one.ours != "–"]
    same = [one for one in copies if not one.differences]
    yield (
        f"- **{len(series)} series**: {len(read)} converted, {len(series) - len(read)} refused. Of those converted, "
        f"{len(agreed)} agree with every\n  judge in the number of volumes, all values and all corners.\n"
        f"- **{len(whole)} files of pydicom** (and {len(files) - len(whole)} DICOMDIR, which are no recordings): "
        f"{sum(not one.codes for one in whole)}\n  converted, {len(equal)} of them with pydicom's pixels or samples; "
        f"{sum(bool(one.codes) for one in whole)} refused by code.\n"
        f"- **{len(tried)} encodings of the same pixels**: {len(kept)} give the voxels of the original; "
        "the others are lossy.\n"
        f"- **{len(copies)} copies** shuffled, renamed, duplicated, thinned, spread and mixed: {len(same)} give what "
        "they must.\n"
    )


def _index(results: Sequence[Result], numbers: Numbers) -> str:
    count = Counter(number for number, _ in {(n, key[:3]) for key, n in numbers.items()})
    lines = ["| | difference | where | right |", "|---|---|---|---|"]
    for number, one in enumerate(used(results), 1):
        lines.append(f"| [{number}](#d{number}) | {one.title} | {count[number]} of {one.section} | {one.right} |")
    return "\n".join([*lines, ""])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|---" * len(cells) + "|"]


def _links(result: Result, judge: str, numbers: Numbers) -> str:
    found = {
        numbers[result.section, result.name, result.what, judge, one.aspect]
        for one in result.findings[judge]
        if one.differs
    }
    return "".join(f" [{n}](#d{n})" for n in sorted(found))


def _series(results: Sequence[Result], numbers: Numbers) -> str:
    judges = [*dicom_judges.BESIDE, "dcm2niix"]
    lines = _head(["series", "harmonize", *judges])
    for result in results:
        cells = [_said(result, judge, numbers) if judge in result.findings else "none" for judge in judges]
        lines.append(_row([f"`{result.name}`", result.ours, *cells]))
    return "\n".join([*lines, ""])


def _said(result: Result, judge: str, numbers: Numbers) -> str:
    """What came of one judge, the size of volumes only where it is ours not to have them."""
    texts = []
    for one in result.findings[judge]:
        text = one.text.partition(" of ")[0] if one.aspect == "volumes" and not one.differs else one.text
        texts.append(f"**{text}**" if one.differs else text)
    return ", ".join(texts) + _links(result, judge, numbers)


def _codes(results: Sequence[Result]) -> str:
    count = Counter(code for result in results for code in result.codes)
    lines = _head(["refused", "files"])
    lines += [_row([f"`{code}`", str(n)]) for code, n in sorted(count.items())]
    return "\n".join([*lines, ""])


def _files(results: Sequence[Result], numbers: Numbers) -> str:
    lines = _head(["file", "SOP class", "transfer syntax", "harmonize", "pydicom"])
    for alike in dicom_results.together(results):
        first, more = alike[0], f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        sop_class, _, syntax = first.what.partition("; ")
        said = _said(first, "pydicom", numbers)
        lines.append(_row([f"`{first.name}`{more}", sop_class, syntax, first.ours, said]))
    return "\n".join([*lines, ""])


def _syntaxes(results: Sequence[Result], numbers: Numbers) -> str:
    lines = _head(["series", "written as", "harmonize", "against the original", "against pydicom on the encoded"])
    for result in results:
        encoded = "pydicom, encoded"
        second = _said(result, encoded, numbers) if encoded in result.findings else ""
        said = _said(result, "pydicom, original", numbers)
        lines.append(_row([f"`{result.name}`", result.what, result.ours, said, second]))
    return "\n".join([*lines, ""])


def _copies(results: Sequence[Result], numbers: Numbers) -> str:
    lines = _head(["series", *COPIES])
    for name, members in groupby(results, key=lambda result: result.name):
        cells = {result.what: _copy(result, numbers) for result in members}
        lines.append(_row([f"`{name}`", *(cells.get(what, "–") for what in COPIES)]))
    return "\n".join([*lines, ""])


def _copy(result: Result, numbers: Numbers) -> str:
    (finding,) = result.findings["the series"]
    if finding.differs:
        return f"**{finding.text}**{_links(result, 'the series', numbers)}"
    return "same" if finding.text.startswith("same") else finding.text.removeprefix("refused, ")


def _differences(results: Sequence[Result], numbers: Numbers) -> Iterator[str]:
    for number, one in enumerate(used(results), 1):
        yield f'<a id="d{number}"></a>\n\n### {number}. {one.title}\n'
        yield f"Right: **{one.right}**. {one.why}\n"
        yield _places(one, number, results, numbers)


def _places(explanation: Explanation, number: int, results: Sequence[Result], numbers: Numbers) -> str:
    """The names of what it explains, a line each kind."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for judge, one in result.differences:
            if numbers[result.section, result.name, result.what, judge, one.aspect] == number:
                what = "" if explanation.section == "pydicom" else result.what
                found.setdefault(what, {})[f"`{result.name}`"] = None
    return "\n".join(f"- {what}{': ' if what else ''}{', '.join(names)}" for what, names in found.items()) + "\n"


if __name__ == "__main__":
    if dicom_results.SERIES.is_dir():
        PAGE.write_text(page(), "utf-8")
    else:
        print(f"{PAGE.name} is left as it is: the real series are not at {DATA}")
