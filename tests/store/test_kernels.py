"""The compiled loop beside its reference in numpy, bit by bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize.store import kernels

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
compiled = pytest.mark.skipif(not kernels.COMPILED, reason="harmonize.store._kernels was not compiled: no C compiler")
Convert = Callable[..., None]


@pytest.fixture(params=[pytest.param("compiled", marks=compiled), "reference"])
def convert(request: pytest.FixtureRequest) -> Convert:
    return kernels.reference if request.param == "reference" else kernels._kernels.convert


def any_numbers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30, shape)
        values[rng.random(shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf, -0.0])
        return values.astype(kind)
    info = np.iinfo(kind)
    values = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    values[rng.random(shape) < 0.1] = rng.choice(np.array([info.min, info.max], kind))
    return values


@st.composite
def views(draw: st.DrawFn, whole: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of that shape in an array that has twice as many places on each axis: steps of 1, 2, -1, any order."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
    found = whole.reshape([2 * shape[axis] for axis in order])
    found = found.transpose(np.argsort(order)) if shape else found
    return found[tuple(slice(None, None, step) for step in steps)][tuple(slice(0, n) for n in shape)]


@compiled
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), real=st.sampled_from([None, "float32", "float64"]))
def test_compiled_gives_the_bits_of_the_reference(data: st.DataObject, seed: int, real: str | None) -> None:
    rng = np.random.default_rng(seed)
    axes = data.draw(st.integers(1, 5))
    each = data.draw(st.booleans())
    first = data.draw(st.integers(0, 5))
    shapes = [
        (
            first if each else data.draw(st.integers(0, 5)),
            *data.draw(st.tuples(*[st.integers(0, 40 // axes)] * (axes - 1))),
        )
        for _ in range(data.draw(st.integers(0, 4)))
    ]
    sources, ours, theirs = [], [], []
    for shape in shapes:
        size = 2**axes * int(np.prod(shape))
        numbers = any_numbers(rng, data.draw(st.sampled_from(DTYPES)), (size,))
        named = numbers.astype(numbers.dtype.newbyteorder("<"))  # as a store's: it says which order, though it is ours
        sources.append(data.draw(views(data.draw(st.sampled_from([numbers, named])), shape)))
        mine = np.full(size, 7, np.float32)
        drawn = data.draw(views(np.arange(size), shape))  # the same view of both
        other = mine.copy()
        for flat, into in ((mine, ours), (other, theirs)):
            steps = [step // 8 * 4 for step in drawn.strides]
            into.append(np.ndarray(shape, np.float32, flat, 4 * int(drawn.flat[0]) if drawn.size else 0, steps))
    terms = (len(shapes), first if each else 1)
    scale = None if real is None else rng.standard_normal(terms).astype(real)
    offset = None if real is None or data.draw(st.booleans()) else (1e3 * rng.standard_normal(terms)).astype(real)
    with np.errstate(all="ignore"):
        kernels.reference(theirs, sources, scale, offset)
    kernels._kernels.convert(ours, sources, scale, offset)
    for one, other in zip(ours, theirs, strict=True):
        nan = np.isnan(other)  # which NaN it is differs between processors
        assert (np.isnan(one) == nan).all()
        assert one[~nan].tobytes() == other[~nan].tobytes()


def test_by_hand(convert: Convert) -> None:
    stored = np.array([[1, -2, 3], [4, 5, -6]], np.int16)
    out = np.full((2, 4), 9, np.float32)
    convert([out[:, 1:]], [stored], np.array([[0.5, 2]], np.float32), np.array([[1, -1]], np.float32))
    assert out.tolist() == [[9, 1.5, 0, 2.5], [9, 7, 9, -13]]
    convert([out[:, :3]], [stored[:, ::-1]], None, None)
    assert out.tolist() == [[3, -2, 1, 2.5], [-6, 5, 4, -13]]
    # 2**24 + 1 has no place in float32: where it were rounded before the end, nothing would be left here.
    wide = np.array([[2**24 + 1]], np.int32)
    convert([out[:1, :1]], [wide], np.array([[2.0**-23]], np.float64), np.array([[-2.0]], np.float64))
    assert out[0, 0] == np.float32(2.0**-23)


def test_sources_may_lie_at_any_byte_and_be_read_only(convert: Convert) -> None:
    raw = b"\0" + np.arange(100, dtype="<i2").tobytes()
    source = np.frombuffer(raw, "<i2", offset=1, count=100)
    assert not source.flags.aligned
    out = np.empty(100, np.float32)
    convert([out], [source], np.full((1, 1), 2, np.float32), None)
    assert (out == 2 * np.arange(100)).all()


TWO = np.zeros((2, 3), np.int16)
OUT = np.zeros((2, 3), np.float32)


@compiled
@pytest.mark.parametrize(
    ("targets", "sources", "scale", "offset", "error"),
    [
        ([OUT], [], None, None, ValueError),
        ([OUT], [TWO[:, :2]], None, None, ValueError),
        ([OUT], [TWO[0]], None, None, ValueError),
        ([np.zeros((), np.float32)], [np.zeros((), np.int16)], None, None, ValueError),
        ([np.zeros([1] * 9, np.float32)], [np.zeros([1] * 9, np.int16)], None, None, ValueError),
        ([OUT.astype(float)], [TWO], None, None, TypeError),
        ([OUT], [TWO.astype(">i2")], None, None, TypeError),
        ([OUT], [TWO.astype(complex)], None, None, TypeError),
        ([OUT], [TWO.astype(np.float16)], None, None, TypeError),
        ([OUT], ["words"], None, None, TypeError),
        ([OUT], [TWO], np.ones((1, 1), int), None, TypeError),
        ([OUT], [TWO], np.ones(1, np.float32), None, ValueError),
        ([OUT], [TWO], np.ones((2, 1), np.float32), None, ValueError),
        ([OUT], [TWO], np.ones((1, 3), np.float32), None, ValueError),
        ([OUT], [TWO], np.ones((1, 4), np.float32)[:, ::2], None, ValueError),
        ([OUT], [TWO], np.ones((1, 1), np.float32), np.ones((1, 1)), TypeError),
        ([OUT], [TWO], np.ones((1, 1), np.float32), np.ones((1, 2), np.float32), ValueError),
        ([OUT], [TWO], None, np.ones((1, 1), np.float32), ValueError),
        ((OUT,), [TWO], None, None, TypeError),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(
    targets: list[np.ndarray], sources: list[np.ndarray], scale: np.ndarray | None, offset: np.ndarray | None,
    error: type[Exception],
) -> None:  # fmt: skip
    good, one = np.zeros((2, 3), np.float32), np.ones((2, 3), np.int16)
    if isinstance(targets, list):
        targets, sources = [good, *targets], [one, *sources]
        scale, offset = (
            np.concatenate([term[:1], term]) if isinstance(term, np.ndarray) and term.flags.c_contiguous else term
            for term in (scale, offset)
        )
    with pytest.raises(error):
        kernels._kernels.convert(targets, sources, scale, offset)
    assert not good.any()


@compiled
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["int8", "uint8", "int16", "uint16"]),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([1, 2, 31, 8191, 8192, 8193, 20_000])),
    spare=st.integers(0, 2),
)
def test_moments_are_those_of_the_reference(seed: int, dtype: str, shape: tuple[int, int, int], spare: int) -> None:
    wide = any_numbers(np.random.default_rng(seed), dtype, (shape[0], shape[1] + spare, shape[2] + spare))
    samples = wide[:, spare:, spare:]
    np.testing.assert_array_equal(kernels.moments(samples), kernels.reference_moments(samples))


@pytest.mark.parametrize("order", ["<i2", ">i2"])
def test_moments_of_samples_that_lie_in_any_way(order: str) -> None:
    """A converter may give a transposed view, or numbers as they are in a big-endian file."""
    samples = np.arange(-12, 12, dtype=order).reshape(4, 6).T.reshape(6, 2, 2)
    assert samples.strides[2] != samples.itemsize
    found = kernels.moments(samples)
    assert found[:, 0].tolist() == [-12, 6, -12, 144 + 36 + 0 + 36]
    np.testing.assert_array_equal(found, kernels.reference_moments(samples))


@pytest.mark.parametrize("by", [pytest.param("compiled", marks=compiled), "numpy"])
def test_moments_by_hand(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COMPILED", by == "compiled")
    samples = np.array([[[1, -2, 3], [4, 5, -6]], [[7, 7, 7], [7, 7, 7]]], np.int16)
    assert kernels.moments(samples).tolist() == [[-6, 7], [5, 7], [5, 42], [91, 294]]
    # Sums that 32 bits do not hold, and squares that float64 holds to the last one.
    extreme = np.full((1, 2, 100_000), -32768, np.int16)
    assert kernels.moments(extreme)[2:, 0].tolist() == [-32768 * 200_000, 2**30 * 200_000]
    assert kernels.moments(np.full((1, 1, 100_000), 65535, np.uint16))[3, 0] == 65535**2 * 100_000


@compiled
@pytest.mark.parametrize(
    ("samples", "found", "error"),
    [
        (np.zeros((1, 2, 3), np.int32), np.zeros((4, 1)), TypeError),
        (np.zeros((1, 2, 3), ">i2"), np.zeros((4, 1)), TypeError),
        (np.zeros((1, 2, 3), np.int16), np.zeros((4, 1), np.float32), TypeError),
        (np.zeros((2, 3), np.int16), np.zeros((4, 2)), ValueError),
        (np.zeros((1, 2, 6), np.int16)[..., ::2], np.zeros((4, 1)), ValueError),
        (np.zeros((1, 2, 3), np.int16), np.zeros((4, 2)), ValueError),
        (np.zeros((1, 2, 3), np.int16), np.zeros((3, 1)), ValueError),
        (np.broadcast_to(np.int16(0), (1, 2**31, 1)), np.zeros((4, 1)), ValueError),
    ],
)
def test_moments_refuse_what_they_are_not_for(samples: np.ndarray, found: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        kernels._kernels.moments(samples, found)


@compiled
def test_a_target_that_is_read_only_is_refused() -> None:
    out = np.zeros((2, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        kernels._kernels.convert([out], [TWO], None, None)


@compiled
def test_nothing_is_kept_of_what_it_was_given() -> None:
    import sys

    source, out, scale = TWO.copy(), OUT.copy(), np.ones((1, 1), np.float32)
    before = [sys.getrefcount(one) for one in (source, out, scale)]
    for _ in range(100):
        kernels._kernels.convert([out], [source], scale, scale)
        with pytest.raises(ValueError, match="shape"):
            kernels._kernels.convert([out], [source[:1]], scale, scale)
    assert [sys.getrefcount(one) for one in (source, out, scale)] == before


@compiled
def test_other_threads_run_meanwhile() -> None:
    source, out = np.zeros((1, 2**24), np.int16), np.empty((1, 2**24), np.float32)
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        while not counted[0]:
            time.sleep(0.001)
        before = counted[0]
        kernels._kernels.convert([out] * 10, [source] * 10, None, None)
        during = counted[0] - before
    finally:
        stop.set()
        thread.join()
    assert during > 100


@pytest.fixture(params=[pytest.param("compiled", marks=compiled), "reference"])
def decode(request: pytest.FixtureRequest) -> Callable[[list[np.ndarray], list[memoryview]], int]:
    if request.param == "reference":
        return kernels.reference_decode
    assert kernels.BLOSC is not None, "numcodecs' library exports no functions of c-blosc"
    return kernels.decode


def compressed(samples: np.ndarray, name: str = "lz4", shuffle: int = numcodecs.blosc.SHUFFLE) -> memoryview:
    return memoryview(numcodecs.blosc.compress(np.ascontiguousarray(samples), name.encode(), 3, shuffle))


@compiled
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 20_000), max_size=6),
    name=st.sampled_from(numcodecs.blosc.list_compressors()),
    shuffle=st.sampled_from([numcodecs.blosc.NOSHUFFLE, numcodecs.blosc.SHUFFLE, numcodecs.blosc.BITSHUFFLE]),
    kind=st.sampled_from(["uint8", "int16", "float64"]),
)
def test_chunks_are_decoded_to_what_was_encoded(
    seed: int, sizes: list[int], name: str, shuffle: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    samples = [(100 * rng.standard_normal(size)).cumsum().astype(kind) for size in sizes]
    sources = [compressed(one, name, shuffle) for one in samples]
    for decode in (kernels.decode, kernels.reference_decode):
        targets = [np.empty_like(one) for one in samples]
        assert decode(targets, sources) == len(sizes)
        for target, one in zip(targets, samples, strict=True):
            np.testing.assert_array_equal(target, one)


def test_the_first_chunk_that_is_damaged_or_of_another_size_ends_it(decode) -> None:
    samples = np.arange(5000, dtype=np.int16)
    good = compressed(samples)
    header, longer = bytearray(good), bytearray(good)
    header[0] = 99  # the format's version
    longer[12:16] = (len(good) + 1).to_bytes(4, "little")  # more bytes than there are
    for bad in (good[:-1], good[:10], memoryview(b""), memoryview(header), memoryview(longer), compressed(samples[:-1]),
                compressed(np.arange(5001, dtype=np.int16))):  # fmt: skip
        targets = [np.zeros_like(samples) for _ in range(4)]
        assert decode(targets, [good, good, bad, good]) == 2
        np.testing.assert_array_equal(targets[1], samples)
        assert not targets[3].any()


def test_nothing_is_decoded_into_what_cannot_hold_it(decode) -> None:
    samples = np.arange(500, dtype=np.int16)
    frozen = np.zeros_like(samples)
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError, TypeError)):
        decode([frozen], [compressed(samples)])
    with pytest.raises((ValueError, BufferError, TypeError)):
        decode([np.zeros(1000, np.int16)[::2]], [compressed(samples)])
    with pytest.raises(ValueError, match=r"sources|argument"):
        decode([np.zeros_like(samples)], [])
    assert not frozen.any()


@compiled
@given(seed=st.integers(0, 2**32 - 1), changes=st.integers(1, 40))
def test_damaged_chunks_end_as_the_reference_has_it(seed: int, changes: int) -> None:
    """They decode to the same, or are refused by both; whatever the bytes say, nothing is written behind the array."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(-50, 50, 4000).astype(np.int16)
    damaged = np.frombuffer(compressed(samples), np.uint8).copy()
    reach = rng.choice([16, len(damaged)])
    damaged[rng.integers(0, reach, changes)] = rng.integers(0, 256, changes)
    room = np.full(4100, 7, np.int16)
    found = kernels.decode([room[:4000]], [memoryview(damaged)])
    expected = np.empty_like(samples)
    assert found == kernels.reference_decode([expected], [memoryview(damaged)])
    if found:
        np.testing.assert_array_equal(room[:4000], expected)
    assert (room[4000:] == 7).all()
