"""Bare arrays that a recipe describes: every container against what was written, padding, states, hostile pickles."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from converters.conformance import ConverterConformance, convert, find
from converters.conformance import head as head_of
from harmonize_converters._array_files import array_file
from harmonize_converters.arrays import ArraysConverter, array_sources
from harmonize_converters.contract import ConversionError, SourceFiles
from harmonize_schemas import ArraySource

CONVERTER = ArraysConverter()
RNG = np.random.default_rng(11)
LEADS = ("I", "II", "III")


def spec(files: str = "*", **changed) -> ArraySource:
    """Three leads in mV at 400 Hz, a file a recording."""
    stream = {"samples": "x", "axes": ("time", "channel"), "rate_hz": 400, "channels": LEADS, "unit": "mV"}
    outer = {key: changed.pop(key) for key in ("ids", "events") if key in changed}
    return ArraySource.model_validate({"files": files, "streams": [stream | changed], **outer}, strict=False)


def sources(folder: Path, what: ArraySource) -> list[SourceFiles]:
    return [one for file in find(folder) for one in array_sources(file, what)]


def only(folder: Path, what: ArraySource) -> SourceFiles:
    (source,) = sources(folder, what)
    return source


def refusal(source: SourceFiles) -> str:
    with pytest.raises(ConversionError) as caught:
        convert(CONVERTER, source)
    return caught.value.code


def noise(n: int = 300, channels: int = 3, dtype: str = "f4") -> np.ndarray:
    return (RNG.normal(size=(n, channels)) + 5).astype(dtype)


WRITTEN: dict[str, np.ndarray] = {}


def hdf5(file: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(file, "w") as root:
        for name, array in arrays.items():
            root[name] = array
    return file


class TestArrays(ConverterConformance):
    converter = CONVERTER

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        (tmp_path / "bare").mkdir()
        for name in ("a.h5", "b.npz", "c.npy", "d.pkl"):
            WRITTEN[name] = noise()
        hdf5(tmp_path / "bare/a.h5", x=WRITTEN["a.h5"])
        np.savez_compressed(tmp_path / "bare/b.npz", x=WRITTEN["b.npz"])
        np.save(tmp_path / "bare/c.npy", WRITTEN["c.npy"])
        (tmp_path / "bare/d.pkl").write_bytes(pickle.dumps({"x": WRITTEN["d.pkl"]}))
        return [
            *(one for file in find(tmp_path / "bare") for one in array_sources(file, spec(samples="" if file.path.suffix == ".npy" else "x")))
        ]  # fmt: skip

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        (tmp_path / "large").mkdir()
        hdf5(tmp_path / "large/a.h5", x=noise(200_000))
        return only(tmp_path / "large", spec())

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        return [WRITTEN[Path(source.key).name].T]

    def test_recognises_by_bytes(self, source_files: list[SourceFiles]) -> None:
        """Only a recipe can say what an array is."""
        assert not any(CONVERTER.recognize(head_of(one.primary), one.primary.path.name) for one in source_files)


def test_values_units_and_native_dtype(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 2, -3], [4, 5, 6]], ">i2"))
    outcome = convert(CONVERTER, only(tmp_path, spec(samples="", unit="uV", scale=0.5)))
    (stream,) = outcome.description.streams
    assert (stream.dtype, stream.rate_hz, [c.name for c in stream.channels]) == ("int16", 400, ["I", "II", "III"])
    np.testing.assert_array_equal(outcome.arrays[0], [[1, 4], [2, 5], [-3, 6]])
    assert [(c.unit, c.scale) for c in stream.channels] == [("mV", pytest.approx(0.0005))] * 3
    assert (outcome.description.format, outcome.description.modality) == ("NPY array", "ecg")


@pytest.mark.parametrize(("found", "stored"), [("f2", "float32"), ("?", "uint8"), ("u4", "uint32"), ("f8", "float64")])
def test_what_the_store_lacks_is_widened_without_loss(tmp_path, found, stored) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]], found)
    hdf5(tmp_path / "a.h5", x=values)
    outcome = convert(CONVERTER, only(tmp_path, spec()))
    assert outcome.description.streams[0].dtype == stored
    np.testing.assert_array_equal(outcome.arrays[0], values.T.astype(stored))


@pytest.mark.parametrize("dtype", ["i8", "u8", "c8", "S3"])
def test_other_dtypes_are_refused(tmp_path, dtype) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 3), dtype))
    assert refusal(only(tmp_path, spec(samples=""))) == "unsupported_dtype"


@pytest.mark.parametrize(
    "axes", [("record", "time", "channel"), ("channel", "record", "time"), ("time", "channel", "record")]
)
@pytest.mark.parametrize("container", ["h5", "npz"])
def test_records_by_id_in_any_order_of_axes(tmp_path, axes, container) -> None:
    records = RNG.normal(size=(4, 7, 3)).astype("f4")
    stored = np.ascontiguousarray(records.transpose([("record", "time", "channel").index(axis) for axis in axes]))
    if container == "h5":
        hdf5(tmp_path / "a.h5", x=stored, who=np.array([11, 12, 7, 20], "i8"))
    else:
        np.savez(tmp_path / "a.npz", x=stored, who=np.array([11, 12, 7, 20], "i8"))
    found = sources(tmp_path, spec(axes=axes, ids="who"))
    assert [one.member for one in found] == ["11", "12", "7", "20"]
    assert [one.key.partition("#")[2] for one in found] == ["11", "12", "7", "20"]
    for number in (3, 0, 2, 1):
        np.testing.assert_array_equal(convert(CONVERTER, found[number]).arrays[0], records[number].T)


@pytest.mark.parametrize(("ids", "members", "keys"), [
    (np.array([b"a/b", b"c"]), ["a/b", "c"], ["a%2Fb", "c"]), (np.array([1.0, 2.5]), ["1", "2.5"], ["1", "2.5"]), (None, ["0", "1"], ["0", "1"]),
])  # fmt: skip
def test_ids_are_texts_and_keys_stay_in_their_folder(tmp_path, ids, members, keys) -> None:
    hdf5(tmp_path / "a.h5", x=noise(10, 6).reshape(2, 10, 3), **({} if ids is None else {"who": ids}))
    found = sources(tmp_path, spec(axes=("record", "time", "channel"), ids=None if ids is None else "who"))
    assert [one.member for one in found] == members
    assert [one.key.partition("#")[2] for one in found] == keys


def test_grouping_never_raises_and_describe_says_why(tmp_path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n and nothing")
    hdf5(tmp_path / "b.h5", x=noise(10, 6).reshape(2, 10, 3), who=np.arange(3))
    hdf5(tmp_path / "c.h5", y=noise())
    found = sources(tmp_path, spec(axes=("record", "time", "channel"), ids="who"))
    assert [refusal(one) for one in found] == ["corrupt", "invalid_header", "invalid_header"]


def padded(lead: int, samples: np.ndarray, tail: int, value: float = 0.0) -> np.ndarray:
    return np.concatenate([np.full((lead, 3), value), samples, np.full((tail, 3), value)]).astype("f4")


@pytest.mark.parametrize(("lead", "tail"), [(0, 0), (5, 0), (0, 4), (3, 9)])
@pytest.mark.parametrize("value", [0.0, -999.0])
def test_padding_is_trimmed_at_both_ends_over_all_channels(tmp_path, lead, tail, value, monkeypatch) -> None:
    monkeypatch.setattr("harmonize_converters.arrays.SCAN_BYTES", 24)  # two samples at a time
    inside = noise(9)
    inside[0, :2] = value  # one channel is enough to be a sample
    inside[4] = value  # within the record it is no padding
    hdf5(tmp_path / "a.h5", x=padded(lead, inside, tail, value))
    outcome = convert(CONVERTER, only(tmp_path, spec(padding=value)))
    np.testing.assert_array_equal(outcome.arrays[0], inside.T)
    assert outcome.description.streams[0].segments[0].onset_s == 0.0


def test_a_record_of_padding_alone_is_refused_and_the_others_are_read(tmp_path) -> None:
    hdf5(tmp_path / "a.h5", x=np.stack([padded(1, noise(6), 1), np.zeros((8, 3), "f4")]))
    good, empty = sources(tmp_path, spec(axes=("record", "time", "channel"), padding=0))
    assert convert(CONVERTER, good).arrays[0].shape == (3, 6)
    assert refusal(empty) == "empty_file"


def wesad_like(folder: Path, protocol: int, **dumped) -> dict:
    data = {
        "signal": {"chest": {"ACC": noise(14, 3, "f8"), "ECG": noise(14, 1, "f8"), "Temp": noise(14, 1, "f4")}, "wrist": {"EDA": noise(4, 1, "f8")}},
        "label": np.array([0] * 2 + [1] * 5 + [7] + [2] * 6, "i4"), "subject": "S2",
    }  # fmt: skip
    (folder / "S2.pkl").write_bytes(pickle.dumps(data, protocol))
    return data


WESAD = ArraySource.model_validate(
    {
        "files": "*",
        "streams": [
            {
                "samples": "signal/chest/ACC",
                "axes": ["time", "channel"],
                "rate_hz": 7,
                "channels": ["X", "Y", "Z"],
                "unit": "g",
            },
            {
                "samples": "signal/chest/ECG",
                "axes": ["time", "channel"],
                "rate_hz": 7,
                "channels": ["ECG"],
                "unit": "mV",
            },
            {
                "samples": "signal/chest/Temp",
                "axes": ["time", "channel"],
                "rate_hz": 7,
                "channels": ["Temp"],
                "unit": "degC",
            },
            {
                "samples": "signal/wrist/EDA",
                "axes": ["time", "channel"],
                "rate_hz": 2,
                "channels": ["EDA"],
                "unit": "uS",
            },
        ],
        "events": {"samples": "label", "rate_hz": 7, "map": {1: "task_baseline", 2: "task_stress"}},
    },
    strict=False,
)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_several_rates_and_states_in_a_pickle_of_any_protocol(tmp_path, protocol) -> None:
    data = wesad_like(tmp_path, protocol)
    outcome = convert(CONVERTER, only(tmp_path, WESAD))
    chest = data["signal"]["chest"]
    wanted = [np.hstack([chest["ACC"], chest["ECG"]]), chest["Temp"], data["signal"]["wrist"]["EDA"]]
    for got, want in zip(outcome.arrays, wanted, strict=True):
        np.testing.assert_array_equal(got, want.T)
    streams = outcome.description.streams
    assert [(s.name, s.dtype) for s in streams] == [("7hz", "float64"), ("7hz_2", "float32"), ("2hz", "float64")]
    assert [(a.onset_s, a.duration_s, a.label) for a in outcome.annotations] == [
        (2 / 7, 5 / 7, "task_baseline"),
        (8 / 7, 6 / 7, "task_stress"),
    ]
    assert outcome.described.header == {"subject": "S2"}


def test_a_pickle_of_python_2_is_read(tmp_path) -> None:
    """As cPickle of Python 2 wrote array([1., 2.]) under protocol 0, byte for byte but for the names of memo."""
    raw = rb"""(dp1
S'x'
cnumpy.core.multiarray
_reconstruct
(cnumpy
ndarray
(I0
tS'b'
tR(I1
(I2
I1
tcnumpy
dtype
(S'f8'
I0
I1
tR(I3
S'<'
NNNI-1
I-1
I0
tbI00
S'\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@'
tbs."""
    (tmp_path / "a.pkl").write_bytes(raw)
    outcome = convert(CONVERTER, only(tmp_path, spec(channels=("I",))))
    np.testing.assert_array_equal(outcome.arrays[0], [[1.0, 2.0]])


class Evil:
    """Pickled, it asks that a command be run."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_bad_input_a_malicious_pickle_is_refused_by_name_and_never_run(tmp_path, protocol) -> None:
    mark = tmp_path / "was-here"
    evil = Evil(os.system, f"touch {mark}")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.pkl").write_bytes(pickle.dumps({"x": noise(), "y": evil}, protocol))
    with pytest.raises(ConversionError, match=r"posix\.system") as caught:
        CONVERTER.describe(only(tmp_path / "in", spec()))
    assert caught.value.code == "unsupported_pickle"
    assert not mark.exists()


@pytest.mark.parametrize(
    "value",
    [Evil(eval, "1"), Evil(np.frombuffer, b"1"), Evil(np.load, "a"), Evil(__import__, "os"), np.array([1, "a"], object), np.zeros(2, "i4,f4"), {1, 2}, Path("a")],
    ids=["eval", "frombuffer", "load", "import", "objects", "records", "set", "path"],
)  # fmt: skip
def test_bad_input_other_pickles_are_refused(tmp_path, value) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": noise(), "y": value}, 2))
    assert refusal(only(tmp_path, spec())) in ("unsupported_pickle", "unsupported_dtype", "corrupt")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x80\x02r\xff\xff\xff\x7f.", "corrupt"),  # memo index 2^31 - 1, over nothing
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "invalid_header"),  # the same over None: no memory is taken
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "truncated"),  # 2^63 - 1 bytes are promised
        (b"\x80\x02cnumpy\nndarray\n}X\x04\0\0\0evilK\1sb.", "corrupt"),  # state for a function
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc__builtin__\neval\nK\1\x85U\1b\x87R.", "unsupported_pickle"),
        (b"\x80\x02K\1Q.", "unsupported_pickle"),  # a persistent id
        (b"\x80\x02", "truncated"),
    ],
)
def test_bad_input_hostile_opcodes(tmp_path, raw, code) -> None:
    (tmp_path / "a.pkl").write_bytes(raw)
    assert refusal(only(tmp_path, spec())) == code


def npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 3), }"), "truncated"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }", bytes(12)), "corrupt"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3), }", bytes(24)), "unsupported_dtype"),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 3), }", bytes(12)), "unsupported_dtype"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os'), }", bytes(12)), "corrupt"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }", bytes(12), b"\3\0"), "corrupt"),
        (b"just a letter", "format_mismatch"),
    ],
)
def test_bad_input_npy_headers(tmp_path, raw, code) -> None:
    (tmp_path / "a.npy").write_bytes(raw)
    assert refusal(only(tmp_path, spec(samples=""))) == code


