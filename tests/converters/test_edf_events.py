"""Events in EDF and BDF files: annotations (FIDELITY S03), hypnograms, BioSemi triggers (S07)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import mne
import numpy as np
import pyedflib
import pytest

from converters.conformance import convert, sources_in
from converters.edf_bytes import Signal, annotations, edf_bytes, timekeeping
from converters.edf_cases import CONVERTER, ramp, run, source_of
from harmonize_converters._edf_tal import parse_tals
from harmonize_converters.contract import ConversionError
from realdata import DATA, needs_data

STAGES = [b"+0\x14\x14\0+0\x15120\x14Sleep stage W\x14\0+120\x1530\x14Sleep stage 1\x14\0"]


@needs_data
def test_s03_real_annotations_equal_pyedflib() -> None:
    path = DATA / "edf/pyedflib/test_generator.edf"
    reader = pyedflib.EdfReader(str(path))
    onsets, durations, texts = reader.readAnnotations()
    reader.close()
    events = convert(CONVERTER, source_of(path)).annotations
    assert [(e.onset_s, e.text) for e in events] == list(zip(onsets.tolist(), texts.tolist(), strict=True))
    assert [e.duration_s is None for e in events] == [d < 0 for d in durations]


def test_s03_tals_of_several_signals(tmp_path: Path) -> None:
    first = timekeeping(2)
    first[0] = b"+0\x14\x14Recording starts\x14\0" + b"+1.5\x152.25\x14Arousal\x14Lights off\x14\0"
    second = [b"", b"+0.5\x14caf\xc3\xa9\x14\0-0.5\x14caf\xe9\x14\0"]
    signals = [annotations(first), Signal(samples=ramp(16)), annotations(second)]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+C"))
    assert [(e.onset_s, e.duration_s, e.text) for e in outcome.annotations] == [
        (-0.5, None, "café"),
        (0.0, None, "Recording starts"),
        (0.5, None, "café"),
        (1.5, 2.25, "Arousal"),
        (1.5, 2.25, "Lights off"),
    ]
    assert all(e.label is None for e in outcome.annotations)
    assert [e.flags for e in outcome.annotations] == [("annotation_not_utf8",), (), (), (), ()]


def test_s03_bdf_annotations_pack_three_bytes_a_sample(tmp_path: Path) -> None:
    tals = [b"+0\x14\x14\0+0.125\x14a longer text than sixteen bytes\x14\0"]
    signals = [Signal(samples=ramp(8)), annotations(tals, 16, "BDF Annotations")]
    outcome = run(tmp_path, edf_bytes(signals, n_records=1, bdf=True, reserved="BDF+C"))
    assert [e.text for e in outcome.annotations] == ["a longer text than sixteen bytes"]
    assert outcome.description.format == "BDF+C"


@pytest.mark.parametrize("raw", [b"noon\x14text\x14\0", b"+1\x14text", b"+1", b"+1\x15x\x14text\x14"])
def test_s03_malformed_lists_are_no_lists(raw: bytes) -> None:
    with pytest.raises(ConversionError, match="corrupt"):
        parse_tals(raw)


def test_s03_a_malformed_list_costs_neither_the_samples_nor_its_neighbours(tmp_path: Path) -> None:
    tals = [b"+0\x14\x14\0", b"+1\x14\x14\0+1.25\x14before\x14\0noon\x14lost\x14\0+1.75\x14after\x14\0"]
    signals = [annotations(tals), Signal(samples=ramp(16))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, reserved="EDF+C"))
    np.testing.assert_array_equal(outcome.arrays[0], [ramp(16)])
    assert [(e.onset_s, e.text, e.label) for e in outcome.annotations] == [
        (1.0, None, "unreadable"),
        (1.25, "before", None),
        (1.75, "after", None),
    ]
    assert outcome.annotations[0].flags == ("annotation_unreadable",)


def test_s03_a_text_before_an_empty_one_is_kept(tmp_path: Path) -> None:
    signals = [annotations([b"+0\x14\x14\0+0.5\x14Event\x14\x14\0"]), Signal(samples=ramp(8))]
    outcome = run(tmp_path, edf_bytes(signals, n_records=1, reserved="EDF+C"))
    assert [(e.onset_s, e.text) for e in outcome.annotations] == [(0.5, "Event")]


# --- files of annotations alone, and hypnograms -----------------------------------------------------


def test_s03_annotations_alone_are_a_recording_without_streams(tmp_path: Path) -> None:
    data = edf_bytes([annotations(STAGES, 80)], n_records=1, record_s="0", reserved="EDF+C")
    outcome = run(tmp_path, data)
    assert outcome.description.streams == ()
    assert outcome.description.duration_s is None
    assert [(e.onset_s, e.duration_s, e.text) for e in outcome.annotations] == [
        (0.0, 120.0, "Sleep stage W"),
        (120.0, 30.0, "Sleep stage 1"),
    ]


def night(folder: Path, psg: str, hypnogram: str, hypnogram_time: str = "05.06.07") -> None:
    signals = [Signal("EEG Fpz-Cz", ramp(16)), annotations([b"+0\x14\x14\0", b"+1\x14\x14\0+1\x14Lights off\x14\0"])]
    (folder / psg).write_bytes(edf_bytes(signals, n_records=2, reserved="EDF+C"))
    stages = edf_bytes([annotations(STAGES, 80)], n_records=1, record_s="0", reserved="EDF+C", time=hypnogram_time)
    (folder / hypnogram).write_bytes(stages)


def test_s03_a_hypnogram_of_sleep_edf_joins_its_polysomnogram(tmp_path: Path) -> None:
    night(tmp_path, "SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", "05.06.37")
    night(tmp_path, "SC4002E0-PSG.edf", "SC4002EC-Hypnogram.edf")
    first, second = sources_in(CONVERTER, tmp_path)
    assert [file.path.name for file in first.files] == ["SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"]
    assert [file.path.name for file in second.files] == ["SC4002E0-PSG.edf", "SC4002EC-Hypnogram.edf"]
    assert first.roles == ("signal", "hypnogram")
    outcome = convert(CONVERTER, first)
    assert outcome.described.identity.start == datetime(2004, 3, 2, 5, 6, 7)
    # The hypnogram starts 30 s after the signals.
    assert [(e.onset_s, e.duration_s, e.text) for e in outcome.annotations] == [
        (1.0, None, "Lights off"),
        (30.0, 120.0, "Sleep stage W"),
        (150.0, 30.0, "Sleep stage 1"),
    ]


def test_s03_a_hypnogram_without_its_polysomnogram_stays_a_recording(tmp_path: Path) -> None:
    night(tmp_path, "SC4001E0-PSG.edf", "SC4002EC-Hypnogram.edf")
    assert [len(source.files) for source in sources_in(CONVERTER, tmp_path)] == [1, 1]


def test_s03_a_hypnogram_of_unknown_start_is_refused(tmp_path: Path) -> None:
    night(tmp_path, "SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", "night")
    (source,) = sources_in(CONVERTER, tmp_path)
    with pytest.raises(ConversionError, match="invalid_header"):
        convert(CONVERTER, source)


# --- triggers ---------------------------------------------------------------------------------------


def status(codes: list[int], system: int = 0x10_0000) -> Signal:
    """A Status channel of one sample each: the codes in bits 0 to 15, system bits above (CMS in range)."""
    values = [(code | system) - (1 << 24 if (code | system) & 0x80_0000 else 0) for code in codes]
    full = ("-8388608", "8388607")
    return Signal("Status", np.array(values), 4, unit="Boolean", physical=full, digital=full)


def test_s07_triggers_are_events_and_the_raw_channel_is_kept(tmp_path: Path) -> None:
    codes = [0, 0, 5, 5, 0, 0xFFFF, 7, 0]
    data = edf_bytes([Signal("A1", ramp(8), 4), status(codes)], n_records=2, bdf=True)
    outcome = run(tmp_path, data)
    assert [(e.onset_s, e.label, e.number, e.channel) for e in outcome.annotations] == [
        (0.5, "trigger", 5, 1),
        (1.25, "trigger", 0xFFFF, 1),
        (1.5, "trigger", 7, 1),
    ]
    np.testing.assert_array_equal(outcome.arrays[0][1], [code | 0x10_0000 for code in codes])


def test_s07_system_bits_make_no_event(tmp_path: Path) -> None:
    """Bit 23 (Mk2) makes the 24-bit value negative; bit 22 (low battery) comes on halfway."""
    steady, low = status([3] * 4, 0x90_0000).samples, status([3] * 4, 0xD0_0000).samples
    signal = status([0] * 8)
    signal.samples = np.concatenate([steady, low])
    outcome = run(tmp_path, edf_bytes([Signal("A1", ramp(8), 4), signal], n_records=2, bdf=True))
    assert [(e.onset_s, e.number) for e in outcome.annotations] == [(0.0, 3)]


def test_s07_a_code_that_is_held_over_a_gap_counts_again(tmp_path: Path) -> None:
    tals = [b"+0\x14\x14\0", b"+60\x14\x14\0"]
    signals = [Signal("A1", ramp(8), 4), status([0, 9, 9, 9, 9, 9, 0, 0]), annotations(tals, label="BDF Annotations")]
    outcome = run(tmp_path, edf_bytes(signals, n_records=2, bdf=True, reserved="BDF+D"))
    assert [(e.onset_s, e.number) for e in outcome.annotations] == [(0.25, 9), (60.0, 9)]


@needs_data
def test_s07_real_triggers_equal_mne() -> None:
    path = DATA / "edf/mne/test.bdf"
    raw = mne.io.read_raw_bdf(path, verbose="error", stim_channel="Status")
    found = mne.find_events(raw, mask=0xFFFF, mask_type="and", shortest_event=1, initial_event=True, verbose="error")
    rate_hz = raw.info["sfreq"]
    events = [event for event in convert(CONVERTER, source_of(path)).annotations if event.label == "trigger"]
    ours = [(round(event.onset_s * rate_hz), event.number) for event in events]
    assert ours == [(int(at), int(code)) for at, _, code in found]
    assert ours
