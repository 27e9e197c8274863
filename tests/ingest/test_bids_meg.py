"""BIDS trees of MEG (FIF) and EEG (BrainVision) that mne-bids wrote, through ``convert`` with the recipe "bids"."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pytest

import harmonize as hz
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import read_recipe, shipped_recipes

KEY = ProjectKey(bytes(32))
RECIPE = read_recipe(shipped_recipes()["bids"])
VALUES = np.random.default_rng(0).normal(0, 1, (4, 900))
MEG = ["MEG 0113", "MEG 0111", "EEG 001", "STI 014"]


def written(raw: mne.io.BaseRaw, root: Path, datatype: str, **options) -> None:
    """Two events, one bad channel, 50 Hz mains; mne-bids reads the raw file that MNE saved first."""
    raw.info["line_freq"] = 50
    raw.info["subject_info"] = {"sex": 1, "hand": 2, "birthday": date(1970, 1, 2), "his_id": "MRN-4711"}
    raw.info["experimenter"] = "Ratched"
    raw.set_meas_date(datetime(2012, 5, 18, 10, 0, 0, tzinfo=UTC))
    raw.set_annotations(mne.Annotations([0.5, 2.0], [0.25, 0.5], ["left", "seizure"]))
    raw.info["bads"] = [raw.ch_names[1]]
    path = mne_bids.BIDSPath(subject="01", task="rest", root=root, datatype=datatype)
    mne_bids.write_raw_bids(raw, path, allow_preload=True, overwrite=True, verbose="error", **options)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """One subject with MEG and another data set's EEG."""
    root = tmp_path_factory.mktemp("bids") / "study"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mne-bids warns of what these small recordings lack
        sizes = np.array([[1e-11], [1e-12], [1e-5], [0]])
        meg = mne.io.RawArray(
            VALUES * sizes, mne.create_info(MEG, 300.0, ["grad", "mag", "eeg", "stim"]), verbose="error"
        )
        written(meg, root, "meg", format="FIF")
        eeg = mne.io.RawArray(VALUES * 1e-5, mne.create_info(["C3", "C4", "O1", "O2"], 300.0, "eeg"), verbose="error")
        written(eeg, root, "eeg", format="BrainVision")
    return root


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory) -> hz.Store:
    into = tmp_path_factory.mktemp("store") / "s"
    outcome = hz.convert(tree, into, recipe=RECIPE.model_copy(update={"dataset": "study", "privacy": "keep"}), key=KEY)
    assert outcome.failures == []
    return hz.open(into)


def row(store: hz.Store, modality: str) -> dict:
    (found,) = [r for r in store.recordings.iter_rows(named=True) if r["modality"] == modality]
    return found


@pytest.mark.parametrize("modality", ["meg", "eeg"])
def test_who_and_how(store, modality) -> None:
    found = row(store, modality)
    assert (found["subject"], found["sex"], found["handedness"], found["age"]) == ("01", "male", "left", 42.0)
    assert found["line_frequency_hz"] == 50


@pytest.mark.parametrize("modality", ["meg", "eeg"])
def test_channels_and_their_state(store, modality) -> None:
    (stream,) = store[row(store, modality)["recording_id"]].meta.streams
    assert [c.status for c in stream.channels] == ["good", "bad", "good", "good"]
    types = {"meg": ["meg_grad", "meg_mag", "eeg", "trigger"], "eeg": ["eeg"] * 4}
    units = {"meg": ["fT/cm", "fT", "µV", None], "eeg": ["µV"] * 4}
    assert [c.type for c in stream.channels] == types[modality]
    assert [c.unit for c in stream.channels] == units[modality]


@pytest.mark.parametrize(("modality", "sizes"), [("meg", [100, 1000, 10, 0]), ("eeg", [10] * 4)])
def test_values_are_those_given_to_mne(store, modality, sizes) -> None:
    """1e-11 T/m are 100 fT/cm, 1e-12 T are 1000 fT, 1e-5 V are 10 µV."""
    (stream,) = store[row(store, modality)["recording_id"]].signals.values()
    np.testing.assert_allclose(stream.read(), VALUES * np.array(sizes)[:, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("modality", ["meg", "eeg"])
def test_events_come_from_the_table(store, modality) -> None:
    events = store.annotations.filter(recording_id=row(store, modality)["recording_id"], source="events:table")
    assert events.select("onset_s", "duration_s", "label", "text").rows() == [
        (0.5, 0.25, "event", "left"),
        (2.0, 0.5, "seizure", "seizure"),
    ]


def test_back_in_mne_they_are_si_again(store) -> None:
    raw = store[row(store, "meg")["recording_id"]].to_mne()
    assert raw.get_channel_types() == ["grad", "mag", "eeg", "stim"]
    expected = VALUES * np.array([[1e-11], [1e-12], [1e-5], [0]])
    np.testing.assert_allclose(raw.get_data(), expected, rtol=1e-5)


def test_under_pseudonyms_nothing_identifying_is_stored(tree, tmp_path) -> None:
    outcome = hz.convert(tree, tmp_path / "s", "study", recipe="bids", key=KEY)
    assert outcome.failures == []
    store = hz.open(tmp_path / "s")
    text = "".join(store[name].meta.model_dump_json() for name in store.recordings["recording_id"])
    for secret in ("sub-01", "MRN-4711", "Ratched", "2012", "left_", "task-rest"):
        assert secret not in text
