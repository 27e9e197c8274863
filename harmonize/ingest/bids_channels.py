"""BIDS channels.tsv, electrodes.tsv and coordsystem.json to channel rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from harmonize.ingest.tables import Row
from harmonize_converters.channels import canonical_name, canonical_names
from harmonize_schemas import ChannelRule, vocabulary

TYPES = {
    "EEG": "eeg", "EOG": "eog", "HEOG": "eog", "VEOG": "eog", "ECG": "ecg", "EMG": "emg",
    "ECOG": "ieeg", "SEEG": "ieeg", "DBS": "ieeg",
    "MEGMAG": "meg_mag", "MEGGRADPLANAR": "meg_grad", "MEGGRADAXIAL": "meg_grad_axial",
    "MEGREFMAG": "meg_ref", "MEGREFGRADAXIAL": "meg_ref", "MEGREFGRADPLANAR": "meg_ref",
    "GSR": "eda", "PPG": "ppg", "RESP": "resp", "TEMP": "temperature", "TRIG": "trigger",
    "ACCEL": "acceleration", "ACC": "acceleration", "AUDIO": "sound", "MISC": "misc", "OTHER": "misc", "REF": "misc",
}  # fmt: skip
"""Channel types of BIDS to ours; any other is left to the channel's name."""
FRAMES = {"CapTrak": "head", "ACPC": "acpc"}
"""Coordinate systems of the subject's own head whose axes go right, anterior, superior (appendix "Coordinate
systems"), and where their origin is. Templates (MNI, fsaverage) are other heads, "Other" says nothing, "Pixels" are
places on a picture, and an EMG's system is of a limb: none of these is a position in the head."""
MISSING = frozenset({"", "n/a"})
_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0}


def channel_rules(
    channels: Sequence[Row], electrodes: Iterable[tuple[Sequence[Row], Mapping[str, object]]]
) -> dict[str, ChannelRule]:
    """Rules by channel label, from the rows of channels.tsv and of each electrodes.tsv with its coordinate system."""
    own = channel_names(channels)
    rules = {name: _rule(row, own) for row in channels if (name := row.get("name"))}
    for rows, system in electrodes:
        if placed := _places(rows, system):
            for name, place in placed.items():
                rules[name] = rules.get(name, ChannelRule()).model_copy(update=place)
            break
    return rules


def channel_names(channels: Iterable[Row]) -> dict[str, str]:
    """Canonical names of channels by label: a depth electrode "A1" is no mastoid."""
    rows = {label: row for row in channels if (label := row.get("name"))}
    return {
        label: known.typed(_type(rows[label]) or known.type, label).name
        for label, known in zip(rows, canonical_names(list(rows)), strict=True)
    }


def reference(text: str | None, own: Mapping[str, str]) -> str | None:
    """What a reference as found means: one of the recording's ``own`` channels, a term, or an electrode of the
    10-05 system.

    Any other text is free text, which may name people, and says too little to be compared: None.
    """
    found = " ".join((text or "").split())
    if found in own:
        return own[found]
    known = canonical_name(found)
    electrode = known.mapped and known.type == "eeg" and known.reference is None
    return _references().get(found.casefold()) or (known.name if electrode else None)


@cache
def _references() -> dict[str, str]:
    terms = vocabulary("references")
    return {spelling.casefold(): term for term, entry in terms.items() for spelling in entry["spellings"]}


def _type(row: Row) -> str | None:
    return TYPES.get((row.get("type") or "").strip().upper())


def _rule(row: Row, own: Mapping[str, str]) -> ChannelRule:
    """A row of channels.tsv. Its type counts also where the name contradicts it: people wrote it down."""
    unit, status = ((row.get(key) or "").strip() for key in ("units", "status"))
    return ChannelRule(
        type=_type(row),
        unit=unit if unit not in MISSING else None,
        reference=reference(row.get("reference"), own),
        status=status if status in ("good", "bad") else None,  # type: ignore[arg-type]
    )


def _places(rows: Sequence[Row], system: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Positions in mm and their frame, by electrode; none from a system that is not of the subject's head."""
    for kind in ("EEG", "iEEG"):
        factor = _MM.get(str(system.get(f"{kind}CoordinateUnits")))
        frame = FRAMES.get(str(system.get(f"{kind}CoordinateSystem")))
        if factor is not None and frame is not None:
            break
    else:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        x, y, z = (_number(row.get(axis)) for axis in "xyz")
        if row.get("name") and x is not None and y is not None and z is not None:
            place = (factor * x, factor * y, factor * z)
            found[str(row["name"])] = {"position": place, "position_frame": frame}
    return found


def _number(text: str | None) -> float | None:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text or ""):
        return None
    return float(text or "")
