"""Codes of channels' sources to channel names; pydicom's copy of PS3.16 says what each code means."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ElectromyogramWaveformStorage,
    ElectrooculogramWaveformStorage,
    HemodynamicWaveformStorage,
    MultichannelRespiratoryWaveformStorage,
    RoutineScalpElectroencephalogramWaveformStorage,
    TwelveLeadECGWaveformStorage,
)

from converters.seg_files import concept
from converters.waveform_files import channel, coded
from harmonize_converters._dicom_codes import published_meaning
from harmonize_converters._dicom_leads import _SOURCES, _TYPES, KINDS, channel_name
from harmonize_schemas import vocabulary

MEANINGS = {
    "ABP": "Arterial pressure waveform",
    "CVP": "Central venous pressure waveform",
    "PAP": "Pulmonary artery pressure waveform",
    "Temp": "Temperature waveform",
    "Airflow": "Airflow",
    "Resp chest": "Thoracic Respiratory Effort",
    "Resp abdomen": "Abdominal Respiratory Effort",
    "Position": "Patient position",
    "VX": "Lead X",
    "VY": "Lead Y",
    "VZ": "Lead Z",
}


@pytest.mark.parametrize("code", [code for code in _SOURCES if not code.startswith("SCPECG")])
def test_a_name_is_what_its_code_means(code):
    name, kind = _SOURCES[code]
    meaning = published_meaning(*code.split(":", 1))
    assert vocabulary("channels")[name]["type"] == kind
    if name == "Resp":
        assert meaning in ("Respiration impedance waveform", "Respiration Waveform", "Respiratory Effort")
    elif name.startswith("aV"):
        assert meaning.startswith(name)
    else:
        assert meaning == MEANINGS.get(name, f"Lead {name}")


def test_numbers_of_scp_ecg_are_those_of_iso_11073():
    scp = {code.rpartition("-")[2]: name for code, (name, _) in _SOURCES.items() if code.startswith("SCPECG")}
    mdc = {code.rpartition(":")[2]: name for code, (name, _) in _SOURCES.items() if code.startswith("MDC:2:")}
    assert scp == mdc


def test_types_are_those_of_published_sources():
    for code, kind in _TYPES.items():
        meaning = published_meaning(*code.split(":", 1)).casefold()
        words = {"pressure": ("pressure", "wedge"), "airflow": ("airflow",), "resp": ("thoracic", "abdominal")}[kind]
        assert any(word in meaning for word in words), code


def test_electrodes_of_the_scalp():
    """PS3.16 CID 3030: all but those that no vocabulary has."""
    unknown = set()
    for code in codes.CID3030.concepts.values():
        _, name = channel_name(channel((code.value, code.scheme_designator)), 1, "eeg")
        assert name.type == "eeg"
        if not name.mapped:
            unknown.add(code.meaning)
        else:
            aliases = vocabulary("channels")[name.name]["aliases"]
            assert code.meaning.casefold() in {one.casefold() for one in (name.name, *aliases)}
    assert unknown == {"Fp9", "Fp10", "Nz", "O9", "O10", "Pg1", "Pg2", "Sp1", "Sp2", "T1", "T2"}


def test_a_differential_signal_has_two_electrodes():
    def modified(*modifiers: tuple[str, str]):
        items = [concept(*code, "") for code in modifiers]
        return channel(("7:1217", "MDC"), ChannelLabel="a", ChannelSourceModifiersSequence=items)

    a1, differential, other = ("7:1289", "MDC"), ("109006", "DCM"), ("109008", "DCM")
    _, name = channel_name(modified(differential, a1), 1, "eeg")
    assert (name.name, name.anode, name.cathode, name.mapped) == ("AF3-M1", "AF3", "M1", True)
    _, name = channel_name(modified(other), 1, "eeg")
    assert (name.name, name.anode, name.mapped) == ("AF3", None, True)
    _, name = channel_name(modified(differential, other), 1, "eeg")  # against what?
    assert (name.mapped, name.type) == (False, "eeg")


def test_an_old_snomed_code_is_the_one_that_took_its_place():
    """PS3.16 before 2017: (G-DB24, SRT, "Arterial pressure waveform")."""
    for scheme in ("SRT", "SNM3"):
        _, name = channel_name(channel(("G-DB24", scheme)), 1, "misc")
        assert (name.name, name.type) == ("ABP", "pressure")
    assert not channel_name(channel(("G-DB99", "SRT")), 1, "misc")[1].mapped


@pytest.mark.parametrize(
    ("sop_class", "label", "name", "kind", "mapped"),
    [
        (TwelveLeadECGWaveformStorage, "V2", "V2", "ecg", True),
        (TwelveLeadECGWaveformStorage, "C3", "local:C3", "ecg", False),
        (TwelveLeadECGWaveformStorage, "anything", "anything", "ecg", False),
        (ElectromyogramWaveformStorage, "C3", "local:C3", "emg", False),
        (ElectrooculogramWaveformStorage, "EOG left", "EOG left", "eog", True),
        (RoutineScalpElectroencephalogramWaveformStorage, "C3", "C3", "eeg", True),
        (RoutineScalpElectroencephalogramWaveformStorage, "ECG", "ECG", "ecg", True),
        (RoutineScalpElectroencephalogramWaveformStorage, "X9", "X9", "eeg", False),
        (MultichannelRespiratoryWaveformStorage, "SpO2", "SpO2", "spo2", True),
        (MultichannelRespiratoryWaveformStorage, "belt", "belt", "resp", False),
        (HemodynamicWaveformStorage, "II", "II", "ecg", True),
        (HemodynamicWaveformStorage, "port", "port", "misc", False),
    ],
)
def test_a_label_counts_where_there_is_no_code(sop_class, label, name, kind, mapped):
    found = channel(ChannelLabel=label, ChannelSourceSequence=coded(("X", "99LOCAL")))
    text, got = channel_name(found, 3, KINDS[sop_class])
    assert (text, got.name, got.type, got.mapped) == (label, name, kind, mapped)


def test_a_source_without_a_name_of_ours_has_its_published_meaning_as_label():
    text, name = channel_name(channel(("128438003", "SCT")), 1, "misc")
    assert (text, name.name, name.type) == ("Left ventricle pressure waveform",) * 2 + ("pressure",)
    assert channel_name(channel(("2:91", "MDC")), 1, "ecg")[0] == "Modified chest lead (left arm indifferent)"
    assert channel_name(channel(("X", "99LOCAL")), 7, "ecg")[0] == "channel 7"


def test_recordings_of_voices_are_not_among_the_signals():
    assert not any("Audio" in uid.name for uid in KINDS)
    assert all(uid.name.endswith("Waveform Storage") for uid in KINDS)
