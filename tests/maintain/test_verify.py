"""Verify: each kind of damage is named, changed sources are told apart, and pure comparisons are right."""

import json
import os
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

import harmonize as hz
from harmonize.ingest.identify import Policy
from harmonize.ingest.pool import process_pool
from harmonize.ingest.recipes import load_recipe
from harmonize.maintain import verify
from harmonize.maintain.compare import differences, first_difference
from harmonize.maintain.findings import CODES
from harmonize.maintain.reading import Planes, Samples
from harmonize.store import geometry
from harmonize.store.sharded import ShardedArray
from maintain.cohort import KEY, convert, recipe, write_cohort
from stores import noise, recording, stream, write_image, write_signals

POLICY = Policy(*load_recipe(recipe(), None, Path()), KEY)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Small chunks and shards, so that a part has several of each."""
    base = tmp_path_factory.mktemp("made")
    folder, root = write_cohort(base / "in"), base / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "CHUNK_BYTES", 1000)
        patch.setattr(geometry, "SHARD_BYTES", 4000)
        convert(folder, root)
    return folder, root


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "in")


@pytest.fixture
def store(made, tmp_path):
    return hz.open(shutil.copytree(made[1], tmp_path / "s.zarr"))


def codes(report):
    return {(one.code, one.recording_id) for one in report.findings}


def stream_at(store, number=0):
    """A stream of 100 Hz, in order of its place."""
    rows = store.streams.filter(rate_num=100).sort("row")
    return rows.row(number, named=True)


def shards(store, part):
    return sorted(
        (store.path / part / "samples" / "c").rglob("*"), key=lambda one: [int(p) for p in one.parts if p.isdigit()]
    )


def shard_of(store, row, sample=0):
    """The shard file that holds a sample of a stream, found by zarr's own rule for keys."""
    meta = json.loads((store.path / row["part"] / "samples" / "zarr.json").read_bytes())
    size = meta["chunk_grid"]["configuration"]["chunk_shape"][1]
    return store.path / row["part"] / "samples" / "c" / "0" / str((row["start"] + sample) // size)


def test_a_whole_store_has_nothing_wrong_and_every_recording_is_compared(store, folder) -> None:
    report = verify(store, [folder], POLICY)
    assert (report.findings, report.changed) == ([], [])
    assert (report.recordings, report.compared, report.unhashed, report.unknown) == (12, 12, 0, 0)


def test_processes_find_the_same(store, folder) -> None:
    shard_of(store, stream_at(store)).unlink()
    with process_pool(1) as pool:
        report = verify(store, [folder], POLICY, pool)
    assert codes(report) == codes(verify(store, [folder], POLICY))
    assert report.compared == 12


def test_a_flipped_byte_of_a_chunk_is_named(store) -> None:
    row = stream_at(store, 1)
    shard = shard_of(store, row)
    data = bytearray(shard.read_bytes())
    # The chunk with the stream's first sample, by the index at the shard's end (sharding codec 1.0).
    meta = json.loads((store.path / row["part"] / "samples" / "zarr.json").read_bytes())
    chunk = meta["codecs"][0]["configuration"]["chunk_shape"][1]
    per_shard = meta["chunk_grid"]["configuration"]["chunk_shape"][1] // chunk
    number = row["start"] // chunk % per_shard
    start, size = struct.unpack_from("<QQ", data, len(data) - 4 - 16 * per_shard + 16 * number)
    data[start + size // 2] ^= 0x10
    shard.write_bytes(bytes(data))
    report = verify(store)
    assert codes(report) in (
        {("different_samples", row["recording_id"])},
        {("corrupt_chunk", row["recording_id"])},
    )
    assert all(one.where == f"{row['part']} stream {row['stream']}" for one in report.findings)


def test_a_flipped_byte_of_a_shard_s_index_is_named(store) -> None:
    row = stream_at(store, 2)
    shard = shard_of(store, row, 100)
    data = bytearray(shard.read_bytes())
    data[-10] ^= 1
    shard.write_bytes(bytes(data))
    (finding,) = verify(store).findings
    assert (finding.code, finding.recording_id) == ("corrupt_chunk", row["recording_id"])
    assert "index of shard" in finding.message


def test_a_missing_shard_is_named_for_each_recording_in_it(store) -> None:
    row = stream_at(store, 3)
    shard_of(store, row, 1999).unlink()
    found = codes(verify(store))
    assert ("missing_chunk", row["recording_id"]) in found
    assert {code for code, _ in found} == {"missing_chunk"}


def test_a_missing_part_is_named(store) -> None:
    row = stream_at(store)
    shutil.rmtree(store.path / row["part"])
    people = store.streams.filter(part=row["part"])["recording_id"]
    assert codes(verify(store)) == {("missing_part", name) for name in people}


def test_two_rows_that_were_swapped_are_named(store) -> None:
    one, other = stream_at(store, 0), stream_at(store, 1)
    places = {a["recording_id"]: b for a, b in ((one, other), (other, one))}
    rows = [
        row
        | (
            {key: places[row["recording_id"]][key] for key in ("row", "start")}
            if row["rate_num"] == 100 and row["recording_id"] in places
            else {}
        )
        for row in store.streams.iter_rows(named=True)
    ]
    _replace(store, "streams", rows)
    report = verify(hz.open(store.path))
    for row in (one, other):
        assert ("wrong_place", row["recording_id"]) in codes(report)
        assert ("different_samples", row["recording_id"]) in codes(report)
    assert {name for _, name in codes(report)} == {one["recording_id"], other["recording_id"]}


def _replace(store, table, rows):
    frame = pl.DataFrame(rows, schema=getattr(store, table).schema, orient="row")
    write_deltalake(str(store.path / "catalog" / table), frame, mode="overwrite")


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("streams", "scale", [2.0, 2.0], "streams differs from the document in scale"),
        ("recordings", "subject", "sub-0", "recordings differs from the document in subject"),
    ],
)
def test_a_row_that_says_something_else_than_the_document_is_named(store, table, column, value, said) -> None:
    name = stream_at(store)["recording_id"]
    rows = [
        row | ({column: value} if row["recording_id"] == name and row.get("rate_num", 100) == 100 else {})
        for row in getattr(store, table).iter_rows(named=True)
    ]
    _replace(store, table, rows)
    report = verify(hz.open(store.path))
    assert codes(report) == {("wrong_row", name)}
    assert {one.message for one in report.findings} == {said}


