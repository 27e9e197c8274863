"""OpenSignals HDF5: files written here in the layout of the real ones, and the real ones, against h5py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from converters.conformance import ConverterConformance, code_of_refusal, convert, only_source, sources_in
from harmonize_converters import _hdf5_probe
from harmonize_converters.contract import SourceFiles
from harmonize_converters.opensignals import OpenSignalsConverter
from realdata import needs_data, real_files

CONVERTER = OpenSignalsConverter()
RNG = np.random.default_rng(5)
MAC, SECOND = "00:07:80:3B:46:61", "00:07:80:D8:A7:F9"


def device(
    root: h5py.File, mac: str = MAC, sensors: tuple[str, ...] = ("ECG",), n: int = 1500, **changed
) -> h5py.Group:
    """A device's group as OpenSignals writes it; ``changed``: attributes, or bits and dtype."""
    bits, dtype = changed.pop("bits", 16), changed.pop("dtype", "uint16")
    group = root.create_group(mac)
    channels = np.arange(1, len(sensors) + 1, dtype="i4")
    attributes = {
        "channels": channels, "comments": "Mr Doe, tired", "date": "2018-7-4", "time": "16:44:2.69",
        "device": "biosignalsplux", "device name": mac, "macaddress": mac, "firmware version": np.int32(772),
        "nsamples": np.int32(n), "resolution": np.full(len(sensors), bits, "i4"), "sampling rate": np.int32(1000),
    } | {name.replace("_", " "): value for name, value in changed.items()}  # fmt: skip
    for name, value in attributes.items():
        group.attrs[name] = value
    for number, sensor in zip(channels, sensors, strict=True):
        samples = RNG.integers(0, 1 << bits, (n, 1)).astype(dtype)
        channel = group.create_dataset(f"raw/channel_{number}", data=samples, chunks=(1024, 1), maxshape=(None, 1))
        channel.attrs["label"], channel.attrs["sensor"] = f"CH{number}", sensor
    group.create_dataset("digital/digital_1", data=np.zeros((n, 1), "u2"), chunks=(1024, 1))
    return group


def opensignals(file: Path, *args, **changed) -> Path:
    with h5py.File(file, "w") as root:
        device(root, *args, **changed)
    return file


def by_h5py(file: Path) -> list[np.ndarray]:
    """(channel, time) of each device, in the order of channel numbers, then the digital lines."""
    with h5py.File(file) as root:
        out = []
        for mac in sorted(root):
            rows = [root[mac]["raw"][f"channel_{n}"][:, 0] for n in root[mac].attrs["channels"]]
            rows += [root[mac]["digital"][name][:, 0] for name in sorted(root[mac]["digital"])]
            out.append(np.stack(rows))
    return out


class TestOpenSignals(ConverterConformance):
    converter = CONVERTER
    planted = ("Doe", MAC, "2018-7-4")

    @pytest.fixture
    def source_files(self, tmp_path: Path) -> list[SourceFiles]:
        (tmp_path / "plux").mkdir()
        opensignals(tmp_path / "plux/a.h5", MAC, ("ECG", "EDA"))
        with h5py.File(tmp_path / "plux/b.h5", "w") as root:
            device(root, MAC, ("EMG",), 1100)
            device(root, SECOND, ("XYZ", "XYZ", "XYZ"), 1030, dtype="uint32")
        return sources_in(CONVERTER, tmp_path / "plux")

    @pytest.fixture
    def large_source(self, tmp_path: Path) -> SourceFiles:
        (tmp_path / "large").mkdir()
        opensignals(tmp_path / "large/a.h5", MAC, ("ECG",), 600_000)
        return only_source(CONVERTER, tmp_path / "large")

    def independent(self, source: SourceFiles) -> list[np.ndarray]:
        return by_h5py(source.primary.path)


