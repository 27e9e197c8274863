"""Raw FIF against MNE, which also writes the files (FIDELITY S12)."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pytest

from converters.conformance import ConverterConformance, Outcome, code_of_refusal, convert, only_source, sources_in
from harmonize_converters.contract import ConversionError, SourceFiles
from harmonize_converters.fif import FifConverter
from realdata import needs_data, real_files

CONVERTER = FifConverter()
NAMES = ["MEG 0113", "MEG 0111", "EEG 001", "EOG 061", "ECG 063", "STI 014"]
KINDS = ["grad", "mag", "eeg", "eog", "ecg", "stim"]
SIZES = np.array([[1e-11], [1e-12], [1e-5], [1e-4], [1e-3], [1]])
DATE = datetime(2011, 12, 13, 14, 15, 16, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """MNE, as writer and judge, warns of names and of what these small recordings lack."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def raw_meg(n: int = 900, first_samp: int = 0, rate_hz: float = 300.0) -> mne.io.RawArray:
    """Six channels, one of each kind; the trigger holds whole numbers."""
    rng = np.random.default_rng(8)
    data = rng.normal(0, 1, (6, n)) * SIZES
    data[5] = rng.integers(0, 256, n)
    raw = mne.io.RawArray(data, mne.create_info(NAMES, rate_hz, KINDS), first_samp=first_samp, verbose="error")
    raw.set_montage(
        mne.channels.make_dig_montage(
            {"EEG 001": [0.01, 0.02, 0.09]}, nasion=[0, 0.1, 0], lpa=[-0.08, 0, 0], rpa=[0.08, 0, 0]
        )
    )
    raw.info["bads"] = ["MEG 0111"]
    raw.info["line_freq"] = 60
    raw.info["experimenter"] = "Dr Ratched"
    raw.info["description"] = "moved while reading"
    raw.info["subject_info"] = {
        "his_id": "MRN-4711",
        "last_name": "Doe",
        "birthday": date(1980, 5, 17),
        "sex": 2,
        "hand": 1,
        "height": 1.7,
        "weight": 65.0,
    }
    raw.info["device_info"] = {"type": "VectorView", "model": "Neuromag 306", "serial": "SN-0815", "site": "Ward9"}
    raw.set_meas_date(DATE)
    return raw


def save(raw: mne.io.BaseRaw, folder: Path, name: str = "a_raw.fif", **options) -> Path:
    folder.mkdir(exist_ok=True)
    raw.save(folder / name, verbose="error", overwrite=True, **options)
    return folder