def test_npy_of_python_2_and_fortran_order(tmp_path) -> None:
    values = noise(4)
    header = "{'descr': '<f4', 'fortran_order': True, 'shape': (4L, 3L), }"
    (tmp_path / "a.npy").write_bytes(npy(header, values.tobytes(order="F")))
    np.testing.assert_array_equal(convert(CONVERTER, only(tmp_path, spec(samples=""))).arrays[0], values.T)


def test_bad_input_a_zip_bomb_is_refused(tmp_path) -> None:
    held = io.BytesIO()
    np.save(held, noise())
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", held.getvalue())
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    at = raw.index(b"PK\1\2") + 24
    raw[at : at + 4] = (0xFFFFFF00).to_bytes(4, "little")  # the size that the directory promises
    (tmp_path / "a.npz").write_bytes(raw)
    assert refusal(only(tmp_path, spec())) == "implausible_size"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"axes": ("time",), "channels": ("I",)}, "invalid_header"), ({"channels": ("I", "II")}, "invalid_header"),
        ({"samples": "y"}, "invalid_header"), ({"samples": "group/deep"}, "invalid_header"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_is_told_so(tmp_path, changed, code) -> None:
    hdf5(tmp_path / "a.h5", x=noise())
    assert refusal(only(tmp_path, spec(**changed))) == code
    assert refusal(replace(only(tmp_path, spec()), arrays=None)) == "invalid_header"


def test_one_open_file_serves_its_records_and_notices_another(tmp_path) -> None:
    hdf5(tmp_path / "a.h5", x=noise(20, 6).reshape(4, 10, 3))
    found = sources(tmp_path, spec(axes=("record", "time", "channel")))
    first = array_file(found[0].primary)
    assert all(array_file(one.primary) is first for one in found)
    blocks = CONVERTER.read(found[0], CONVERTER.describe(found[0]).description, 24)
    next(blocks)
    (tmp_path / "b").mkdir()
    other = only(hdf5(tmp_path / "b/b.h5", x=noise()).parent, spec())
    assert convert(CONVERTER, other).arrays[0].shape == (3, 300)
    assert array_file(other.primary) is not first
    assert len(list(blocks)) == 4  # the file that was closed is opened again
