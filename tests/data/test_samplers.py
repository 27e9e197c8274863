"""Samplers with a real ``DataLoader``, over a store of three sites and two layouts."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import harmonize as hz
from harmonize.data import DomainBatchSampler, DomainSampler, WindowDataset
from stores import noise, recording, stream, write_signals

SITES = {"A": 8, "B": 4, "C": 1}
"""Recordings of 10 windows each; site C alone has the layout of 50 Hz; subject of the last is unknown."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("samplers") / "s.zarr"
    for site, count in SITES.items():
        rate = 50 if site == "C" else 100
        items = []
        for number in range(count):
            subject = {} if site == "C" else {"subject": f"{site}{number // 2}"}
            one = recording(f"{site}{number}", [stream(10 * rate, rate=rate)], site=site, **subject)
            items.append((one, noise((2, 10 * rate))))
        write_signals(root, items)
    return root


@pytest.fixture(scope="module")
def ds(store):
    return WindowDataset(store, window=1.0, rate=50)


def sites_of(ds, batch):
    return [ds.codes["site"][int(ds[i]["site"])] for i in batch]


def test_rows_and_codes(ds) -> None:
    assert ds.row_sizes().tolist() == [10] * 13
    assert ds.codes_of("site").codes.tolist() == [0] * 8 + [1] * 4 + [2]
    assert ds.codes_of("rate_hz").names == ("100.0", "50.0")
    with pytest.raises(ValueError, match="no column 'mood'"):
        ds.codes_of("mood")


def test_codes_are_of_the_version_opened(tmp_path) -> None:
    write_signals(tmp_path / "s.zarr", [(recording("b", [stream(100)], modality="psg"), noise((2, 100)))])
    ds = WindowDataset(tmp_path / "s.zarr", window=1.0)
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(100)]), noise((2, 100)))])
    assert ds.codes_of("modality").names == ("psg",)
    assert len(hz.open(tmp_path / "s.zarr")) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_covers_everything_and_resumes(ds, workers) -> None:
    def loader(sampler):
        return DataLoader(ds, batch_sampler=sampler, collate_fn=ds.collate, num_workers=workers)

    def keys(batch):
        return list(zip(batch["recording_id"], batch["start"].tolist(), strict=True))

    sampler = DomainBatchSampler(ds, 16, seed=3)
    batches = [keys(batch) for batch in loader(sampler)]
    assert len(batches) == len(sampler) == 9
    assert len({key for batch in batches for key in batch}) == 130
    stopped = DomainBatchSampler(ds, 16, seed=3)
    for step, _ in enumerate(loader(stopped), start=1):
        if step == 4:
            break
    again = DomainBatchSampler(ds, 16, seed=3)
    again.load_state_dict(stopped.state_dict(step=4))
    assert [keys(batch) for batch in loader(again)] == batches[4:]


def test_a_plain_sampler_gives_the_same_windows(ds) -> None:
    for drop_last in (False, True):
        made = [DomainBatchSampler(ds, 16, drop_last=drop_last) for _ in range(2)]
        flat = DomainSampler(made[0])
        order = list(flat)
        assert order == [window for batch in made[1] for window in batch]
        assert len(flat) == len(order)
        loader = DataLoader(ds, 16, sampler=DomainSampler(made[0]), collate_fn=ds.collate, drop_last=drop_last)
        assert len(list(loader)) == len(loader) == len(made[0])


def test_epochs_follow_each_other_and_set_epoch_chooses(ds) -> None:
    sampler = DomainBatchSampler(ds, 16)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) == second


def test_state_at_the_end_of_an_epoch_is_the_next_epochs_start(ds) -> None:
    one, two = DomainBatchSampler(ds, 16), DomainBatchSampler(ds, 16)
    list(one)
    two.load_state_dict(one.state_dict())
    assert list(two) == list(one)
    assert one.epoch == two.epoch == 1


def test_set_epoch_keeps_the_place_of_a_resumed_run(ds) -> None:
    whole = list(DomainBatchSampler(ds, 16, alpha=0.5, field="site"))
    sampler = DomainBatchSampler(ds, 16, alpha=0.5, field="site")
    sampler.load_state_dict(sampler.state_dict(step=3))
    sampler.set_epoch(0)
    assert list(sampler) == whole[3:]


