"""Forget: no byte of a subject stays, all else stays as it was, and being killed at any moment harms nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import harmonize as hz
from harmonize.data.duplicates import update_duplicates
from harmonize.data.split_check import check_split
from harmonize.data.split_tables import load_split, make_split
from harmonize.ingest import ProjectKey
from harmonize.maintain import forget, verify
from harmonize.store import StoreError
from harmonize.store.part_files import part_folders
from harmonize.store.versions import FORGETTING, list_versions, tag_version
from maintain.cohort import (
    KEY,
    PEOPLE,
    contents,
    convert,
    needles,
    patterns,
    recipe,
    subject_of,
    where_found,
    write_cohort,
    write_eeg,
)

SUBJECT = subject_of("bert")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of four subjects with history: a second file of bert, bert's first one changed, duplicates, a split."""
    base = tmp_path_factory.mktemp("made")
    folder, root = write_cohort(base / "in"), base / "s.zarr"
    convert(folder, root)
    write_eeg(folder / "bert" / "eeg2.edf", "bert", "eeg2")
    shutil.copy(folder / "bert" / "eeg2.edf", folder / "anna" / "copy-of-berts.edf")
    (folder / "bert" / "broken.edf").write_bytes((folder / "bert" / "eeg.edf").read_bytes()[:700])
    convert(folder, root)
    time.sleep(0.01)
    for name in ("anna", "bert"):
        os.utime(folder / name / "eeg.edf")
    store = convert(folder, root)
    tag_version(root, "before", store.version)
    update_duplicates(store)
    make_split(hz.open(root), "main", "random", fractions={"train": 0.5, "test": 0.5})
    return folder, root


@pytest.fixture
def store(made, tmp_path):
    return hz.open(shutil.copytree(made[1], tmp_path / "s.zarr"))


def mine(store):
    """Texts and samples of bert, but for what anna's copy of a file of his has too."""
    copy = store.recordings.filter(pl.col("subject") == subject_of("anna"))["recording_id"]
    kept = set(store.streams.filter(pl.col("recording_id").is_in(copy.implode()))["content"].explode())
    kept |= set(store.sources.filter(pl.col("recording_id").is_in(copy.implode()))["sha256"])
    texts = [one for one in needles(store, SUBJECT) if one.decode() not in kept]
    return [*texts, b"diagnosis-of-bert", *patterns("bert")[:4], *patterns("bert")[6:]]


def test_the_search_finds_what_is_planted(store) -> None:
    assert len(store.recordings.filter(subject=SUBJECT)) == 4
    for one in mine(store):
        assert where_found(store.path, [one]), one


def test_no_byte_of_the_subject_stays_and_all_else_is_as_it_was(store) -> None:
    wanted, root = mine(store), store.path
    before = contents(store)
    gone = set(store.recordings.filter(subject=SUBJECT)["recording_id"])
    done = forget(root, [SUBJECT], KEY)
    assert (done.recordings, done.refused_sources, done.waiting, done.tags) == (4, 4, [], ["before"])
    assert done.parts_rewritten >= 2, "bert's streams of two rates lay beside others'"
    assert where_found(root, wanted) == []
    after = hz.open(root)
    assert contents(after) == {name: what for name, what in before.items() if name not in gone}
    assert (after.version, done.version) == (store.version + 1, store.version + 1)
    assert not (root / "catalog" / FORGETTING).exists()
    assert verify(after).findings == []
    named = {*after.streams["part"], *after.recordings["image"].drop_nulls()}
    assert set(part_folders(root)) == named, "no part lies there that nothing names"


def test_older_versions_say_what_became_of_them(store) -> None:
    recordings = len(store)
    opened = hz.open(store.path)
    forget(store.path, [SUBJECT], KEY)
    says = rf"removed.*forgotten.*can be opened: {store.version + 1}$"
    for version in (store.version, "before", 1):
        with pytest.raises(StoreError, match=says):
            hz.open(store.path, version=version)
    with pytest.raises(StoreError, match=says):
        opened.recordings  # noqa: B018 - read when first asked for
    assert list_versions(store.path).select("version", "operation", "recordings").rows() == [
        (store.version + 1, "forget", recordings - 4)
    ]


