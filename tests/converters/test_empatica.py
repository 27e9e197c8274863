"""Empatica E4 sessions, written here row by row as E4 connect exports them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from converters.conformance import ConverterConformance, code_of_refusal, convert, only_source, sources_in
from harmonize_converters.contract import FoundFile, SourceFiles
from harmonize_converters.empatica import EmpaticaConverter

CONVERTER = EmpaticaConverter()
T0 = 1530695636  # 2018-07-04 09:13:56 UTC
ACC = [(-2, 0, 64), (127, -128, 1), (3, 4, 5)]


def session(folder: Path, **changed: str) -> Path:
    """``changed``: the text of a file by its name without suffix; "" leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "ACC": f"{T0}.00, {T0}.00, {T0}.00\r\n32.000000, 32.000000, 32.000000\r\n" + "".join(f"{x},{y},{z}\r\n" for x, y, z in ACC),
        "BVP": f"{T0}.00\n64.000000\n-0.00\n12.34\n-5.5\n0.25\n",
        "EDA": f"{T0 + 1}.50\n4.000000\n0.000000\n0.123456\n",
        "TEMP": f"{T0}.00\n4.000000\n31.27\n31.29\n31.31\n",
        "HR": f"{T0 + 10}.00\n1.000000\n70.00\n71.25\n",
        "IBI": f"{T0}.000000, IBI\n2.500000,0.750000\n3.265625,0.765625\n",
        "tags": f"{T0 + 2}.25\n{T0 + 1}.00\n",
        "info": ".csv files in this archive are in the following format:\n",
    } | changed  # fmt: skip
    for name, text in texts.items():
        if text:
            (folder / f"{name}.{'txt' if name == 'info' else 'csv'}").write_bytes(text.encode())
    return folder


class TestEmpatica(ConverterConformance):
    converter = CONVERTER
    planted = (str(T0),)

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        session(tmp_path / "e4/one")
        session(tmp_path / "e4/two", ACC="", HR="", tags="")
        return sources_in(CONVERTER, tmp_path / "e4")

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        values = "".join(f"{value:.2f}\n" for value in np.random.default_rng(2).normal(size=300_000))
        session(
            tmp_path / "large", BVP=f"{T0}.00\n64.000000\n{values}", ACC="", EDA="", TEMP="", HR="", IBI="", tags=""
        )
        return only_source(CONVERTER, tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        """numpy's own text reader."""
        signals = [file for file, role in zip(source.files, source.roles, strict=True) if role not in ("ibi", "tags")]
        read = [np.loadtxt(file.path, delimiter=",", skiprows=2, ndmin=2).T for file in signals]
        return [a.astype("i2") if len(a) == 3 else a for a in read]

    def truncation_points(self, file: FoundFile, role: str) -> list[int]:
        """A text may end after any row; an unfinished row is left out and flagged."""
        return [0] if role in ("tags", "ibi") else [0, 1, 20]


def test_streams_units_and_starts(tmp_path) -> None:
    outcome = convert(CONVERTER, only_source(CONVERTER, session(tmp_path / "s")))
    described = outcome.description
    found = [(s.name, s.rate_hz, s.dtype, s.n_samples, s.segments[0].onset_s) for s in described.streams]
    assert found == [
        ("acc", 32, "int16", 3, 0.0), ("bvp", 64, "float64", 4, 0.0), ("eda", 4, "float64", 2, 1.5),
        ("temp", 4, "float64", 3, 0.0), ("hr", 1, "float64", 2, 10.0),
    ]  # fmt: skip
    np.testing.assert_array_equal(outcome.arrays[0], np.array(ACC).T)
    np.testing.assert_array_equal(outcome.arrays[1], [[-0.0, 12.34, -5.5, 0.25]])
    acceleration = described.streams[0].channels[2]
    assert (acceleration.unit, 64 * acceleration.scale) == ("m/s^2", pytest.approx(9.80665))
    assert [s.channels[0].unit for s in described.streams] == ["m/s^2", "a.u.", "µS", "degC", "1/min"]
    assert (described.modality, described.duration_s, described.flags) == ("biosignal", 12.0, ())
    assert outcome.described.identity.start == datetime(2018, 7, 4, 9, 13, 56)
    assert described.acquisition.device_model == "E4"


def test_beats_and_tags_are_annotations(tmp_path) -> None:
    outcome = convert(CONVERTER, only_source(CONVERTER, session(tmp_path / "s")))
    assert [(a.onset_s, a.duration_s, a.label) for a in outcome.annotations] == [
        (1.0, None, "button_press"),
        (1.75, 0.75, "inter_beat_interval"),
        (2.25, None, "button_press"),
        (2.5, 0.765625, "inter_beat_interval"),
    ]


def test_each_folder_is_a_recording_and_an_empty_tags_file_is_none(tmp_path) -> None:
    session(tmp_path / "in/a")
    session(tmp_path / "in/b", tags="")
    (tmp_path / "in/b/tags.csv").write_bytes(b"")
    found = sources_in(CONVERTER, tmp_path / "in")
    assert [(one.key, one.roles) for one in found] == [
        ("in/a/ACC.csv", ("acc", "bvp", "eda", "temp", "hr", "ibi", "tags")),
        ("in/b/ACC.csv", ("acc", "bvp", "eda", "temp", "hr", "ibi")),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BVP.csv", "time,value\n1,2\n"), ("BVP.csv", "12\n64\n1\n"), ("BVP.csv", f"{T0}\n-64\n1\n"), ("BVP.csv", f"{T0}\n64000\n1\n"),
        ("ACC.csv", f"{T0}\n32\n1,2,3\n"), ("tags.csv", "userId,movieId,tag\n1,2,funny\n"), ("IBI.csv", f"{T0}, BEAT\n"),
        ("other.csv", f"{T0}\n64\n1\n"),
    ],
)  # fmt: skip
def test_other_tables_are_not_recognised(name, text) -> None:
    assert not CONVERTER.recognize(text.encode(), name)


