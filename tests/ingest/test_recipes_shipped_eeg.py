"""Recipes that ship for EEG and sleep, on miniature trees in the data sets' documented layouts: who, where, when,
labels, events and channels, against values written by hand."""

from __future__ import annotations

import pytest

from ingest.shipped import Converted, convert, of
from ingest.trees import TREES


@pytest.fixture
def tree(request, tmp_path) -> Converted:
    """The tree of the recipe that the test names, converted by it."""
    TREES[request.param](tmp_path / "tree")
    return convert(tmp_path / "tree", tmp_path / "s", request.param)


@of("sleep-edf")
def test_sleep_edf(tree) -> None:
    assert tree.people() == {
        "sleep-cassette/SC4001E0-PSG.edf": ("SC400", "1", 33.0, "female"),
        "sleep-cassette/SC4002E0-PSG.edf": ("SC400", "2", 33.0, "female"),
        "sleep-cassette/SC4761E0-PSG.edf": ("SC476", "1", 90.0, "male"),
        "sleep-telemetry/ST7011J0-PSG.edf": ("ST701", "1", None, None),
    }
    metas = list(tree.metas.values())
    assert [one.labels["study"] for one in metas] == ["cassette", "cassette", "cassette", "telemetry"]
    assert [one.start_s for one in metas] == [0.0, 86400.0, 0.0, 0.0]
    assert {one.modality for one in metas} == {"psg"}
    assert tree.events("sleep-cassette/SC4001E0-PSG.edf") == [
        (0.0, 30.0, "sleep_wake", "Sleep stage W"),
        (30.0, 30.0, "sleep_1", "Sleep stage 1"),
        (60.0, 30.0, "sleep_unscored", "Sleep stage ?"),
    ]
    assert tree.events("sleep-cassette/SC4761E0-PSG.edf") == []
    assert tree.events("sleep-telemetry/ST7011J0-PSG.edf") == [(0.0, 30.0, "sleep_rem", "Sleep stage R")]
    assert tree.channels("sleep-cassette/SC4001E0-PSG.edf") == [
        ("Fpz-Cz", "eeg"), ("Pz-Oz", "eeg"), ("EOG horizontal", "eog"), ("Airflow", "airflow"), ("EMG chin", "emg"),
        ("Temp", "temperature"), ("Event marker", "misc"),
    ]  # fmt: skip


@of("shhs")
def test_shhs(tree) -> None:
    folder = "polysomnography/edfs"
    assert tree.people() == {
        f"{folder}/shhs1/shhs1-200001.edf": ("200001", "1", 55.0, "male"),
        f"{folder}/shhs1/shhs1-200077.edf": ("200077", "1", 41.0, "female"),
        f"{folder}/shhs1/shhs1-200099.edf": ("200099", "1", 90.0, "male"),
        f"{folder}/shhs2/shhs2-200077.edf": ("200077", "2", None, None),
    }
    assert {one.start_s for one in tree.metas.values()} == {None}  # all dates are 01.01.85
    first = f"{folder}/shhs1/shhs1-200001.edf"
    assert tree.events(first) == [
        (0.0, 2.0, "recording_starts", "Recording Start Time"),
        (0.0, 30.0, "sleep_wake", "Wake|0"),
        (30.0, 30.0, "sleep_4", "Stage 4 sleep|4"),
        (60.0, 30.0, "sleep_rem", "REM sleep|5"),
        (61.5, 12.5, "hypopnea", "Hypopnea|Hypopnea"),
        (70.0, 9.0, "desaturation", "SpO2 desaturation|SpO2 desaturation"),
        (80.0, 5.0, "event", "Unsure|Unsure"),
    ]
    assert tree.channels(first) == [
        ("SpO2", "spo2"), ("HR", "heart_rate"), ("C3-M2", "eeg"), ("ECG", "ecg"), ("EMG chin", "emg"),
        ("EOG left", "eog"), ("EOG right", "eog"), ("C4-M1", "eeg"), ("Resp chest", "resp"), ("Resp abdomen", "resp"),
        ("Position", "position"),
    ]  # fmt: skip
    assert tree.metas[first].acquisition.device_maker == "Compumedics"


