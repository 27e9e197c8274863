"""BIDS images: PET, and sidecars, b-values and b-vectors by inheritance; trees written by hand with nibabel in the
documented layout (mne-bids writes neither)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import harmonize as hz
from converters.conformance import find
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.recipes import read_recipe, shipped_recipes
from harmonize_converters.contract import SourceFiles
from harmonize_converters.nifti import NiftiConverter
from harmonize_schemas import Recording

KEY = ProjectKey(bytes(32))
RECIPE = read_recipe(shipped_recipes()["bids"])
AFFINE = np.array([[0, -2.0, 0, 10], [2.0, 0, 0, 20], [0, 0, 3.0, 30], [0, 0, 0, 1]])
"""i runs to +y, j to -x, k to +z; the determinant is positive."""
PET = {
    "Manufacturer": "Siemens", "ManufacturersModelName": "HRRT", "TracerName": "CIMBI-36", "TracerRadionuclide": "C11",
    "TimeZero": "10:15:14", "ScanStart": 0, "InjectionStart": 0, "Units": "Bq/mL", "ImageDecayCorrected": True,
}  # fmt: skip


def save(file: Path, shape: tuple[int, ...], step: float = 1.0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), AFFINE)
    image.header.set_slope_inter(2.5, 0)
    image.header.set_zooms((2, 2, 3, step)[: len(shape)])
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, file)
    return file


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Dynamic PET with growing frames (01), with equal ones (02), and one frame (03); a sidecar on top for all."""
    root = tmp_path_factory.mktemp("bids") / "study"
    write(root / "dataset_description.json", {"Name": "PET", "BIDSVersion": "1.10.0"})
    write(root / "participants.tsv",
          "participant_id\tage\tsex\thandedness\tweight\nsub-01\t31\tF\tR\t60000\nsub-02\t45.5\tmale\tleft\tn/a\n"
          "sub-03\t89+\tn/a\tn/a\t81000\n")  # fmt: skip
    write(root / "participants.json", {"weight": {"Description": "body weight", "Units": "g"}})
    write(root / "pet.json", PET)
    for subject, shape, starts, durations in (
        ("01", (4, 3, 2, 4), [0, 10, 30, 90], [10, 20, 60, 300]),
        ("02", (4, 3, 2, 3), [0, 60, 120], [60, 60, 60]),
        ("03", (4, 3, 2), [2400], [1200]),
    ):
        stem = f"sub-{subject}/ses-base/pet/sub-{subject}_ses-base_pet"
        save(root / f"{stem}.nii.gz", shape)
        write(root / f"{stem}.json", {"FrameTimesStart": starts, "FrameDuration": durations})
        write(root / f"sub-{subject}/ses-base/pet/sub-{subject}_ses-base_recording-manual_blood.tsv", "time\n0\n")
    return root


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory) -> hz.Store:
    into = tmp_path_factory.mktemp("store") / "s"
    outcome = hz.convert(tree, into, recipe=RECIPE.model_copy(update={"dataset": "study", "privacy": "keep"}), key=KEY)
    assert outcome.failures == []
    return hz.open(into)


def of(store: hz.Store, subject: str) -> Recording:
    (name,) = store.recordings.filter(subject=subject)["recording_id"]
    return store[name].meta


def test_pet_who_and_where(tree, store) -> None:
    with (tree / "participants.tsv").open() as opened:
        people = {row["participant_id"]: row for row in csv.DictReader(opened, delimiter="\t")}
    assert len(store.recordings) == len(people) == 3
    for subject, age, sex, hand, weight in (
        ("01", 31.0, "female", "right", 60.0),
        ("02", 45.5, "male", "left", None),
        ("03", 90.0, None, None, 81.0),
    ):
        found = of(store, subject)
        who = found.demographics
        assert (found.modality, found.session) == ("pt", "base")
        assert (who.age_years, who.sex, who.handedness, who.weight_kg) == (age, sex, hand, weight)
        assert who.age_pooled == (people[f"sub-{subject}"]["age"] == "89+")
        assert (found.acquisition.device_maker, found.acquisition.device_model) == ("Siemens", "HRRT")


