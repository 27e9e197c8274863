"""Several data sets as one: codes, padding, masks, batches of one layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from harmonize.data import (
    BatchStream,
    DomainBatchSampler,
    JoinedDataset,
    PatchDataset,
    WindowDataset,
    decode,
    windows_by_layout,
)
from harmonize_schemas import Image
from stores import noise, recording, stream, write_image, write_signals

SCALE = np.float32(0.5)


def voxels(shape: tuple[int, int, int]) -> Image:
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    return Image(
        axes=("z", "y", "x"), shape=shape, dtype="int16", affine=affine, affine_source="sform",
        spacing_mm=(1.0, 1.0, 1.0), spacing_source="affine", slopes=(1.0,), intercepts=(0.0,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """Store "a": C3, C4 at 100 Hz, of sites A and B. "b": C4, Cz at 50 Hz, of sites B and C. Parts have the same names
    in both. Also the samples by recording."""
    folder = tmp_path_factory.mktemp("joined")
    roots, samples = {}, {}
    for name, channels, rate, sites in (("a", ("C3", "C4"), 100, "AB"), ("b", ("C4", "Cz"), 50, "BC")):
        roots[name] = folder / f"{name}.zarr"
        items = []
        for number in range(3):
            n = rate * (4 + number)
            one = recording(f"{name}{number}", [stream(n, channels, rate)], site=sites[number % 2], subject=f"s{number}",
                            modality="eeg" if name == "a" else "ecg")  # fmt: skip
            samples[f"test/{name}{number}"] = noise((2, n), seed=10 * ord(name) + number)
            items.append((one, samples[f"test/{name}{number}"]))
        write_signals(roots[name], items)
    return roots, samples


def data_sets(roots: dict[str, Path], **options: Any) -> list[WindowDataset]:
    return [WindowDataset(root, 1.0, **options) for root in roots.values()]


def test_items_are_those_of_the_parts_padded_to_all_channels_and_the_longest_time(stores: Any) -> None:
    roots, samples = stores
    joined = JoinedDataset(data_sets(roots))
    assert joined.channels == ("C3", "C4", "Cz")
    assert joined.shape == (3, 100)
    assert len(joined) == 2 * (4 + 5 + 6)
    mixed = np.random.default_rng(0).permutation(len(joined))
    batch = joined.collate(joined.__getitems__(mixed))
    assert batch["signal"].shape == (30, 3, 100)
    assert set(batch["part"].tolist()) == {0, 1}
    for i, number in enumerate(mixed):
        name = batch["recording_id"][i]
        from_a = name.startswith("test/a")
        assert int(batch["part"][i]) == (not from_a)
        assert (number < 15) == from_a
        places, n = ([0, 1], 100) if from_a else ([1, 2], 50)
        want = np.zeros((3, 100), np.float32)
        first = round(float(batch["start"][i]) * n)
        want[places, :n] = samples[name][:, first : first + n] * SCALE
        np.testing.assert_array_equal(batch["signal"][i].numpy(), want)
        assert batch["channel_mask"][i].tolist() == [from_a, True, not from_a]
        assert batch["time_mask"][i].tolist() == [True] * n + [False] * (100 - n)


def test_codes_mean_the_same_in_all_parts(stores: Any) -> None:
    roots, _ = stores
    joined = JoinedDataset(data_sets(roots, domains=("modality",)))
    assert joined.codes["site"].names == ("A", "B", "C")
    assert joined.codes["modality"].names == ("ecg", "eeg")
    batch = joined.collate(joined.__getitems__(range(len(joined))))
    for i, name in enumerate(batch["recording_id"]):
        store, number = name[5], int(name[6])
        assert joined.codes["site"][int(batch["site"][i])] == {"a": "AB", "b": "BC"}[store][number % 2]
        assert joined.codes["subject"][int(batch["subject"][i])] == f"s{number}"
        assert joined.codes["modality"][int(batch["modality"][i])] == {"a": "eeg", "b": "ecg"}[store]
    layouts = joined.codes_of("layout")
    assert len(layouts.names) == 2
    assert layouts.codes.tolist() == [*[layouts.codes[0]] * 3, *[1 - layouts.codes[0]] * 3]


def test_batches_of_one_part_keep_its_shape(stores: Any) -> None:
    roots, _ = stores
    joined = windows_by_layout(list(roots.values()), 1.0)
    assert [part.shape for part in joined.parts] == [(2, 100), (2, 50)]
    for same in ("part", "layout", "modality"):
        sampler = DomainBatchSampler(joined, 5, same=same)
        loader = DataLoader(joined, batch_sampler=sampler, collate_fn=joined.collate)
        shapes = [tuple(batch["signal"].shape) for batch in loader]
        assert sorted(shapes) == [(5, 2, 50)] * 3 + [(5, 2, 100)] * 3
        shapes = [tuple(batch["signal"].shape) for batch in BatchStream(joined, sampler=sampler)]
        assert sorted(shapes) == [(5, 2, 50)] * 3 + [(5, 2, 100)] * 3
    with pytest.raises(ValueError, match="same='part'"):
        joined.__getitems__([0, 20])


@pytest.mark.parametrize("context", [None, "spawn"])
def test_a_stream_gives_every_window_of_all_parts_once_and_goes_on(stores: Any, context: str | None) -> None:
    roots, _ = stores
    joined = JoinedDataset(data_sets(roots))
    one = BatchStream(joined, 4, seed=3, workers=1 if context is None else 2)
    loader = one if context is None else DataLoader(one, None, num_workers=2, multiprocessing_context=context)
    batches = list(loader)
    keys = [(name, float(start)) for b in batches for name, start in zip(b["recording_id"], b["start"], strict=True)]
    assert len(keys) == len(set(keys)) == 30
    by_key = {(s["recording_id"], float(s["start"])): s["signal"] for s in joined.__getitems__(range(30))}
    flat = torch.cat([batch["signal"] for batch in batches])
    for key, signal in zip(keys, flat, strict=True):
        assert torch.equal(signal, by_key[key])
    if context is None:
        again = BatchStream(JoinedDataset(data_sets(roots)), 4, seed=3)
        state = one.state_dict(step=3) | {"epoch": 0}
        again.load_state_dict(state)
        assert [b["recording_id"] for b in again] == [b["recording_id"] for b in batches[3:]]
        other = BatchStream(JoinedDataset(data_sets(roots)[:1]), 4, seed=3)
        with pytest.raises(ValueError, match="other windows"):
            other.load_state_dict(state)


def test_native_integers_decode_to_the_same_values(stores: Any) -> None:
    roots, _ = stores
    numbers = [1, 17, 3, 29]
    values = JoinedDataset(data_sets(roots))
    native = JoinedDataset(data_sets(roots, dtype=None))
    batch = native.collate(native.__getitems__(numbers))
    assert batch["signal"].dtype == torch.int16
    want = values.collate(values.__getitems__(numbers))
    assert torch.equal(decode(batch), want["signal"])
    assert torch.equal(batch["time_mask"], want["time_mask"])
    half = JoinedDataset(data_sets(roots, dtype=torch.bfloat16))
    assert torch.equal(half.collate(half.__getitems__(numbers))["signal"], want["signal"].to(torch.bfloat16))


def test_the_labels_of_all_parts_are_columns_of_one_target(tmp_path: Path) -> None:
    for name, found in (("a", [("x", "z"), ("x",)]), ("b", [("y",), ()])):
        items = []
        for number, labels in enumerate(found):
            one = recording(f"{name}{number}", [stream(100)])
            items.append((one.model_copy(update={"labels": {"dx": labels} if labels else {}}), noise((2, 100))))
        write_signals(tmp_path / name, items)
    joined = JoinedDataset([WindowDataset(tmp_path / name, 1.0, target="dx") for name in "ab"])
    assert joined.codes["target"].names == ("x", "y", "z")
    target = joined.collate(joined.__getitems__(range(4)))["target"]
    assert target[:3].tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert target[3].isnan().all()


def test_patches_are_padded_at_their_ends(tmp_path: Path) -> None:
    planes = noise((6, 5, 4))
    write_image(tmp_path / "a", recording("a", image=voxels((6, 5, 4)), modality="mr"), planes)
    parts = [PatchDataset(tmp_path / "a", (4, 5, 6)), PatchDataset(tmp_path / "a", (4, 5, 3))]
    joined = JoinedDataset(parts)
    assert joined.shape == (1, 4, 5, 6)
    assert len(joined) == 3
    batch = joined.collate(joined.__getitems__([2, 0]))
    whole = torch.from_numpy(planes.astype(np.float32).transpose(2, 1, 0))
    assert torch.equal(batch["image"][1, 0], whole)
    assert torch.equal(batch["image"][0, 0, ..., :3], whole[..., 3:])
    assert not batch["image"][0, ..., 3:].any()
    assert batch["mask"][1].all()
    assert batch["mask"][0, ..., :3].all()
    assert not batch["mask"][0, ..., 3:].any()
    assert batch["start"][0].tolist() == [0, 0, 3, 0]


def test_windows_and_patches_come_in_batches_of_their_own(stores: Any, tmp_path: Path) -> None:
    roots, _ = stores
    write_image(tmp_path / "i", recording("i", image=voxels((6, 5, 4)), modality="mr"), noise((6, 5, 4)))
    parts = [WindowDataset(roots["a"], 1.0), PatchDataset(tmp_path / "i", (2, 5, 3))]
    with pytest.raises(ValueError, match="windows and patches"):
        JoinedDataset(parts)
    joined = JoinedDataset(parts, pad=False)
    sampler = DomainBatchSampler(joined, 4, same="modality")
    kinds = [("signal" in batch, "image" in batch) for batch in BatchStream(joined, sampler=sampler)]
    assert kinds.count((True, False)) == 3
    assert kinds.count((False, True)) == 1
    assert len(kinds) == 4


def test_what_does_not_go_together_is_refused(stores: Any, tmp_path: Path) -> None:
    roots, _ = stores
    a = data_sets(roots)[0]
    with pytest.raises(ValueError, match="no data set"):
        JoinedDataset([])
    with pytest.raises(ValueError, match="transform="):
        JoinedDataset([WindowDataset(roots["a"], 1.0, transform=lambda one: one)])
    with pytest.raises(ValueError, match="differ in target= or domains="):
        JoinedDataset([a, WindowDataset(roots["b"], 1.0, domains=("modality",))])
    mixed = JoinedDataset([a, WindowDataset(roots["b"], 1.0, dtype=torch.float16)])
    with pytest.raises(ValueError, match="differ in 'signal'"):
        mixed.__getitems__([0, 20])
    with pytest.raises(ValueError, match="as long as a window of 99"):
        windows_by_layout(roots["a"], 99)


def test_a_transform_is_of_the_joined_sample(stores: Any) -> None:
    roots, _ = stores
    joined = JoinedDataset(data_sets(roots), transform=lambda one: {"sum": one["signal"].sum(), "part": one["part"]})
    found = joined[20]
    assert set(found) == {"sum", "part"}
    assert int(found["part"]) == 1
