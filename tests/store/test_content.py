"""Content hashes against XXH3-128 of bytes written out by hand."""

import hashlib

import numpy as np
import pytest
from xxhash import xxh3_128_hexdigest

import harmonize as hz
from harmonize.ingest import ProjectKey
from harmonize.report.demo_cohort import _edf, _t1
from harmonize.store.content import ChannelHashes, VoxelHash
from harmonize_schemas import Recipe
from stores import noise

KEY = ProjectKey(b"t" * 32)


def test_hash_is_that_of_the_published_specification() -> None:
    """XXH3-128 of nothing, as its authors give it (xxHash, doc/xxhash_spec.md)."""
    assert xxh3_128_hexdigest(b"") == "99aa06d3014798d86001c324468d497f"


def test_a_channel_s_hash_is_its_dtype_and_its_little_endian_bytes() -> None:
    hashes = ChannelHashes(2, "int16")
    hashes.update(np.array([[1, -2, 256], [0, 0, 0]], np.int16))
    one = xxh3_128_hexdigest(b"int16\n" + bytes([1, 0, 0xFE, 0xFF, 0, 1]))
    zero = xxh3_128_hexdigest(b"int16\n" + bytes(6))
    assert hashes.hexdigests() == [one, zero]


@pytest.mark.parametrize("cut", [1, 7, 99])
def test_neither_blocks_nor_memory_layout_nor_byte_order_matter(cut) -> None:
    samples = noise((3, 100))
    whole, pieces = ChannelHashes(3, "int16"), ChannelHashes(3, "int16")
    whole.update(samples)
    for block in np.split(samples, [cut], axis=1):
        pieces.update(np.asfortranarray(block).astype(">i2"))
    assert whole.hexdigests() == pieces.hexdigests()


def test_dtype_and_shape_count() -> None:
    a, b = ChannelHashes(1, "int16"), ChannelHashes(1, "uint16")
    for one in (a, b):
        one.update(np.ones((1, 4), np.int16))
    assert a.hexdigests() != b.hexdigests()
    flat, tall = VoxelHash((4, 2), "int16"), VoxelHash((2, 4), "int16")
    flat.update(np.ones((1, 4, 2), np.int16))
    tall.update(np.ones((1, 2, 4), np.int16))
    assert flat.hexdigest() == xxh3_128_hexdigest(b"int16 4x2\n" + b"\x01\x00" * 8) != tall.hexdigest()


def test_converting_fills_content_and_sources(tmp_path) -> None:
    folder = tmp_path / "in"
    _edf(folder / "a.edf", np.random.default_rng(0), ["C3", "C4"], 256, 10, "uV")
    _t1(folder / "mr" / "b.nii.gz", np.random.default_rng(0))
    hz.convert(folder, tmp_path / "s.zarr", recipe=Recipe(dataset="d", privacy="keep"), key=KEY)
    store = hz.open(tmp_path / "s.zarr")
    samples = store["d/a.edf"].signals["256hz"].digital()
    (content,) = store.streams["content"]
    assert content.to_list() == [xxh3_128_hexdigest(b"int16\n" + row.astype("<i2").tobytes()) for row in samples]
    image = store["d/mr/b.nii.gz"].image
    stored = image.digital().T
    said = f"{image.meta.dtype} {'x'.join(map(str, stored.shape))}\n".encode()
    expected = {
        "d/a.edf": None,
        "d/mr/b.nii.gz": xxh3_128_hexdigest(said + np.ascontiguousarray(stored).tobytes()),
    }
    assert dict(store.recordings.select("recording_id", "content").iter_rows()) == expected
    files = {(folder / name).read_bytes() for name in ("a.edf", "mr/b.nii.gz")}
    assert set(store.sources["sha256"]) == {hashlib.sha256(one).hexdigest() for one in files}
    assert store.sources["shared"].to_list() == [False, False]