def test_elastic_across_world_sizes(ds) -> None:
    options = {"field": "site", "alpha": 0.5, "balance": "subject"}
    whole = list(DomainBatchSampler(ds, 12, **options))
    state = DomainBatchSampler(ds, 12, **options).state_dict(step=2)
    for world in (2, 3):
        ranks = [DomainBatchSampler(ds, 12 // world, rank=rank, world_size=world, **options) for rank in range(world)]
        for sampler in ranks:
            sampler.load_state_dict(state)
        assert [[i for part in step for i in part] for step in zip(*ranks, strict=True)] == whole[2:]
    with pytest.raises(ValueError, match="other windows"):
        DomainBatchSampler(ds, 6, **options).load_state_dict(state)


def test_groups_per_batch_balance_and_unknown(ds) -> None:
    sampler = DomainBatchSampler(ds, 12, field="site", alpha=0, groups_per_batch=3)
    for batch in sampler:
        assert sorted(sites_of(ds, batch)) == ["A"] * 4 + ["B"] * 4 + ["C"] * 4
    balanced = DomainBatchSampler(ds, 10, alpha=1, balance="subject", length=700)
    subjects = [int(ds[i]["subject"]) for batch in balanced for i in batch]
    assert np.unique(subjects, return_counts=True)[1].tolist() == [100] * 7, "six subjects and the unknown one"
    known = DomainBatchSampler(ds, 10, alpha=1, balance="subject", length=600, unknown="drop")
    assert known.n_windows == 120
    assert np.unique([int(ds[i]["subject"]) for batch in known for i in batch]).tolist() == [0, 1, 2, 3, 4, 5]


def test_batches_of_one_layout(ds) -> None:
    batches = list(DomainBatchSampler(ds, 8, same="layout"))
    assert len(batches) == 120 // 8 + 10 // 8
    assert all(len({site == "C" for site in sites_of(ds, batch)}) == 1 for batch in batches)
    with pytest.warns(UserWarning, match="1 values of same= have fewer windows"):
        assert len(DomainBatchSampler(ds, 12, same="layout")) == 10
    tempered = DomainBatchSampler(ds, 12, same="layout", field="site", alpha=0)
    assert all(len({site == "C" for site in sites_of(ds, batch)}) == 1 for batch in tempered)


def test_codes_by_row_by_window_and_without_a_data_set(ds) -> None:
    by_row = ds.codes["site"].codes
    options = {"alpha": 0.5, "seed": 1}
    named = list(DomainBatchSampler(ds, 12, field="site", **options))
    assert list(DomainBatchSampler(ds, 12, field=by_row, **options)) == named
    assert list(DomainBatchSampler(ds, 12, field=ds.codes["site"], **options)) == named
    by_window = np.repeat(by_row, 10)
    assert list(DomainBatchSampler(ds, 12, field=by_window, **options)) == named
    assert list(DomainBatchSampler(130, 12, field=by_window, **options)) == named


def test_ranks_come_from_torch_distributed(ds, tmp_path) -> None:
    whole = list(DomainBatchSampler(ds, 16))
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        sampler = DomainBatchSampler(ds, 16)
        assert (sampler.rank, sampler.world_size) == (0, 1)
        assert list(sampler) == whole
    finally:
        torch.distributed.destroy_process_group()


def test_what_does_not_fit_is_refused(ds) -> None:
    cases = [
        ({"batch_size": 200, "drop_last": True}, "no batch of 200"),
        ({"batch_size": 10, "groups_per_batch": 2}, "give alpha="),
        ({"batch_size": 10, "alpha": 1, "field": "site", "groups_per_batch": 3}, "does not divide"),
        ({"batch_size": 10, "alpha": 1, "field": "site", "groups_per_batch": 5}, "there are 3"),
        ({"batch_size": 10, "alpha": 1, "field": "site", "groups_per_batch": 1, "same": "layout"}, "together"),
        ({"batch_size": 10, "alpha": 1, "field": np.zeros(4, int)}, "codes of length"),
        ({"batch_size": 10, "rank": 2, "world_size": 2}, "rank 2"),
    ]
    for options, words in cases:
        with pytest.raises(ValueError, match=words):
            DomainBatchSampler(ds, **options)
    with pytest.raises(ValueError, match="as an array"):
        DomainBatchSampler(10, 2, field="site", alpha=1)
