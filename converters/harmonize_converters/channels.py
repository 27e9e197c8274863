"""From labels and units as found to canonical names, types, units and scales."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from harmonize_schemas import Channel, SignalStream, vocabulary

_TYPE_PREFIX = re.compile(r"^(EEG|ECG|EKG)[\s.:_-]+(?=\S)", re.IGNORECASE)
_REFERENCE_SUFFIX = re.compile(r"[\s-]+(REF|LE|AR|AVG|CAR|A1A2|M1M2|A1\+A2|M1\+M2)$", re.IGNORECASE)
_STATE_SUFFIX = re.compile(r"[\s_](off|status|imp|impedance)$", re.IGNORECASE)
"""What says how an electrode is, and is no signal of it (MESA's "EKG_Off")."""
_GENERIC = frozenset({"EEG", "EOG", "ECG", "EMG"})
_MASTOIDS = frozenset({"M1", "M2"})
_PAIRS = (frozenset({"EOG left", "EOG right"}), frozenset({"ECG1", "ECG2"}))
"""Derivations between electrodes that are not of the 10-05 system."""
_EDF_TYPES = {"eeg": "eeg", "ecg": "ecg", "ekg": "ecg", "eog": "eog", "emg": "emg"}
"""First words of EDF+ labels that name a type."""
LOCAL = "local:"
"""Before a name that means something in its own recording only, so that nobody takes it for the vocabulary's."""
_OTHER_SYSTEMS = (
    (re.compile(r"[AB]([3-9]|[1-3]\d)"), re.compile(r"[A-J]\d{1,2}")),
    (re.compile(r"E([3-9]|\d{2,3})"), re.compile(r"E\d{1,3}")),
)
"""Names that no scalp electrode of the 10-20 system has, and those that then belong to the same other system: letters
and numbers of BioSemi's ABC caps or of implanted electrodes, numbers of EGI's nets."""


@dataclass(frozen=True, slots=True)
class Name:
    """A channel's canonical name and type; ``mapped`` False where no vocabulary has it. ``anode`` and ``cathode``
    are those of a bipolar derivation."""

    name: str
    type: str
    mapped: bool
    reference: str | None = None
    anode: str | None = None
    cathode: str | None = None

    def typed(self, kind: str, label: str) -> Name:
        """The name of a channel whose type is known: a vocabulary's name for another type is not its name (a
        depth electrode "A1" is no mastoid), and becomes one of the recording's own ("local:A1")."""
        if self.type == kind:
            return self
        return Name(LOCAL + " ".join(label.split()) if self.mapped else self.name, kind, False)

    def fields(self) -> dict[str, Any]:
        """What it says of a ``Channel``."""
        return {name: getattr(self, name) for name in self.__slots__}


@cache
def _aliases() -> dict[str, str]:
    table: dict[str, str] = {}
    for term, entry in vocabulary("channels").items():
        for spelling in (term, *entry["aliases"]):
            table.setdefault(spelling.casefold(), term)
    return table


def canonical_names(labels: Sequence[str]) -> list[Name]:
    """Names of all channels of one recording. Where a neighbour is called "A3" or "B12", "A1" is no mastoid and
    "C3" not the electrode over the motor cortex: they are places in a system of their own, "local:A1"."""
    bare = list(map(_bare, labels))
    others = [of for sign, of in _OTHER_SYSTEMS if any(map(sign.fullmatch, bare))]

    def foreign(text: str) -> bool:
        return any(of.fullmatch(part.strip()) for of in others for part in text.split("-"))

    return [
        _local(label) if others and foreign(text) else canonical_name(label)
        for label, text in zip(labels, bare, strict=True)
    ]


def _local(label: str) -> Name:
    reference = _REFERENCE_SUFFIX.search(" ".join(label.split()))
    return Name(LOCAL + _bare(label), _unknown(label).type, False, reference.group(1).upper() if reference else None)


@lru_cache(maxsize=4096)
def _bare(label: str) -> str:
    """What is left of a label without its type and reference."""
    text = " ".join(label.split()).rstrip(". ")
    prefix = _TYPE_PREFIX.match(text)
    return _REFERENCE_SUFFIX.sub("", text[prefix.end() :] if prefix else text)


def _unknown(label: str) -> Name:
    """A label that is in no vocabulary: kept, with the type that its first word may name."""
    text = " ".join(label.split()).rstrip(". ")
    first = re.split(r"[\s.:_-]", text, maxsplit=1)[0].casefold()
    kind = None if _STATE_SUFFIX.search(text) else _EDF_TYPES.get(first)
    return Name(text or "unnamed", kind or "misc", False)


@lru_cache(maxsize=4096)
def canonical_name(label: str) -> Name:
    """A label as found ("EEG Fpz-REF", "Fc5.", "AVR") to its canonical name.

    EDF+ labels start with their type (edfplus.info/specs/edftexts.html); EEGMMIDB pads with dots. A
    label that is in no vocabulary, or could be several, is kept, with the type its EDF+ prefix names or "misc".
    Two electrodes with a hyphen are a bipolar derivation with an anode and a cathode: "FP1-F7" is Fp1-F7 and
    "C4-A1" is C4-M1. "REF", "LE" and the like behind a hyphen are the reference of all electrodes.
    """
    text = " ".join(label.split()).rstrip(". ")
    prefix = _TYPE_PREFIX.match(text)
    bare = text[prefix.end() :] if prefix else text
    reference = _REFERENCE_SUFFIX.search(bare)
    bare = bare[: reference.start()] if reference else bare
    for candidate in (text, bare):
        term = _aliases().get(candidate.casefold())
        if term and (candidate == text or _agree(prefix, candidate, _type(term))):
            found = reference.group(1).upper() if reference and candidate == bare else None
            return Name(term, _type(term), True, found)
    if derivation := _derivation(bare, None if prefix is None else prefix.group(1).casefold()):
        return derivation
    return _unknown(label)


def _type(term: str) -> str:
    kind: str = vocabulary("channels")[term]["type"]
    return kind


def _agree(prefix: re.Match[str] | None, bare: str, kind: str) -> bool:
    """Whether what follows a type ("EEG LOC") can be of that name: an "ECG C3" is no electrode on the scalp and an
    "EEG V1" no lead of the ECG; but "EEG EKG1" says what it is."""
    said = _EDF_TYPES[prefix.group(1).casefold()] if prefix else kind
    return said == kind or (said == "eeg" and (kind != "ecg" or bare.casefold().startswith(("ekg", "ecg"))))


def _derivation(text: str, prefix: str | None) -> Name | None:
    """One electrode minus another, where both are known and the pair is one that people record."""
    terms = [_aliases().get(part.strip().casefold(), "") for part in text.split("-")]
    if len(terms) != 2 or "" in terms or terms[0] == terms[1] or _GENERIC & set(terms):
        return None
    anode, cathode = terms
    kinds = (_type(anode), _type(cathode))
    if kinds == ("eeg", "eeg") and prefix in (None, "eeg"):
        return Name(f"{anode}-{cathode}", "eeg", True, anode=anode, cathode=cathode)
    if {anode, cathode} in _PAIRS:
        return Name(f"{anode}-{cathode}", kinds[0], True, anode=anode, cathode=cathode)
    if kinds[0] == "eog" and cathode in _MASTOIDS:  # the AASM's E1-M2: an eye, measured as all eyes are
        return Name(anode, "eog", True, cathode, anode=anode, cathode=cathode)
    return None


@cache
def _unit_spellings() -> dict[str, str]:
    return {
        unicodedata.normalize("NFKC", spelling): term
        for term, entry in vocabulary("units").items()
        for spelling in (term, *entry["spellings"])
    }


def known_unit(found: str) -> str | None:
    """The vocabulary's term for a unit as found, or None (never a guess; FIDELITY S05)."""
    return _unit_spellings().get(unicodedata.normalize("NFKC", found.strip()))


@lru_cache(maxsize=4096)
def unit_factor(found: str, channel_type: str) -> tuple[str | None, float, str | None]:
    """Unit of the values, factor from the unit found to it, and a flag where it is not canonical.

    ("mV", "eeg") -> ("µV", 1000.0, None); ("", "eeg") -> (None, 1.0, "unit_unknown"). A type without a
    physical unit of its own (misc, resp) keeps the unit found where that is known.
    """
    term = known_unit(found)
    canonical = vocabulary("channel_types")[channel_type]["unit"]
    if term is None:
        return None, 1.0, "unit_unknown"
    if canonical is None or canonical == "a.u.":
        return term, 1.0, None
    units = vocabulary("units")
    if units[term]["dimension"] != units[canonical]["dimension"]:
        return None, 1.0, "unit_mismatch"
    return canonical, float(Fraction(units[term]["factor"]) / Fraction(units[canonical]["factor"])), None


def plausible(channel: Channel) -> bool:
    """Whether the channel's physical range could be of its type (flagged, never fixed; FIDELITY S05)."""
    ceiling = vocabulary("channel_types")[channel.type].get("ceiling")
    rails = (channel.digital_min, channel.digital_max)
    if ceiling is None or channel.unit is None or None in rails:
        return True
    return all(abs(rail * channel.scale + channel.offset) <= ceiling for rail in rails if rail is not None)


def stream_flags(streams: Sequence[SignalStream]) -> set[str]:
    """Flags that follow from the streams' channels: each channel's own, and names that repeat in a stream."""
    flags = channel_flags(channel for stream in streams for channel in stream.channels)
    if any(len({channel.name for channel in stream.channels}) < len(stream.channels) for stream in streams):
        flags.add("duplicate_labels")
    return flags


def channel_flags(channels: Iterable[Channel]) -> set[str]:
    """Flags that follow from each channel alone."""
    flags: set[str] = set()
    for channel in channels:
        if not channel.calibrated:
            flags.add("uncalibrated")
        if not channel.mapped:
            flags.add("channel_unmapped")
        if channel.scale < 0:
            flags.add("negative_gain")
        if not plausible(channel):
            flags.add("unit_implausible")
        if channel.type != "trigger" and (flag := unit_factor(channel.unit_found, channel.type)[2]):
            flags.add(flag)
    return flags


def modality_of(types: Iterable[str]) -> str:
    """The modality that the channel types make: one brain/heart/muscle kind alone is its own modality, EEG
    with breathing or oxygen is a polysomnogram, all else is "biosignal"."""
    kinds = set(types) - {"misc", "trigger"}
    if "eeg" in kinds and kinds & {"resp", "airflow", "spo2"}:
        return "psg"
    if "eeg" in kinds and kinds <= {"eeg", "eog", "emg", "ecg"}:
        return "eeg"
    if len(kinds) == 1 and (only := next(iter(kinds))) in {"ecg", "emg", "eog", "ieeg"}:
        return only
    return "biosignal"
