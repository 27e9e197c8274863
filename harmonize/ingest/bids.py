"""BIDS: what a tree of the Brain Imaging Data Structure says about a file (bids-specification.readthedocs.io 1.10).

Entities of the file name; rows of participants, sessions and scans; JSON sidecars by the inheritance principle;
events, channels and electrodes beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from harmonize.ingest.bids_channels import MISSING, channel_names, channel_rules, reference
from harmonize.ingest.find import found_file
from harmonize.ingest.recipes import RecipeError
from harmonize.ingest.tables import Row, TableRows, read_table
from harmonize_converters._bids_names import DESCRIPTION, entities, inherited
from harmonize_converters.contract import FoundFile
from harmonize_schemas import ChannelRule, EventSource, Table

LIMIT_BYTES = 1 << 24
ENTITIES = {"sub": "subject", "ses": "session"}
"""Entities that are fields of the schema; the others keep their BIDS names ("task", "run")."""
MODALITIES = {
    "anat": "mr", "func": "mr", "dwi": "mr", "fmap": "mr", "perf": "mr", "mrs": "mr",
    "pet": "pt", "eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "emg": "emg",
}  # fmt: skip
"""Data types (names of the folders that hold the data) to modalities."""
REFERENCES = ("EEGReference", "iEEGReference", "EMGReference")
"""Keys of the sidecars that say what electrodes are measured against."""
_UNITS = {
    "age": {"year": 1, "years": 1, "yr": 1, "yrs": 1, "y": 1, "a": 1, "month": 1 / 12, "months": 1 / 12,
            "week": 7 / 365.25, "weeks": 7 / 365.25, "day": 1 / 365.25, "days": 1 / 365.25, "d": 1 / 365.25},
    "height": {"cm": 1, "m": 100, "mm": 0.1, "in": 2.54, "inch": 2.54, "inches": 2.54, "ft": 30.48},
    "weight": {"kg": 1, "g": 1e-3, "lb": 0.45359237, "lbs": 0.45359237},
}  # fmt: skip
"""Units in years, cm and kg that a table's own description (participants.json) may name."""


@dataclass(frozen=True)
class BidsFacts:
    """What the tree says about one file."""

    path: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Row | None] = field(default_factory=dict)
    sidecar: Mapping[str, object] = field(default_factory=dict)
    events: tuple[tuple[EventSource, FoundFile], ...] = ()
    channels: Mapping[str, ChannelRule] = field(default_factory=dict)


