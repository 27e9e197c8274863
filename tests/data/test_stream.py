"""Streams: every window once, the same batches for any readers, resumed to the sample, nothing left open."""

from __future__ import annotations

import gc
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from harmonize.data import BatchStream, DomainBatchSampler, PatchDataset, WindowDataset, WindowStream, decode, reader
from harmonize.data.order import BlockOrder
from harmonize.store import sharded
from harmonize.store.errors import CorruptShardError
from harmonize.store.sharded import Empty, Encoded
from harmonize_schemas import Image
from stores import noise, recording, stream, write_image, write_signals
from threads import reading

Key = tuple[str, float]
ORDER = BlockOrder(n_windows=126, batch=12, block=5, pool=2, lanes=4, workers=2)
"""Small blocks, so that many pools come and go."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """126 windows of a second in 12 recordings, in three parts, whose names are not in the order of the parts."""
    root = tmp_path_factory.mktemp("stream") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harmonize.store.geometry.CHUNK_BYTES", 2000)  # five windows
        write_parts(root)
    return root


def write_parts(root: Path) -> None:
    for part in range(3):
        items = []
        for number in range(4):
            n = 100 * (6 + 3 * number) + (25 * part)
            one = recording(f"{(7 * (4 * part + number)) % 12:02d}", [stream(n, missing=-32768)], site="AB"[number % 2],
                            subject=f"s{number}")  # fmt: skip
            items.append((one, noise((2, n), seed=10 * part + number)))
        write_signals(root, items)


def keys(batches: Iterable[dict[str, Any]]) -> list[list[Key]]:
    return [list(zip(b["recording_id"], b["start"].tolist(), strict=True)) for b in batches]


def expected(root: Path, epoch: int = 0, order: BlockOrder = ORDER) -> list[list[Key]]:
    """The batches of an epoch, read without threads."""
    one = WindowStream(root, 1.0, order=order, threads=0)
    one.set_epoch(epoch)
    return keys(one)


def test_batches_hold_what_the_data_set_holds(root: Path) -> None:
    data = WindowDataset(root, window=1.0)
    assert len(data) == 126
    by_key = {(s["recording_id"], float(s["start"])): s for s in data.__getitems__(range(len(data)))}
    seen = []
    for batch in WindowStream(data, order=ORDER):
        for i, key in enumerate(keys([batch])[0]):
            seen.append(key)
            for name, value in by_key[key].items():
                if isinstance(value, torch.Tensor):
                    torch.testing.assert_close(batch[name][i], value, rtol=0, atol=0, equal_nan=True)
    assert sorted(seen) == sorted(by_key)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [0, 3, 50])
def test_threads_change_nothing(root: Path, threads: int, prefetch: int) -> None:
    one = WindowStream(root, 1.0, order=ORDER, threads=threads, prefetch=prefetch)
    assert [keys(one), keys(one)] == [expected(root, 0), expected(root, 1)]
    assert not reading()


def test_memory_that_is_used_again_is_not_what_a_batch_holds(root: Path) -> None:
    """Batches that are kept, whole or as a view or array of a part, are not written over by later ones."""
    data = WindowDataset(root, window=1.0)
    by_key = {(s["recording_id"], float(s["start"])): s["signal"] for s in data.__getitems__(range(len(data)))}
    held: list[tuple[Key, Any]] = []
    one = WindowStream(data, order=ORDER, threads=2)
    for _ in range(3):
        for batch in one:
            key = keys([batch])[0]
            held += [(key[0], batch["signal"][0]), (key[1], batch["signal"][1].numpy()[:, ::2])]
    for key, signal in held:
        right = by_key[key].numpy()
        np.testing.assert_array_equal(np.asarray(signal), right if signal.shape == right.shape else right[:, ::2])


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_share_the_same_global_batches(root: Path, world: int) -> None:
    parts = [keys(WindowStream(root, 1.0, order=ORDER, rank=r, world_size=world)) for r in range(world)]
    whole = expected(root)
    for step, batch in enumerate(whole):
        given = [key for part in parts for key in part[step]]
        assert given[len(given) - len(batch) :] == batch
    assert {len(part) for part in parts} == {len(whole)}


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_give_the_same_batches_epoch_after_epoch(root: Path, context: str, persistent: bool) -> None:
    one = WindowStream(root, 1.0, order=ORDER)
    next(iter(one))  # the parent has the store open, which a fork must not use; and an epoch was begun
    loader = DataLoader(one, None, num_workers=2, multiprocessing_context=context, persistent_workers=persistent)
    assert [keys(loader) for _ in range(2)] == [expected(root, 1), expected(root, 2)]
    one.set_epoch(7)
    for batch in loader:  # broken off: the next iteration is the next epoch for all workers
        assert keys([batch]) == expected(root, 7)[:1]
        break
    assert keys(loader) == expected(root, 8)
    one.load_state_dict({**one.state_dict(), "epoch": 3, "step": 4})
    assert keys(loader) == expected(root, 3)[4:]
    assert keys(loader) == expected(root, 4)


def test_same_seed_of_torch_before_every_epoch(root: Path) -> None:
    """Workers know an iteration by a number that DataLoader draws, which is then the same for all."""
    one = WindowStream(root, 1.0, order=ORDER)
    loader = DataLoader(one, None, num_workers=2)
    for epoch in range(3):
        torch.manual_seed(0)
        assert keys(loader) == expected(root, epoch)


@pytest.mark.parametrize("at", [0, 1, 4, 11])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_state_goes_on_to_the_sample(root: Path, at: int, threads: int) -> None:
    one = WindowStream(root, 1.0, order=ORDER, threads=threads)
    one.set_epoch(5)
    batches = iter(one)
    for _ in range(at):
        next(batches)
    state = pickle.loads(pickle.dumps(one.state_dict()))
    assert len(pickle.dumps(state)) < 500
    for world in (1, 2, 4):
        ranks = []
        for rank in range(world):
            other = WindowStream(root, 1.0, 12 // world, rank=rank, world_size=world)  # of other blocks by itself
            other.load_state_dict(state)
            ranks.append([keys(other), keys(other)])
        for epoch, right in enumerate((expected(root, 5)[at:], expected(root, 6))):
            for step, batch in enumerate(right):
                given = [key for rank in ranks for key in rank[epoch][step]]
                assert given[len(given) - len(batch) :] == batch


def test_state_of_other_windows_is_refused(root: Path) -> None:
    state = WindowStream(root, 1.0, order=ORDER).state_dict()
    others = [
        WindowStream(root, 1.0, 12, seed=1),
        WindowStream(root, 1.0, 16),
        WindowStream(root, 0.5, 12),
        WindowStream(root, 1.0, 12, where="site = 'A'"),
        WindowStream(root, 1.0, 12, shuffle=False),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the state is of other windows"):
            other.load_state_dict(state)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11 on torch 2.13
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_stateful_dataloader_goes_on(root: Path, workers: int) -> None:
    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(WindowStream(root, 1.0, order=ORDER), None, num_workers=workers)

    first = loader()
    batches = iter(first)
    seen = [next(batches) for _ in range(5)]
    state = first.state_dict()
    other = loader()
    other.load_state_dict(state)
    assert keys(seen) + keys(other) == expected(root, 0)
    assert keys(other) == expected(root, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_samplers_make_the_batches(root: Path, workers: int) -> None:
    data = WindowDataset(root, window=1.0)

    def sampler(**ranks: int) -> DomainBatchSampler:
        return DomainBatchSampler(data, 6, field="site", alpha=0.0, balance="subject", seed=3, **ranks)

    right = keys(data.collate(data.__getitems__(batch)) for batch in sampler())
    one = WindowStream(data, sampler=sampler())
    assert len(one) == len(right)
    assert keys(DataLoader(one, None, num_workers=workers)) == right
    state = one.state_dict(step=4)
    one.load_state_dict({**state, "epoch": 0})
    assert keys(one) == right[4:]
    with pytest.raises(ValueError, match="other windows"):
        WindowStream(data, order=ORDER).load_state_dict(state)
    parts = [keys(WindowStream(data, sampler=sampler(rank=rank, world_size=2))) for rank in range(2)]
    assert len(parts[0]) == len(parts[1])
    assert {len(set(a) & set(b)) for a, b in zip(*parts, strict=True)} == {0}


def test_in_turn(root: Path) -> None:
    data = WindowDataset(root, window=1.0)
    right = keys([data.collate(data.__getitems__(range(len(data))))])[0]
    found = keys(WindowStream(data, batch_size=10, shuffle=False))
    assert list(chain.from_iterable(found)) == right
    assert [len(batch) for batch in found] == [10] * 12 + [6]
    assert len(keys(WindowStream(data, batch_size=10, shuffle=False, drop_last=True))) == 12


def test_blocks_are_chosen_for_the_store_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "harmonize.data.stream"):
        one = WindowStream(root, 1.0)
    assert isinstance(one.order, BlockOrder)
    assert one.order.n_windows == 126
    assert "design effect 1.0" in caplog.text
    assert sorted(chain.from_iterable(keys(one))) == sorted(chain.from_iterable(expected(root)))


def test_native_integers_are_decoded_to_the_same_values(root: Path) -> None:
    values = WindowStream(root, 1.0, order=ORDER)
    native = WindowStream(root, 1.0, order=ORDER, dtype=None)
    for one, other in zip(values, native, strict=True):
        assert other["signal"].dtype == torch.int16
        torch.testing.assert_close(decode(other), one["signal"], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats(root: Path, dtype: torch.dtype) -> None:
    values = WindowStream(root, 1.0, order=ORDER)
    for one, other in zip(values, WindowStream(root, 1.0, order=ORDER, dtype=dtype), strict=True):
        torch.testing.assert_close(other["signal"], one["signal"].to(dtype), rtol=0, atol=0, equal_nan=True)


def test_a_transform_is_applied(root: Path) -> None:
    one = WindowStream(root, 1.0, order=ORDER, transform=lambda s: s | {"mean": s["signal"].nanmean()})
    for batch in one:
        torch.testing.assert_close(batch["mean"], batch["signal"].nanmean(dim=(1, 2)))


def test_device(root: Path) -> None:
    assert keys(WindowStream(root, 1.0, order=ORDER, device="cpu")) == expected(root)


def test_damage_is_an_error_in_the_loop(root: Path, tmp_path: Path) -> None:
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(1000)]), noise((2, 1000)))])
    (shard,) = (tmp_path / "s.zarr").glob("signals/*/*/samples/c/0/*")
    data = bytearray(shard.read_bytes())
    data[10] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(CorruptShardError, match="chunk"):
        list(WindowStream(tmp_path / "s.zarr", 1.0))


def test_wrong_arguments_are_refused(root: Path) -> None:
    data = WindowDataset(root, window=1.0)
    with pytest.raises(ValueError, match="shared equally by 5 ranks"):
        WindowStream(data, order=ORDER, rank=0, world_size=5)
    with pytest.raises(ValueError, match="not both"):
        WindowStream(data, order=ORDER, sampler=DomainBatchSampler(data, 4))
    with pytest.raises(ValueError, match="belong to the data set"):
        WindowStream(data, channels=["C3"])


FIFTY_EPOCHS = """
import gc, sys
import psutil
from harmonize.data import WindowStream
from harmonize.data.order import BlockOrder

