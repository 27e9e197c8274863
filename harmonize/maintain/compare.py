"""What differs between two readings of a recording. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def first_difference(stored: np.ndarray, read: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first value, in order of the last axis first, whose bits differ; None where all are equal.

    Bits, so that NaN equals itself and zero is not minus zero. Both have one shape and dtype.
    """
    a, b = (np.ascontiguousarray(one) for one in (stored, read))
    if a.tobytes() == b.tobytes():
        return None
    size = a.dtype.itemsize
    wrong = (a.reshape(-1).view(np.uint8).reshape(-1, size) != b.reshape(-1).view(np.uint8).reshape(-1, size)).any(1)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), a.shape))


def differences(stored: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where two JSON documents differ, as ``streams[0].channels[1].scale: 0.5, now 0.25``; the first of a list."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for name in sorted({*stored, *found}):
            yield from differences(stored.get(name), found.get(name), f"{path}.{name}" if path else name)
    elif isinstance(stored, Sequence) and isinstance(found, Sequence) and not isinstance(stored, str):
        if len(stored) != len(found):
            yield f"{path}: {len(stored)} entries, now {len(found)}"
            return
        for i, (one, other) in enumerate(zip(stored, found, strict=True)):
            said = next(differences(one, other, f"{path}[{i}]"), None)
            if said is not None:
                yield said
                return
    elif stored != found and not (stored != stored and found != found):  # NaN is itself here
        yield f"{path}: {stored!r}, now {found!r}"


def row_differences(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Columns of a catalog row that are not what the document gives."""
    return [name for name, value in document.items() if name in row and row[name] != value]