def test_rows_that_are_missing_are_named(store) -> None:
    name = stream_at(store)["recording_id"]
    _replace(
        store,
        "streams",
        [r for r in store.streams.iter_rows(named=True) if (r["recording_id"], r["rate_num"]) != (name, 100)],
    )
    labels = [row for row in store.label_rows.iter_rows(named=True) if row["recording_id"] != name]
    write_deltalake(
        str(store.path / "catalog/labels"), pl.DataFrame(labels, schema=store.label_rows.schema), mode="overwrite"
    )
    report = verify(hz.open(store.path))
    assert codes(report) == {("missing_rows", name), ("wrong_row", name)}


def test_documents_that_cannot_be_read_are_named(store) -> None:
    row = stream_at(store)
    chunk = next(one for one in (store.path / row["part"] / "recording" / "c").rglob("*") if one.is_file())
    chunk.unlink()  # zarr reads what is absent as empty texts
    assert ("unreadable_document", row["recording_id"]) in codes(verify(store))


def test_damage_to_an_image_is_named(store) -> None:
    image = store.recordings.drop_nulls("image").row(0, named=True)
    file = store.path / image["image"] / "zarr.json"
    meta = json.loads(file.read_bytes())
    meta["attributes"]["harmonize"]["affine_ijk_to_ras_mm"][0][3] += 1
    file.write_text(json.dumps(meta))
    shard = next(one for one in (store.path / image["image"] / "0/c").rglob("*") if one.is_file())
    data = bytearray(shard.read_bytes())
    data[40] ^= 0xFF
    shard.write_bytes(bytes(data))
    found = verify(store).findings
    assert {one.recording_id for one in found} == {image["recording_id"]}
    assert {one.code for one in found} <= {"wrong_row", "different_samples", "corrupt_chunk"}
    assert len(found) == 2