def test_s06_an_unfinished_last_row_is_left_out_and_flagged(tmp_path) -> None:
    session(tmp_path / "s", BVP=f"{T0}.00\n64.000000\n1.00\n2.5", ACC="", EDA="", TEMP="", HR="", IBI="", tags="")
    outcome = convert(CONVERTER, only_source(CONVERTER, tmp_path / "s"))
    np.testing.assert_array_equal(outcome.arrays[0], [[1.0]])
    assert outcome.description.flags == ("trailing_bytes",)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"BVP": f"{T0}\n64\n1.0\nabc\n"}, "corrupt"), ({"BVP": f"{T0}\n64\n1.0 3\n\n2.0\n"}, "corrupt"), ({"BVP": f"{T0}\n64\nnan\n"}, "corrupt"),
        ({"BVP": f"{T0}\n64\n1e400\n"}, "corrupt"), ({"BVP": f"{T0}\n64\n1,2\n"}, "corrupt"), ({"BVP": f"{T0}\n64\n"}, "truncated"),
        ({"ACC": f"{T0},{T0},{T0}\n32,32,32\n1,2\n3,4,5,6\n"}, "corrupt"), ({"ACC": f"{T0},{T0},{T0}\n32,32,32\n1.5,2,3\n"}, "corrupt"),
        ({"ACC": f"{T0},{T0},{T0}\n32,32,32\n70000,2,3\n"}, "corrupt"), ({"ACC": f"{T0},{T0},{T0}\n32,32,16\n1,2,3\n"}, "invalid_header"),
        ({"BVP": f"{T0}\n64\n" + "1" * 5000 + "\n"}, "corrupt"), ({"IBI": f"{T0}, IBI\n1.0\n"}, "corrupt"), ({"tags": f"{T0}\nsoon\n"}, "corrupt"),
        ({"ACC": "", "BVP": "", "EDA": "", "TEMP": "", "HR": ""}, "unsupported_annotation_only"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(tmp_path, changed, code) -> None:
    assert code_of_refusal(CONVERTER, session(tmp_path / "s", **changed)) == code
