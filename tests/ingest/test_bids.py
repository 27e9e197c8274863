"""BIDS trees written by mne-bids: entities, tables, sidecars by inheritance, events, channels, electrodes (issue 3)."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime
from pathlib import Path

import mne
import mne_bids
import nibabel
import numpy as np
import pytest

import harmonize as hz
from harmonize.ingest.bids import BidsTree, entities
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import read_recipe, shipped_recipes

KEY = ProjectKey(bytes(32))
RECIPE = read_recipe(shipped_recipes()["bids"])


def raw_eeg(kind: str = "eeg", seconds: int = 4) -> mne.io.RawArray:
    """Four channels at 100 Hz with positions, a birthday, and two events."""
    names = ["C3", "C4", "O1", "X9"]
    rng = np.random.default_rng(0)
    raw = mne.io.RawArray(rng.normal(0, 1e-5, (4, 100 * seconds)), mne.create_info(names, 100.0, kind))
    raw.info["line_freq"] = 50
    raw.info["subject_info"] = {"sex": 2, "hand": 1, "birthday": datetime(1980, 5, 17, tzinfo=UTC).date()}
    raw.set_meas_date(datetime(2012, 5, 18, 10, 0, 0, tzinfo=UTC))
    raw.set_annotations(mne.Annotations([0.5, 2.0], [0.25, 0.5], ["left", "seizure"]))
    raw.info["bads"] = ["X9"]
    if kind == "eeg":
        places = {name: np.array([0.01 * i, 0.02, 0.05]) for i, name in enumerate(names)}
        raw.set_montage(mne.channels.make_dig_montage(places, nasion=[0, 0.1, 0], lpa=[-0.08, 0, 0], rpa=[0.08, 0, 0]))
    return raw


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Two subjects with EEG (one in two sessions), one with a T1 image too."""
    root = tmp_path_factory.mktemp("bids") / "study"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mne-bids warns of what these small recordings lack
        for subject, session in (("01", "pre"), ("01", "post"), ("02", None)):
            path = mne_bids.BIDSPath(subject=subject, session=session, task="rest", run="01", root=root, datatype="eeg")
            mne_bids.write_raw_bids(raw_eeg(), path, format="EDF", allow_preload=True, overwrite=True, verbose="error")
        image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([2.0, 2.0, 3.0, 1.0]))
        mne_bids.write_anat(
            image, mne_bids.BIDSPath(subject="02", suffix="T1w", root=root, datatype="anat"), verbose="error"
        )
    return root


def converted(tree: Path, into: Path, **changes) -> hz.Store:
    recipe = RECIPE.model_copy(update={"dataset": "study", "privacy": "keep"} | changes)
    outcome = hz.convert(tree, into, recipe=recipe, key=KEY)
    assert outcome.failures == []
    return hz.open(into)


def test_who_where_and_what_of_every_recording(tree, tmp_path) -> None:
    store = converted(tree, tmp_path / "s")
    rows = {(r["subject"], r["session"], r["modality"]): r for r in store.recordings.iter_rows(named=True)}
    assert set(rows) == {("01", "pre", "eeg"), ("01", "post", "eeg"), ("02", None, "eeg"), ("02", None, "mr")}
    eeg = rows["01", "pre", "eeg"]
    assert (eeg["age"], eeg["sex"], eeg["handedness"], eeg["line_frequency_hz"]) == (32.0, "female", "right", 50)
    assert rows["02", None, "mr"]["sex"] == "female"
    meta = store[eeg["recording_id"]].meta
    assert meta.labels == {"task": "rest", "run": "01"}
    assert [c.status for c in meta.streams[0].channels] == ["good", "good", "good", "bad"]
    assert [c.type for c in meta.streams[0].channels] == ["eeg"] * 4
    assert meta.streams[0].channels[1].position == pytest.approx((10.0, 20.0, 50.0), abs=0.5)
    assert meta.streams[0].channels[1].position_frame == "head", "CapTrak"