def test_pet_values_have_the_unit_of_the_inherited_sidecar(tree, store) -> None:
    assert json.loads((tree / "pet.json").read_text())["Units"] == "Bq/mL"
    for subject in ("01", "02", "03"):
        found = of(store, subject)
        assert found.image.unit == "Bq/ml"
        judge = nibabel.load(next(tree.glob(f"sub-{subject}/**/*.nii.gz")))
        np.testing.assert_allclose(store[found.recording_id].image.read(), judge.get_fdata(), rtol=1e-6)


def test_pet_frames_that_grow_have_no_time_step(tree, store) -> None:
    """The header says 1 s, as headers must say something; the sidecar says when each frame began."""
    assert nibabel.load(next(tree.glob("sub-01/**/*.nii.gz"))).header["pixdim"][4] == 1.0
    assert of(store, "01").image.time_step_s is None
    assert of(store, "02").image.time_step_s == 60.0
    assert of(store, "03").image.time_step_s is None, "one frame has none"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, 2.0),
        ({"RepetitionTime": 3}, 2.0),
        ({"VolumeTiming": [0, 3, 6]}, 3.0),
        ({"VolumeTiming": [0, 3, 7]}, None),
        ({"FrameTimesStart": [0, 5]}, None),
        ({"FrameTimesStart": "often"}, None),
        ({"FrameTimesStart": [0, 5, True]}, None),
        ({"FrameTimesStart": [5, 5, 5]}, None),
        ({"FrameTimesStart": [10, 5, 0]}, None),
    ],
)
def test_time_steps_that_cannot_be_are_left_out(tmp_path, said, expected) -> None:
    save(tmp_path / "a.nii", (4, 3, 2, 3), step=2.0)
    write(tmp_path / "a.json", said)
    assert described(tmp_path)["a.nii"].image.time_step_s == expected


def sources(root: Path) -> dict[str, SourceFiles]:
    files = find(root)
    siblings = {file.key: file for file in files}
    images = [file for file in files if file.path.name.endswith((".nii", ".nii.gz"))]
    return {one.primary.path.name: one for one in NiftiConverter().group(images, siblings)}


def described(root: Path) -> dict[str, object]:
    return {name: NiftiConverter().describe(one).description for name, one in sources(root).items()}


def test_b_values_and_vectors_are_inherited(tmp_path) -> None:
    """On top for all, of a task-less "acq" for some, beside one: the nearest that applies counts, as a whole."""
    root = tmp_path / "study"
    write(root / "dataset_description.json", {})
    for name in ("sub-01/dwi/sub-01_dwi", "sub-01/dwi/sub-01_acq-b3_dwi", "sub-02/ses-a/dwi/sub-02_ses-a_dwi"):
        save(root / f"{name}.nii.gz", (4, 3, 2, 3))
    save(root / "sub-01/anat/sub-01_T1w.nii.gz", (4, 3, 2))
    write(root / "dwi.bval", "0 1000 1000\n")
    write(root / "dwi.bvec", "0 1 0\n0 0 0.6\n0 0 0.8\n")
    write(root / "acq-b3_dwi.bval", "0 3000 3000\n")
    write(root / "sub-02/ses-a/dwi/sub-02_ses-a_dwi.bval", "0 700 0\n")
    write(root / "sub-02/sub-02_dwi.bvec", "0 0 0\n0 1 0\n0 0 0\n")
    found = {name: one.image for name, one in described(tmp_path).items()}
    assert {name: one.b_values_s_mm2 for name, one in found.items()} == {
        "sub-01_dwi.nii.gz": (0, 1000, 1000),
        "sub-01_acq-b3_dwi.nii.gz": (0, 3000, 3000),
        "sub-02_ses-a_dwi.nii.gz": (0, 700, 0),
        "sub-01_T1w.nii.gz": None,
    }
    # FSL: the determinant is positive, so x counts against i; i runs to +y, j to -x, k to +z.
    # (1, 0, 0) -> -i = (0, -1, 0); (0, .6, .8) -> .6 j + .8 k = (-.6, 0, .8); (0, 1, 0) -> j = (-1, 0, 0)
    top = ((0, 0, 0), (0, -1, 0), (-0.6, 0, 0.8))
    for name, expected in (
        ("sub-01_dwi.nii.gz", top),
        ("sub-01_acq-b3_dwi.nii.gz", top),
        ("sub-02_ses-a_dwi.nii.gz", ((0, 0, 0), (-1, 0, 0), (0, 0, 0))),
    ):
        np.testing.assert_allclose(found[name].b_vectors_ras, expected, atol=1e-12)
    assert found["sub-01_T1w.nii.gz"].b_vectors_ras is None


