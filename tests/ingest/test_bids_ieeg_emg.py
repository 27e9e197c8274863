"""BIDS trees of iEEG and EMG that mne-bids wrote, against their own tables read by ``csv`` and ``json``."""

from __future__ import annotations

import csv
import json
import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import mne
import mne_bids
import numpy as np
import pytest

import harmonize as hz
from harmonize.ingest.bids import BidsTree, in_units
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import read_recipe, shipped_recipes
from harmonize_schemas import Recording

KEY = ProjectKey(bytes(32))
RECIPE = read_recipe(shipped_recipes()["bids"])
NAMES = ["A1", "LA2", "G1", "STN0", "Fz", "EKG1", "DC1"]
"""A depth electrode that is called as a mastoid is, and others that no vocabulary has."""
KINDS = ["seeg", "seeg", "ecog", "dbs", "eeg", "ecg", "misc"]
TYPES = {"SEEG": "ieeg", "ECOG": "ieeg", "DBS": "ieeg", "EEG": "eeg", "ECG": "ecg", "MISC": "misc", "EMG": "emg"}
UNITS = {"ieeg": "µV", "eeg": "µV", "emg": "µV", "ecg": "mV"}
VALUES = np.random.default_rng(0).normal(0, 1e-4, (7, 1024))


def written(raw: mne.io.RawArray, path: mne_bids.BIDSPath, **options: Any) -> None:
    raw.info["line_freq"] = 60
    raw.info["subject_info"] = {"sex": 1, "hand": 2, "birthday": date(1970, 1, 2), "height": 1.75, "weight": 71.5}
    raw.set_meas_date(datetime(2012, 5, 18, 10, 0, 0, tzinfo=UTC))
    raw.set_annotations(mne.Annotations([0.25, 1.0], [0.5, 0.25], ["seizure", "grip"]))
    raw.info["bads"] = [raw.ch_names[1]]
    mne_bids.write_raw_bids(raw, path, allow_preload=True, overwrite=True, verbose="error", **options)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """iEEG with positions in ACPC (01), in a template's space (02) and nowhere (03); EMG (04)."""
    root = tmp_path_factory.mktemp("bids") / "study"
    places = {name: np.array([0.01 * i - 0.02, 0.02, 0.03 + 0.001 * i]) for i, name in enumerate(NAMES[:5])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mne-bids warns of what these small recordings lack
        for subject, frame, form in (("01", "ras", "EDF"), ("02", "mni_tal", "BrainVision"), ("03", None, "EDF")):
            raw = mne.io.RawArray(VALUES, mne.create_info(NAMES, 512.0, KINDS), verbose="error")
            place = {"montage": mne.channels.make_dig_montage(places, coord_frame=frame)} if frame else {}
            path = mne_bids.BIDSPath(subject=subject, session="or", task="rest", run="01", root=root, datatype="ieeg")
            written(raw, path, format=form, acpc_aligned=frame == "ras", **place)
        raw = mne.io.RawArray(VALUES[:3], mne.create_info(["EMG1", "FDI", "P3"], 512.0, "emg"), verbose="error")
        path = mne_bids.BIDSPath(subject="04", task="grip", root=root, datatype="emg")
        written(raw, path, format="EDF", emg_placement="Measured")
    # What mne-bids leaves blank is written by hand: how the electrodes are referenced.
    said(root, "01", "ieeg", "iEEGReference", "Fz")
    said(root, "02", "ieeg", "iEEGReference", "screw that Dr. Planted put into the skull")
    said(root, "04", "emg", "EMGReference", "bipolar")
    said(root, "04", "emg", "Manufacturer", "Delsys")
    column(root / "sub-01/ses-or/ieeg/sub-01_ses-or_task-rest_run-01_channels.tsv", "reference",
           ["LA2", "CAR", "n/a", "Dr. Planted", "A1", "n/a", "n/a"])  # fmt: skip
    return root


def said(root: Path, subject: str, kind: str, key: str, value: str) -> None:
    (file,) = root.glob(f"sub-{subject}/**/{kind}/*_{kind}.json")
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {key: value}))


def column(file: Path, name: str, values: list[str]) -> None:
    header, *rows = file.read_text("utf-8-sig").splitlines()
    file.write_text("\n".join(f"{row}\t{value}" for row, value in zip([header, *rows], [name, *values], strict=True)))


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory) -> hz.Store:
    into = tmp_path_factory.mktemp("store") / "s"
    outcome = hz.convert(tree, into, recipe=RECIPE.model_copy(update={"dataset": "study", "privacy": "keep"}), key=KEY)
    assert outcome.failures == []
    return hz.open(into)


def of(store: hz.Store, subject: str) -> Recording:
    (name,) = store.recordings.filter(subject=subject)["recording_id"]
    return store[name].meta


def table(root: Path, subject: str, suffix: str) -> list[dict[str, str]]:
    (file,) = root.glob(f"sub-{subject}/**/*_{suffix}.tsv")
    with file.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t"))


