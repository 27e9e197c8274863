"""Frames to (channel, time): every way of copying gives what a loop over samples gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize_converters._frames import copy_run, find_runs


@pytest.mark.parametrize("dtype", ["<i2", "<i4"], ids=["as it is", "converted"])
@pytest.mark.parametrize("spread", [False, True], ids=["dense", "spread"])
@given(
    signals=st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=6),
    n=st.integers(1, 4),
    at=st.integers(0, 3),
)
def test_runs_are_copied_sample_by_sample(
    dtype: str, spread: bool, signals: list[tuple[int, bool]], n: int, at: int
) -> None:
    """``signals``: width, and whether a signal belongs to a stream. One stream for each width."""
    places: list[tuple[int, int] | None] = []
    members: dict[int, int] = {}
    for width, belongs in signals:
        places.append((list(dict.fromkeys([*members, width])).index(width), members.get(width, 0)) if belongs else None)
        if belongs:
            members[width] = members.get(width, 0) + 1
    total = sum(width for width, _ in signals)
    whole = np.random.default_rng(0).integers(-(2**15), 2**15, (n, 2 * total)).astype("<i2")
    frames = whole[:, ::2] if spread else whole[:, :total]
    outs = [np.zeros((count, (at + n) * width), dtype) for width, count in members.items()]
    expected = [out.copy() for out in outs]
    offset = 0
    for (width, _), place in zip(signals, places, strict=True):
        if place is not None:
            for frame in range(n):
                for i in range(width):
                    expected[place[0]][place[1], (at + frame) * width + i] = frames[frame, offset + i]
        offset += width
    for run in find_runs([width for width, _ in signals], places):
        copy_run(frames, run, outs[run.stream], at)
    for out, right in zip(outs, expected, strict=True):
        np.testing.assert_array_equal(out, right)