def test_a_sample_that_differs_from_the_source_is_named_by_channel_and_number(store, folder, monkeypatch) -> None:
    """As if the converter had read another value when the store was written; hashes then agree with the store."""
    from harmonize_converters.contract import Block
    from harmonize_converters.edf import EdfConverter

    original = EdfConverter.read

    def other(self, source, description, block_bytes):
        for block in original(self, source, description, block_bytes):
            samples = block.samples.copy()
            if (
                description.streams[block.stream].rate_hz == 100
                and block.start <= 1234 < block.start + samples.shape[1]
            ):
                samples[1, 1234 - block.start] ^= 1
            yield Block(block.stream, block.start, samples)

    monkeypatch.setattr(EdfConverter, "read", other)
    report = verify(store, [folder], POLICY)
    assert {one.code for one in report.findings} == {"source_samples"}
    assert {one.message for one in report.findings} == {"channel 1 (C4), sample 1234 is the first that differs"}
    assert len(report.findings) == 4


def test_a_voxel_a_header_and_an_event_that_differ_are_named(store, folder, monkeypatch) -> None:
    from dataclasses import replace

    from harmonize_converters.contract import Block
    from harmonize_converters.edf import EdfConverter
    from harmonize_converters.nifti import NiftiConverter

    read, describe, events = NiftiConverter.read, NiftiConverter.describe, EdfConverter.annotations

    def other_read(self, source, description, block_bytes):
        for block in read(self, source, description, block_bytes):
            samples = block.samples.copy()
            if block.start <= 4 < block.start + len(samples):
                samples[4 - block.start, 2, 3] += 1
            yield Block(None, block.start, samples)

    def other_describe(self, source):
        found = describe(self, source)
        image = found.description.image
        moved = (*image.affine[:2], (*image.affine[2][:3], image.affine[2][3] + 0.5), image.affine[3])
        changed = image.model_copy(update={"affine": moved})
        return replace(found, description=replace(found.description, image=changed))

    def said():
        return {(one.code, one.message) for one in verify(store, [folder], POLICY).findings}

    with monkeypatch.context() as patch:
        patch.setattr(NiftiConverter, "read", other_read)
        assert said() == {("source_samples", "plane 4, y 2, x 3 is the first that differs")}
    with monkeypatch.context() as patch:
        patch.setattr(EdfConverter, "annotations", lambda *a: (one.at(one.onset_s + 1) for one in events(*a)))
        assert said() == {("source_events", "1 of 1 events differ")}
    monkeypatch.setattr(NiftiConverter, "describe", other_describe)
    assert said() == {
        ("source_description", "image.affine[2][3]: 0.0, now 0.5"),
        ("source_fails", "the source cannot be read: source_changed"),  # the converter's own check of its header
    }


def test_changed_sources_are_changed_and_not_wrong(store, folder) -> None:
    data = bytearray((folder / "anna" / "eeg.edf").read_bytes())
    data[-1] ^= 1
    (folder / "anna" / "eeg.edf").write_bytes(bytes(data))
    (folder / "bert" / "eeg.edf").write_bytes(b"0" * 700)
    os.utime(folder / "cora" / "eeg.edf")  # touched, not changed: compared
    (folder / "dora" / "eeg.edf").unlink()  # checked by hash
    report = verify(store, [folder], POLICY)
    assert report.ok
    assert sorted(one.message for one in report.changed) == [
        "files changed since they were converted: signal",
        "the source cannot be converted any more: format_mismatch",
    ]
    assert report.compared == 10


def test_another_recipe_makes_differences_changes(store, folder) -> None:
    other = Policy(recipe().model_copy(update={"labels": {}}), "0" * 64, KEY)
    report = verify(store, [folder], other)
    assert report.ok
    assert len(report.changed) == 12
    assert "converted with another recipe: labels.diagnosis" in report.changed[0].message