@pytest.mark.parametrize(
    ("sensor", "model", "kind", "unit", "values"),
    [  # ADC 0, 2^15 and 3 * 2^14 of 16 bits, by hand from the data sheets
        ("ECG", "biosignalsplux", "ecg", "mV", (-1500 / 1019, 0.0, 750 / 1019)),
        ("EMG", "channeller", "emg", "µV", (-1500.0, 0.0, 750.0)),
        ("EEG", "biosignalsplux", "eeg", "µV", (-37.5, 0.0, 18.75)),
        ("EDA", "biosignalsplux", "eda", "µS", (0.0, 12.5, 18.75)),
        ("RESPIRATION", "channeller", "resp", "%", (-50.0, 0.0, 25.0)),
        ("EDABITREV", "bitalino_rev", "eda", "µS", (0.0, 12.5, 18.75)),
    ],
)
def test_published_transfer_functions(tmp_path, sensor, model, kind, unit, values) -> None:
    opensignals(tmp_path / "a.h5", MAC, (sensor,), device=model)
    described = CONVERTER.describe(only_source(CONVERTER, tmp_path)).description
    channel = described.streams[0].channels[0]
    assert (channel.type, channel.unit, channel.calibrated, channel.digital_max) == (kind, unit, True, 65535)
    np.testing.assert_allclose(np.array([0, 1 << 15, 3 << 14]) * channel.scale + channel.offset, values, atol=1e-9)
    assert "uncalibrated" not in described.flags


@pytest.mark.parametrize(
    ("sensor", "model", "kind"),
    [
        ("XYZ", "biosignalsplux", "acceleration"), ("TEMP", "biosignalsplux", "temperature"), ("BVP", "channeller", "ppg"),
        ("hSpO2", "channeller", "ppg"), ("RAW", "biosignalsplux", "misc"), ("ECG", "someone elses", "ecg"), ("EDA", "bitalino", "eda"),
    ],
)  # fmt: skip
def test_s04_without_a_published_function_the_integers_stay(tmp_path, sensor, model, kind) -> None:
    opensignals(tmp_path / "a.h5", MAC, (sensor,), device=model)
    described = CONVERTER.describe(only_source(CONVERTER, tmp_path)).description
    channel = described.streams[0].channels[0]
    assert (channel.type, channel.unit, channel.scale, channel.offset, channel.calibrated) == (kind, None, 1, 0, False)
    assert {"uncalibrated", "unit_unknown"} <= set(described.flags)
    assert described.acquisition.device_model == (None if model == "someone elses" else model)