class BidsTree:
    """The BIDS data sets below one folder. Every file beside the data is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tables: dict[Path, TableRows | None] = {}
        self._folders: dict[Path, Mapping[str, Path]] = {}
        self._json: dict[Path, Mapping[str, object]] = {}

    def facts(self, file: Path) -> BidsFacts:
        """What the tree says about a data file. What is damaged in it is left out."""
        top = self._top(file)
        found, suffix = entities(file.name)
        if "sub" not in found:
            return BidsFacts()
        subject = f"sub-{found['sub']}"
        folder, stem = top / subject, subject
        rows = {"participants": self._row(top / "participants.tsv", "participant_id", subject)}
        if "ses" in found:
            rows["sessions"] = self._row(folder / f"{subject}_sessions.tsv", "session_id", f"ses-{found['ses']}")
            folder, stem = folder / f"ses-{found['ses']}", f"{subject}_ses-{found['ses']}"
        if folder in file.parents:
            inner = file.relative_to(folder).as_posix()
            rows["scans"] = self._row(folder / f"{stem}_scans.tsv", "filename", inner)
        sidecar: dict[str, object] = {}
        for one in self._inherited(file, top, suffix, ".json"):
            sidecar |= self._load(one)
        sidecar = {name: value for name, value in sidecar.items() if value not in ("", "n/a")}
        named = {ENTITIES.get(key, key): value for key, value in found.items()}
        if kind := MODALITIES.get(file.parent.name):
            named["modality"] = kind
        channels, electrodes = self._around(file, top)
        against = next((str(sidecar[name]) for name in REFERENCES if name in sidecar), None)
        if against := reference(against, channel_names(channels)):
            named["reference"] = against
        return BidsFacts(
            path=named,
            # A table that is not there is no table without a row; only participants must be all in theirs.
            rows={
                name: row
                for name, row in rows.items()
                if row is not None or (name == "participants" and self._tables[top / "participants.tsv"])
            },
            sidecar=sidecar,
            events=tuple(self._events(file, top)),
            channels=channel_rules(channels, electrodes),
        )

    def _top(self, file: Path) -> Path:
        """The data set that a file is in: the nearest folder with a dataset_description.json."""
        for folder in file.parents:
            if (folder / DESCRIPTION).exists() or folder == self._root:
                return folder
        return self._root

    def _row(self, file: Path, key: str, value: str) -> Row | None:
        if file not in self._tables:
            self._tables[file] = _read_tsv(file, key)
        table = self._tables[file]
        row = table.row((value,)) if table else None
        if row is None:
            return None
        about = file.with_suffix(".json")
        return in_units(row, self._load(about) if about.is_file() else {})

    def _inherited(self, file: Path, top: Path, suffix: str, ending: str) -> list[Path]:
        """Files that apply to a data file, in the order in which later ones override earlier ones."""
        folders = [folder for folder in [file.parent, *file.parent.parents] if folder == top or top in folder.parents]
        return inherited(file.name, suffix, ending, map(self._listing, reversed(folders)))

    def _listing(self, folder: Path) -> Mapping[str, Path]:
        if folder not in self._folders:
            self._folders[folder] = {one.name: one for one in folder.iterdir() if one.suffix in (".json", ".tsv")}
        return self._folders[folder]

    def _load(self, file: Path) -> Mapping[str, object]:
        if file not in self._json:
            self._json[file] = _read_json(file)
        return self._json[file]

    def _events(self, file: Path, top: Path) -> Iterator[tuple[EventSource, FoundFile]]:
        applicable = self._inherited(file, top, "events", ".tsv")
        if not applicable:
            return
        with applicable[-1].open(encoding="utf-8-sig", errors="replace") as opened:
            columns = opened.readline().rstrip("\r\n").split("\t")
        if "onset" in columns:
            label = next((name for name in ("trial_type", "value") if name in columns), None)
            duration = "duration" if "duration" in columns else None
            source = EventSource(file=applicable[-1].name, duration=duration, label=label, separator="\t")
            yield source, found_file(applicable[-1], self._root)

    def _around(self, file: Path, top: Path) -> tuple[list[Row], list[tuple[list[Row], Mapping[str, object]]]]:
        """Rows of channels.tsv, and those of each electrodes.tsv with its coordinate system, the nearest first."""
        channels = [row for one in self._inherited(file, top, "channels", ".tsv")[-1:] for row in _rows(one)]
        systems = self._inherited(file, top, "coordsystem", ".json")
        electrodes: list[tuple[list[Row], Mapping[str, object]]] = []
        for table in reversed(self._inherited(file, top, "electrodes", ".tsv")):
            space = entities(table.name)[0].get("space")
            system: dict[str, object] = {}
            for one in systems:
                if entities(one.name)[0].get("space") == space:
                    system |= self._load(one)
            electrodes.append((list(_rows(table)), system))
        return channels, electrodes


def in_units(row: Row, described: Mapping[str, object]) -> Row:
    """A row of a table of people with "age" in years, "height" in cm and "weight" in kg, by the ``Units`` that the
    table's description names. BIDS counts ages in years where it names none; a height or weight without a unit, or
    in one that is not known, is left out."""
    out = dict(row)
    for name, factors in _UNITS.items():
        said = described.get(name)
        unit = said.get("Units") if isinstance(said, dict) else None
        text = row.get(name)
        if text is None or (name == "age" and unit is None):
            continue
        factor = factors.get(unit.strip().casefold()) if isinstance(unit, str) else None
        if factor is None:
            out[name] = None
        elif factor != 1:
            try:
                out[name] = repr(float(text) * factor)
            except ValueError:
                out[name] = None
    return out


def _rows(file: Path) -> Iterator[Row]:
    table = _frame(file)
    return table.iter_rows(named=True) if table is not None else iter(())


def _read_tsv(file: Path, key: str) -> TableRows | None:
    frame = _frame(file)
    if frame is None or key not in frame.columns:
        return None
    return TableRows(frame, (key,), file.stem)


def _frame(file: Path) -> pl.DataFrame | None:
    """A TSV as text, "n/a" as missing; None where it is not there or cannot be read."""
    if not file.is_file() or file.stat().st_size > LIMIT_BYTES:
        return None
    try:
        frame = read_table(file, Table(file=file.name, key=("",)))
    except RecipeError:
        return None
    return frame.with_columns(pl.when(pl.all().is_in(sorted(MISSING))).then(None).otherwise(pl.all()).name.keep())


def _read_json(file: Path) -> Mapping[str, object]:
    if file.stat().st_size > LIMIT_BYTES:
        return {}
    try:
        found = json.loads(file.read_text("utf-8-sig"))
    except (ValueError, RecursionError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