def test_sidecars_are_inherited_value_by_value(tmp_path) -> None:
    root = tmp_path / "study"
    write(root / "dataset_description.json", {})
    save(root / "sub-01/func/sub-01_task-rest_bold.nii.gz", (4, 3, 2, 3), step=2.0)
    write(root / "task-rest_bold.json", {"EchoTime": 0.03, "FlipAngle": 70, "Manufacturer": "GE"})
    write(root / "task-nback_bold.json", {"EchoTime": 0.9})
    write(root / "sub-01/func/sub-01_task-rest_bold.json", {"FlipAngle": 80})
    (one,) = sources(tmp_path).values()
    assert one.roles == ("image", "sidecar", "sidecar")
    found = NiftiConverter().describe(one).description.acquisition
    assert (found.echo_time_s, found.flip_angle_deg, found.device_maker) == (0.03, 80.0, "GE")


def test_outside_of_a_bids_data_set_only_the_own_stem_counts(tmp_path) -> None:
    """A "dwi.bval" in a folder above is not known to be about an image below it."""
    save(tmp_path / "x/sub-01/dwi/sub-01_dwi.nii.gz", (4, 3, 2, 3))
    write(tmp_path / "x/dwi.bval", "0 1 2\n")
    write(tmp_path / "x/sub-01/dwi/sub-01_dwi.bvec", "0 1 0\n0 0 1\n0 0 0\n")
    (one,) = sources(tmp_path).values()
    assert one.roles == ("image", "bvec")


def test_a_data_set_inside_another_inherits_nothing_from_it(tmp_path) -> None:
    write(tmp_path / "x/dataset_description.json", {})
    write(tmp_path / "x/dwi.bval", "0 1 2\n")
    write(tmp_path / "x/derivatives/p/dataset_description.json", {})
    save(tmp_path / "x/derivatives/p/sub-01/dwi/sub-01_dwi.nii.gz", (4, 3, 2, 3))
    (one,) = sources(tmp_path).values()
    assert one.roles == ("image",)


def test_a_wrong_number_of_inherited_b_values_is_refused(tmp_path) -> None:
    root = tmp_path / "study"
    write(root / "dataset_description.json", {})
    save(root / "sub-01/dwi/sub-01_dwi.nii.gz", (4, 3, 2, 3))
    write(root / "dwi.bval", "0 1000\n")
    recipe = RECIPE.model_copy(update={"dataset": "study"})
    outcome = hz.convert(root, tmp_path / "s", recipe=recipe, key=KEY)
    assert [row["code"] for row in outcome.failures] == ["corrupt"]
    write(root / "dwi.bval", "0 1000 1000\n")
    again = hz.convert(root, tmp_path / "s", recipe=recipe, key=KEY)
    assert (again.converted, again.failures) == (1, [])
    write(root / "dwi.bval", "0 1000 2000\n")
    assert hz.convert(root, tmp_path / "s", recipe=recipe, key=KEY).converted == 1, "what it inherits has changed"
    opened = hz.open(tmp_path / "s")
    (name,) = opened.recordings["recording_id"]
    assert opened[name].meta.image.b_values_s_mm2 == (0, 1000, 2000)
