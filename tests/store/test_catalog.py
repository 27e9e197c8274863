"""One atomic commit, versions, and plain readers."""

import numpy as np
import polars as pl
import pytest
import zarr
from deltalake import write_deltalake

import harmonize as hz
from harmonize.store import catalog, create_store
from harmonize.store.catalog import Batch
from stores import noise, recording, stream, write_image, write_signals


def test_what_no_commit_names_does_not_exist(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write_signals(root, [(recording("a", [stream(50)]), noise((2, 50)))])
    ghost = catalog._frame("streams", [{"recording_id": "test/a", "part": "nowhere", "commit": "never"}])
    write_deltalake(str(root / "catalog/streams"), ghost, mode="append")
    store = hz.open(root)
    assert store.streams["part"].to_list() != ["nowhere"]
    assert len(store.streams) == 1
    assert store["test/a"].signals["eeg"].read().shape == (2, 50)


def test_every_commit_is_a_version_that_opens_again(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    write_signals(root, [(recording("a", [stream(50)]), noise((2, 50), seed=1))])
    old = hz.open(root)
    write_signals(
        root, [(recording("a", [stream(60)]), noise((2, 60), seed=2)), (recording("b", [stream(9)]), noise((2, 9)))]
    )
    assert len(hz.open(root)) == 2
    assert hz.open(root)["test/a"].signals["eeg"].shape == (2, 60)
    again = hz.open(root, version=old.version)
    np.testing.assert_array_equal(again["test/a"].signals["eeg"].digital(), noise((2, 50), seed=1))
    with pytest.raises(hz.StoreError, match="no version 99"):
        hz.open(root, version=99)
    with pytest.raises(KeyError):
        again["test/b"]


def test_a_failure_is_forgotten_when_its_source_converts(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    create_store(root, "key")
    catalog.commit(
        root,
        Batch(
            failures=[{"source": s, "dataset": "test", "code": c} for s, c in [("a", "truncated"), ("b", "corrupt")]]
        ),
    )
    assert hz.open(root).failures["code"].to_list() == ["truncated", "corrupt"]
    catalog.commit(root, Batch(failures=[{"source": "b", "dataset": "test", "code": "empty_file"}]))
    catalog.commit(root, Batch(failures=[{"source": "a", "dataset": "other", "code": "corrupt"}]))
    write_signals(root, [(recording("a", [stream(50)]), noise((2, 50)))])
    left = hz.open(root).failures.select("dataset", "source", "code").rows()
    assert sorted(left) == [("other", "a", "corrupt"), ("test", "b", "empty_file")]


def test_plain_polars_and_plain_zarr_find_a_recording(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    values = noise((2, 50))
    write_signals(
        root, [(recording("z", [stream(20)]), noise((2, 20), seed=5)), (recording("a", [stream(50)]), values)]
    )
    recordings = pl.scan_delta(str(root / "catalog/recordings"))
    streams = pl.scan_delta(str(root / "catalog/streams"))
    row = recordings.join(streams, on=["recording_id", "commit"]).filter(pl.col("recording_id") == "test/a").collect()
    part = zarr.open_group(root, mode="r")[row["part"][0]]
    start, n = row["start"][0], row["n_samples"][0]
    np.testing.assert_array_equal(part["samples"][:, start : start + n], values)
    physical = part["samples"][:, start : start + n] * np.array(row["scale"][0])[:, None]
    np.testing.assert_allclose(hz.open(root)["test/a"].signals["eeg"].read(), physical, rtol=1e-6)


def test_a_folder_that_is_no_store_is_refused(tmp_path) -> None:
    with pytest.raises(hz.StoreError, match="no store"):
        hz.open(tmp_path / "nothing")
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(hz.StoreError, match="not empty"):
        create_store(tmp_path, "key")
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(hz.StoreError, match="not a harmonize store"):
        hz.open(tmp_path / "other.zarr")
    with pytest.raises(hz.StoreError, match="begins with s3://, gs:// or az://, not with ftp:"):
        hz.open("ftp://bucket/store.zarr")


def test_another_key_is_refused_and_a_broken_creation_is_finished(tmp_path) -> None:
    root = tmp_path / "s.zarr"
    create_store(root, "key")
    with pytest.raises(hz.StoreError, match="made under the project key key, and this one is other"):
        create_store(root, "other")
    (root / "zarr.json").rename(root / "zarr.5f1d.partial")  # as a run killed while zarr writes leaves it
    create_store(root, "key")
    assert len(hz.open(root)) == 0


def test_image_views_read_boxes_in_affine_order(tmp_path) -> None:
    from harmonize_schemas import Image

    image = Image(
        axes=("t", "z", "y", "x"), shape=(2, 3, 4, 5), dtype="int16", affine=None, affine_source="unknown",
        spacing_mm=None, spacing_source="unknown", slopes=tuple(float(i + 1) for i in range(6)),
        intercepts=tuple(10.0 * i for i in range(6)), padding_value=-7,
    )  # fmt: skip
    planes = np.arange(120, dtype=np.int16).reshape(6, 4, 5)
    planes[0, 0, 0] = -7
    root = tmp_path / "s.zarr"
    write_image(root, recording("i", image=image), planes)
    view = hz.open(root)["test/i"].image
    assert view is not None
    assert view.shape == (5, 4, 3, 2)
    box = [slice(1, 4), slice(0, 2), slice(2, 3), slice(1, 2)]
    stored = planes.reshape(2, 3, 4, 5).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(view.digital(box), stored[1:4, 0:2, 2:3, 1:2])
    values = view.read(box)  # plane t=1, z=2 is number 5: slope 6, intercept 50
    np.testing.assert_array_equal(values, stored[1:4, 0:2, 2:3, 1:2] * 6 + 50)
    whole = view.read()
    assert np.isnan(whole[0, 0, 0, 0])
    assert np.isnan(whole).sum() == 1
    with pytest.raises(IndexError):
        view.digital([slice(0, 6)])
    with pytest.raises(IndexError):
        view.digital([slice(0, 4, 2)])
