"""Splits in a store: stored, grown, read for training, and leaks of every kind that the check must catch."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

import harmonize as hz
from harmonize.cli import app
from harmonize.data.duplicates import update_duplicates
from harmonize.data.split_check import check_split
from harmonize.data.split_tables import grow_split, load_split, make_split, on_side, split_runs
from harmonize.data.splits import digest
from harmonize.data.windows import WindowDataset
from harmonize.ingest.rows import recording_row, stream_row
from harmonize.store import StoreError, catalog, create_store
from harmonize.store.catalog import Batch
from harmonize.store.content import ChannelHashes
from harmonize.store.parts import SignalPart
from stores import noise, recording, stream

run = CliRunner()
N = 200


def write(root, people, sites=None, files=None, samples=None, labels=()):
    """Recordings ``r<i>`` of 2 s, each with its own noise: subjects, sites, source files; one part."""
    create_store(root, "key")
    sites, files, samples = sites or {}, files or {}, samples or {}
    part = SignalPart(root, f"part{len(list(root.glob('signals/*/*')))}", [stream(N)] * len(people), "lz4")
    batch = Batch()
    for row, (name, subject) in enumerate(people.items()):
        one = recording(name, [stream(N)], subject=subject, site=sites.get(name))
        data = noise((2, N), seed=samples.get(name, 1000 + int(name[1:])))
        part.write(row, 0, data)
        hashes = ChannelHashes(2, "int16")
        hashes.update(data)
        batch.recordings.append(recording_row(one, "state", 0, None))
        batch.streams.append(stream_row(one, 0, part.path, part.layout, row, part.starts[row], hashes.hexdigests()))
        sha = files.get(name, f"sha-{name}")
        batch.sources.append(
            {"recording_id": one.recording_id, "role": "signal", "size": 9, "sha256": sha, "shared": False}
        )
    batch.labels.extend(
        {"recording_id": f"test/{name}", "name": key, "kind": "number", "value": None, "number": value}
        for name, key, value in labels
    )
    part.close([recording(name, [stream(N)], subject=subject) for name, subject in people.items()], [0] * len(people))
    catalog.commit(root, batch)
    store = hz.open(root)
    update_duplicates(store)
    return hz.open(root)


PEOPLE = {f"r{i}": f"s{i // 2}" for i in range(20)}
HALVES = {"train": 0.5, "test": 0.5}


def test_a_split_is_stored_and_read_for_training(tmp_path) -> None:
    store = write(tmp_path / "s.zarr", PEOPLE)
    made = make_split(store, "main", "random", fractions=HALVES)
    again = hz.open(store.path)
    assert load_split(again, "main").equals(made)
    assert dict(made["side"].value_counts().iter_rows()) == {"train": 10, "test": 10}
    for subject in set(PEOPLE.values()):
        names = [f"test/{name}" for name, who in PEOPLE.items() if who == subject]
        assert made.filter(pl.col("recording_id").is_in(names))["side"].n_unique() == 1
    (row,) = split_runs(again).rows(named=True)
    assert (row["method"], row["store_version"], row["duplicates_version"]) == ("random", store.version, store.version)
    assert row["sha256"] == digest(made)
    train = WindowDataset(again, window=1.0, where=on_side(again, "main", "train"))
    other = WindowDataset(again, window=1.0, where=on_side(again, "main", "train", others=True))
    assert {s["recording_id"] for s in train.__getitems__(range(len(train)))} == set(
        made.filter(pl.col("side") == "train")["recording_id"]
    )
    assert len(train) == len(other) == 20, "10 recordings of 2 windows"
    assert check_split(again, "main").ok


def test_splits_live_beside_each_other_and_a_name_is_taken_once(tmp_path) -> None:
    store = write(tmp_path / "s.zarr", PEOPLE)
    make_split(store, "a", "random", fractions=HALVES)
    make_split(store, "b", "kfold", k=4)
    assert split_runs(store)["split"].to_list() == ["a", "b"]
    assert sorted(load_split(store, "b")["side"].unique()) == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="already"):
        make_split(store, "a", "random")
    with pytest.raises(ValueError, match="it has a, b"):
        load_split(store, "c")
    with pytest.raises(ValueError, match='not "x\' or"'):
        make_split(store, "x' or", "random")


def test_changed_rows_are_noticed(tmp_path) -> None:
    store = write(tmp_path / "s.zarr", PEOPLE)
    rows = make_split(store, "a", "random", fractions=HALVES)
    catalog.replace_derived(store.path, "splits", rows.with_columns(side=pl.lit("train")), store.version)
    with pytest.raises(StoreError, match="hash differs"):
        load_split(store, "a")


def test_growing_keeps_what_was_assigned(tmp_path) -> None:
    store = write(tmp_path / "s.zarr", PEOPLE)
    old = make_split(store, "a", "random", fractions=HALVES, seed=5)
    more = {f"r{i}": f"s{i // 2}" for i in range(20, 40)} | {"r40": "s0"}
    grown = grow_split(write(store.path, more), "a")
    assert len(grown) == 41
    assert grown.filter(pl.col("recording_id").is_in(old["recording_id"].implode())).equals(old)
    side = dict(grown.select("recording_id", "side").iter_rows())
    assert side["test/r40"] == side["test/r0"]
    assert check_split(hz.open(store.path), "a").ok


def test_a_split_needs_subjects_and_searched_duplicates(tmp_path) -> None:
    store = write(tmp_path / "s.zarr", {"r0": "s0", "r1": None})
    with pytest.raises(ValueError, match="1 recordings have no subject"):
        make_split(store, "a", "random")
    own = make_split(store, "a", "random", fractions=HALVES, unknown_subjects="own")
    assert sorted(own["side"]) == ["test", "train"]
    catalog.commit(store.path, Batch(recordings=[recording_row(recording("r2", subject="s2"), "state", 0, None)]))
    later = hz.open(store.path)
    with pytest.raises(ValueError, match="duplicates were at version"):
        make_split(later, "b", "random", unknown_subjects="own")
    make_split(later, "b", "random", unknown_subjects="own", near_duplicates=False)
    proof = check_split(later, "b")
    assert not proof.ok
    assert "last searched at version" in proof.open[0]


def test_leave_one_site_out_and_official_and_temporal(tmp_path) -> None:
    people = {"r0": "a", "r1": "a", "r2": "b", "r3": "c", "r4": "d"}
    sites = {"r0": "X", "r1": "Y", "r2": "X", "r3": "Y"}
    years = [("r0", "year", 1990.0), ("r1", "year", 1999.0), ("r2", "year", 1991.0), ("r3", "year", 2000.0)]
    store = write(tmp_path / "s.zarr", people, sites, labels=years)
    out = make_split(store, "loso", "leave-one-out", by="site")
    assert out["side"].to_list() == [None, None, "X", "Y", None]
    assert out["reason"].to_list() == [*["its group spans site X, Y"] * 2, None, None, "site unknown"]
    time = make_split(store, "time", "temporal", by="year", fractions=HALVES)
    assert time["side"].to_list() == [None, None, "train", "test", None], "half of the years are up to 1991"
    assert json.loads(split_runs(store)["parameters"][1])["cuts"] == {"train": 1991.0}
    assert make_split(store, "official", "official")["reason"].unique().to_list() == ["official fold unknown"]
    for name in ("loso", "time", "official"):
        assert check_split(hz.open(store.path), name).ok
    with pytest.raises(ValueError, match="orders nothing between subjects"):
        make_split(store, "x", "temporal", by="start_s")
    with pytest.raises(ValueError, match="no ISO 8601 date"):
        make_split(store, "x", "temporal", by="site")


PLANTED = {
    "subject": {"people": {"r0": "same", "r1": "same", "r2": "s2"}},
    "source": {"people": {"r0": "a", "r1": "b", "r2": "c"}, "files": {"r0": "one", "r1": "one"}},
    "duplicate": {"people": {"r0": "a", "r1": "b", "r2": "c"}, "samples": {"r0": 7, "r1": 7}},
    "near": {"people": {"r0": "a", "r1": "b", "r2": "c"}},
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_leak_is_avoided_when_splitting_and_caught_when_checked(tmp_path, kind) -> None:
    store = write(tmp_path / "s.zarr", **PLANTED[kind])
    if kind == "near":  # as the search would write it; that it finds such pairs is tested with the search
        pair = {"recording_a": "test/r0", "recording_b": "test/r1", "kind": "near", "similarity": 0.999}
        rows = pl.DataFrame([pair], schema=catalog.DERIVED["duplicates"])
        catalog.replace_derived(store.path, "duplicates", rows, store.version)
    store = hz.open(store.path)
    good = make_split(store, "good", "random", fractions=HALVES)
    assert good["side"][0] == good["side"][1] != good["side"][2]
    assert check_split(hz.open(store.path), "good").ok
    bad = good.with_columns(split=pl.lit("bad"), side=pl.Series(["train", "test", "test"]))
    run_row = split_runs(store).with_columns(split=pl.lit("bad"), sha256=pl.lit(digest(bad)))
    catalog.replace_derived(store.path, "splits", bad, store.version, "split = 'bad'")
    catalog.replace_derived(store.path, "split_runs", run_row, store.version, "split = 'bad'")
    proof = check_split(hz.open(store.path), "bad")
    assert not proof.ok
    (leak,) = proof.leaks
    assert leak.kind == ("duplicate" if kind == "near" else kind)
    assert leak.sides == ("test", "train")
    assert leak.recordings == ("test/r0", "test/r1")
    printed = run.invoke(app, ["splits", "check", str(store.path), "bad"], env={"COLUMNS": "200"})
    assert printed.exit_code == 1
    assert "test/r0, test/r1" in printed.output
    assert "on two sides: 1" in printed.output
    assert run.invoke(app, ["splits", "check", str(store.path), "good"]).exit_code == 0


def test_the_commands(tmp_path) -> None:
    store = str(write(tmp_path / "s.zarr", PEOPLE | {"r90": "s90"}, samples={"r90": 1003}).path)
    said = json.loads(run.invoke(app, ["duplicates", store, "--json"]).stdout)
    assert [(row["recording_a"], row["recording_b"], row["kind"]) for row in said["duplicates"]] == [
        ("test/r3", "test/r90", "exact")
    ]
    options = ["--fraction", "train=0.75", "--fraction", "test=0.25", "--json"]
    made = json.loads(run.invoke(app, ["splits", "make", store, "a", *options]).stdout)
    assert made["method"] == "random"
    assert sum(made["sides"].values()) == 21
    assert "a" in run.invoke(app, ["splits", "ls", store]).output
    proof = json.loads(run.invoke(app, ["splits", "check", store, "a", "--json"]).stdout)
    assert proof["ok"]
    assert proof["checked"] == {"subject": 11, "duplicate": 1, "source": 21}
    assert run.invoke(app, ["splits", "grow", store, "a"]).exit_code == 0
    assert run.invoke(app, ["splits", "make", store, "a"]).exit_code == 2
    assert run.invoke(app, ["splits", "check", store, "none"]).exit_code == 2
    assert run.invoke(app, ["splits", "make", store, "b", "--fraction", "train"]).exit_code == 2
    assert "not stored" not in run.invoke(app, ["duplicates", store]).output
    assert "nothing is stored" in run.invoke(app, ["duplicates", store, "--no-near"]).output
