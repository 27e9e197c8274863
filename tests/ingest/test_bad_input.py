"""One bad source costs that source only; an interrupted run costs nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
from pydicom.data import get_testdata_file

import harmonize as hz
from converters.edf_bytes import annotations, edf_bytes
from harmonize.ingest import ProjectKey
from harmonize.ingest import write as write_module
from harmonize.report.demo_cohort import _ct, _ecg, _edf, write_cohort

KEY = ProjectKey(b"t" * 32)


@pytest.fixture
def folder(tmp_path):
    """Good files of four formats with one bad neighbour each, and an empty file."""
    root, rng = tmp_path / "in", np.random.default_rng(0)
    _edf(root / "good" / "eeg.edf", rng, ["C3", "C4"], 256, 10, "uV")
    raw = (root / "good/eeg.edf").read_bytes()
    header_bytes = 256 * (1 + int(raw[252:256]))
    (root / "cut.edf").write_bytes(raw[: header_bytes + 100])  # within the first data record: nothing is whole
    (root / "text.edf").write_text("This is not an EDF file.\n" * 40)
    (root / "empty.edf").write_bytes(b"")
    _ecg(root / "good-ecg", rng, 1000.0)
    _ecg(root / "bad-ecg", rng, 1000.0)
    (root / "bad-ecg/ecg.dat").unlink()
    _ct(root / "good-ct", rng, "M", "m", 1.5)
    _ct(root / "bad-ct", rng, "M", "m", 1.5)
    import pydicom

    for file in (root / "bad-ct").iterdir():
        if pydicom.dcmread(file).ImagePositionPatient[2] == 15.0:
            file.unlink()
    image = nibabel.Nifti1Image(np.arange(64**3, dtype=np.int16).reshape(64, 64, 64), np.eye(4))
    nibabel.save(image, root / "good.nii.gz")
    nibabel.save(image, root / "cut.nii.gz")
    whole = (root / "cut.nii.gz").read_bytes()
    (root / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    return root


def test_each_bad_source_is_one_row_and_the_rest_converts(folder, tmp_path) -> None:
    command = [
        sys.executable,
        "-m",
        "harmonize",
        "convert",
        str(folder),
        "--into",
        str(tmp_path / "s.zarr"),
        "--workers",
        "2",
    ]
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    store = hz.open(tmp_path / "s.zarr")
    assert sorted(store.failures["code"]) == sorted(
        ["empty_file", "format_mismatch", "truncated", "missing_file", "missing_slices", "truncated"]
    )
    assert store.failures["source"].n_unique() == 6
    assert store.failures["message"].str.len_chars().min() > 15
    assert len(store) == 4
    printed = done.stdout + done.stderr + store.failures.write_json()
    for secret in ("good", "bad-ecg", "cut", "text.edf", str(folder)):
        assert secret not in printed.replace("Interrupted", "")


def test_locate_turns_pseudonyms_back_into_paths(folder, tmp_path) -> None:
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    base = [sys.executable, "-m", "harmonize"]
    subprocess.run(
        [*base, "convert", str(folder), "--into", str(tmp_path / "s.zarr"), "--workers", "0"],
        env=environment,
        check=False,
        capture_output=True,
    )
    command = [*base, "ls", str(tmp_path / "s.zarr"), "--failures", "--locate", str(folder), "--json"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    for name in ("cut.edf", "text.edf", "empty.edf", "bad-ecg/ecg.hea", "cut.nii.gz"):
        assert str(folder / name) in done.stdout


def test_nothing_of_a_failed_source_stays_in_the_store(folder, tmp_path) -> None:
    outcome = hz.convert(folder, tmp_path / "s.zarr", key=KEY)
    store = hz.open(outcome.store)
    named = {*store.streams["part"], *store.recordings["image"].drop_nulls()}
    parts = [path for kind in ("signals/*/*", "images/*/*") for path in outcome.store.glob(f"{kind}/zarr.json")]
    assert {str(part.parent.relative_to(outcome.store)) for part in parts} == named


def test_s06_what_is_whole_of_a_cut_edf_is_converted_with_a_flag(folder, tmp_path) -> None:
    raw = (folder / "good/eeg.edf").read_bytes()
    (folder / "good/eeg.edf").write_bytes(raw[:-700])
    outcome = hz.convert(folder / "good", tmp_path / "s.zarr", key=KEY)
    (row,) = hz.open(outcome.store).recordings.iter_rows(named=True)
    assert (row["flags"], row["duration_s"]) == (["subject_unknown", "truncated"], 9.0)


def test_s03_recordings_of_events_alone_keep_their_documents(tmp_path) -> None:
    stages = annotations([b"+0\x14\x14\0+0\x15120\x14Sleep stage W\x14\0"])
    for name in ("a.edf", "b.edf"):
        data = edf_bytes([stages], n_records=1, record_s="0", reserved="EDF+C", patient=f"{name} F X X")
        (tmp_path / name).write_bytes(data)
    outcome = hz.convert(tmp_path / "a.edf", tmp_path / "s.zarr", dataset="nights", key=KEY)
    outcome = hz.convert(tmp_path / "b.edf", tmp_path / "s.zarr", dataset="nights", key=KEY)
    store = hz.open(outcome.store)
    for row in store.recordings.iter_rows(named=True):
        view = store[row["recording_id"]]
        assert (view.signals, view.image, view.meta.subject) == ({}, None, row["subject"])
    assert store.recordings["subject"].n_unique() == 2
    assert store.annotations.select("label", "duration_s").rows() == [("sleep_wake", 120.0)] * 2


def test_a_rerun_converts_only_what_is_new_or_changed(folder, tmp_path) -> None:
    first = hz.convert(folder, tmp_path / "s.zarr", key=KEY)
    again = hz.convert(folder, tmp_path / "s.zarr", key=KEY)
    assert (first.converted, again.converted, again.unchanged) == (4, 0, 4)
    assert len(again.failures) == 6
    shutil.copy(folder / "good/eeg.edf", folder / "cut.edf")
    time.sleep(0.01)
    os.utime(folder / "good/eeg.edf")
    third = hz.convert(folder, tmp_path / "s.zarr", key=KEY)
    assert (third.converted, third.unchanged, len(third.failures)) == (2, 3, 5)
    assert len(hz.open(tmp_path / "s.zarr")) == 5
    assert "truncated" in hz.open(tmp_path / "s.zarr").failures["code"].to_list(), "the NIfTI is still cut"


def test_another_folder_of_the_same_name_does_not_replace_a_recording(folder, tmp_path) -> None:
    hz.convert(folder / "good", tmp_path / "s.zarr", dataset="d", key=KEY)
    other = tmp_path / "elsewhere" / "good"
    _edf(other / "eeg.edf", np.random.default_rng(9), ["C3"], 128, 5, "uV")
    outcome = hz.convert(other, tmp_path / "s.zarr", dataset="d", key=KEY)
    assert [row["code"] for row in outcome.failures] == ["source_conflict"]
    moved = tmp_path / "moved" / "good"
    shutil.copytree(folder / "good", moved)
    assert hz.convert(moved, tmp_path / "s.zarr", dataset="d", key=KEY).unchanged == 1, "a moved folder is the same"


def test_a_source_that_changes_while_it_is_read_is_named(folder, tmp_path, monkeypatch) -> None:
    original = write_module._sha256

    def meddle(file):
        digest = original(file)
        os.utime(file.path)
        return digest

    monkeypatch.setattr(write_module, "_sha256", meddle)
    outcome = hz.convert(folder / "good", tmp_path / "s.zarr", key=KEY)
    assert [row["code"] for row in outcome.failures] == ["source_changed"]
    assert len(hz.open(tmp_path / "s.zarr")) == 0


def test_a_converter_that_breaks_costs_its_source_and_tells_nothing(folder, tmp_path, monkeypatch) -> None:
    from harmonize_converters.edf import EdfConverter

    def broken(*_):
        raise RuntimeError("patient Jane Doe")

    monkeypatch.setattr(EdfConverter, "describe", broken)
    outcome = hz.convert(folder / "good", tmp_path / "s.zarr", key=KEY)
    assert [row["code"] for row in outcome.failures] == ["internal_error"]
    assert "Jane" not in str(outcome.failures)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_leaves_the_store_as_it_was(folder, tmp_path, how) -> None:
    root = tmp_path / "s.zarr"
    hz.convert(folder / "good", root, dataset="d", key=KEY)
    before = hz.open(root)
    write_cohort(tmp_path / "cohort")
    # The commit never comes: the child stops right before it, all parts written.
    script = (
        "import signal, sys, time\n"
        "import harmonize as hz\n"
        "from harmonize.ingest import ProjectKey\n"
        "from harmonize.store import catalog\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs are deaf to it
        "def wait(*_):\n"
        "    print('written', flush=True)\n"
        "    for _ in range(600):\n"  # not one long sleep: a signal just before it would be seen after it
        "        time.sleep(0.1)\n"
        "catalog.commit = wait\n"
        f"hz.convert({str(tmp_path / 'cohort')!r}, {str(root)!r}, dataset='d', key=ProjectKey(b't' * 32))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(how)
    child.wait(60)
    child.stdout.close()
    after = hz.open(root)
    assert after.version == before.version
    assert after.recordings.equals(before.recordings)
    assert after[after.recordings["recording_id"][0]].signals
    assert hz.convert(tmp_path / "cohort", root, dataset="d", key=KEY).converted == 36, "the next run does it all"


def test_dicom_of_pydicoms_own_converts_beside_bad_neighbours(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "in" / "no-suffix")
    outcome = hz.convert(tmp_path / "in", tmp_path / "s.zarr", key=KEY)
    assert outcome.converted + len(outcome.failures) == 1


def test_workers_end_with_a_killed_parent(tmp_path) -> None:
    script = (
        "import os, time\n"
        "from harmonize.ingest.pool import process_pool\n"
        "if __name__ == '__main__':\n"
        "    with process_pool(2) as pool:\n"
        "        print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)\n"
        "        time.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]
