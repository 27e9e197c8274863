"""Versions, vacuum, forget and verify of a store in an object store."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

import harmonize as hz
from harmonize.ingest.identify import Policy
from harmonize.maintain import claim
from harmonize.maintain.forget import forget
from harmonize.maintain.verify import verify
from harmonize.store.errors import UnreachableError
from harmonize.store.place import place_of
from harmonize.store.vacuum import vacuum
from harmonize.store.versions import list_versions, remove_tag, tag_version
from maintain.cohort import (
    KEY,
    contents,
    convert,
    everything,
    needles,
    patterns,
    recipe,
    subject_of,
    where_found,
    write_cohort,
    write_eeg,
)
from object_store.servers import S3

FAULTS = {"fail": 0.02, "slow": 0.01, "delay_s": 0.1}
PEOPLE = ("anna", "bert")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of two people, and a store of them: its second version has one more file, and one that changed."""
    base = tmp_path_factory.mktemp("maintain")
    convert(write_cohort(base / "ward", PEOPLE), base / "local.zarr")
    write_eeg(base / "ward" / "anna" / "eeg2.edf", "anna", "eeg2")
    write_eeg(base / "ward" / "bert" / "eeg.edf", "bert", "again")
    convert(base / "ward", base / "local.zarr")
    return base


@pytest.fixture
def store(s3: S3, ward: Path) -> hz.Store:
    """That store in the bucket, which fails from now on."""
    url = s3.upload(ward / "local.zarr")
    s3.faults(**FAULTS)
    return hz.open(url)


def test_verify_reads_all_and_finds_what_was_changed(s3: S3, store: hz.Store, ward: Path) -> None:
    report = verify(store, [ward / "ward"], Policy(recipe(), None, KEY))
    assert (report.ok, report.recordings, report.compared) == (True, 7, 7)
    s3.faults()
    row = store.streams.filter(rate_num=100).row(0, named=True)
    name = f"corpus.zarr/{row['part']}/samples/c/0/0"
    s3.put(name, s3.get(name)[1:])
    s3.delete(f"corpus.zarr/{store.recordings['image'].drop_nulls()[0]}/0/c/0/0/0")
    assert {one.code for one in verify(store).findings} == {"corrupt_chunk", "missing_chunk"}


def test_verify_and_forget_do_not_take_silence_for_damage(s3: S3, store: hz.Store, monkeypatch) -> None:
    monkeypatch.setattr("harmonize.store.object_path.MAX_RETRIES", 1)
    monkeypatch.setattr("harmonize.store.object_path._clients", {})
    before = s3.names()
    assert len(store.streams) + len(store.label_rows) + len(store.sources) > 0
    s3.faults(fail=1.0, only=r"GET .*/(signals|images)/.*zarr\.json")
    with pytest.raises(UnreachableError):
        verify(store)
    with pytest.raises(UnreachableError):
        forget(place_of(s3.url()), ["anna"], KEY)
    s3.faults()
    assert verify(hz.open(s3.url())).ok
    assert set(before) <= set(s3.names())


def test_versions_are_listed_named_opened_and_vacuumed(s3: S3, store: hz.Store, ward: Path, tmp_path: Path) -> None:
    root = place_of(s3.url())
    assert list_versions(root)["recordings"].to_list() == [0, 6, 7]
    tag_version(root, "first", 1)
    assert len(hz.open(s3.url(), version="first")) == 6
    now, first = contents(store), contents(hz.open(s3.url(), version="first"))
    twin = Path(shutil.copytree(ward / "local.zarr", tmp_path / "twin.zarr"))
    tag_version(twin, "first", 1)
    s3.put("corpus.zarr/signals/left/part/samples/c/0/0", b"of a killed run")
    waiting = vacuum(root)
    assert (waiting.parts, waiting.files, waiting.rows["streams"]) == ({}, {}, 0)
    assert waiting.young == vacuum(twin).young + 1, "it is younger than the grace period"
    done = vacuum(root, keep=1, grace_s=0)
    assert (done.versions, list(done.parts)) == ([], ["signals/left/part"]), "what has a tag stays"
    assert contents(hz.open(s3.url())) == now
    assert contents(hz.open(s3.url(), version="first")) == first
    remove_tag(root, "first")
    assert vacuum(root, keep=1, grace_s=0).versions == [1]
    with pytest.raises(hz.StoreError, match="version 1 of the store was removed"):
        hz.open(s3.url(), version=1)
    assert contents(hz.open(s3.download("corpus.zarr", tmp_path))) == now
    assert s3.fates()["fail"] > 0


def test_forget_leaves_nothing_of_a_subject_in_any_object(s3: S3, store: hz.Store, ward: Path, tmp_path: Path) -> None:
    gone, stays = subject_of("anna"), subject_of("bert")
    wanted = [*needles(store, gone), *patterns("anna")]
    theirs = {name: one for name, one in contents(store).items() if store[name].meta.subject == stays}
    assert where_found(s3.download("corpus.zarr", tmp_path / "before"), wanted), "they can be found"
    done = forget(place_of(s3.url()), ["anna"], KEY, grace_s=0)
    assert (done.recordings, done.waiting, done.parts_rewritten > 0) == (4, [], True)
    copy = s3.download("corpus.zarr", tmp_path / "after")
    assert where_found(copy, wanted) == []
    assert len(list(everything(copy))) > 50
    assert contents(hz.open(s3.url())) == contents(hz.open(copy)) == theirs
    assert list_versions(place_of(s3.url())).height == 1
    assert s3.fates()["fail"] > 0
    again = hz.convert(ward / "ward", s3.url(), recipe=recipe(), key=KEY)
    assert (again.converted, {row["code"] for row in again.failures}) == (0, {"forgotten"})


def test_one_run_forgets_at_a_time_and_another_takes_over_from_a_killed_one(s3: S3, monkeypatch) -> None:
    monkeypatch.setattr(claim, "BEAT_S", 0.1)
    monkeypatch.setattr(claim, "WATCH_S", 0.6)
    root, marker = place_of(s3.url()), "corpus.zarr/catalog/forgetting.json"
    with claim.claimed(root, 4) as first:
        assert (first.version, first.resumed) == (4, False)
        with pytest.raises(hz.StoreError, match="another run is forgetting"), claim.claimed(root, 5):
            pass
        first.check()
        first.finish()
    assert s3.names() == []
    with pytest.raises(KeyboardInterrupt), claim.claimed(root, 7) as killed:
        raise KeyboardInterrupt
    assert s3.names() == [marker], "its heart beats no more"
    with claim.claimed(root, 9) as second:
        assert (second.version, second.prefix, second.resumed) == (7, killed.prefix, True)
        s3.put(marker, b'{"version": 7, "prefix": "third"}')  # a third took over, as the second was cut off for long
        for _ in range(50):
            if second.lost:
                break
            threading.Event().wait(0.1)
        with pytest.raises(hz.StoreError, match="another run took over"):
            second.check()
    with pytest.raises(ValueError, match="mistake"), claim.claimed(root, 9):
        raise ValueError("mistake")
    assert s3.names() == [marker], "of the third run, not of the mistake"
