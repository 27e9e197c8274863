"""Miniature trees of data sets that come as bare arrays, wristband sessions and sound; as in ``trees``."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from converters.test_audio import wav_bytes
from converters.test_empatica import session

EXAMS = """exam_id,age,is_male,nn_predicted_age,1dAVb,RBBB,LBBB,SB,ST,AF,patient_id,death,timey,normal_ecg,trace_file
1169160,38,True,40.160484,False,False,False,False,False,False,523632,False,2.098628,True,exams_part0.hdf5
2873686,95,False,67.05944,True,False,False,True,False,False,1724173,True,6.65752,False,exams_part0.hdf5
168405,39,False,79.62174,False,False,False,False,False,True,523632,,,False,exams_part1.hdf5
"""


def tracing(lead: int, n: int, first: int) -> np.ndarray:
    """(32, 12): ``n`` samples counting up from ``first`` / 1000 mV behind ``lead`` zeros, zeros behind."""
    out = np.zeros((32, 12), "f4")
    out[lead : lead + n] = (first + np.arange(n * 12)).reshape(n, 12) / 1000
    return out


def code_15(root: Path) -> None:
    root.mkdir()
    (root / "exams.csv").write_text(EXAMS)
    for part, exams in enumerate([{1169160: (2, 28), 2873686: (6, 20), 0: (0, 0)}, {168405: (2, 28)}]):
        with h5py.File(root / f"exams_part{part}.hdf5", "w") as file:
            file["exam_id"] = np.array(list(exams), "i8")
            file["tracings"] = np.stack([tracing(*place, first=1) for place in exams.values()])


def wesad(root: Path) -> None:
    """Two s of chest and wrist; protocol 0 and Latin-1, as Python 2 wrote."""
    for subject in ("S2", "S10"):
        count = {name: np.arange(1400.0)[:, np.newaxis] for name in ("ECG", "EMG", "EDA", "Resp")}
        chest = count | {
            "ACC": np.tile(np.arange(1400.0)[:, np.newaxis] / 1000, 3),
            "Temp": np.full((1400, 1), 30.5, "f4"),
        }
        wrist = {
            "ACC": np.full((64, 3), 64.0),
            "BVP": np.arange(128.0)[:, np.newaxis],
            "EDA": np.arange(8.0)[:, np.newaxis] / 8,
            "TEMP": np.full((8, 1), 33.25),
        }
        label = np.repeat(np.array([0, 1, 0, 2, 7, 3, 4], "i4"), 200)
        (root / subject).mkdir(parents=True)
        data = {"subject": subject, "signal": {"chest": chest, "wrist": wrist}, "label": label}
        (root / subject / f"{subject}.pkl").write_bytes(pickle.dumps(data, 0))
        (root / subject / f"{subject}_quest.csv").write_text("# Subj;S2\n")
    session(root / "S2/S2_E4_Data")


def empatica(root: Path) -> None:
    session(root / "P01/1530695636_A01F11")
    session(
        root / "P01/1530699236_A01F11",
        ACC="",
        BVP="1530699236.00\n64.000000\n1.00\n",
        EDA="",
        TEMP="",
        HR="",
        IBI="",
        tags="",
    )
    session(root / "P02")


def esc_50(root: Path) -> None:
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for name, fold, target, category, esc10, source, take in [
        ("1-100032-A-0", 1, 0, "dog", True, 100032, "A"),
        ("1-100038-A-14", 1, 14, "chirping_birds", False, 100038, "A"),
        ("1-100038-B-14", 1, 14, "chirping_birds", False, 100038, "B"),
    ]:
        rows.append(f"{name}.wav,{fold},{target},{category},{esc10},{source},{take}")
        (root / f"audio/{name}.wav").write_bytes(wav_bytes(np.arange(10)[:, np.newaxis] * len(name) * fold, 16, 44100))
    (root / "meta/esc50.csv").write_text("\n".join(rows) + "\n")


ARRAY_TREES: dict[str, Callable[[Path], None]] = {
    "code-15": code_15,
    "wesad": wesad,
    "empatica": empatica,
    "esc-50": esc_50,
}
