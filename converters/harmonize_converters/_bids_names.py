"""BIDS file names and the inheritance principle (bids-specification.readthedocs.io 1.10, "Common principles"). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

DESCRIPTION = "dataset_description.json"
"""The file that makes a folder a BIDS data set."""

T = TypeVar("T")


def entities(name: str) -> tuple[dict[str, str], str]:
    """ "sub-01_task-rest_eeg.edf" -> ({"sub": "01", "task": "rest"}, "eeg")."""
    stem = name.partition(".")[0]
    *pairs, suffix = stem.split("_")
    found = (pair.partition("-") for pair in pairs)
    return {key: value for key, dash, value in found if dash}, suffix


def inherited(name: str, suffix: str, ending: str, levels: Iterable[Mapping[str, T]]) -> list[T]:
    """Files that apply to the data file ``name``: of one suffix and ending, with no entity that it lacks (but
    "space", which tells electrodes of several coordinate systems apart).

    ``levels`` are the files of each folder by name, from the top of the data set down to the data file's own. The
    files come in the order in which later ones override earlier ones: from the top down, fewer entities first.
    """
    own = entities(name)[0].items()
    applicable: list[T] = []
    for files in levels:
        here = []
        for one in files:
            if one.endswith(f"{suffix}{ending}"):
                found, of = entities(one)
                if of == suffix and {key: found[key] for key in found if key != "space"}.items() <= own:
                    here.append((len(found), one))
        applicable += [files[one] for _, one in sorted(here)]
    return applicable
