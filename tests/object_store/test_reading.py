"""Reading and streaming from an object store, against the same store in a folder."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import harmonize as hz
from harmonize.data import PatchDataset, WindowDataset
from harmonize.data.duplicates import update_duplicates
from harmonize.data.split_tables import make_split
from harmonize.store import CorruptShardError, MissingChunkError
from harmonize.store.geometry import CHUNK_BYTES
from harmonize.store.place import place_of
from harmonize.store.sharded import ShardedArray
from harmonize_schemas import Image
from object_store.servers import S3, SECRET
from stores import noise, recording, stream, write_image, write_signals

FAULTS = {"fail": 0.3, "lost": 0.1, "slow": 0.5, "delay_s": 0.05}
"""Many, as a batch asks for little: a test makes some 27 requests."""
LONG = 5 * CHUNK_BYTES // 4 + 77
"""Samples of two int16 channels: five inner chunks and a piece."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short recordings in one part, a long one in another, and two images."""
    root = tmp_path_factory.mktemp("local") / "corpus.zarr"
    short = [
        (recording(f"s{i}", [stream(3000 + 70 * i)], sex="female"), noise((2, 3000 + 70 * i), seed=i)) for i in range(4)
    ]
    write_signals(root, short)
    write_signals(root, [(recording("long", [stream(LONG)], sex="male"), noise((2, LONG), seed=9))], codec="zstd")
    for i in range(2):
        shape = (20, 90, 80)
        image = Image(
            axes=("z", "y", "x"), shape=shape, dtype="int16", affine=tuple(map(tuple, np.eye(4).tolist())),
            affine_source="sform", spacing_mm=(1.0, 1.0, 1.0), spacing_source="affine", slopes=(0.5,), intercepts=(1.0,),
        )  # fmt: skip
        write_image(root, recording(f"i{i}", image=image, modality="ct"), noise(shape, seed=20 + i))
    return root


@pytest.fixture
def url(s3: S3, local: Path) -> str:
    """The same files in the bucket."""
    return s3.upload(local)


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True, msg=name)
        else:
            assert value == other[name], name


def batches(dataset, order: Sequence[int], size: int = 8) -> list[dict]:
    return [dataset.collate(dataset.__getitems__(order[i : i + size])) for i in range(0, len(order), size)]


@pytest.mark.parametrize("rate", [None, 64])
def test_windows_are_those_of_a_folder_also_under_faults(s3: S3, url: str, local: Path, rate: int | None) -> None:
    ours, theirs = (WindowDataset(root, window=20, stride=15, rate=rate) for root in (url, local))
    order = np.random.default_rng(0).permutation(len(theirs))[:128].tolist()
    s3.faults(**FAULTS)
    for one, other in zip(batches(ours, order), batches(theirs, order), strict=True):
        same(one, other)
    fates = s3.fates()
    assert fates["fail"] > 0 < fates["slow"], "the proxy did what the test is about"


@pytest.mark.parametrize(
    "options", [{}, {"sampling": "foreground", "per_image": 20, "spacing": (1.5, 1.5, 4.0), "orientation": "RAS"}]
)
def test_patches_are_those_of_a_folder_also_under_faults(s3: S3, url: str, local: Path, options: dict) -> None:
    s3.faults(**FAULTS)
    ours, theirs = (PatchDataset(root, patch=(48, 48, 16), **options) for root in (url, local))
    order = np.random.default_rng(0).permutation(len(theirs)).tolist()
    for one, other in zip(batches(ours, order), batches(theirs, order), strict=True):
        same(one, other)
    fates = s3.fates()
    assert fates["fail"] > 0 < fates["slow"]


def test_a_batch_asks_for_each_shard_once(s3: S3, url: str) -> None:
    """The first batch: metadata and index of both arrays, and one request for the chunks of each; the next: chunks."""
    dataset = WindowDataset(url, window=10)
    s3.faults()
    whole = list(range(len(dataset)))
    asked = []
    for _ in range(2):
        dataset.__getitems__(whole)
        asked.append(
            sorted(
                (re.sub(r"/[^/]+/samples", "/*/samples", one["path"].partition("signals")[2]), one.get("Range", "")[:7])
                for one in s3.asked()
            )
        )
        s3.faults()
    name = asked[0][0][0].partition("/*")[0]
    chunks = (f"{name}/*/samples/c/0/0", "bytes=0")
    index = (f"{name}/*/samples/c/0/0", "bytes=-")
    assert asked[0] == sorted([chunks, chunks, index, index, *[(f"{name}/*/samples/zarr.json", "")] * 2])
    assert asked[1] == [chunks, chunks]