def test_events_come_from_the_table(tree, tmp_path) -> None:
    store = converted(tree, tmp_path / "s")
    name = next(n for n in store.recordings["recording_id"] if "sub-02" in n and "eeg" in n)
    events = store.annotations.filter(recording_id=name, source="events:table")
    assert events.select("onset_s", "duration_s", "label", "text").rows() == [
        (0.5, 0.25, "event", "left"),
        (2.0, 0.5, "seizure", "seizure"),
    ]


def test_under_pseudonyms_no_name_of_the_tree_is_stored(tree, tmp_path) -> None:
    outcome = hz.convert(tree, tmp_path / "s", "study", recipe="bids", key=KEY)
    assert outcome.failures == []
    store = hz.open(tmp_path / "s")
    text = "".join(store[name].meta.model_dump_json() for name in store.recordings["recording_id"])
    for secret in ("sub-01", "ses-pre", '"pre"', "2012", "left"):
        assert secret not in text
    assert store.recordings["subject"].n_unique() == 2


def test_names_are_split_into_entities() -> None:
    assert entities("sub-01_ses-a_task-rest_run-2_bold.nii.gz") == (
        {"sub": "01", "ses": "a", "task": "rest", "run": "2"},
        "bold",
    )
    assert entities("participants.tsv") == ({}, "participants")


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_sidecars_are_inherited_from_the_top_down(tmp_path) -> None:
    """The example of the specification's "inheritance principle", with three levels."""
    root = tmp_path / "ds"
    write(root / "dataset_description.json", {})
    data = write(root / "sub-01/func/sub-01_task-rest_acq-fast_bold.nii.gz", "")
    write(root / "task-rest_bold.json", {"EchoTime": 0.04, "RepetitionTime": 2.0, "Manufacturer": "top"})
    write(root / "task-rest_acq-slow_bold.json", {"EchoTime": 9})
    write(root / "task-other_bold.json", {"EchoTime": 8})
    write(root / "task-rest_events.json", {"EchoTime": 7})
    write(root / "sub-01/sub-01_bold.json", {"RepetitionTime": 1.5})
    write(root / "sub-01/func/sub-01_task-rest_acq-fast_bold.json", {"Manufacturer": "own"})
    write(root / "sub-02/func/sub-02_task-rest_bold.json", {"EchoTime": 6})
    assert BidsTree(tmp_path).facts(data).sidecar == {"EchoTime": 0.04, "RepetitionTime": 1.5, "Manufacturer": "own"}


def test_tables_are_joined_by_subject_session_and_file(tmp_path) -> None:
    root = tmp_path / "ds"
    data = write(root / "sub-01/ses-a/eeg/sub-01_ses-a_task-x_eeg.edf", "")
    write(root / "participants.tsv", "participant_id\tage\tsite\nsub-01\t33\tn/a\nsub-02\t44\tx\n")
    write(root / "sub-01/sub-01_sessions.tsv", "session_id\tage\nses-a\t34\nses-b\t35\n")
    write(
        root / "sub-01/ses-a/sub-01_ses-a_scans.tsv",
        "filename\tacq_time\neeg/sub-01_ses-a_task-x_eeg.edf\t2009-06-15T13:45:30\n",
    )
    rows = BidsTree(root).facts(data).rows
    assert rows["participants"] == {"participant_id": "sub-01", "age": "33", "site": None}
    assert rows["sessions"] == {"session_id": "ses-a", "age": "34"}
    assert rows["scans"]["acq_time"] == "2009-06-15T13:45:30"


@pytest.mark.parametrize("damage", ["{", "[1]", '{"a": ' * 3000, "\xff\xfe"])
def test_a_damaged_sidecar_is_left_out(tmp_path, damage) -> None:
    root = tmp_path / "ds"
    data = write(root / "sub-01/eeg/sub-01_eeg.edf", "")
    write(root / "eeg.json", {"Manufacturer": "M"})
    (root / "sub-01/eeg/sub-01_eeg.json").write_bytes(damage.encode("latin-1"))
    assert BidsTree(root).facts(data).sidecar == {"Manufacturer": "M"}
