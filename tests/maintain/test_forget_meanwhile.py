"""A subject is forgotten while a conversion runs that found him before, at each of its steps; in a thread."""

from __future__ import annotations

import importlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harmonize as hz
from harmonize.ingest import Outcome, pending, plan
from harmonize.maintain import forget, verify
from harmonize.maintain.forget import Forgotten
from harmonize.store import catalog
from harmonize.store.locks import CONVERTING, held
from harmonize.store.part_files import part_folders
from maintain.cohort import (
    KEY,
    convert,
    needles,
    patterns,
    recipe,
    samples_of,
    subject_of,
    where_found,
    write_cohort,
    write_eeg,
)

SUBJECT = subject_of("bert")
convert_module = importlib.import_module("harmonize.ingest.convert")
PLACES: dict[str, tuple[Any, str, int]] = {
    "before the list is read": (importlib.import_module("harmonize.ingest.prepare"), "read_forgotten", 1),
    "before headers are read": (importlib.import_module("harmonize.ingest.prepare"), "scan", 1),
    "before the first task": (importlib.import_module("harmonize.ingest.tasks"), "timed_task", 1),
    "before a later task": (importlib.import_module("harmonize.ingest.tasks"), "timed_task", 4),
    "before the first commit": (pending.Pending, "commit", 1),
    "before a later commit": (pending.Pending, "commit", 3),
    "in a commit, before the list is read": (pending, "read_forgotten", 2),
    "in a commit, before rows": (catalog, "write_deltalake", 3),
    "in a commit, among rows": (catalog, "write_deltalake", 6),
    "in a commit, before recordings": (catalog, "_merge_recordings", 2),
    "before the tree is remembered": (convert_module, "remember", 1),
    "while the tree is remembered": (catalog, "replace_derived", 1),
    "before the end": (catalog, "append_derived", 1),
}
"""Where the conversion is when he is forgotten: before the n-th call of a function."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[bytes]]:
    """A store of three people; their folder, in which each has a file more since; and what is bert's in either."""
    base = tmp_path_factory.mktemp("made")
    folder, root = write_cohort(base / "in", ("anna", "bert", "cora")), base / "s.zarr"
    convert(folder, root)
    for person in ("anna", "bert", "cora"):
        write_eeg(folder / person / "eeg2.edf", person, "eeg2")
    whole = convert(folder, shutil.copytree(root, base / "whole.zarr"))
    assert len(whole.recordings.filter(subject=SUBJECT)) == 4
    sources = {one.encode() for one in whole.recordings["source"]}  # what is refused is named so in the failures
    return folder, root, [*({*needles(whole, SUBJECT)} - sources), *patterns("bert")]


def waits(place: str) -> bool:
    """Whether the conversion holds the lock there that ``forget`` waits for."""
    return place.startswith(("in a commit", "while"))


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, place: str, work: Callable[[], Forgotten], run: Callable[[], Outcome]
) -> tuple[Outcome, Forgotten]:
    """Do ``work`` in a thread when ``run`` comes to a place. Where it can, it ends before ``run`` goes on; where it
    waits for a lock that ``run`` holds, it has begun."""
    owner, name, count = PLACES[place]
    original, calls, answers = getattr(owner, name), [], []
    thread = threading.Thread(target=lambda: answers.append(work()))

    def hooked(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == count:
            thread.start()
            thread.join(0.5 if waits(place) else 60)
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, hooked)
        outcome = run()
    assert len(calls) >= count, "the place was never come to"
    thread.join(60)
    (done,) = answers
    return outcome, done


