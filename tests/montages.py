"""Stores of EEG channels for the tests of views, and what they hold in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harmonize.data import WindowDataset
from harmonize_schemas import SignalStream
from stores import recording, stream, write_signals

EEG = ("Fp1", "C3", "C4", "M1", "M2")
MISSING = -32768


def typed(n: int, names: Sequence[str], types: dict[str, str] | None = None, **more: Any) -> SignalStream:
    """A stream whose channels have these types, in the unit of EEG; ``unit`` of all or of one (name, unit)."""
    unit = more.pop("unit", "µV")
    units = unit if isinstance(unit, dict) else dict.fromkeys(names, unit)
    made = stream(n, names, **more)
    channels = tuple(
        one.model_copy(update={"type": (types or {}).get(one.name, "eeg"), "unit": units.get(one.name, "µV")})
        for one in made.channels
    )
    return made.model_copy(update={"channels": channels})


def quiet(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Integers that are never the sentinel."""
    return np.random.default_rng(seed).integers(-3000, 3000, shape).astype(np.int16)


def signals(data: WindowDataset) -> np.ndarray:
    """All windows, (window, channel, time)."""
    whole: torch.Tensor = data.collate(data.__getitems__(range(len(data))))["signal"]
    return whole.numpy()


def physical(root: Path) -> np.ndarray:
    found: np.ndarray = np.load(root.parent / "raw.npy") * 0.5
    return found


def by_hand(tmp_path: Path, **options: Any) -> np.ndarray:
    """Four samples of three channels, 0.5 µV a step, of which two are missing, and a bipolar one."""
    values = np.array([[2, 4, -32768, 6], [4, 8, 10, -32768], [6, 0, 20, -32768], [100, 100, 100, -32768]], np.int16)
    one = recording("a", [typed(4, ("C3", "C4", "Cz", "F3-C3"), rate=4, missing=MISSING)])
    write_signals(tmp_path / "hand.zarr", [(one, values)])
    return signals(WindowDataset(tmp_path / "hand.zarr", window=1.0, **options))[0]