def test_modality_who_and_where(tree, store) -> None:
    with (tree / "participants.tsv").open(encoding="utf-8-sig") as opened:
        people = {row["participant_id"]: row for row in csv.DictReader(opened, delimiter="\t")}
    for subject, kind in (("01", "ieeg"), ("02", "ieeg"), ("03", "ieeg"), ("04", "emg")):
        found, row = of(store, subject), people[f"sub-{subject}"]
        assert (found.modality, found.session) == (kind, None if kind == "emg" else "or")
        who = found.demographics
        assert (who.age_years, who.sex, who.handedness) == (float(row["age"]), "male", "left")
        assert (row["sex"], row["hand"], row["height"], row["weight"]) == ("M", "L", "1.75", "71.5")
        assert (who.height_cm, who.weight_kg) == (175.0, 71.5), "participants.json: m and kg"
        assert found.acquisition.line_frequency_hz == 60


def test_what_a_sidecar_does_not_know_is_no_device(store) -> None:
    """mne-bids writes "n/a" for the maker."""
    assert [of(store, subject).acquisition.device_maker for subject in ("01", "04")] == [None, "Delsys"]


def test_labels_and_events(store, tree) -> None:
    assert of(store, "01").labels == {"task": "rest", "run": "01"}
    assert of(store, "04").labels == {"task": "grip"}
    for subject in ("01", "02", "03", "04"):
        events = store.annotations.filter(recording_id=of(store, subject).recording_id, source="events:table")
        rows = [
            (float(row["onset"]), float(row["duration"]), row["trial_type"]) for row in table(tree, subject, "events")
        ]
        assert events.select("onset_s", "duration_s", "text").rows() == rows
        assert events["label"].to_list() == ["seizure", "event"]


@pytest.mark.parametrize("subject", ["01", "02", "03", "04"])
def test_channels_are_what_the_table_says(tree, store, subject) -> None:
    (stream,) = of(store, subject).streams
    rows = table(tree, subject, "channels")
    assert [c.label for c in stream.channels] == [row["name"] for row in rows]
    assert [c.type for c in stream.channels] == [TYPES[row["type"]] for row in rows]
    assert [c.status for c in stream.channels] == [row["status"] for row in rows]
    assert [float(row["sampling_frequency"]) for row in rows] == [float(stream.rate_hz)] * len(rows)
    for channel, row in zip(stream.channels, rows, strict=True):
        assert row["units"] == ("n/a" if row["type"] == "MISC" else "µV")
        if channel.type != "misc":
            assert channel.unit == UNITS[channel.type]


def test_an_electrode_in_the_brain_has_no_name_of_the_scalp(store) -> None:
    """ "A1" is a depth electrode and "P3" is over a muscle: a scalp's names would misdescribe them."""
    names = [c.name for c in of(store, "01").streams[0].channels]
    assert names[:5] == ["local:A1", "LA2", "G1", "STN0", "Fz"]
    assert [c.name for c in of(store, "04").streams[0].channels] == ["EMG1", "FDI", "local:P3"]


@pytest.mark.parametrize("subject", ["01", "02", "04"])
def test_values_are_those_given_to_mne(store, subject) -> None:
    (stream,) = store[of(store, subject).recording_id].signals.values()
    factors = {"ieeg": 1e6, "eeg": 1e6, "emg": 1e6, "ecg": 1e3}
    for i, channel in enumerate(stream.meta.channels):
        if channel.type in factors:
            expected = VALUES[i] * factors[channel.type]
            np.testing.assert_allclose(stream.read()[i][:1024], expected, atol=0.02 * factors[channel.type] / 1e6)


def test_positions_are_kept_in_the_subjects_own_head_only(tree, store) -> None:
    """In mm, with their origin at the anterior commissure; those of a template's head are left out."""
    (system,) = tree.glob("sub-01/**/*_coordsystem.json")
    said = json.loads(system.read_text("utf-8"))
    assert (said["iEEGCoordinateSystem"], said["iEEGCoordinateUnits"]) == ("ACPC", "m")
    for channel, row in zip(of(store, "01").streams[0].channels, table(tree, "01", "electrodes"), strict=True):
        assert channel.label == row["name"]
        if row["x"] == "n/a":
            assert (channel.position, channel.position_frame) == (None, None)
        else:
            assert channel.position == pytest.approx([1000 * float(row[axis]) for axis in "xyz"])
            assert channel.position_frame == "acpc"
    assert table(tree, "02", "electrodes")[0]["x"] == "-0.02"
    (system,) = tree.glob("sub-02/**/*_coordsystem.json")
    assert json.loads(system.read_text("utf-8"))["iEEGCoordinateSystem"] == "fsaverage"
    for subject in ("02", "03", "04"):
        assert [c.position for c in of(store, subject).streams[0].channels] == [None] * len(
            of(store, subject).streams[0].channels
        )