@pytest.mark.parametrize("place", PLACES)
def test_nothing_of_the_subject_stays(
    made: tuple[Path, Path, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder, before, wanted = made
    root = shutil.copytree(before, tmp_path / "s.zarr")
    monkeypatch.setattr(pending, "COMMIT_EVERY_S", -1.0)
    monkeypatch.setattr(plan, "TASK_RECORDINGS", 2)  # anna's lie beside bert's
    for person in ("anna", "bert", "cora"):
        (folder / person / "t1.nii.gz").touch()  # images are written again
    _, done = meanwhile(
        monkeypatch,
        place,
        lambda: forget(root, [SUBJECT], KEY),
        lambda: hz.convert(folder, root, recipe=recipe(), key=KEY),
    )
    store = hz.open(root)
    assert store.recordings.filter(subject=SUBJECT).is_empty()
    assert len(store) == 2 * 4, "all of the others, the files added since included"
    assert verify(store).findings == []
    assert done.converting or waits(place), "he who forgets is told that a conversion runs"
    again = forget(root, [SUBJECT], KEY, grace_s=0)
    assert not again.converting
    assert again.waiting == []
    assert where_found(root, wanted) == []
    assert hz.convert(folder, root, recipe=recipe(), key=KEY).converted == 0


def test_the_parts_of_a_refused_recording_go_at_the_commit(
    made: tuple[Path, Path, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three files are in one part when bert is forgotten; anna's and cora's are written again without his."""
    folder, before, wanted = made
    root = shutil.copytree(before, tmp_path / "s.zarr")
    outcome, _ = meanwhile(
        monkeypatch,
        "before the first commit",
        lambda: forget(root, [SUBJECT], KEY),
        lambda: hz.convert(folder, root, recipe=recipe(), key=KEY),
    )
    codes = [row["code"] for row in outcome.failures]
    assert codes == ["forgotten"] * 2, "a file and an image"
    assert sum(one.failures.total() for one in outcome.tallies.values()) == 2
    assert where_found(root, wanted) == []


def test_forget_says_when_no_conversion_runs(made: tuple[Path, Path, list[bytes]], tmp_path: Path) -> None:
    root = shutil.copytree(made[1], tmp_path / "s.zarr")
    with held(root, CONVERTING):
        assert forget(root, [SUBJECT], KEY).converting
    assert not forget(root, [SUBJECT], KEY).converting


def test_what_a_conversion_commits_meanwhile_is_neither_lost_nor_old(tmp_path) -> None:
    """Between the rewriting of parts and the commit, another run replaces anna's recording and adds one of cora."""
    folder = write_cohort(tmp_path / "in")
    store = convert(folder, tmp_path / "s.zarr")
    wanted = [*needles(store, SUBJECT), *patterns("bert")[:4], *patterns("bert")[6:]]
    shutil.rmtree(folder / "bert")
    write_eeg(folder / "anna" / "eeg.edf", "anna", "again")
    write_eeg(folder / "cora" / "more.edf", "cora", "more")
    done: list[int] = []

    def step(name: str) -> None:
        if name == "commit" and not done:
            done.append(hz.convert(folder, store.path, recipe=recipe(), key=KEY).converted)

    forget(store.path, [SUBJECT], KEY, step=step)
    after = hz.open(store.path)
    assert done == [2]
    assert verify(after).findings == []
    assert after.recordings.filter(subject=SUBJECT).is_empty()
    assert len(after) == len(store) - 3 + 1
    values = {after[name].signals["100hz"].digital().tobytes() for name in after.streams["recording_id"].unique()}
    assert {samples_of("anna", "again").tobytes(), samples_of("cora", "more").tobytes()} <= values
    assert samples_of("anna").tobytes() not in values
    assert where_found(store.path, wanted) == []


def test_what_a_conversion_adds_of_the_subject_meanwhile_goes_too(tmp_path) -> None:
    """A run that looked for its sources before the list was made; without a key there is no list at all."""
    folder = write_cohort(tmp_path / "in")
    store = convert(folder, tmp_path / "s.zarr")
    write_eeg(folder / "bert" / "eeg2.edf", "bert", "eeg2")
    done: list[int] = []

    def step(name: str) -> None:
        if name == "commit" and not done:
            done.append(hz.convert(folder, store.path, recipe=recipe(), key=KEY).converted)

    forget(store.path, [SUBJECT], None, step=step)
    assert done == [1]
    assert where_found(store.path, [SUBJECT.encode(), *patterns("bert")]) == []
    after = hz.open(store.path)
    assert verify(after).findings == []
    named = {*after.streams["part"], *after.recordings["image"].drop_nulls()}
    unnamed = set(part_folders(store.path)) - named
    assert not unnamed, "nothing is left over"