def test_spawned_workers_read_and_forked_ones_are_told(s3: S3, url: str, local: Path) -> None:
    dataset = WindowDataset(url, window=30)
    first = dataset[0]
    assert SECRET.encode() not in pickle.dumps(dataset), "workers take credentials from their environment"
    spawned = DataLoader(
        dataset, batch_size=16, num_workers=1, multiprocessing_context="spawn", collate_fn=dataset.collate
    )
    expected = DataLoader(WindowDataset(local, window=30), batch_size=16, collate_fn=dataset.collate)
    for one, other in zip(spawned, expected, strict=True):
        same(one, other)
    with multiprocessing.get_context("fork").Pool(1) as pool, pytest.raises(hz.StoreError, match='context="spawn"'):
        pool.apply(dataset.__getitem__, (0,))
    same(dataset[0], first)


def test_any_box_is_what_the_mapped_reader_gives(url: str, local: Path) -> None:
    part = hz.open(local).streams.filter(n_samples=LONG)["part"][0]
    image = hz.open(local).recordings["image"].drop_nulls()[0]
    draw = np.random.default_rng(3)
    for path in (f"{part}/samples", f"{image}/0"):
        ours, theirs = ShardedArray(place_of(url) / path), ShardedArray(local / path)
        assert (ours.shape, ours.dtype, ours.chunk) == (theirs.shape, theirs.dtype, theirs.chunk)
        for _ in range(6):
            region = [tuple(sorted(draw.integers(0, size + 1, 2).tolist())) for size in theirs.shape]
            np.testing.assert_array_equal(ours.read(region), theirs.read(region))


def test_what_is_missing_or_damaged_is_an_error(s3: S3, url: str, local: Path) -> None:
    part = hz.open(local).streams.filter(n_samples=LONG)["part"][0]
    path, name = place_of(url) / part / "samples", f"corpus.zarr/{part}/samples/c/0/0"
    whole = s3.get(name)
    index = np.frombuffer(whole[-4 - 16 * 6 : -4], "<u8").reshape(6, 2)

    def error(data: bytes, match: str) -> type[BaseException]:
        s3.put(name, data)
        with pytest.raises(hz.StoreError, match=match) as caught:
            ShardedArray(path).read([(0, 2), (0, LONG)])
        return caught.type

    at = int(index[2, 0])
    zeroed = whole[:at] + bytes(int(index[2, 1])) + whole[at + int(index[2, 1]) :]
    assert error(zeroed, "does not decode") is CorruptShardError
    assert error(whole[:-2] + b"\0\0", "fails its checksum") is CorruptShardError
    assert error(whole[-60:], "shorter than its index") is CorruptShardError
    assert error(whole[1000:], "lies outside its shard") is CorruptShardError
    assert error(b"", "shorter than its index") is CorruptShardError
    s3.delete(name)
    with pytest.raises(MissingChunkError, match="is not there"):
        ShardedArray(path).read([(0, 2), (0, LONG)])


def test_tables_that_are_computed_are_kept_there_too(s3: S3, tmp_path: Path) -> None:
    items = [
        (recording(name, [stream(4000)], subject=name), noise((2, 4000), seed=seed))
        for name, seed in zip("abcd", (1, 2, 1, 3), strict=True)
    ]
    write_signals(tmp_path / "small.zarr", items)
    url = s3.upload(tmp_path / "small.zarr")
    s3.faults(fail=0.05)
    store = hz.open(url)
    update_duplicates(store)
    found = hz.open(url)
    assert found.duplicates.select("recording_a", "recording_b", "kind").rows() == [("test/a", "test/c", "near")]
    assert found.duplicates_version == store.version
    make_split(found, "main", "random", fractions={"train": 0.5, "test": 0.5})
    sides = dict(hz.open(url).splits.select("recording_id", "side").iter_rows())
    assert sorted(sides) == sorted(store.recordings["recording_id"])
    assert set(sides.values()) == {"train", "test"}
    assert sides["test/a"] == sides["test/c"]
    assert s3.fates()["fail"] > 0
