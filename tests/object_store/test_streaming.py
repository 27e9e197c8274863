"""Streams from an object store, against those from a folder, and what they ask for."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harmonize as hz
from harmonize.data import JoinedDataset, WindowDataset, WindowStream
from harmonize.data.batch import NOTHING
from harmonize.data.buffers import Buffers
from harmonize.data.order import BlockOrder
from harmonize.data.reader import Chunks
from harmonize.data.stream import BatchStream, _Kept
from harmonize.store.geometry import CHUNK_BYTES
from object_store.servers import S3
from stores import noise, recording, stream, write_signals

N = 4 * CHUNK_BYTES // 4 + 99
"""Samples of two int16 channels: four inner chunks and a piece."""
WINDOW_S = 100
FAULTS = {"fail": 0.2, "lost": 0.05, "slow": 0.5, "delay_s": 0.02}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, each a part of its own, so that there are three shards."""
    root = tmp_path_factory.mktemp("streamed") / "corpus.zarr"
    for i in range(3):
        write_signals(root, [(recording(f"r{i}", [stream(N)]), noise((2, N), seed=i))])
    return root


@pytest.fixture
def url(s3: S3, local: Path) -> str:
    return s3.upload(local)


def batches(batches: BatchStream) -> list[dict[str, Any]]:
    return list(batches)


def same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs) > 1
    for one, other in zip(ours, theirs, strict=True):
        assert one["recording_id"] == other["recording_id"]
        torch.testing.assert_close(one["signal"], other["signal"], rtol=0, atol=0)


def samples_asked(s3: S3) -> dict[str, list[tuple[int, int]]]:
    """Ranges asked of each shard, but for the index at its end."""
    found = defaultdict(list)
    for one in s3.asked():
        if "/samples/c/" in one["path"] and not one["Range"].startswith("bytes=-"):
            start, end = one["Range"].removeprefix("bytes=").split("-")
            found[one["path"]].append((int(start), int(end) + 1))
    return found


def small(n: int) -> BlockOrder:
    """Blocks of less than a chunk, of which a pool has few."""
    return BlockOrder(n, batch=8, block=16, pool=3, lanes=2)


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("pools", ["one", "many"])
def test_a_stream_is_that_of_a_folder_also_under_faults(
    s3: S3, url: str, local: Path, threads: int, pools: str
) -> None:
    data = [WindowDataset(root, window=WINDOW_S, stride=10) for root in (url, local)]
    order = small(len(data[0])) if pools == "many" else None
    s3.faults(**FAULTS)
    ours, theirs = (WindowStream(one, batch_size=8, order=order, threads=threads) for one in data)
    same(batches(ours), batches(theirs))
    assert sum(n for fate, n in s3.fates().items() if fate in FAULTS) > 0, "the proxy did what the test is about"


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_fits_into_memory_is_asked_for_once_a_shard(s3: S3, url: str, threads: int) -> None:
    windows = WindowStream(url, WINDOW_S, 8, threads=threads)
    s3.faults(slow=1.0, delay_s=0.01)
    assert len(batches(windows)) == len(windows)
    asked = samples_asked(s3)
    assert len(asked) == 3
    assert all(len(ranges) == 1 for ranges in asked.values()), asked


def test_the_next_batch_waits_for_what_is_claimed_before(s3: S3, url: str) -> None:
    """Also where its thread is the first to read: claimed is when a batch is planned, in order."""
    windows = WindowStream(url, WINDOW_S, 8)
    first, second = islice(windows.order.pieces(0, 0), 2)
    kept = _Kept(Buffers())
    plans = [windows._planned(pieces, kept) for pieces in (first, second)]
    s3.faults()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(windows._read, plans[1])
        with pytest.raises(TimeoutError):
            late.result(0.2)
        found = [windows._read(plans[0]), late.result(30)]
    assert all(len(ranges) == 1 for ranges in samples_asked(s3).values())
    same(found, list(islice(windows, 2)))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_of_a_pool_ask_for_nothing_twice(s3: S3, url: str, threads: int) -> None:
    """The blocks of a pool are claimed when the batch that begins them is planned."""
    data = WindowDataset(url, window=WINDOW_S, stride=WINDOW_S)
    order = BlockOrder(len(data), batch=4, block=4, pool=100)
    s3.faults(slow=1.0, delay_s=0.02)
    assert sum(len(batch["signal"]) for batch in WindowStream(data, order=order, threads=threads)) == len(data)
    for ranges in samples_asked(s3).values():
        ranges.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(ranges)), ranges


def test_stores_of_both_kinds_are_streamed_together(s3: S3, url: str, local: Path) -> None:
    def joined(*roots: str | Path) -> BatchStream:
        parts = [WindowDataset(root, window=WINDOW_S, stride=50) for root in roots]
        return BatchStream(JoinedDataset(parts), 8, threads=2, prefetch=6)

    same(batches(joined(url, local)), batches(joined(local, local)))
    s3.faults(**FAULTS)
    same(batches(joined(local, url)), batches(joined(local, local)))


def test_what_was_claimed_is_given_up_where_a_shard_is_gone(
    s3: S3, url: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of shards that are not asked for any more once one has failed."""
    monkeypatch.setattr("harmonize.store.place.REQUESTS", 1)
    s3.delete(f"corpus.zarr/{hz.open(local).streams['part'][0]}/samples/c/0/0")
    data = WindowDataset(url, window=WINDOW_S)
    numbers, kept = np.arange(len(data)), Chunks()
    with pytest.raises(hz.StoreError, match="is not there"):
        data.ahead((numbers, [kept] * len(data)), NOTHING)()
    assert all(decoded is not None for decoded in kept._known.values()), "nothing is on its way for ever"


def test_what_was_claimed_is_given_up_where_another_store_fails(s3: S3, url: str, local: Path) -> None:
    """Of stores that are streamed together: nobody waits for what the reading that raised did not come to."""
    for part in hz.open(local).streams["part"]:
        s3.delete(f"corpus.zarr/{part}/samples/c/0/0")
    parts = [WindowDataset(root, window=WINDOW_S, stride=50) for root in (url, local)]
    joined, numbers = JoinedDataset(parts), np.array([0, len(parts[0])])
    kept = [Chunks() for _ in numbers]
    with pytest.raises(hz.StoreError, match="is not there"):
        joined.ahead((numbers, kept), NOTHING)()
    pieces = [chunk for one in kept for chunk in one._known.items()]
    assert pieces
    assert all(decoded is not None for _, decoded in pieces), "the folder's are here, and none is on its way"


@pytest.mark.parametrize("threads", [0, 3])
def test_a_shard_that_is_gone_ends_a_stream(s3: S3, url: str, local: Path, threads: int) -> None:
    """Whoever waits for a chunk that another thread claimed is told, too."""
    part = hz.open(local).streams["part"][1]
    s3.delete(f"corpus.zarr/{part}/samples/c/0/0")
    with pytest.raises(hz.StoreError, match="is not there"):
        batches(WindowStream(url, WINDOW_S, 8, threads=threads))