def test_duplicates_and_splits_lose_the_subject_consistently(store) -> None:
    sides = dict(load_split(store, "main").select("recording_id", "side").iter_rows())
    gone = set(store.recordings.filter(subject=SUBJECT)["recording_id"])
    assert not store.duplicates.is_empty()
    assert any(name in gone for name in store.splits["group"]), "a group is named after a recording of bert"
    forget(store.path, [SUBJECT], KEY)
    after = hz.open(store.path)
    assert after.duplicates.is_empty(), "the only pair was of bert and anna"
    assert after.duplicates_version == after.version, "what was searched before still holds"
    left = dict(load_split(after, "main").select("recording_id", "side").iter_rows())
    assert left == {name: side for name, side in sides.items() if name not in gone}
    assert gone.isdisjoint(after.splits["group"])
    assert check_split(after, "main").ok


def test_duplicates_of_an_older_version_are_not_taken_for_new(store, made, tmp_path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "in")
    write_eeg(folder / "cora" / "more.edf", "cora", "more")
    later = convert(folder, store.path)
    forget(store.path, [SUBJECT], KEY)
    assert hz.open(store.path).duplicates_version == store.version < later.version


def test_the_sources_are_refused_later_and_named_by_pseudonyms(store, made) -> None:
    folder, root = made[0], store.path
    wanted = mine(store)
    sources = [one.encode() for one in store.recordings.filter(subject=SUBJECT)["source"]]
    forget(root, [SUBJECT], KEY)
    outcome = hz.convert(folder, root, recipe=recipe(), key=KEY)
    codes = sorted(row["code"] for row in outcome.failures)
    assert codes.count("forgotten") == 4
    assert outcome.converted == 0
    assert len(hz.open(root).recordings.filter(subject=SUBJECT)) == 0
    assert {where for where, _ in where_found(root, [one for one in wanted if one not in sources])} == set()


def test_a_new_file_of_a_forgotten_subject_is_refused_too(store, made, tmp_path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "in")
    forget(store.path, [SUBJECT], KEY)
    write_eeg(folder / "bert" / "new.edf", "bert", "new")
    outcome = hz.convert(folder / "bert", store.path, recipe=_recipe_flat(), key=KEY)
    assert {row["code"] for row in outcome.failures} >= {"forgotten"}
    assert outcome.converted == 0


def _recipe_flat():
    """The same data set, where the folder given is the subject's."""
    from harmonize_schemas import Recipe

    said = {"dataset": "ward", "paths": ["eeg|night|t1|new|broken"], "fields": {"subject": {"value": "bert"}}}
    return Recipe.model_validate(said, strict=False)


def test_by_real_identifier_with_the_key_and_never_without(store) -> None:
    with pytest.raises(ValueError, match=r"no version of the store names the subject 'bert'.*key"):
        forget(store.path, ["bert"], None)
    assert not (store.path / "catalog" / FORGETTING).exists()
    assert hz.open(store.path).version == store.version
    assert forget(store.path, ["bert"], KEY).subjects == [("ward", SUBJECT)]


def test_another_key_is_refused(store) -> None:
    with pytest.raises(StoreError, match="made under the project key"):
        forget(store.path, [SUBJECT], ProjectKey(b"u" * 32))


def test_without_a_key_it_is_gone_but_may_come_back(store, made) -> None:
    wanted = mine(store)
    assert forget(store.path, [SUBJECT], None).refused_sources == 0
    assert where_found(store.path, wanted) == []
    assert hz.convert(made[0], store.path, recipe=recipe(), key=KEY).converted == 4


def test_public_names_leave_no_trace_either(tmp_path) -> None:
    folder, root = write_cohort(tmp_path / "in"), tmp_path / "s.zarr"
    store = convert(folder, root, "keep")
    assert store.recordings["subject"].unique().sort().to_list() == sorted(PEOPLE)
    wanted = [b"bert", *patterns("bert")[:4], *patterns("bert")[6:]]
    assert len(where_found(root, [b"bert"])) > 5
    forget(root, ["bert"], KEY)
    assert where_found(root, wanted) == []
    (folder / "bert" / "eeg.edf").write_bytes(b"0" * 300)  # a forgotten source that fails has no name either
    outcome = hz.convert(folder, root, recipe=recipe("keep"), key=KEY)
    assert outcome.converted == 0
    assert len(outcome.failures) == 3
    assert all(row["source"].startswith("src-") for row in outcome.failures)
    assert where_found(root, wanted) == []