@of("mesa")
def test_mesa(tree) -> None:
    folder = "polysomnography/edfs"
    assert tree.people() == {
        f"{folder}/mesa-sleep-0001.edf": ("0001", None, 74.0, "female"),
        f"{folder}/mesa-sleep-0012.edf": ("0012", None, 90.0, "male"),
        f"{folder}/mesa-sleep-6814.edf": ("6814", None, None, None),
    }
    assert tree.events(f"{folder}/mesa-sleep-0012.edf") == [
        (0.0, 30.0, "sleep_2", "Stage 2 sleep|2"),
        (3.0, 11.0, "hypopnea", "Unsure|Unsure"),
        (20.0, 10.0, "apnea_obstructive", "Obstructive apnea|Obstructive Apnea"),
    ]
    assert tree.channels(f"{folder}/mesa-sleep-0001.edf") == [
        ("ECG", "ecg"), ("EOG left", "eog"), ("EOG right", "eog"), ("EMG chin", "emg"), ("Fz-Cz", "eeg"),
        ("Cz-Oz", "eeg"), ("C4-M1", "eeg"), ("Pres", "misc"), ("Airflow", "airflow"), ("Resp chest", "resp"),
        ("Resp abdomen", "resp"), ("SpO2", "spo2"), ("HR", "heart_rate"),
    ]  # fmt: skip


@of("mros")
def test_mros(tree) -> None:
    folder = "polysomnography/edfs"
    assert tree.people() == {
        f"{folder}/visit1/mros-visit1-aa0001.edf": ("aa0001", "1", 77.0, "male"),
        f"{folder}/visit1/mros-visit1-aa5050.edf": ("aa5050", "1", None, "male"),
        f"{folder}/visit2/mros-visit2-aa0001.edf": ("aa0001", "2", 90.0, "male"),
    }
    assert all("table_row_missing" not in one.flags for one in tree.metas.values())
    first = f"{folder}/visit1/mros-visit1-aa0001.edf"
    assert tree.events(first) == [
        (0.0, 30.0, "sleep_3", "Stage 3 sleep|3"),
        (4.0, 3.0, "arousal", "Arousal|Arousal ()"),
        (9.0, 60.0, "periodic_breathing", "Periodic breathing|Periodic Breathing"),
    ]
    assert tree.channels(first) == [
        ("C3", "eeg"), ("C4", "eeg"), ("M1", "eeg"), ("M2", "eeg"), ("EOG right", "eog"), ("EOG left", "eog"),
        ("ECG L", "ecg"), ("ECG R", "ecg"), ("EMG chin left", "emg"), ("EMG chin right", "emg"),
        ("Resp chest", "resp"), ("Nasal pressure", "airflow"),
    ]  # fmt: skip


@of("physionet2018")
def test_physionet2018(tree) -> None:
    assert tree.people() == {
        "test/te03-0001/te03-0001": ("te03-0001", None, None, "female"),
        "training/tr03-0005/tr03-0005": ("tr03-0005", None, 59.0, "male"),
        "training/tr03-0029/tr03-0029": ("tr03-0029", None, 90.0, "female"),
    }
    assert [one.fold for one in tree.metas.values()] == ["test", "training", "training"]
    assert tree.events("training/tr03-0005/tr03-0005") == [  # the marks are 0, 5, 6, 9, 13, 13.05 and 14.55 s
        (0.0, 5.0, "sleep_wake", "W"),
        (5.0, 4.0, "sleep_n1", "N1"),
        (6.0, 7.0, "hypopnea", "resp_hypopnea"),
        (9.0, 7.0, "sleep_n2", "N2"),  # to the end at 16 s
        (13.05, 1.5, "arousal_rera", "arousal_rera"),
    ]
    channels = tree.channels("training/tr03-0005/tr03-0005")
    assert channels[:2] + channels[6:] == [
        ("F3-M2", "eeg"), ("F4-M1", "eeg"), ("EOG left", "eog"), ("EMG chin", "emg"), ("Resp abdomen", "resp"),
        ("Resp chest", "resp"), ("Airflow", "airflow"), ("SpO2", "spo2"), ("ECG", "ecg"),
    ]  # fmt: skip


@of("chb-mit")
def test_chb_mit(tree) -> None:
    assert tree.people() == {
        "chb01/chb01_01.edf": ("chb01", "chb01", 11.0, "female"),
        "chb01/chb01_03.edf": ("chb01", "chb01", 11.0, "female"),
        "chb02/chb02_16+.edf": ("chb02", "chb02", 1.5, "male"),
        "chb21/chb21_01.edf": ("chb01", "chb21", 13.0, "female"),
        "chb24/chb24_01.edf": ("chb24", "chb24", None, None),
    }
    assert tree.events("chb01/chb01_01.edf") == []
    assert tree.events("chb01/chb01_03.edf") == [(0.0, 1.0, "seizure", "seizure"), (1.0, 1.0, "seizure", "seizure")]
    assert tree.metas["chb01/chb01_03.edf"].start_s == 2 * 3600 + 10.0  # 11:42:54 to 13:43:04
    assert tree.channels("chb01/chb01_01.edf") == [
        ("Fp1-F7", "eeg"), ("F7-T7", "eeg"), ("T8-P8", "eeg"), ("Fz-Cz", "eeg"), ("-", "misc"), ("T8-P8", "eeg"),
    ]  # fmt: skip


