"""The page that compares us with other readers of DICOM is current, and the comparison itself would see a mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from converters.dicom_files import stored_planes, write_series
from docs_pages import DOCS, page_module
from judging import dicom_explanations, dicom_judges, dicom_model, dicom_ours, dicom_results
from judging.dicom_copies import NEAR
from judging.dicom_model import Finding, Reading, Signals, Volume, compare
from judging.dicom_results import Result, copy_results, explained, pydicom_results, series_results, syntax_results
from realdata import needs_data


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    return page_module("dicom")


# --- real files -------------------------------------------------------------------------------------


@needs_data
def test_the_page_of_dicom_is_current(docs: ModuleType) -> None:
    """Also that every difference on it has an explanation: ``page`` raises otherwise."""
    assert (DOCS / "dicom.md").read_text("utf-8") == docs.page(), "run: python docs/dicom.py"


@needs_data
def test_i02_every_series_that_we_convert_has_the_voxels_and_places_of_the_judges() -> None:
    read = [result for result in series_results() if not result.codes]
    assert read
    for result in read:
        wrong = {(judge, one.aspect) for judge, one in result.differences}
        assert {aspect for _, aspect in wrong} <= {"geometry"}, result.name
        # Those that the page explains: no step is known, and a header that rounds to 0.001 mm.
        assert not wrong or result.name in ("ge/anatomical/001_single_slice", "ge/dti/002")


def test_i06_every_file_of_pydicom_that_we_convert_has_its_pixels() -> None:
    read = [result for result in pydicom_results() if not result.codes]
    assert read
    assert [result.name for result in read if result.differences] == []


@needs_data
def test_i09_each_lossless_transfer_syntax_gives_the_same_voxels() -> None:
    for result in syntax_results():
        lossy = "`lossy_compression`" in result.ours
        assert bool(result.differences) == lossy, (result.name, result.what)
        if lossy:  # what pydicom decodes, and flagged
            assert [one.text for one in result.findings["pydicom, encoded"] if one.aspect == "values"] == [
                "values equal"
            ]


@needs_data
def test_i09_near_lossless_stays_within_its_bound() -> None:
    (result,) = [r for r in syntax_results() if "Near" in r.what and r.name == dicom_results.REENCODED[0]]
    (text,) = [one.text for _, one in result.differences]
    assert float(text.rpartition(" ")[2]) <= NEAR


@needs_data
def test_i03_no_copy_gives_another_volume_without_a_word() -> None:
    """A series spread over folders is known not to be one yet; all others are the series, or refused."""
    wrong = {(result.name, result.what) for result in copy_results() if result.differences}
    assert {what for _, what in wrong} <= {"in two folders"}


# --- the explanations -------------------------------------------------------------------------------


def test_every_difference_needs_an_explanation() -> None:
    new = Result("series", "new/001", "", "1 volume", (), {"dcm2niix": [Finding("values", True, "values differ")]})
    with pytest.raises(ValueError, match=r"without an explanation.*new/001"):
        explained([new])
    agreed = replace(new, findings={"dcm2niix": [Finding("values", False, "values equal")]})
    assert explained([agreed]) == {}


def test_explanations_of_refusals_are_for_one_code() -> None:
    refused = Result("pydicom", "new.dcm", "", "refused", ("corrupt",), {"pydicom": [Finding("file", True, "")]})
    with pytest.raises(ValueError, match="without an explanation"):
        explained([refused])
    assert all(one.code or one.whats for one in dicom_explanations.EXPLANATIONS if one.aspects == ("file",))


@needs_data
def test_every_explanation_of_a_named_series_is_needed() -> None:
    used = dicom_results.used([*series_results(), *pydicom_results()])
    assert [one.title for one in dicom_explanations.EXPLANATIONS if one.names and one not in used] == []


# --- the comparison sees mistakes -------------------------------------------------------------------


@pytest.fixture
def volume() -> Volume:
    """Oblique, with a different size on each axis."""
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.5, 0.75, 2.5), (10, -20, 30)
    return Volume(np.random.default_rng(0).normal(size=(4, 5, 6)), affine, "RAS")


def wrong(a: Volume, b: Volume) -> set[str]:
    return {one.aspect for one in compare(Reading((a,)), Reading((b,))) if one.differs}


def flipped(volume: Volume, axes: str) -> Volume:
    """The same volume with its axes stored in another order and direction."""
    assert volume.affine is not None
    turns = nib.orientations.axcodes2ornt(tuple(axes))
    turns = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(tuple(volume.orientation)), turns)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(turns, volume.values.shape[:3])
    return Volume(nib.apply_orientation(volume.values, turns), affine, axes)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL", "IRP"])
def test_i02_the_same_volume_stored_otherwise_is_the_same(volume: Volume, axes: str) -> None:
    found = compare(Reading((volume,)), Reading((flipped(volume, axes),)))
    assert [one.text for one in found] == [found[0].text, "values equal", "corners 0.0000 mm"]


def test_i02_a_mirrored_volume_is_seen(volume: Volume) -> None:
    assert wrong(volume, replace(volume, values=volume.values[::-1])) == {"values"}
    other = flipped(volume, "LPS")
    assert "values" in wrong(volume, replace(other, values=other.values[:, ::-1]))


def test_i08_colours_in_another_order_are_seen(volume: Volume) -> None:
    colours = replace(volume, values=np.random.default_rng(1).normal(size=(4, 5, 6, 3)))
    assert wrong(colours, flipped(colours, "LPS")) == set()
    assert wrong(colours, replace(colours, values=colours.values[..., ::-1])) == {"values"}
    assert wrong(colours, volume) == {"volumes"}


def test_one_wrong_voxel_shift_or_spacing_is_seen(volume: Volume) -> None:
    values = volume.values.copy()
    values[3, 4, 5] += 1e-3
    assert wrong(volume, replace(volume, values=values)) == {"values"}
    assert volume.affine is not None
    moved, wider = volume.affine.copy(), volume.affine.copy()
    moved[2, 3] += 0.002
    wider[:3, 2] *= 1.001
    assert wrong(volume, replace(volume, affine=moved)) == {"geometry"}
    assert wrong(volume, replace(volume, affine=wider)) == {"geometry"}
    assert wrong(volume, replace(volume, affine=None)) == set()  # we say more than the judge
    assert wrong(replace(volume, affine=None), volume) == {"geometry"}


def test_i13_a_missing_volume_or_b_value_is_seen(volume: Volume) -> None:
    later = replace(volume, values=volume.values + 1)
    assert dicom_model.compare(Reading((later, volume)), Reading((volume, later)))[1].text == "values equal"
    assert [one.aspect for one in compare(Reading((volume,)), Reading((volume, later))) if one.differs] == ["volumes"]
    assert wrong(replace(volume, b_value=0.0), replace(volume, b_value=1000.0)) == {"b-values"}


def test_i14_another_sample_rate_or_channel_of_a_waveform_is_seen(volume: Volume) -> None:
    values = np.random.default_rng(2).normal(size=(3, 50))
    signals = Signals(values, 500.0)

    def wrong_of(other: Signals) -> list[str]:
        found = compare(Reading(signals=(signals,)), Reading(signals=(other,)))
        return [one.aspect for one in found if one.differs]

    assert wrong_of(replace(signals, values=values.copy())) == []
    assert wrong_of(replace(signals, values=values[::-1])) == ["values"]
    assert wrong_of(replace(signals, rate_hz=250.0)) == wrong_of(replace(signals, values=values[:2])) == ["volumes"]
    assert [one.differs for one in compare(Reading(signals=(signals,)), Reading((volume,)))] == [True]
    assert [one.differs for one in compare(Reading(), Reading(signals=(signals,)))] == [True]


def test_refusals(volume: Volume) -> None:
    no = Reading((), "conflicting_slices")
    assert [one.differs for one in compare(no, no)] == [False]
    assert [one.differs for one in compare(no, Reading((volume,)))] == [True]
    assert [one.differs for one in compare(Reading((volume,)), no)] == [True]


def test_i02_the_formula_of_the_standard_is_its_own_judge(tmp_path: Path) -> None:
    """``stacked`` shares nothing with the converter and gives the same of a series written by hand."""
    folder = write_series(tmp_path / "a", stored_planes(5))
    mine = dicom_ours.folder(folder)
    assert [one.text for one in compare(mine.reading, dicom_judges.stacked(folder))] == [
        "1 volume of 5 × 6 × 5",
        "values equal",
        "corners 0.0000 mm",
    ]