def test_a_name_in_several_data_sets_needs_the_data_set(tmp_path) -> None:
    folder, root = write_cohort(tmp_path / "in", ("anna", "bert")), tmp_path / "s.zarr"
    convert(folder, root, "keep", "one")
    convert(folder, root, "keep", "two")
    with pytest.raises(ValueError, match=r"several data sets \(one, two\)"):
        forget(root, ["bert"], KEY)
    forget(root, ["bert"], KEY, dataset="two")
    left = hz.open(root).recordings.select("dataset", "subject").unique().sort("dataset", "subject").rows()
    assert left == [("one", "anna"), ("one", "bert"), ("two", "anna")]


def test_several_subjects_at_once_and_one_whose_parts_are_its_own(store) -> None:
    done = forget(store.path, [subject_of(name) for name in ("anna", "bert", "cora")], KEY)
    after = hz.open(store.path)
    assert after.recordings["subject"].unique().to_list() == [subject_of("dora")]
    assert verify(after).findings == []
    done = forget(store.path, ["dora"], KEY)
    assert (done.recordings, done.parts_rewritten) == (3, 0)
    assert len(hz.open(store.path)) == 0
    assert list(part_folders(store.path)) == []


def test_a_subject_that_only_an_older_version_has_is_removed_from_it(store, made, tmp_path) -> None:
    """The folder was named wrongly at first: dora's file was taken for bert's."""
    folder, root = write_cohort(tmp_path / "in", ("anna", "dora")), tmp_path / "w.zarr"
    convert(folder, root)
    table = pl.read_csv(folder / "people.csv")
    wrong = recipe().model_copy(update={"fields": _subject_by_table(), "dataset": "ward"})
    table.with_columns(who=pl.lit("bert")).write_csv(folder / "people.csv")
    hz.convert(folder, root, recipe=wrong, key=KEY)
    assert hz.open(root).recordings["subject"].unique().to_list() == [SUBJECT]
    table.with_columns(who=pl.col("id")).write_csv(folder / "people.csv")
    hz.convert(folder, root, recipe=wrong, key=KEY)
    before = contents(hz.open(root))
    assert where_found(root, [SUBJECT.encode()])
    done = forget(root, [SUBJECT], KEY)
    assert done.recordings == 0
    assert where_found(root, [SUBJECT.encode()]) == []
    assert contents(hz.open(root)) == before, "the recordings are others' now"


def _subject_by_table():
    from harmonize_schemas import Recipe

    said = {"dataset": "d", "tables": {"people": {"file": "people.csv", "key": "id", "match": "{path}"}}}
    return Recipe.model_validate(said | {"fields": {"subject": {"column": "who"}}}, strict=False).fields


def test_bytes_of_an_older_row_in_a_part_that_others_use_go_too(store, made, tmp_path) -> None:
    """After `vacuum --keep 1` no table tells that bert's first samples still lie in the part of the others."""
    from harmonize.store.vacuum import vacuum

    vacuum(store.path, keep=1, grace_s=0)
    first = patterns("bert")[0]
    assert where_found(store.path, [first])
    forget(store.path, [SUBJECT], KEY)
    assert where_found(store.path, [first]) == []


def _killed(root: Path, at: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "maintain.cohort", str(root), SUBJECT, str(at)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])},
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


def test_killed_at_a_step_the_store_opens_and_the_next_run_finishes(store, tmp_path) -> None:
    """SIGKILL in a process of its own at some steps; the next test stops at each one of them."""
    wanted, before = mine(store), contents(store)
    gone = set(store.recordings.filter(subject=SUBJECT)["recording_id"])
    others = {name: what for name, what in before.items() if name not in gone}
    for at in (4, 6, 9, 17, 22):
        root = shutil.copytree(store.path, tmp_path / f"k{at}.zarr")
        code, step = _killed(root, at)
        assert code == -signal.SIGKILL, step
        found = contents(hz.open(root))
        assert {name: found[name] for name in others} == others, step
        done = forget(root, [SUBJECT], KEY)
        assert (done.resumed, done.waiting) == (True, []), step
        assert where_found(root, wanted) == [], step
        assert contents(hz.open(root)) == others, step


