"""What the channels of DICOM waveforms measure: published codes of their sources to channel names (PS3.16 CID 3001,
3003-3005, 3030, 3034)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydicom import uid
from pydicom.dataset import Dataset

from harmonize_converters._dicom_codes import concepts, current_code, published_meaning
from harmonize_converters._dicom_header import lenient_text
from harmonize_converters.channels import Name, canonical_name

KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            uid.TwelveLeadECGWaveformStorage,
            uid.GeneralECGWaveformStorage,
            uid.AmbulatoryECGWaveformStorage,
            uid.General32bitECGWaveformStorage,
        ),
        "ecg",
    ),
    uid.RoutineScalpElectroencephalogramWaveformStorage: "eeg",
    uid.SleepElectroencephalogramWaveformStorage: "eeg",
    uid.ElectromyogramWaveformStorage: "emg",
    uid.ElectrooculogramWaveformStorage: "eog",
    uid.BodyPositionWaveformStorage: "position",
    uid.RespiratoryWaveformStorage: "resp",
    uid.MultichannelRespiratoryWaveformStorage: "resp",
    uid.HemodynamicWaveformStorage: "misc",
    uid.CardiacElectrophysiologyWaveformStorage: "misc",
    uid.ArterialPulseWaveformStorage: "misc",
}
"""SOP classes of waveforms (PS3.4 B.5), and the type of a channel whose own source does not say it. Recordings of
voices are not among them."""
_ECG_LEADS = {
    **{1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 16: "VX", 17: "VY", 18: "VZ"},
    **{number + 2: f"V{number}" for number in range(1, 8)},
    **{number + 8: f"V{number}R" for number in range(3, 8)},
    **{66: "V8", 67: "V9"},
}
"""Leads by their numbers in SCP-ECG (EN 1064 5.6.3), which are those of ISO/IEEE 11073-10101 as well."""
_SOURCES: Mapping[str, tuple[str, str]] = {
    **{f"SCPECG:5.6.3-9-{number}": (lead, "ecg") for number, lead in _ECG_LEADS.items()},
    **{f"MDC:2:{number}": (lead, "ecg") for number, lead in _ECG_LEADS.items()},
    "SCT:128446002": ("ABP", "pressure"),
    "SCT:128445003": ("CVP", "pressure"),
    "SCT:128443005": ("PAP", "pressure"),
    "SCT:128436004": ("Resp", "resp"),
    "SCT:128437008": ("Temp", "temperature"),
    "DCM:109117": ("Resp", "resp"),
    "DCM:130433": ("Resp", "resp"),
    "DCM:130421": ("Airflow", "airflow"),
    "DCM:130431": ("Resp chest", "resp"),
    "DCM:130432": ("Resp abdomen", "resp"),
    "DCM:130410": ("Position", "position"),
}
"""Code of a source to the vocabulary's name for it and its type."""
_TYPES: Mapping[str, str] = {
    **dict.fromkeys((f"DCM:{number}" for number in range(130416, 130421)), "airflow"),
    **dict.fromkeys((f"DCM:{number}" for number in range(130427, 130431)), "resp"),
    **dict.fromkeys(
        ("SCT:128433007", "SCT:128444004", "SCT:128442000", "SCT:128441007", "SCT:128438003", "SCT:128440008"),
        "pressure",
    ),
    **dict.fromkeys(("SCT:128439006", "SCT:128448001", "SCT:128449009", "DCM:130422", "DCM:130425"), "pressure"),
}
"""Type of a source that the vocabulary has no name for."""
_POTENTIALS = ("ecg", "emg", "eog")
_DIFFERENTIAL = "DCM:109006"


def channel_name(definition: Dataset, number: int, kind: str) -> tuple[str, Name]:
    """Label and name of a channel (an item of ChannelDefinitionSequence), the ``number``-th of its group from 1 on, in
    an object of ``kind``. A code says what it is; the label does where there is none."""
    code = current_code(definition, "ChannelSourceSequence") or ""
    meaning = published_meaning(*code.split(":", 1)) if code else None
    known = _SOURCES.get(code)
    label = lenient_text(definition, "ChannelLabel") or (known[0] if known else meaning) or f"channel {number}"
    if known:
        return label, Name(*known, mapped=True)
    if _is_electrode(code) and (electrodes := _electrodes(definition, meaning)):
        found = canonical_name(electrodes)
        if found.mapped:
            return label, found
    found = canonical_name(label)
    if code in _TYPES:
        return label, found.typed(_TYPES[code], label)
    if kind in _POTENTIALS or not found.mapped:  # a "C3" between muscles is no electrode over the brain
        return label, found.typed(kind, label)
    return label, found


def _is_electrode(code: str) -> bool:
    """Whether a code is of the partition of ISO/IEEE 11073-10101 that holds the electrodes of the 10-10 system."""
    return re.fullmatch(r"MDC:7:\d+|DCM:13071\d", code) is not None


def _electrodes(definition: Dataset, anode: str | None) -> str | None:
    """ "Fp1", or "Fp1-F7" for a differential signal (PS3.3 C.10.9.1.4.1); None where the other one is not named."""
    modifiers = [one for one in concepts(definition, "ChannelSourceModifiersSequence") if one is not None]
    if all(one.code != _DIFFERENTIAL for one in modifiers):
        return anode
    cathode = next((one.meaning for one in modifiers if _is_electrode(one.code)), None)
    return f"{anode}-{cathode}" if cathode else None
