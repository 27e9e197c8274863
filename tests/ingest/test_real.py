"""Real recordings through the whole pipeline, against the formats' own libraries at test time."""

import csv
import json

import nibabel
import numpy as np
import polars as pl
import pyedflib
import pytest
import wfdb
import zarr
from scipy.signal import welch

import harmonize as hz
from harmonize.ingest import ProjectKey
from harmonize_schemas import Recipe
from realdata import DATA, needs_data

pytestmark = needs_data
KEY = ProjectKey(b"t" * 32)


def converted(tmp_path_factory, *sources, dataset, privacy="keep"):
    root = tmp_path_factory.mktemp("store") / "s.zarr"
    outcome = hz.convert(
        [DATA / one for one in sources], root, recipe=Recipe(dataset=dataset, privacy=privacy), key=KEY
    )
    assert outcome.failures == []
    return hz.open(root)


@pytest.fixture(scope="module")
def ptbxl(tmp_path_factory):
    return converted(tmp_path_factory, "ptb-xl", dataset="ptb-xl")


def test_all_of_ptb_xl_equals_wfdb_bit_for_bit(ptbxl) -> None:
    headers = sorted((DATA / "ptb-xl").rglob("*.hea"))
    assert len(ptbxl) == len(headers) == 397
    for header in headers:
        name = header.relative_to(DATA).with_suffix("").as_posix()
        reference = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
        view = ptbxl[name]
        (signal,) = view.signals.values()
        np.testing.assert_array_equal(signal.digital(), reference.d_signal.T)
        assert [c.label for c in signal.meta.channels] == reference.sig_name
        assert float(signal.meta.rate_hz) == reference.fs
        np.testing.assert_allclose(signal.read(), reference.dac().T, atol=1e-6)
        assert {c.unit for c in signal.meta.channels} == {"mV"}


def test_s11_statistics_of_ptb_xl_equal_numpy_on_what_wfdb_reads(ptbxl) -> None:
    rows = ptbxl.streams.sort("recording_id").gather_every(40)
    for row in rows.iter_rows(named=True):
        values = wfdb.rdrecord(str(DATA / row["recording_id"])).p_signal
        for name, expected in (
            ("mean", values.mean(0)),
            ("std", values.std(0)),
            ("min", values.min(0)),
            ("max", values.max(0)),
        ):
            np.testing.assert_allclose(row[name], expected, atol=1e-9)
        hertz, power = welch(values, row["rate_num"], "hann", row["rate_num"], 0, detrend="constant", axis=0)
        if row["rate_num"] == 500:
            share = power[np.abs(hertz - 50) <= 1].sum(0) / power[hertz >= 2].sum(0)
            np.testing.assert_allclose(row["line50_share"], share, rtol=1e-3, atol=1e-6)


def test_ptb_xl_pools_records_of_one_rate(ptbxl) -> None:
    assert ptbxl.streams["part"].n_unique() == 2, "500 Hz and 100 Hz records, one part each"


def test_zarr_alone_and_polars_alone_find_a_recording(ptbxl) -> None:
    catalog = ptbxl.path / "catalog"
    both = pl.scan_delta(str(catalog / "recordings")).join(
        pl.scan_delta(str(catalog / "streams")), on=["recording_id", "commit"]
    )
    name = "ptb-xl/records500/00000/00001_hr"
    row = both.filter(pl.col("recording_id") == name).collect().row(0, named=True)
    part = zarr.open_group(ptbxl.path, mode="r")[row["part"]]
    stop = row["start"] + part["row_size"][row["row"]].item()
    reference = wfdb.rdrecord(str(DATA / name), physical=False).d_signal.T
    np.testing.assert_array_equal(part["samples"][:, row["start"] : stop], reference)
    document = json.loads(part["recording"][row["row"]].item())
    assert document["recording_id"] == name
    assert document["streams"][0]["channels"][0]["scale"] == row["scale"][0] == 0.001


def test_pseudonyms_hide_where_a_record_lay(tmp_path_factory) -> None:
    store = converted(tmp_path_factory, "ptb-xl/records100", dataset="hidden", privacy="pseudonym")
    assert store.recordings["recording_id"].str.starts_with("hidden/rec-").all()
    with (DATA / "ptb-xl/ptbxl_database.csv").open() as table:
        names = [row["filename_lr"].rsplit("/", 1)[1] for row in csv.DictReader(table)]
    texts = [file.read_bytes() for file in store.path.rglob("*") if file.is_file()]
    texts += [store[name].meta.model_dump_json().encode() for name in store.recordings["recording_id"]]
    frames = (store.recordings, store.streams, store.annotations, store.failures)
    texts += [frame.write_json().encode() for frame in frames]
    assert not [name for name in [*names, "records100"] if any(name.encode() in text for text in texts)]