def test_references_are_terms_or_electrodes(store) -> None:
    """A text that is neither is free text: it says too little to compare, and may name people."""
    assert [of(store, s).acquisition.reference for s in ("01", "02", "03", "04")] == ["Fz", None, None, "bipolar"]
    references = [c.reference for c in of(store, "01").streams[0].channels]
    assert references == ["LA2", "average", None, None, "local:A1", None, None]


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("system", "units", "expected"),
    [
        ("ACPC", "mm", ((1.0, 2.0, 3.0), "acpc")),
        ("CapTrak", "cm", ((10.0, 20.0, 30.0), "head")),
        ("MNI152NLin2009bAsym", "mm", (None, None)),
        ("Talairach", "mm", (None, None)),
        ("Pixels", "pixels", (None, None)),
        ("Other", "mm", (None, None)),
        ("EEGLAB", "mm", (None, None)),
        ("ACPC", "n/a", (None, None)),
    ],
)
def test_only_known_systems_give_positions(tmp_path, system, units, expected) -> None:
    root = tmp_path / "ds"
    write(root / "dataset_description.json", "{}")
    data = write(root / "sub-01/ieeg/sub-01_task-x_ieeg.edf", "")
    write(root / "sub-01/ieeg/sub-01_electrodes.tsv", "name\tx\ty\tz\tsize\nL1\t1\t2\t3\tn/a\n")
    said = {"iEEGCoordinateSystem": system, "iEEGCoordinateUnits": units}
    write(root / "sub-01/ieeg/sub-01_coordsystem.json", json.dumps(said))
    rule = BidsTree(root).facts(data).channels.get("L1")
    assert (rule and rule.position, rule and rule.position_frame) == expected


def test_of_several_spaces_the_subjects_own_counts(tmp_path) -> None:
    root = tmp_path / "ds"
    data = write(root / "sub-01/ieeg/sub-01_task-x_ieeg.edf", "")
    for space, x in (("ACPC", 1), ("MNI152Lin", 9)):
        write(root / f"sub-01/ieeg/sub-01_space-{space}_electrodes.tsv", f"name\tx\ty\tz\nL1\t{x}\t2\t3\n")
        said = {"iEEGCoordinateSystem": space, "iEEGCoordinateUnits": "mm"}
        write(root / f"sub-01/ieeg/sub-01_space-{space}_coordsystem.json", json.dumps(said))
    assert BidsTree(root).facts(data).channels["L1"].position == (1.0, 2.0, 3.0)


def test_an_emg_system_is_of_a_limb(tmp_path) -> None:
    """EMG names its systems freely: one that is called as a head's is none."""
    root = tmp_path / "ds"
    data = write(root / "sub-01/emg/sub-01_task-x_emg.edf", "")
    write(root / "sub-01/emg/sub-01_electrodes.tsv", "name\tx\ty\tz\nE1\t1\t2\t3\n")
    said = {"EMGCoordinateSystem": "ACPC", "EMGCoordinateUnits": "mm"}
    write(root / "sub-01/emg/sub-01_coordsystem.json", json.dumps(said))
    assert BidsTree(root).facts(data).channels == {}


@pytest.mark.parametrize(
    ("row", "described", "expected"),
    [
        ({"age": "33"}, {}, {"age": "33"}),
        ({"age": "33"}, {"age": {"Units": "years"}}, {"age": "33"}),
        ({"age": "6"}, {"age": {"Units": "months"}}, {"age": "0.5"}),
        ({"age": "6"}, {"age": {"Units": "fortnights"}}, {"age": None}),
        ({"age": "89+"}, {}, {"age": "89+"}),
        ({"height": "1.8", "weight": "80"}, {}, {"height": None, "weight": None}),
        ({"height": "180", "weight": "80"}, {"height": {"Units": "cm"}, "weight": {"Units": "kg"}}, {"height": "180", "weight": "80"}),
        ({"height": "tall"}, {"height": {"Units": "m"}}, {"height": None}),
    ],
)  # fmt: skip
def test_people_are_counted_in_the_units_their_table_names(row, described, expected) -> None:
    assert in_units(row, described) == expected


def test_who_is_above_89_is_pooled(tree, tmp_path) -> None:
    """The specification's word for it is "89+"."""
    root = tmp_path / "study"
    (root / "sub-04").mkdir(parents=True)
    for file in (tree / "sub-04").rglob("*"):
        if file.is_file():
            target = root / file.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    write(root / "dataset_description.json", "{}")
    write(root / "participants.tsv", "participant_id\tage\nsub-04\t89+\n")
    hz.convert(root, tmp_path / "s", recipe=RECIPE.model_copy(update={"dataset": "study", "privacy": "keep"}), key=KEY)
    who = of(hz.open(tmp_path / "s"), "04").demographics
    assert (who.age_years, who.age_pooled) == (90.0, True)


def test_under_pseudonyms_nothing_identifying_is_stored(tree, tmp_path) -> None:
    outcome = hz.convert(tree, tmp_path / "s", "study", recipe="bids", key=KEY)
    assert outcome.failures == []
    opened = hz.open(tmp_path / "s")
    text = "".join(opened[name].meta.model_dump_json() for name in opened.recordings["recording_id"])
    for secret in ("sub-01", "Planted", "2012", "grip_", "screw"):
        assert secret not in text