def test_stopped_at_each_step_the_store_opens_and_the_next_run_finishes(store, tmp_path) -> None:
    wanted, before = mine(store), contents(store)
    gone = set(store.recordings.filter(subject=SUBJECT)["recording_id"])
    others = {name: what for name, what in before.items() if name not in gone}
    steps: list[str] = []
    forget(shutil.copytree(store.path, tmp_path / "whole.zarr"), [SUBJECT], KEY, step=steps.append)
    assert {"list what may not come back", "rewrite parts", "add rows", "commit", "remove part", "clean streams",
            "clean derived", "end history of recordings", "remove leftovers", "unmark"} <= set(steps)  # fmt: skip
    for at, name in enumerate(steps):
        if name in steps[:at] and at + 1 < len(steps) and steps[at + 1] == name:
            continue  # one of many parts is as another
        root = shutil.copytree(store.path, tmp_path / f"{at}.zarr")
        seen: list[str] = []

        def stop(step: str, seen=seen, at=at) -> None:
            seen.append(step)
            if len(seen) == at + 1:
                raise InterruptedError(step)

        with pytest.raises(InterruptedError, match=name):
            forget(root, [SUBJECT], KEY, step=stop)
        now = hz.open(root)
        found = contents(now)
        assert {one: found[one] for one in others} == others, name
        assert verify(now).findings == [], name
        done = forget(root, [SUBJECT], KEY)
        assert (done.resumed, done.waiting) == (True, []), name
        assert where_found(root, wanted) == [], name
        after = hz.open(root)
        assert contents(after) == others, name
        assert verify(after).findings == [], name
        assert digest_holds(after), name
        shutil.rmtree(root)


def digest_holds(store) -> bool:
    return load_split(store, "main")["recording_id"].is_in(store.recordings["recording_id"].implode()).all()


def test_stopped_while_a_part_is_copied_the_draft_goes(store, monkeypatch) -> None:
    from harmonize.store.parts import SignalPart

    def broken(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(SignalPart, "close", broken)
        with pytest.raises(InterruptedError):
            forget(store.path, [SUBJECT], KEY)
    named = {*store.streams["part"], *store.recordings["image"].drop_nulls()}
    done = forget(store.path, [SUBJECT], KEY)
    assert done.waiting == []
    after = hz.open(store.path)
    named = {*after.streams["part"], *after.recordings["image"].drop_nulls()}
    assert set(part_folders(store.path)) == named


def test_again_is_no_error_and_an_unknown_subject_is(store) -> None:
    forget(store.path, [SUBJECT], KEY)
    version = hz.open(store.path).version
    again = forget(store.path, [SUBJECT], KEY)
    assert (again.recordings, again.versions_removed, again.version) == (0, 0, version)
    with pytest.raises(ValueError, match="no version of the store names the subject 'nobody'"):
        forget(store.path, ["nobody"], KEY)


def test_what_a_killed_conversion_left_is_told_and_goes_after_the_grace_period(store) -> None:
    layout = store.streams["part"][0].rpartition("/")[0]
    draft = store.path / layout / ("0" * 32)
    draft.mkdir()
    (draft / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    (draft / "shard").write_bytes(patterns("bert")[0])
    done = forget(store.path, [SUBJECT], KEY)
    assert done.waiting == [f"{layout}/{'0' * 32}"]
    assert forget(store.path, [SUBJECT], KEY, grace_s=0).waiting == []
    assert not draft.exists()


def test_only_one_forgets_at_a_time(store) -> None:
    from harmonize.maintain.claim import claimed

    with claimed(store.path, store.version), pytest.raises(StoreError, match="another run is forgetting"):
        forget(store.path, [SUBJECT], KEY)


def test_damage_in_anothers_samples_stops_it_before_anything_is_lost(store) -> None:
    rows = store.streams.filter(
        pl.col("recording_id").is_in(store.recordings.filter(subject=SUBJECT)["recording_id"].implode())
    )
    shared = store.streams.filter(
        pl.col("part").is_in(rows["part"].implode()) & ~pl.col("recording_id").is_in(rows["recording_id"].implode())
    )
    shard = next((store.path / shared["part"][0] / "samples" / "c").rglob("0"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    data = bytearray(shard.read_bytes())
    data[0] ^= 0xFF
    shard.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="cannot be rewritten"):
        forget(store.path, [SUBJECT], KEY)
    assert hz.open(store.path).version == store.version
    assert not (store.path / "catalog" / FORGETTING).exists()
