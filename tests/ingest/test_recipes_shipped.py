"""Recipes that ship for heart signals and images, on miniature trees in the data sets' documented layouts and on
real files of them: who, where, when, labels, events and channels, against values written by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import wfdb

from harmonize.ingest.recipes import shipped_recipes
from ingest.shipped import KEY, Converted, convert, of
from ingest.trees import LEADS, TREES
from realdata import DATA, needs_data

UNKNOWN = (None, None, None)


@pytest.fixture
def tree(request, tmp_path) -> Converted:
    """The tree of the recipe that the test names, converted by it."""
    TREES[request.param](tmp_path / "tree")
    return convert(tmp_path / "tree", tmp_path / "s", request.param)


def test_every_tree_is_of_a_recipe_and_in_a_test() -> None:
    assert set(TREES) <= set(shipped_recipes())
    text = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_recipes_shipped*.py"))
    assert [name for name in TREES if f'@of("{name}")' not in text] == []


@of("ptb")
def test_ptb(tree) -> None:
    assert tree.people() == {
        "patient001/s0010_re": ("001", "s0010_re", 90.0, "female"),
        "patient001/s0014lre": ("001", "s0014lre", 90.0, "female"),
        "patient104/s0306lre": ("104", "s0306lre", None, "male"),
    }
    first, second, third = tree.metas.values()
    assert first.demographics.age_pooled
    assert first.labels == {
        "diagnosis": "Myocardial infarction",
        "acute_infarction": "infero-latera",
        "former_infarction": "no",
        "additional_diagnoses": "Diabetes mellitus",
        "smoker": False,
    }
    assert (second.labels, third.labels) == (
        {"diagnosis": "Myocardial infarction"},
        {"diagnosis": "Healthy control", "smoker": True},
    )
    assert [one.start_s for one in (first, second, third)] == [0.0, 2 * 86400.0, None]
    assert first.acquisition.line_frequency_hz == 50
    assert tree.channels("patient001/s0010_re") == [(name, "ecg") for name in (*LEADS, "VX", "VY", "VZ")]
    assert all(one.flags == () for one in (first, second, third))


@of("mitdb")
def test_mitdb(tree) -> None:
    assert tree.people() == {
        "100": ("100", "100", 69.0, "male"),
        "201": ("201", "201", 68.0, "male"),
        "202": ("201", "202", None, "male"),
    }
    labels = [one.labels for one in tree.metas.values()]
    assert labels == [{"medication": "Aldomet, Inderal"}, {"medication": "Digoxin, Hydrochlorthiazide"}, {}]
    assert tree.events("100") == [
        (0.0, None, "rhythm:N", "(N"),
        (2 / 360, None, "wfdb:N", None),
        (5 / 360, None, "wfdb:V", None),
    ]
    assert tree.channels("100") == [("MLII", "ecg"), ("V5", "ecg")]
    assert tree.side_files == {".atr": 1, ".hea": 1, ".dat": 1}  # 102-0.atr and x_mitdb


@of("cinc2017")
def test_cinc2017(tree) -> None:
    found = {name: one.labels for name, one in tree.metas.items()}
    folder = "training/A00"
    assert found == {
        f"{folder}/A00001": {"rhythm": "normal"},
        f"{folder}/A00002": {"rhythm": "noisy"},
        f"{folder}/A00003": {},
    }
    assert set(tree.people().values()) == {(None, *UNKNOWN)}
    assert "table_row_missing" in tree.metas[f"{folder}/A00003"].flags
    assert tree.metas[f"{folder}/A00001"].acquisition.device_maker == "AliveCor"
    assert tree.channels(f"{folder}/A00001") == [("ECG", "ecg")]


@of("cinc2020")
def test_cinc2020(tree) -> None:
    assert tree.people() == {
        "training/cpsc_2018/g1/A0001": (None, None, 74.0, "male"),
        "training/georgia/g1/E00001": (None, None, 53.0, "female"),
        "training/ptb-xl/g1/HR00001": (None, None, 90.0, "male"),
        "training/st_petersburg_incart/g1/I0001": (None, None, None, "female"),
    }
    metas = list(tree.metas.values())
    assert [one.acquisition.site for one in metas] == ["cpsc2018", "georgia", "ptb-xl", "incart"]
    assert metas[3].labels == {"dx": ("164865005", "426783006")}
    assert tree.channels("training/georgia/g1/E00001") == [(lead, "ecg") for lead in LEADS]


@of("cpsc2018")
def test_cpsc2018(tree) -> None:
    assert tree.people() == {
        "training/cpsc_2018/g1/A0001": (None, None, 74.0, "male"),
        "training/cpsc_2018/g1/A0002": (None, None, 90.0, "female"),
        "training/cpsc_2018/g2/A1549": (None, None, None, "male"),
    }
    assert [one.labels for one in tree.metas.values()] == [
        {"dx": ("59118001",), "class": ("rbbb",)},
        {"dx": ("164889003", "164931005"), "class": ("af", "ste")},
        {"dx": ("426783006",), "class": ("normal",)},
    ]


@of("mimic-iv-ecg")
def test_mimic_iv_ecg(tree) -> None:
    folder = "files/p1000/p10000032"
    assert tree.people() == {
        f"{folder}/s40689238/40689238": ("10000032", "40689238", None, None),
        f"{folder}/s44458630/44458630": ("10000032", "44458630", None, None),
        "files/p1000/p10000117/s45800000/45800000": ("10000117", "45800000", None, None),
    }
    first, second, third = tree.metas.values()
    assert [one.start_s for one in (first, second, third)] == [0.0, 70 * 60.0, 0.0]
    assert [one.acquisition.device_id for one in (first, second, third)] == ["6848296", "6848296", None]
    assert first.text == {"machine_report_0": "Sinus rhythm", "machine_report_1": "Normal ECG"}
    assert (second.text, third.text) == ({"machine_report_0": "Sinus rhythm"}, {})
    assert first.labels == {"bandwidth": "0.005-150 Hz", "filtering": "60 Hz notch"}
    assert third.flags == ("table_row_missing",)


@of("chapman-shaoxing")
def test_chapman_shaoxing(tree) -> None:
    assert tree.people() == {
        "WFDBRecords/01/010/JS00001": ("JS00001", None, 85.0, "male"),
        "WFDBRecords/01/010/JS10646": ("JS10646", None, 90.0, "female"),
        "WFDBRecords/46/460/JS45551": ("JS45551", None, None, None),
    }
    metas = list(tree.metas.values())
    assert [one.acquisition.site for one in metas] == ["shaoxing", "shaoxing", "ningbo"]
    assert metas[0].labels == {"dx": ("164889003", "59118001"), "condition": ("Atrial Fibrillation",)}
    assert metas[2].labels == {"dx": ("426177001", "123"), "condition": ("Sinus Bradycardia",)}


@of("dicom")
def test_dicom(tree) -> None:
    metas = sorted(tree.metas.values(), key=lambda one: one.demographics.age_years or 0)
    assert [one.demographics.age_years for one in metas] == [45.0, 90.0]
    assert [one.demographics.sex for one in metas] == [None, "female"]
    assert [one.acquisition.body_part for one in metas] == ["CHEST", "CHEST"]  # of the description, of its own tag
    assert [one.labels for one in metas] == [{"pixels": "derived"}, {"pixels": "original"}]
    names = ("MRN-4711-PLANTED", "T-0001")  # the trial's name goes before the hospital's
    assert [one.subject for one in metas] == [f"sub-{KEY.digest('sub', 'dicom', name)}" for name in names]
    assert len({one.session for one in metas}) == 2
    assert len({one.acquisition.site for one in metas}) == 2
    stored = "".join(one.model_dump_json() for one in metas)
    assert not any(text in stored for text in ("T-0001", "S7", "week 12", "Planted", "PLANTED", "Thorax", "native,"))


def real(name: str, into: Path, files: dict[str, str]) -> Path:
    """Real files in the layout of their data set."""
    for source, target in files.items():
        (into / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / source, into / target)
    return into


@needs_data
def test_a_real_record_of_ptb(tmp_path) -> None:
    files = {f"wfdb/s0010_re.{end}": f"ptbdb/patient001/s0010_re.{end}" for end in ("hea", "dat", "xyz")}
    found = convert(real("ptb", tmp_path, files) / "ptbdb", tmp_path / "s", "ptb")
    assert found.people() == {"patient001/s0010_re": ("001", "s0010_re", 81.0, "female")}
    (meta,) = found.metas.values()
    assert meta.labels == {
        "diagnosis": "Myocardial infarction",
        "acute_infarction": "infero-latera",
        "former_infarction": "no",
        "additional_diagnoses": "Diabetes mellitus",
        "smoker": False,
    }
    assert (meta.start_s, meta.duration_s, meta.flags) == (0.0, 38.4, ())
    assert found.channels("patient001/s0010_re") == [(name, "ecg") for name in (*LEADS, "VX", "VY", "VZ")]


@needs_data
def test_a_real_record_of_mitdb(tmp_path) -> None:
    files = {f"wfdb/100.{end}": f"mitdb/100.{end}" for end in ("hea", "dat", "atr")}
    found = convert(real("mitdb", tmp_path, files) / "mitdb", tmp_path / "s", "mitdb")
    assert found.people() == {"100": ("100", "100", 69.0, "male")}
    assert found.metas["100"].labels == {"medication": "Aldomet, Inderal"}
    judge = wfdb.rdann(str(DATA / "wfdb/100"), "atr")
    events = found.events("100")
    assert [round(onset * 360) for onset, *_ in events] == judge.sample.tolist()
    words = ["rhythm:N" if note.startswith("(N") else f"wfdb:{symbol}" for note, symbol in
             zip(judge.aux_note, judge.symbol, strict=True)]  # fmt: skip
    assert [label for _, _, label, _ in events] == words


@needs_data
def test_a_real_recording_of_eegmmidb(tmp_path) -> None:
    files = {"edf/eegbci/S001R02.edf": "eegmmidb/S001/S001R02.edf"}
    found = convert(real("eegmmidb", tmp_path, files) / "eegmmidb", tmp_path / "s", "eegmmidb")
    assert found.people() == {"S001/S001R02.edf": ("S001", "02", None, None)}
    (meta,) = found.metas.values()
    assert (meta.labels, meta.duration_s) == ({"task": "eyes_closed"}, 61.0)
    assert {kind for _, kind in found.channels("S001/S001R02.edf")} == {"eeg"}
    assert len(found.channels("S001/S001R02.edf")) == 64
    assert {label for _, _, label, _ in found.events("S001/S001R02.edf")} == {"task_rest"}