root, process = sys.argv[1], psutil.Process()
one = WindowStream(root, 1.0, order=BlockOrder(n_windows=126, batch=12, block=5, pool=2, lanes=4, workers=2), threads=2)
for epoch in range(50):
    for _ in one:
        pass
    if epoch in (1, 49):
        gc.collect()
        maps = sum(root in m.path for m in process.memory_maps(grouped=False))
        print(process.num_fds(), process.num_threads(), maps, process.memory_info().rss)
"""


def test_fifty_epochs_leave_nothing_open_and_no_memory(root: Path) -> None:
    """Files and threads as after the second epoch; memory within 8 MB of it. In a process of its own: what other tests
    left in this one moves its memory by as much."""
    ran = subprocess.run([sys.executable, "-c", FIFTY_EPOCHS, str(root)], check=True, capture_output=True, text=True)
    (*before, memory), (*after, memory_after) = (list(map(int, line.split())) for line in ran.stdout.splitlines())
    assert after == before
    assert memory_after - memory < 8 << 20


def test_an_iteration_that_is_dropped_ends_its_threads(root: Path) -> None:
    batches = iter(WindowStream(root, 1.0, order=ORDER, threads=2))
    next(batches)
    assert len(reading()) == 2
    del batches
    gc.collect()
    assert not reading()


def test_ranks_and_workers_read_no_chunk_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks, and the two workers of each, read together what one process reads (but for the epoch's last batches,
    which mix what is left of all lanes)."""
    reads = 0
    plain = sharded.decode

    def counted(chunks: Sequence[Encoded], empty: Empty) -> list[np.ndarray]:
        nonlocal reads
        reads += len(chunks)
        return plain(chunks, empty)

    monkeypatch.setattr(sharded, "decode", counted)
    monkeypatch.setattr(reader, "decode", counted)
    steps = ORDER._turns * ORDER.workers
    assert steps >= 4
    one = WindowStream(root, 1.0, order=ORDER, threads=0)
    list(islice(one, steps))
    alone, reads = reads, 0
    assert alone >= 25  # chunks there are
    for rank in range(2):
        other = WindowStream(root, 1.0, order=ORDER, threads=0, rank=rank, world_size=2)
        for worker in range(2):
            for _ in islice(other._batches(0, worker, 2), steps // 2):
                pass
    assert reads == alone


def test_a_stream_of_patches(tmp_path: Path) -> None:
    for name in "ab":
        image = Image(axes=("z", "y", "x"), shape=(4, 6, 8), dtype="int16", affine=None, affine_source="unknown",
                      spacing_mm=None, spacing_source="unknown")  # fmt: skip
        write_image(tmp_path / "s.zarr", recording(name, image=image, modality="mr"), noise((4, 6, 8)))
    data = PatchDataset(tmp_path / "s.zarr", patch=(4, 3, 2))
    seen = [
        (name, tuple(start))
        for batch in BatchStream(data, 5)
        for name, start in zip(batch["recording_id"], batch["start"].tolist(), strict=True)
    ]
    assert len(set(seen)) == len(seen) == len(data) == 16


def test_random_patches_are_others_in_every_epoch(tmp_path: Path) -> None:
    image = Image(axes=("z", "y", "x"), shape=(9, 9, 9), dtype="int16", affine=None, affine_source="unknown",
                  spacing_mm=None, spacing_source="unknown")  # fmt: skip
    write_image(tmp_path / "s.zarr", recording("a", image=image, modality="mr"), noise((9, 9, 9)))
    data = PatchDataset(tmp_path / "s.zarr", patch=(2, 2, 2), sampling="random", per_image=12)
    other = PatchDataset(tmp_path / "s.zarr", patch=(2, 2, 2), sampling="random", per_image=12, seed=1)
    with pytest.raises(ValueError, match="other windows"):
        BatchStream(other, 4).load_state_dict(BatchStream(data, 4).state_dict())
    for workers in (0, 2):
        loader = DataLoader(BatchStream(data, 4), None, num_workers=workers)
        epochs = [sorted(start for batch in loader for start in batch["start"].tolist()) for _ in range(2)]
        for epoch, found in enumerate(epochs):
            data.set_epoch(epoch)
            assert found == sorted(sample["start"].tolist() for sample in data.__getitems__(range(12)))
        assert epochs[0] != epochs[1]