def test_stores_without_hashes_are_decoded_and_say_so(tmp_path) -> None:
    from harmonize_schemas import Image

    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(500)]), noise((2, 500)))])
    image = Image(
        axes=("y", "x"), shape=(4, 5), dtype="int16", affine=None, affine_source="unknown", spacing_mm=None, spacing_source="unknown"
    )  # fmt: skip
    write_image(tmp_path / "s.zarr", recording("i", image=image), noise((1, 4, 5)))
    report = verify(hz.open(tmp_path / "s.zarr"))
    assert (report.findings, report.unhashed) == ([], 2)


def test_an_older_version_is_verified_as_it_was(store) -> None:
    assert verify(hz.open(store.path, version=0)).recordings == 0


def test_every_code_of_a_finding_is_explained() -> None:
    folder = Path(hz.__file__).parent / "maintain"
    text = "".join(file.read_text() for file in folder.glob("verify*.py"))
    assert all(f'"{code}"' in text for code in CODES)


@given(st.integers(0, 59), st.sampled_from(["int16", "float64", "uint8"]))
def test_the_first_difference_is_found_wherever_it_is(at, dtype) -> None:
    one = np.arange(60, dtype=dtype).reshape(3, 20)
    other = one.copy()
    assert first_difference(one, other) is None
    other.reshape(-1)[at] += 1
    other[2, 19] += 2
    assert first_difference(one, other) == divmod(at, 20)


def test_bits_are_compared_and_not_values() -> None:
    nan = np.array([[np.nan, 0.0]], np.float32)
    assert first_difference(nan, nan.copy()) is None
    assert first_difference(nan, np.array([[np.nan, -0.0]], np.float32)) == (0, 1)


def test_differences_name_the_place() -> None:
    one = {"a": [{"x": 1.0}, {"x": 2.0}], "b": None, "c": float("nan")}
    assert list(differences(one, json.loads(json.dumps(one)))) == []
    assert list(differences(one, {"a": [{"x": 1.0}, {"x": 3.0}], "b": "t", "c": float("nan")})) == [
        "a[1].x: 2.0, now 3.0",
        "b: None, now 't'",
    ]
    assert list(differences(one, {**one, "a": []})) == ["a: 2 entries, now 0"]


@pytest.mark.parametrize("slab_bytes", [1, 200, 10**9])
@pytest.mark.parametrize("shape", [(4, 5), (7, 4, 5), (3, 7, 4, 5)])
def test_planes_come_in_order_whatever_the_slabs(tmp_path, shape, slab_bytes, monkeypatch) -> None:
    from harmonize_schemas import Image

    monkeypatch.setattr(geometry, "IMAGE_CHUNK", 2)
    image = Image(
        axes=("t", "z", "y", "x")[-len(shape) :], shape=shape, dtype="int16", affine=None, affine_source="unknown",
        spacing_mm=None, spacing_source="unknown",
    )  # fmt: skip
    values = noise((int(np.prod(shape[:-2])), 4, 5))
    write_image(tmp_path / "s.zarr", recording("i", image=image), values)
    (group,) = (tmp_path / "s.zarr").glob("images/*/image")
    planes = Planes(ShardedArray(group / "0"), slab_bytes)
    np.testing.assert_array_equal(np.concatenate(list(planes.slabs())), values)
    for start in range(0, len(values), 2):
        np.testing.assert_array_equal(planes.read(start, min(start + 3, len(values))), values[start : start + 3])


def test_samples_come_in_order_and_never_from_outside(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(geometry, "CHUNK_BYTES", 100)
    values = noise((2, 333))
    write_signals(tmp_path / "s.zarr", [(recording("a", [stream(333)]), values)])
    (part,) = (tmp_path / "s.zarr").glob("signals/*/part*")
    samples = Samples(ShardedArray(part / "samples"))
    np.testing.assert_array_equal(np.concatenate(list(samples.blocks(10, 300)), axis=1), values[:, 10:300])
    with pytest.raises(IndexError):
        list(samples.blocks(0, 334))


def test_memory_does_not_grow_with_a_recording(tmp_path) -> None:
    n = 6_000_000
    write_signals(
        tmp_path / "s.zarr", [(recording("a", [stream(n, names=[f"c{i}" for i in range(8)])]), noise((8, n)))]
    )
    store = hz.open(tmp_path / "s.zarr")
    tracemalloc.start()
    assert verify(store).findings == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6 < 96e6