@pytest.mark.parametrize(
    "file", ["edf/eegbci/S001R02.edf", "edf/pyedflib/test_generator.edf", "edf/pyedflib/test_generator.bdf", "edf/mne/test.edf"]
)  # fmt: skip
def test_edf_and_bdf_equal_pyedflib(tmp_path_factory, file) -> None:
    store = converted(tmp_path_factory, file, dataset="edf")
    view = store[store.recordings["recording_id"][0]]
    seen = 0
    with pyedflib.EdfReader(str(DATA / file)) as reader:
        by_rate = {}
        for index in range(reader.signals_in_file):
            by_rate.setdefault(reader.getSampleFrequency(index), []).append(index)
        for signal in view.signals.values():
            indices = by_rate[float(signal.meta.rate_hz)]
            digital, values = signal.digital(), signal.read()
            assert [c.label for c in signal.meta.channels] == [reader.getLabel(index) for index in indices]
            for place, index in enumerate(indices):
                seen += 1
                np.testing.assert_array_equal(digital[place], reader.readSignal(index, digital=True))
                channel = signal.meta.channels[place]
                if (
                    channel.calibrated
                    and channel.unit == "µV"
                    and reader.getPhysicalDimension(index).strip() in ("uV", "µV")
                ):
                    expected = reader.readSignal(index)
                    # float32 values; pyedflib scales in double
                    np.testing.assert_allclose(values[place], expected, rtol=1e-5, atol=1e-3)
        assert seen == reader.signals_in_file
        onsets = reader.readAnnotations()[0]
    np.testing.assert_allclose(np.sort(store.annotations["onset_s"].to_numpy()), np.sort(onsets), atol=1e-6)


def test_mit_bih_100_has_its_2274_annotations(tmp_path_factory, tmp_path) -> None:
    for suffix in ("hea", "dat", "atr"):
        (tmp_path / f"100.{suffix}").write_bytes((DATA / f"wfdb/100.{suffix}").read_bytes())
    store = converted(tmp_path_factory, tmp_path, dataset="mitdb")
    reference, record = wfdb.rdann(str(DATA / "wfdb/100"), "atr"), wfdb.rdrecord(str(DATA / "wfdb/100"), physical=False)
    (signal,) = store[store.recordings["recording_id"][0]].signals.values()
    np.testing.assert_array_equal(signal.digital(), record.d_signal.T)
    assert len(store.annotations) == 2274
    np.testing.assert_allclose(store.annotations["onset_s"], reference.sample / reference.fs, rtol=1e-12)
    beats = [f"wfdb:{symbol}" for symbol in reference.symbol if symbol != "+"]
    assert [label for label in store.annotations["label"] if not label.startswith("rhythm")] == beats


def _canonical(image) -> tuple[np.ndarray, np.ndarray]:
    closest = nibabel.as_closest_canonical(image)
    return np.asarray(closest.dataobj, np.float32), closest.affine


SERIES = ["ge/anatomical/001", "ge/anatomical/001_implicit", "hitachi/anatomical/001", "generic/anatomical/001"]


@pytest.mark.parametrize("series", [one for one in SERIES if (DATA / "dicom" / one).is_dir()] or ["absent"])
def test_dicom_voxels_and_world_equal_the_nifti_beside_them(tmp_path_factory, series) -> None:
    """The NIfTI beside each series was made by an independent tool."""
    store = converted(tmp_path_factory, f"dicom/{series}", dataset="dicom")
    values, affine = _canonical(store[store.recordings["recording_id"][0]].to_nibabel())
    expected, world = _canonical(nibabel.load(DATA / "dicom" / f"{series}_ground_truth.nii.gz"))
    np.testing.assert_array_equal(values, expected)
    # Headers give positions to 1e-6 mm as text, and the NIfTI holds float32.
    np.testing.assert_allclose(affine, world, atol=1e-4)


@pytest.mark.parametrize("file", sorted(p.name for p in (DATA / "nifti").glob("*.nii*")) or ["absent"])
def test_nifti_equals_nibabel(tmp_path_factory, file) -> None:
    store = converted(tmp_path_factory, f"nifti/{file}", dataset="nifti")
    image = store[store.recordings["recording_id"][0]].image
    reference = nibabel.load(DATA / "nifti" / file)
    np.testing.assert_array_equal(image.affine, reference.affine)
    np.testing.assert_array_equal(image.digital(), np.asarray(reference.dataobj.get_unscaled()))
    np.testing.assert_allclose(image.read(), reference.get_fdata(), rtol=1e-6)


def test_interop_objects_hold_the_same_values(tmp_path_factory) -> None:
    store = converted(tmp_path_factory, "edf/eegbci/S001R02.edf", dataset="edf")
    view = store[store.recordings["recording_id"][0]]
    (signal,) = view.signals.values()
    raw = view.to_mne()
    assert raw.info["sfreq"] == 160.0
    np.testing.assert_allclose(raw.get_data() * 1e6, signal.read(), rtol=1e-6)
    array = view.to_xarray()
    assert array.dims == ("channel", "time")
    np.testing.assert_array_equal(array.values, signal.read())
    with pytest.raises(ValueError, match="no image"):
        view.to_nibabel()
