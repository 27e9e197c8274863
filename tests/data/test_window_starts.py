"""Random starts: inside their segments, equally likely, near the grid, the same for any readers, others each epoch."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import harmonize as hz
from harmonize.data import DomainBatchSampler, WindowDataset, WindowStream
from harmonize.data.index import index_windows
from stores import noise, recording, stream, write_signals

Key = tuple[str, float]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of 4 to 11 s at 100 Hz, each with a gap of a minute after 3.37 s; some as long as a window."""
    root = tmp_path_factory.mktemp("starts") / "s.zarr"
    items = []
    for number in range(8):
        n = 400 + 100 * number
        one = stream(n, segments=[(0, 337, 0.25), (337, n - 337, 60.0)])
        items.append((recording(f"{number}", [one]), noise((2, n), seed=number)))
    write_signals(root, items)
    return root


def keys(batches: Iterable[dict[str, Any]]) -> list[list[Key]]:
    return [list(zip(b["recording_id"], b["start"].tolist(), strict=True)) for b in batches]


def epoch_of(data: WindowDataset, epoch: int) -> list[dict[str, Any]]:
    data.set_epoch(epoch)
    return list(data.__getitems__(range(len(data))))


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 15),
    st.floats(0, 1, exclude_max=True),
)
@example([3], 1, 1, 1 - 2**-53)  # rounded up
def test_starts_are_inside_near_the_grid_and_equally_likely(
    runs: list[int], length: int, step: int, shift: float
) -> None:
    """Draws that fill [0, 1) evenly hit every start of a run equally often, counted over the run's windows."""
    table = pl.DataFrame(
        [
            {"start": 0, "rate_num": 1, "rate_den": 1, "segment_start": [0], "segment_samples": [n],
             "segment_onset_s": [0.0]}
            for n in runs
        ]
    )  # fmt: skip
    index = index_windows(table, length, step)
    run, first = index.locate(np.arange(len(index)))
    drawn = index.jittered(run, first, np.full(len(run), shift))
    assert (drawn >= 0).all()
    assert (drawn + length <= np.array(runs)[run]).all()
    assert (np.abs(drawn - first) < step).all()
    for row, size in enumerate(runs):
        windows = int((run == row).sum())
        if windows == 0:
            continue
        starts = size - length + 1
        draws = (np.arange(starts) + 0.5) / starts
        found = [index.jittered(run[run == row], first[run == row], np.full(windows, one)) for one in draws]
        counts = np.bincount(np.concatenate(found), minlength=starts)
        assert (counts == windows).all()


def test_windows_are_others_each_epoch_and_hold_their_samples(root: Path) -> None:
    opened = hz.open(root)
    grid = WindowDataset(opened, window=1.0)
    data = WindowDataset(opened, window=1.0, starts="random")
    assert len(data) == len(grid)
    assert (data.row_sizes() == grid.row_sizes()).all()
    for epoch in range(3):
        for sample in epoch_of(data, epoch):
            start = float(sample["start"])
            first = round((start - 0.25) * 100) if start < 50 else 337 + round((start - 60) * 100)
            assert first + 100 <= 337 or first >= 337
            expected = opened[sample["recording_id"]].signals["eeg"].read(first, first + 100)
            np.testing.assert_array_equal(sample["signal"].numpy(), expected)
    epochs = [[float(s["start"]) for s in epoch_of(data, epoch)] for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert [float(s["start"]) for s in epoch_of(WindowDataset(root, 1.0, starts="random", seed=1), 0)] != epochs[0]


def test_a_run_as_long_as_a_window_has_one_start(tmp_path: Path) -> None:
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(100)]), noise((2, 100)))])
    data = WindowDataset(tmp_path / "s.zarr", window=1.0, starts="random")
    assert [float(epoch_of(data, epoch)[0]["start"]) for epoch in range(5)] == [0.0] * 5


def test_a_stream_reads_what_the_data_set_draws_and_resumes(root: Path) -> None:
    data = WindowDataset(root, window=1.0, starts="random", seed=5)
    one = WindowStream(root, 1.0, batch_size=6, seed=5, starts="random")
    epochs = [keys(one) for _ in range(3)]
    for epoch, found in enumerate(epochs):
        right = [(s["recording_id"], float(s["start"])) for s in epoch_of(data, epoch)]
        assert sorted(chain.from_iterable(found)) == sorted(right)
    one.set_epoch(1)
    batches = iter(one)
    begun = [next(batches) for _ in range(3)]
    state = one.state_dict()
    other = WindowStream(root, 1.0, batch_size=6, seed=5, starts="random", threads=2)
    other.load_state_dict(state)
    assert keys(begun) + keys(other) == epochs[1]
    assert keys(other) == epochs[2]
    for seed, starts in ((6, "random"), (5, "grid")):
        with pytest.raises(ValueError, match="other windows"):
            WindowStream(root, 1.0, batch_size=6, seed=seed, starts=starts).load_state_dict(state)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_same_global_batches(root: Path, world: int) -> None:
    options = {"seed": 5, "starts": "random", "drop_last": True}
    whole = keys(WindowStream(root, 1.0, batch_size=6, **options))
    order = WindowStream(root, 1.0, batch_size=6, **options).order
    parts = [
        keys(WindowStream(root, 1.0, 6 // world, order=order, rank=rank, world_size=world, **options))
        for rank in range(world)
    ]
    assert [list(chain.from_iterable(batch)) for batch in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_give_the_same_batches_epoch_after_epoch(root: Path, context: str, persistent: bool) -> None:
    one = WindowStream(root, 1.0, batch_size=6, seed=5, starts="random")
    right = [keys(one) for _ in range(4)][1:]
    one.set_epoch(1)
    loader = DataLoader(one, None, num_workers=2, multiprocessing_context=context, persistent_workers=persistent)
    assert [keys(loader) for _ in range(3)] == right


def test_a_sampler_draws_random_windows(root: Path) -> None:
    data = WindowDataset(root, window=1.0, starts="random")
    one = WindowStream(data, sampler=DomainBatchSampler(data, 4))
    epochs = [sorted(chain.from_iterable(keys(one))) for _ in range(2)]
    for epoch, found in enumerate(epochs):
        assert found == sorted((s["recording_id"], float(s["start"])) for s in epoch_of(data, epoch))
    assert epochs[0] != epochs[1]


def test_unknown_starts_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="none of 'grid', 'random'"):
        WindowDataset(root, window=1.0, starts="anywhere")  # type: ignore[arg-type]