def test_identity_is_apart_and_typed_labels_are_not_stored(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as root:
        device(root)[f"/{MAC}/raw/channel_1"].attrs["label"] = "left arm of Doe"
    described = CONVERTER.describe(only_source(CONVERTER, tmp_path))
    assert described.identity.device_id == MAC
    assert described.identity.start.isoformat() == "2018-07-04T16:44:02.069000"
    assert described.description.streams[0].channels[0].label == "channel_1"
    assert described.header["comments"] == "Mr Doe, tired"
    assert described.header["label channel_1"] == "left arm of Doe"


def test_two_devices_are_two_streams_and_onsets_are_kept(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as root:
        device(root, MAC, ("EMG",), bits=8, time="10:00:2.500")
        device(root, SECOND, ("XYZ", "XYZ"), time="10:00:1.0", sampling_rate=np.int32(1000))
    described = CONVERTER.describe(only_source(CONVERTER, tmp_path))
    first, second = described.description.streams
    assert (first.name, second.name) == ("1000hz", "1000hz_2")
    assert (first.segments[0].onset_s, second.segments[0].onset_s) == (1.5, 0.0)
    assert first.channels[0].digital_max == 255
    assert first.channels[0].scale == pytest.approx(3000 / 256)
    assert [c.name for c in second.channels] == ["Acceleration CH1", "Acceleration CH2", "digital_1"]
    assert described.identity.device_id == f"{MAC}+{SECOND}"
    assert described.description.duration_s == 3.0


def test_bitalino_counts_its_digital_lines_among_the_resolutions(tmp_path) -> None:
    resolution = np.array([4, 1, 1, 1, 1, 10], "i4")
    opensignals(tmp_path / "a.h5", MAC, ("EDABITREV",), bits=10, resolution=resolution, device="bitalino_rev")
    channel = CONVERTER.describe(only_source(CONVERTER, tmp_path)).description.streams[0].channels[0]
    assert channel.digital_max == 1023
    assert channel.scale == pytest.approx(25 / 1024)


def test_other_hdf5_is_not_recognised(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["tracings"] = np.zeros((3, 4))
    assert sources_in(CONVERTER, tmp_path) == []


def other(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "other.bin", "w") as root:
        root["x"] = np.zeros((1500, 1), "u2")
    return tmp_path / "other.bin"


def external_link(group: h5py.Group, tmp_path: Path) -> None:
    group["raw/channel_1"] = h5py.ExternalLink(str(other(tmp_path)), "x")


def soft_link(group: h5py.Group, tmp_path: Path) -> None:
    group["raw/channel_1"] = h5py.SoftLink(f"/{MAC}/digital/digital_1")


def virtual(group: h5py.Group, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((1500, 1), "u2")
    layout[:] = h5py.VirtualSource(str(other(tmp_path)), "x", (1500, 1))
    group.create_virtual_dataset("raw/channel_1", layout)


def external_storage(group: h5py.Group, tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(bytes(3000))
    group.create_dataset("raw/channel_1", (1500, 1), "u2", external=[(str(tmp_path / "other.bin"), 0, 3000)])


def absurd(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", (1 << 60, 1), "u2", chunks=(1024, 1))


def huge_chunk(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", (1500, 1), "u2", chunks=(1 << 30, 1), maxshape=(None, 1), compression="gzip")


def absent_chunk(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", (1500, 1), "u2", chunks=(1024, 1))[:1024] = 7


def never_written(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", (1500, 1), "u2")


def scale_offset(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", data=np.ones((1500, 1), "u2"), chunks=(1024, 1), scaleoffset=0)


def strings(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", data=[["a"]] * 1500)


def floats(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", data=np.ones((1500, 1)))


def other_length(group: h5py.Group, tmp_path: Path) -> None:
    group.create_dataset("raw/channel_1", data=np.ones((1400, 1), "u2"))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (external_link, "path_escape"), (soft_link, "unsupported_hdf5"), (virtual, "unsupported_hdf5"),
        (external_storage, "path_escape"), (absurd, "implausible_size"), (huge_chunk, "implausible_size"),
        (absent_chunk, "truncated"), (never_written, "truncated"), (scale_offset, "unsupported_hdf5"),
        (strings, "unsupported_dtype"), (floats, "unsupported_dtype"), (other_length, "corrupt"),
        (lambda group, tmp_path: None, "invalid_header"),  # the channel is not there
    ],
)  # fmt: skip
def test_bad_input_hostile_hdf5_is_refused(tmp_path, make, code) -> None:
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in/a.h5", "w") as root:
        group = device(root)
        del group["raw/channel_1"]
        make(group, tmp_path)
    assert code_of_refusal(CONVERTER, tmp_path / "in") == code


@pytest.mark.parametrize("code", ["import os; os.abort()", "import time; time.sleep(60)"], ids=["crashes", "hangs"])
def test_bad_input_that_libhdf5_does_not_survive_costs_that_source_only(tmp_path, monkeypatch, code) -> None:
    opensignals(tmp_path / "a.h5")
    children: dict = {}
    monkeypatch.setattr(_hdf5_probe, "_children", children)
    monkeypatch.setattr(_hdf5_probe, "TIMEOUT_S", 0.5)
    children[os.getpid()] = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert code_of_refusal(CONVERTER, tmp_path) == "corrupt"
    assert children == {}  # the next file gets another child


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_plain_compression_is_read(tmp_path, compression) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as root:
        group = device(root)
        samples = group["raw/channel_1"][:]
        del group["raw/channel_1"]
        group.create_dataset(
            "raw/channel_1", data=samples, chunks=(64, 1), compression=compression, shuffle=True, fletcher32=True
        )
    np.testing.assert_array_equal(convert(CONVERTER, only_source(CONVERTER, tmp_path)).arrays[0][0], samples[:, 0])


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("channels", "x", "invalid_header"), ("resolution", np.array([], "i4"), "invalid_header"), ("resolution", np.array([64], "i4"), "invalid_header"),
        ("sampling rate", np.int32(0), "invalid_header"), ("sampling rate", 0.5, "invalid_header"), ("nsamples", np.int32(1501), "truncated"),
    ],
)  # fmt: skip
def test_wrong_attributes_are_refused(tmp_path, name, value, code) -> None:
    opensignals(tmp_path / "a.h5", **{name: value})
    assert code_of_refusal(CONVERTER, tmp_path) == code


@pytest.mark.parametrize(("name", "value"), [("date", "2018-13-4"), ("time", "25:00:00"), ("date", "")])
def test_s06_a_date_that_cannot_be_read_is_flagged(tmp_path, name, value) -> None:
    opensignals(tmp_path / "a.h5", **{name: value})
    described = CONVERTER.describe(only_source(CONVERTER, tmp_path))
    assert described.identity.start is None
    assert "invalid_start_date" in described.description.flags


@needs_data
@pytest.mark.parametrize("file", real_files("opensignals-h5", ".h5"), ids=lambda f: f.name)
def test_real_files_equal_h5py(file) -> None:
    source = next(s for s in sources_in(CONVERTER, file.parent) if s.primary.path == file)
    outcome = convert(CONVERTER, source)
    for got, want in zip(outcome.arrays, by_h5py(file), strict=True):
        np.testing.assert_array_equal(got, want)
    assert outcome.described.identity.start is not None
    assert source.primary.path.stem not in repr(outcome.description)
    assert not any(mac in repr(outcome.description) for mac in outcome.described.identity.device_id.split("+"))


REAL = {  # read by hand with h5dump: rates, types, bits
    "bvp_rest": ([1000], ["ppg"], 16), "ecg_4000_Hz": ([4000], ["ecg"], 16), "ecg_sample": ([200], ["ecg"], 16),
    "eda_hot_surface": ([1000], ["eda"], 10), "eeg_sample_0cm_h": ([1000], ["misc", "misc"], 16),
    "emg_1000_hz_8_16_bits": ([1000, 1000], ["emg", "emg"], 16), "emg_bursts": ([1000], ["emg"], 16),
    "signal_sample_single_hub_EEG_2018_7_4": ([1000], ["eeg"], 16),
    "signal_sample_single_hub_hSpO2_2018_7_6": ([1000], ["ppg", "ppg"], 16),
    "signal_sample_single_hub_respiration_2018_7_5": ([1000], ["resp"], 16),
    "sync_acc_1": ([1000], ["acceleration"] * 3, 16), "sync_acc_2": ([1000], ["acceleration"] * 3, 16),
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("file", real_files("opensignals-h5", ".h5"), ids=lambda f: f.name)
def test_real_files_have_the_sensors_they_were_recorded_with(file) -> None:
    described = CONVERTER.describe(next(s for s in sources_in(CONVERTER, file.parent) if s.primary.path == file))
    streams = described.description.streams
    channels = [c for stream in streams for c in stream.channels if c.type != "trigger"]
    rates, types, bits = REAL[file.stem]
    assert [stream.rate_hz for stream in streams] == rates
    assert [c.type for c in channels] == types
    assert max(c.digital_max for c in channels) == 2**bits - 1
