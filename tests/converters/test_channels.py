"""Names, units and modalities of channels (FIDELITY S05)."""

from __future__ import annotations

import pytest

from harmonize_converters.channels import (
    canonical_name,
    channel_flags,
    known_unit,
    modality_of,
    plausible,
    unit_factor,
)
from harmonize_schemas import Channel, vocabulary


@pytest.mark.parametrize(
    ("label", "name", "kind", "reference"),
    [
        ("EEG Fpz", "Fpz", "eeg", None),
        ("EEG Fpz-REF", "Fpz", "eeg", "REF"),
        ("Fc5.", "FC5", "eeg", None),
        ("Iz..", "Iz", "eeg", None),
        ("AVR", "aVR", "ecg", None),
        ("aVR", "aVR", "ecg", None),
        ("ECG II", "II", "ecg", None),
        ("EOG ROC", "EOG right", "eog", None),
        ("SaO2 SpO2", "SpO2", "spo2", None),
        ("Status", "Status", "trigger", None),
        ("  EEG   Cz ", "Cz", "eeg", None),
        ("EEG Fpz-Cz", "Fpz-Cz", "eeg", None),
        ("FP1-F7", "Fp1-F7", "eeg", None),
        ("C4-A1", "C4-M1", "eeg", None),
    ],
)
def test_labels_to_canonical_names(label: str, name: str, kind: str, reference: str | None) -> None:
    found = canonical_name(label)
    assert (found.type, found.mapped, found.reference) == (kind, True, reference)
    assert found.name.casefold() == name.casefold()


@pytest.mark.parametrize(
    ("label", "name", "kind"),
    [("EEG left ear", "EEG left ear", "eeg"), ("flux capacitor", "flux capacitor", "misc"), ("", "unnamed", "misc")],
)
def test_unknown_labels_are_kept(label: str, name: str, kind: str) -> None:
    found = canonical_name(label)
    assert (found.name, found.type, found.mapped) == (name, kind, False)


def test_every_spelling_of_a_channel_means_one_term() -> None:
    for term, entry in vocabulary("channels").items():
        for spelling in (term, *entry["aliases"]):
            assert canonical_name(spelling).name == term, spelling


@pytest.mark.parametrize(
    ("found", "kind", "expected"),
    [
        ("uV", "eeg", ("µV", 1.0, None)),
        ("\u00b5V", "eeg", ("µV", 1.0, None)),
        ("\u03bcV", "eeg", ("µV", 1.0, None)),
        ("mV", "eeg", ("µV", 1000.0, None)),
        ("nV", "eeg", ("µV", 0.001, None)),
        ("V", "eeg", ("µV", 1_000_000.0, None)),
        ("uV", "ecg", ("mV", 0.001, None)),
        ("mv", "ecg", ("mV", 1.0, None)),
        ("uS", "eda", ("µS", 1.0, None)),
        ("%", "spo2", ("%", 1.0, None)),
        ("cmH2O", "pressure", ("mmHg", pytest.approx(0.73556, rel=1e-4), None)),
        ("mV", "misc", ("mV", 1.0, None)),
        ("", "eeg", (None, 1.0, "unit_unknown")),
        ("furlong", "eeg", (None, 1.0, "unit_unknown")),
        ("degC", "eeg", (None, 1.0, "unit_mismatch")),
    ],
)
def test_s05_units(found: str, kind: str, expected: tuple[str | None, float, str | None]) -> None:
    assert unit_factor(found, kind) == expected


def test_s05_case_matters_where_it_changes_the_unit() -> None:
    assert known_unit("mV") == "mV"
    assert known_unit("MV") is None


def _channel(**fields: object) -> Channel:
    values: dict[str, object] = {
        "label": "Cz",
        "name": "Cz",
        "mapped": True,
        "type": "eeg",
        "unit_found": "uV",
        "unit": "µV",
        "scale": 1.0,
        "offset": 0.0,
        "digital_min": -32768,
        "digital_max": 32767,
    }
    return Channel.model_validate(values | fields)


def test_s05_implausible_units_are_flagged() -> None:
    assert plausible(_channel())
    volts = _channel(unit_found="V", scale=1e6)
    assert not plausible(volts)
    assert channel_flags([volts]) == {"unit_implausible"}


def test_flags_that_channels_give() -> None:
    assert channel_flags([_channel()]) == set()
    assert channel_flags([_channel(calibrated=False)]) == {"uncalibrated"}
    assert channel_flags([_channel(scale=-1.0)]) == {"negative_gain"}
    assert channel_flags([_channel(mapped=False)]) == {"channel_unmapped"}
    assert channel_flags([_channel(unit_found="", unit=None)]) == {"unit_unknown"}
    assert channel_flags([_channel(type="trigger", unit_found="Boolean", unit=None)]) == set()


@pytest.mark.parametrize(
    ("types", "modality"),
    [
        (["eeg", "eeg"], "eeg"),
        (["eeg", "eog", "trigger", "misc"], "eeg"),
        (["eeg", "resp"], "psg"),
        (["eeg", "spo2", "ecg"], "psg"),
        (["ecg"], "ecg"),
        (["emg"], "emg"),
        (["ecg", "pressure"], "biosignal"),
        (["misc"], "biosignal"),
        ([], "biosignal"),
    ],
)
def test_modalities(types: list[str], modality: str) -> None:
    assert modality_of(types) == modality
