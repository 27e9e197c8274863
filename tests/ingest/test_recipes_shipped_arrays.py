"""Recipes that ship for bare arrays, wristbands and sound, on miniature trees in the documented layouts, against
values written by hand."""

from __future__ import annotations

import pytest

import harmonize as hz
from harmonize.ingest.write import _sha256_at
from ingest.shipped import KEY, Converted, convert, of
from ingest.trees import LEADS
from ingest.trees_arrays import ARRAY_TREES

UNKNOWN = (None, None, None)


@pytest.fixture
def tree(request, tmp_path) -> Converted:
    """The tree of the recipe that the test names, converted by it."""
    ARRAY_TREES[request.param](tmp_path / "tree")
    return convert(tmp_path / "tree", tmp_path / "s", request.param)


@pytest.fixture
def code_15(tmp_path) -> tuple[Converted, hz.Outcome]:
    ARRAY_TREES["code-15"](tmp_path / "tree")
    outcome = hz.convert(tmp_path / "tree", tmp_path / "s", recipe="code-15", key=KEY, privacy="keep")
    return Converted(hz.open(tmp_path / "s"), dict(outcome.side_files)), outcome


def test_code_15(code_15) -> None:
    """@of("code-15"): one exam of zeros alone fails, and so the tree is converted here."""
    tree, outcome = code_15
    assert [row["code"] for row in outcome.failures] == ["empty_file"]
    assert tree.people() == {
        "exams_part0.hdf5_1169160": ("523632", "1169160", 38.0, "male"),
        "exams_part0.hdf5_2873686": ("1724173", "2873686", 90.0, "female"),
        "exams_part1.hdf5_168405": ("523632", "168405", 39.0, "female"),
    }
    first, second, third = tree.metas.values()
    assert first.labels == {
        "1dAVb": False, "RBBB": False, "LBBB": False, "SB": False, "ST": False, "AF": False,
        "normal_ecg": True, "death": False, "follow_up_years": 2.098628,
    }  # fmt: skip
    assert (second.labels["1dAVb"], second.labels["death"]) == (True, True)
    assert (third.labels["AF"], "death" in third.labels) == (True, False)
    assert tree.channels("exams_part0.hdf5_1169160") == [(name, "ecg") for name in LEADS]
    assert [(s.rate_hz, s.dtype, s.n_samples) for m in (first, second) for s in m.streams] == [
        (400, "float32", 28),
        (400, "float32", 20),
    ]
    assert {c.unit for c in first.streams[0].channels} == {"mV"}
    assert tree.side_files == {".csv": 1}


def test_code_15_again_is_unchanged(code_15, tmp_path) -> None:
    outcome = hz.convert(tmp_path / "tree", tmp_path / "s", recipe="code-15", key=KEY, privacy="keep")
    assert (outcome.converted, outcome.unchanged) == (0, 3)


def test_a_file_of_many_records_is_hashed_once(tmp_path) -> None:
    _sha256_at.cache_clear()
    ARRAY_TREES["code-15"](tmp_path / "tree")
    outcome = hz.convert(tmp_path / "tree", tmp_path / "s", recipe="code-15", key=KEY)
    assert outcome.converted == 3
    assert _sha256_at.cache_info().misses == 2  # two files
    assert hz.open(tmp_path / "s").sources["sha256"].n_unique() == 2


@of("wesad")
def test_wesad(tree) -> None:
    assert tree.people() == {"S10/S10.pkl": ("S10", None, None, None), "S2/S2.pkl": ("S2", None, None, None)}
    meta = tree.metas["S2/S2.pkl"]
    assert [(s.name, s.dtype, s.n_samples) for s in meta.streams] == [
        ("700hz", "float64", 1400), ("700hz_2", "float32", 1400), ("32hz", "float64", 64), ("64hz", "float64", 128), ("4hz", "float64", 8),
    ]  # fmt: skip
    assert tree.channels("S2/S2.pkl") == [
        *[(f"Chest acceleration {axis}", "acceleration") for axis in "XYZ"], ("ECG", "ecg"), ("EMG", "emg"), ("EDA", "eda"), ("Resp", "resp"),
        ("Temp", "temperature"), *[(f"Wrist acceleration {axis}", "acceleration") for axis in "XYZ"], ("PPG", "ppg"), ("EDA", "eda"), ("Temp", "temperature"),
    ]  # fmt: skip
    units = [c.unit for s in meta.streams for c in s.channels]
    assert units == ["m/s^2"] * 3 + ["mV", "µV", "µS", "%", "degC"] + ["m/s^2"] * 3 + ["a.u.", "µS", "degC"]
    wrist = meta.streams[2].channels[0]
    assert 64 * wrist.scale == pytest.approx(9.80665)
    assert meta.streams[0].channels[4].scale == 1000.0
    assert tree.events("S2/S2.pkl") == [
        (pytest.approx(200 / 700), pytest.approx(200 / 700), "task_baseline", "1"),
        (pytest.approx(600 / 700), pytest.approx(200 / 700), "task_stress", "2"),
        (pytest.approx(1000 / 700), pytest.approx(200 / 700), "task_amusement", "3"),
        (pytest.approx(1200 / 700), pytest.approx(200 / 700), "task_meditation", "4"),
    ]
    assert meta.modality == "biosignal"
    assert meta.flags == ()
    assert tree.side_files == {".csv": 9, ".txt": 1}


@of("empatica")
def test_empatica(tree) -> None:
    metas = list(tree.metas.values())
    assert [(m.subject, m.session, m.acquisition.device_id, m.start_s) for m in metas] == [
        ("P01", "1530695636_A01F11", "A01F11", 0.0),
        ("P01", "1530699236_A01F11", "A01F11", 3600.0),
        ("P02", None, None, 0.0),
    ]
    assert sorted(len(one.streams) for one in metas) == [1, 5, 5]
    assert all(one.acquisition.device_model == "E4" for one in metas)
    labels = tree.store.annotations["label"].to_list()
    assert {label: labels.count(label) for label in labels} == {"button_press": 4, "inter_beat_interval": 4}
    assert not any("annotation_text_dropped" in one.flags for one in metas)


@of("esc-50")
def test_esc_50(tree) -> None:
    assert tree.people() == {
        "audio/1-100032-A-0.wav": ("100032", "1-100032-A-0", None, None),
        "audio/1-100038-A-14.wav": ("100038", "1-100038-A-14", None, None),
        "audio/1-100038-B-14.wav": ("100038", "1-100038-B-14", None, None),
    }
    first, second, _ = tree.metas.values()
    assert first.labels == {"category": "dog", "target": 0.0, "esc10": True}
    assert second.labels == {"category": "chirping_birds", "target": 14.0, "esc10": False}
    assert (first.fold, first.modality) == ("1", "audio")
    assert tree.side_files == {".csv": 1}