@of("tueg")
def test_tueg(tree) -> None:
    assert tree.people() == {
        "edf/000/aaaaaaaa/s001_2015/01_tcp_ar/aaaaaaaa_s001_t000.edf": ("aaaaaaaa", "s001", 55.0, "male"),
        "edf/000/aaaaaaaa/s001_2015/01_tcp_ar/aaaaaaaa_s001_t001.edf": ("aaaaaaaa", "s001", 55.0, "male"),
        "edf/000/aaaaaaab/s002_2002/02_tcp_le/aaaaaaab_s002_t000.edf": ("aaaaaaab", "s002", 90.0, "female"),
        "edf/000/aaaaaaac/s001_2002/03_tcp_ar_a/aaaaaaac_s001_t000.edf": ("aaaaaaac", "s001", None, None),
    }
    metas = list(tree.metas.values())
    assert [one.acquisition.reference for one in metas] == ["average", "average", "linked ears", "average"]
    assert [one.labels["token"] for one in metas] == ["t000", "t001", "t000", "t000"]
    for name in tree.metas:
        assert tree.channels(name) == [("Fp1", "eeg"), ("T7", "eeg"), ("Cz", "eeg"), ("ECG", "ecg")]


@of("tuab")
def test_tuab(tree) -> None:
    found = {name: (one.fold, one.labels["abnormal"]) for name, one in tree.metas.items()}
    assert found == {
        "edf/eval/abnormal/01_tcp_ar/aaaaamye_s001_t000.edf": ("eval", True),
        "edf/train/abnormal/01_tcp_ar/aaaaaaaq_s004_t000.edf": ("train", True),
        "edf/train/normal/01_tcp_ar/aaaaaaav_s004_t000.edf": ("train", False),
    }
    assert list(tree.people().values()) == [
        ("aaaaamye", "s001", None, None),
        ("aaaaaaaq", "s004", 90.0, "male"),
        ("aaaaaaav", "s004", 46.0, "female"),
    ]


@of("tuev")
def test_tuev(tree) -> None:
    assert tree.people() == {
        "edf/eval/000/bckg_000_a_.edf": ("000", "bckg_000_a_", 90.0, "female"),
        "edf/eval/003/gped_003_a_1.edf": ("003", "gped_003_a_1", None, None),
        "edf/train/aaaaaaar/aaaaaaar_00000001.edf": ("aaaaaaar", "00000001", 55.0, "male"),
    }
    assert [one.fold for one in tree.metas.values()] == ["eval", "eval", "train"]
    assert tree.events("edf/eval/003/gped_003_a_1.edf") == [(0.0, 1.0, "gped", "2"), (1.0, 1.0, "eye_movement", "4")]
    assert tree.events("edf/train/aaaaaaar/aaaaaaar_00000001.edf") == [
        (0.4, pytest.approx(1.0), "background", "6"),
        (1.0, 1.0, "spike_and_slow_wave", "1"),
    ]


@of("eegmmidb")
def test_eegmmidb(tree) -> None:
    assert tree.people() == {
        "S001/S001R01.edf": ("S001", "01", None, None),
        "S001/S001R04.edf": ("S001", "04", None, None),
        "S109/S109R14.edf": ("S109", "14", None, None),
    }
    metas = list(tree.metas.values())
    assert [one.labels["task"] for one in metas] == ["eyes_open", "imagined_one_fist", "imagined_fists_or_feet"]
    assert {one.start_s for one in metas} == {None}  # the same date in all
    assert tree.events("S001/S001R04.edf") == [(0.0, 1.0, "task_rest", "T0"), (1.0, 1.0, "event", "T2")]
    assert tree.channels("S001/S001R04.edf") == [("FC5", "eeg"), ("Cz", "eeg"), ("Iz", "eeg")]


@of("siena")
def test_siena(tree) -> None:
    assert tree.people() == {
        "PN00/PN00-1.edf": ("PN00", "PN00-1", 55.0, "male"),
        "PN00/PN00-2.edf": ("PN00", "PN00-2", 55.0, "male"),
        "PN10/PN10-4.5.6.edf": ("PN10", "PN10-4.5.6", 90.0, "male"),
        "PN12/PN12-1.2.edf": ("PN12", "PN12-1.2", None, "female"),
    }
    assert [one.labels.get("seizure_type") for one in tree.metas.values()] == [
        "focal_impaired_awareness", "focal_impaired_awareness", "focal_to_bilateral_tonic_clonic", None
    ]  # fmt: skip
    assert tree.channels("PN00/PN00-1.edf") == [
        ("Fp1", "eeg"), ("T7", "eeg"), ("Cz", "eeg"), ("ECG", "ecg"), ("SpO2", "spo2")
    ]  # fmt: skip
