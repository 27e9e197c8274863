"""``make docs``: the recipes that ship as one page: what each gives, leaves out, and has been tested on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harmonize.ingest.recipes import read_recipe, shipped_recipes
from harmonize_schemas import Recipe
from harmonize_schemas.recipe import Fields

REAL = "real files"
TREE = "a miniature tree in the documented layout"


class Known(NamedTuple):
    """What the YAML does not say: the files' format, what the tests convert (REAL, TREE or both), and where the
    layout was looked up."""

    form: str
    tested: str
    checked: str = ""


PHYSIONET = "its page on physionet.org"
TORCH_ECG = "DeepPSP/torch_ecg, torch_ecg/databases"
KNOWN = {
    "ptb": Known("WFDB", f"{REAL} (s0010_re) and {TREE}", f"{PHYSIONET}; the real header"),
    "mitdb": Known("WFDB", f"{REAL} (100) and {TREE}", f"{PHYSIONET} and its mitdbdir; the real header; {TORCH_ECG}"),
    "cinc2017": Known("WFDB", TREE, f"{PHYSIONET}; {TORCH_ECG}/physionet_databases/cinc2017.py"),
    "cinc2020": Known("WFDB", TREE, f"{PHYSIONET}; headers as in the challenge's own examples"),
    "cinc2021": Known("WFDB", f"{REAL} (50 records, row by row)"),
    "cpsc2018": Known("WFDB", TREE, f"{PHYSIONET}; {TORCH_ECG}/cpsc_databases/cpsc2018.py"),
    "cpsc2021": Known("WFDB", f"{REAL} (18 records, row by row)"),
    "ptb-xl": Known("WFDB", f"{REAL} (297 records, row by row)"),
    "mimic-iv-ecg": Known("WFDB", TREE, f"{PHYSIONET}; loaders that name the tables' columns"),
    "chapman-shaoxing": Known("WFDB", TREE, f"{PHYSIONET}; loaders that name the table's columns"),
    "physionet2018": Known("WFDB", TREE, f"{PHYSIONET}; {TORCH_ECG}/physionet_databases/cinc2018.py"),
    "sleep-edf": Known("EDF+", TREE, f"{PHYSIONET}; loaders that read the headers"),
    "shhs": Known("EDF", TREE, "nsrr/shhs-documentation (montage, equipment, polysomnography); remnrem/luna (events)"),
    "mesa": Known("EDF", TREE, "nsrr/mesa-documentation; nsrr/mesa-data-dictionary, SAS script of the table"),
    "mros": Known("EDF", TREE, "nsrr/mros-documentation; nsrr/mros-data-dictionary, SAS script of the tables"),
    "chb-mit": Known("EDF", TREE, f"{PHYSIONET}; rows of SUBJECT-INFO as others quote them"),
    "tueg": Known("EDF", TREE, "loaders of v2 (paths, the header's patient field)"),
    "tuab": Known("EDF", TREE, "AAREADME.txt of v3.0.1; braindecode (the header's patient field)"),
    "tuev": Known("EDF", TREE, "AAREADME.txt of v2 (.rec); braindecode (names of files)"),
    "eegmmidb": Known("EDF+", f"{REAL} (S001R02) and {TREE}", PHYSIONET),
    "siena": Known("EDF", TREE, PHYSIONET),
    "code-15": Known("HDF5 arrays", TREE, "PhysioNet's converter of 2025 and loaders (layout, columns, unit)"),
    "wesad": Known("pickled arrays", TREE, "wesad_readme (units, rates, states); loaders that name the keys"),
    "esc-50": Known("WAVE", TREE, "karolpiczak/ESC-50, README; loaders that name the table's columns"),
    "empatica": Known("CSV", TREE, "support.empatica.com, Data export and formatting from E4 connect"),
    "dicom": Known("DICOM", TREE, "DICOM PS3.6"),
    "bids": Known(
        "EDF, BDF, BrainVision, FIF, NIfTI",
        "trees that mne-bids writes (EEG, iEEG, MEG, EMG, T1w); miniature trees by hand for PET and diffusion, which "
        "it cannot write",
        "the BIDS specification",
    ),
}


def page() -> str:
    """The page as Markdown."""
    recipes = {name: (file, read_recipe(file)) for name, file in shipped_recipes().items()}
    lines = [
        "# Recipes that ship",
        "",
        "Written by `make docs` from `harmonize/recipes`. `harmonize convert FOLDER --recipe NAME --into STORE` uses",
        "one, `harmonize recipe show NAME` prints it, [writing-recipes.md](writing-recipes.md) says how to write one.",
        "",
        f'"{TREE[0].upper()}{TREE[1:]}": no file of the data set itself was at hand. Names, columns and labels were',
        "looked up where it says; look at what `harmonize recipe check` tells before you convert all of it.",
        "",
        "| recipe | title | modality, format | access | licence | gives | tested on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (_, recipe) in recipes.items():
        known = KNOWN.get(name, Known("", "no test"))
        form = ", ".join(filter(None, (recipe.defaults.modality, known.form)))
        licence = f"[{recipe.licence}]({recipe.licence_url})" if recipe.licence else ""
        title = f"[{recipe.title}]({recipe.url})" if recipe.url else recipe.title or ""
        cells = (
            f"[`{name}`](#{name})",
            title,
            form,
            recipe.access or "",
            licence,
            "; ".join(gives(recipe)),
            known.tested,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for name, (file, recipe) in recipes.items():
        lines += ["", f"## {name}", "", *textwrap.wrap(_comment(file), 118), ""]
        checked = KNOWN[name].checked if name in KNOWN else ""
        for word, text in (
            ("Access", recipe.access_note),
            ("Privacy", recipe.privacy_statement),
            ("Looked up in", checked),
        ):
            if text:
                lines += textwrap.wrap(f"- {word}: {text.rstrip('.')}.", 118, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def gives(recipe: Recipe) -> Iterator[str]:
    """What a recipe gives besides what every file says of itself."""
    named = {name for name, _ in recipe.fields.items()} | {g for pattern in recipe.paths for g in _groups(pattern)}
    if recipe.layout == "bids":
        named |= {"subject", "session", "reference"}
    if fields := [name for name in Fields.model_fields if name in named]:
        yield ", ".join(fields)
    if recipe.labels:
        yield "labels " + ", ".join(recipe.labels)
    if recipe.text:
        yield f"texts ({len(recipe.text)})"
    if recipe.events or recipe.event_labels or recipe.layout == "bids":
        yield "events"
    if recipe.channels:
        yield f"channel names ({len(recipe.channels)})"


def _groups(pattern: str) -> list[str]:
    return [part.partition(">")[0] for part in pattern.split("(?P<")[1:]]


def _comment(file: Path) -> str:
    """The comment that a recipe file starts with, as one paragraph."""
    lines = []
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), "utf-8")