def by_mne(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw_fif(path, allow_maxshield="yes", verbose="error")


SI = {"fT": 1e-15, "fT/cm": 1e-13, "µV": 1e-6, "mV": 1e-3, "V": 1.0, None: 1.0}


def values(outcome: Outcome) -> np.ndarray:
    """Samples in SI units, (channel, time), for comparison with MNE."""
    (stream,) = outcome.description.streams
    scales = [[c.scale * SI[c.unit]] for c in stream.channels]
    return outcome.arrays[0].astype(np.float64) * np.array(scales)


def equal_mne(outcome: Outcome, raw: mne.io.BaseRaw) -> None:
    np.testing.assert_allclose(values(outcome), raw.get_data(), rtol=1e-12, atol=0)


class TestFif(ConverterConformance):
    converter = CONVERTER
    planted = ("Ratched", "moved while", "MRN-4711", "Doe", "SN-0815", "Ward9", "asked for water")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        raw = raw_meg()
        raw.set_annotations(mne.Annotations([0.5], [0.25], ["asked for water"]))
        save(raw, tmp_path / "one", fmt="single", buffer_size_sec=1.0)
        save(raw_meg(200), tmp_path / "two", fmt="int", buffer_size_sec=0.1)
        return [only_source(CONVERTER, tmp_path / "one"), only_source(CONVERTER, tmp_path / "two")]

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        return only_source(CONVERTER, save(raw_meg(150_000), tmp_path / "large", buffer_size_sec=200.0))

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        """MNE's values over MNE's calibration are the stored numbers, up to rounding: rounded back."""
        raw = by_mne(source.primary.path)
        cals = np.array([[c["cal"] * c["range"]] for c in raw.info["chs"]])
        return (
            [(raw.get_data() / cals).astype(np.float32)]
            if raw.orig_format == "single"
            else [np.rint(raw.get_data() / cals).astype(np.int32)]
        )


@pytest.mark.parametrize(
    ("fmt", "dtype"), [("short", "int16"), ("int", "int32"), ("single", "float32"), ("double", "float64")]
)
def test_native_samples_and_one_scale_equal_mne(tmp_path, fmt, dtype) -> None:
    folder = save(raw_meg(), tmp_path / "s", fmt=fmt)
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    (stream,) = outcome.description.streams
    assert stream.dtype == dtype
    assert stream.rate_hz == Fraction(300)
    equal_mne(outcome, by_mne(folder / "a_raw.fif"))


def test_si_units_become_canonical_once(tmp_path) -> None:
    """1e-13 T/m is 1 fT/cm, 1e-15 T is 1 fT, 1e-6 V is 1 µV, 1e-3 V is 1 mV; a trigger is a number."""
    raw = mne.io.RawArray(
        np.array([[1e-13], [1e-15], [1e-6], [1e-6], [1e-3], [7.0]]).repeat(50, 1),
        mne.create_info(NAMES, 300.0, KINDS),
        verbose="error",
    )
    outcome = convert(CONVERTER, only_source(CONVERTER, save(raw, tmp_path / "s", fmt="double")))
    (stream,) = outcome.description.streams
    assert [(c.type, c.unit) for c in stream.channels] == [
        ("meg_grad", "fT/cm"),
        ("meg_mag", "fT"),
        ("eeg", "µV"),
        ("eog", "µV"),
        ("ecg", "mV"),
        ("trigger", None),
    ]
    found = [row[0] * c.scale + c.offset for c, row in zip(stream.channels, outcome.arrays[0], strict=True)]
    assert found == pytest.approx([1, 1, 1, 1, 1, 7])
    assert outcome.description.modality == "meg"


def test_what_the_measurement_info_says(tmp_path) -> None:
    described = CONVERTER.describe(only_source(CONVERTER, save(raw_meg(), tmp_path / "s")))
    description, identity = described.description, described.identity
    (stream,) = description.streams
    assert [c.status for c in stream.channels] == [None, "bad", None, None, None, None]
    assert stream.channels[2].position == pytest.approx((10.0, 20.0, 90.0))
    assert [c.position for c in stream.channels if c.type != "eeg"] == [None] * 5
    assert description.acquisition.line_frequency_hz == 60
    assert description.acquisition.device_model == "Neuromag 306"
    who = description.demographics
    assert (who.age_years, who.sex, who.handedness) == (31.0, "female", "right")
    assert (who.height_cm, who.weight_kg) == (pytest.approx(170.0), pytest.approx(65.0))
    assert (identity.subject, identity.site, identity.device_id) == ("MRN-4711", "Ward9", "SN-0815")
    assert identity.start == datetime(2011, 12, 13, 14, 15, 16)
    assert described.header == {"experimenter": "Dr Ratched", "description": "moved while reading"}


@pytest.mark.parametrize("dated", [True, False])
def test_annotations_count_from_the_first_sample(tmp_path, dated) -> None:
    """600 samples of 300 Hz before the first one stored are 2 s."""
    raw = raw_meg(first_samp=600)
    raw.set_meas_date(DATE if dated else None)
    raw.set_annotations(
        mne.Annotations([1.0, 0.5], [0.0, 0.25], ["b", "a"], ch_names=[["EEG 001"], []])
    )  # without orig_time: from the first sample on
    folder = save(raw, tmp_path / "s")
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    assert [(a.onset_s, a.duration_s, a.text, a.channel) for a in outcome.annotations] == [
        (pytest.approx(0.5), 0.25, "a", None),
        (pytest.approx(1.0), 0.0, "b", 2),
    ]
    assert outcome.described.identity.start == (datetime(2011, 12, 13, 14, 15, 18) if dated else None)


def test_gaps_are_segments(tmp_path) -> None:
    """MNE skips what is annotated so when it writes; it reads zeros there, we read nothing."""
    raw = raw_meg(1500)
    raw.set_annotations(mne.Annotations([1.0], [2.0], ["BAD_ACQ_SKIP"]))
    folder = save(raw, tmp_path / "s", buffer_size_sec=1.0)
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    (stream,) = outcome.description.streams
    assert [(s.start, s.n_samples, s.onset_s) for s in stream.segments] == [(0, 300, 0.0), (300, 600, 3.0)]
    assert outcome.description.duration_s == 5.0
    assert outcome.annotations == []
    theirs = by_mne(folder / "a_raw.fif").get_data()
    kept = np.concatenate([theirs[:, :300], theirs[:, 900:]], axis=1)
    np.testing.assert_allclose(values(outcome), kept, rtol=1e-12, atol=0)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return save(raw_meg(150_000), tmp_path / "split", split_size="2MB", buffer_size_sec=10.0)


def test_split_files_are_one_recording(split) -> None:
    source = only_source(CONVERTER, split)
    assert [f.path.name for f in source.files] == ["a_raw.fif", "a_raw-1.fif", "a_raw-2.fif", "a_raw-3.fif"]
    outcome = convert(CONVERTER, source)
    assert len(outcome.description.streams[0].segments) == 1
    equal_mne(outcome, by_mne(split / "a_raw.fif"))


@pytest.mark.parametrize("gone", ["a_raw.fif", "a_raw-1.fif", "a_raw-3.fif"])
def test_a_missing_part_is_refused(split, gone) -> None:
    (split / gone).unlink()
    for source in sources_in(CONVERTER, split):
        with pytest.raises(ConversionError, match="missing_file"):
            CONVERTER.describe(source)


def test_a_follower_outside_the_folder_is_refused(split) -> None:
    file = split / "a_raw.fif"
    file.write_bytes(file.read_bytes().replace(b"a_raw-1.fif", b"../raw1.fif"))
    (first,) = [s for s in sources_in(CONVERTER, split) if s.primary.path == file]
    with pytest.raises(ConversionError, match="path_escape"):
        CONVERTER.describe(first)


def test_a_link_out_of_the_folder_is_refused(split) -> None:
    os.replace(split / "a_raw-3.fif", split.parent / "elsewhere")
    (split / "a_raw-3.fif").symlink_to(split.parent / "elsewhere")
    assert code_of_refusal(CONVERTER, split) == "path_escape"


def test_files_that_claim_each_other_lose_none(split) -> None:
    """The third file is made to name the second as the one that goes on, and the first is gone."""
    (split / "a_raw.fif").unlink()
    file = split / "a_raw-2.fif"
    file.write_bytes(file.read_bytes().replace(b"a_raw-3.fif", b"a_raw-1.fif"))
    sources = sources_in(CONVERTER, split)
    assert sorted(f.path.name for s in sources for f in s.files) == sorted(p.name for p in split.iterdir())
    for source in sources:
        with pytest.raises(ConversionError, match="missing_file"):
            CONVERTER.describe(source)


def test_projections_are_named_and_not_applied(tmp_path) -> None:
    raw = raw_meg()
    vector = {"nrow": 1, "ncol": 2, "row_names": None, "col_names": ["MEG 0113", "MEG 0111"], "data": np.eye(2)[:1]}
    raw.add_proj(mne.Projection(data=vector, active=False, kind=1, desc="PCA", explained_var=None))
    folder = save(raw, tmp_path / "s")
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    assert {"projections_stored"} == {f for f in outcome.description.flags if f.startswith("proj")}
    equal_mne(outcome, by_mne(folder / "a_raw.fif"))
    folder = save(raw.copy().apply_proj(verbose="error"), tmp_path / "t")
    assert "projections_applied" in convert(CONVERTER, only_source(CONVERTER, folder)).description.flags


def test_maxshield_is_named(tmp_path) -> None:
    """The block of raw data (102) becomes one of MaxShield data (119), at its start and its end."""
    folder = save(raw_meg(), tmp_path / "s")
    file = folder / "a_raw.fif"
    blob = file.read_bytes()
    for kind in (104, 105):
        tag = struct.pack(">iiii", kind, 3, 4, 0)
        assert blob.count(tag + struct.pack(">i", 102)) == 1
        blob = blob.replace(tag + struct.pack(">i", 102), tag + struct.pack(">i", 119))
    file.write_bytes(blob)
    outcome = convert(CONVERTER, only_source(CONVERTER, folder))
    assert "maxshield" in outcome.description.flags
    equal_mne(outcome, by_mne(file))


def test_epochs_averages_and_annotations_are_refused_by_name(tmp_path) -> None:
    raw = raw_meg()
    epochs = mne.Epochs(raw, [[100, 0, 1], [400, 0, 1]], tmin=0, tmax=0.1, baseline=None, preload=True, verbose="error")
    for name in ("epochs", "average", "marks"):
        (tmp_path / name).mkdir()
    epochs.save(tmp_path / "epochs/a-epo.fif", verbose="error")
    epochs.average().save(tmp_path / "average/a-ave.fif", verbose="error")
    mne.Annotations([0.5], [0.1], ["x"]).save(tmp_path / "marks/a-annot.fif")
    assert code_of_refusal(CONVERTER, tmp_path / "epochs") == "not_raw"
    assert code_of_refusal(CONVERTER, tmp_path / "average") == "not_raw"
    assert code_of_refusal(CONVERTER, tmp_path / "marks") == "unsupported_annotation_only"


def test_complex_samples_are_refused(tmp_path) -> None:
    raw = mne.io.RawArray(np.full((1, 50), 1j), mne.create_info(["C3"], 100.0, "eeg"), verbose="error")
    assert code_of_refusal(CONVERTER, save(raw, tmp_path / "s")) == "unsupported_dtype"


@needs_data
@pytest.mark.parametrize("path", real_files("fif", ".fif"), ids=lambda path: path.name)
def test_real_files_equal_mne(path: Path) -> None:
    source = next(s for s in sources_in(CONVERTER, path.parent) if s.primary.path == path)
    if path.name.endswith("-annot.fif"):
        with pytest.raises(ConversionError, match="not_raw"):
            CONVERTER.describe(source)
        return
    outcome = convert(CONVERTER, source)
    raw = by_mne(path)
    (stream,) = outcome.description.streams
    assert [c.label for c in stream.channels] == raw.ch_names
    assert raw.compensation_grade == 3
    assert "compensated" in outcome.description.flags
    assert {c.unit for c in stream.channels if c.type.startswith("meg")} == {"fT"}
    kept = [i for i, c in enumerate(stream.channels) if c.type != "trigger"]
    np.testing.assert_allclose(values(outcome)[kept], raw.get_data()[kept], rtol=1e-12, atol=0)
