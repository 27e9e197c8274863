"""Stores that the tests of views share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from montages import EEG, MISSING, quiet, typed
from stores import recording, write_signals


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One recording of five EEG channels and an EOG, 3 s at 100 Hz, 0.5 µV a step, in ``raw.npy``."""
    values = quiet((6, 300))
    np.save(tmp_path / "raw.npy", values)
    one = typed(300, (*EEG, "EOG left"), {"EOG left": "eog"}, missing=MISSING)
    write_signals(tmp_path / "s.zarr", [(recording("a", [one]), values)], measured=True)
    return tmp_path / "s.zarr"


@pytest.fixture
def uneven(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Two recordings of channels of other sizes, with missing samples, a flat channel and one that is all missing."""
    root, raw = tmp_path / "u.zarr", {}
    for name, names in (("a", ("C3", "C4", "Cz", "Pz")), ("b", ("C4", "C3"))):
        values = quiet((len(names), 400), ord(name[0]))
        values[1] = values[1] // 7 + 900
        values[0, 30:70] = MISSING
        if name == "a":
            values[2], values[3] = 1234, MISSING
        raw[f"test/{name}"] = np.where(values == MISSING, np.nan, values * 0.5 + 10)
        one = typed(400, names, offset=10.0, missing=MISSING)
        write_signals(root, [(recording(name, [one]), values)], measured=True)
    return root, raw
