"""BIDS: what a tree of the Brain Imaging Data Structure says about a file (bids-specification.readthedocs.io 1.10).

Entities of the file name; rows of participants, sessions and scans; JSON sidecars by the inheritance principle;
events, channels and electrodes beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from harmonize.ingest.find import found_file
from harmonize.ingest.recipes import RecipeError
from harmonize.ingest.tables import Row, TableRows, read_table
from harmonize_converters.channels import canonical_name
from harmonize_converters.contract import FoundFile
from harmonize_schemas import ChannelRule, EventSource, Table

LIMIT_BYTES = 1 << 24
MISSING = frozenset({"", "n/a"})
ENTITIES = {"sub": "subject", "ses": "session"}
"""Entities that are fields of the schema; the others keep their BIDS names ("task", "run")."""
TYPES = {
    "EEG": "eeg", "EOG": "eog", "HEOG": "eog", "VEOG": "eog", "ECG": "ecg", "EMG": "emg",
    "ECOG": "ieeg", "SEEG": "ieeg", "DBS": "ieeg",
    "MEGMAG": "meg_mag", "MEGGRADPLANAR": "meg_grad", "MEGGRADAXIAL": "meg_grad_axial",
    "MEGREFMAG": "meg_ref", "MEGREFGRADAXIAL": "meg_ref", "MEGREFGRADPLANAR": "meg_ref",
    "GSR": "eda", "PPG": "ppg", "RESP": "resp", "TEMP": "temperature", "TRIG": "trigger",
    "ACCEL": "acceleration", "ACC": "acceleration", "AUDIO": "sound", "MISC": "misc", "OTHER": "misc", "REF": "misc",
}  # fmt: skip
"""Channel types of BIDS to ours; any other is left to the channel's name."""
MODALITIES = {
    "anat": "mr", "func": "mr", "dwi": "mr", "fmap": "mr", "perf": "mr", "mrs": "mr",
    "pet": "pt", "eeg": "eeg", "ieeg": "ieeg", "meg": "meg", "emg": "emg",
}  # fmt: skip
"""Data types (names of the folders that hold the data) to modalities."""
RAS_SYSTEMS = frozenset({"CapTrak", "ACPC"})
"""Coordinate systems in the subject's head whose axes go right, anterior, superior (appendix "Coordinate systems")."""
_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0}


@dataclass(frozen=True)
class BidsFacts:
    """What the tree says about one file."""

    path: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Row | None] = field(default_factory=dict)
    sidecar: Mapping[str, object] = field(default_factory=dict)
    events: tuple[tuple[EventSource, FoundFile], ...] = ()
    channels: Mapping[str, ChannelRule] = field(default_factory=dict)


def entities(name: str) -> tuple[dict[str, str], str]:
    """ "sub-01_task-rest_eeg.edf" -> ({"sub": "01", "task": "rest"}, "eeg")."""
    stem = name.partition(".")[0]
    *pairs, suffix = stem.split("_")
    found = (pair.partition("-") for pair in pairs)
    return {key: value for key, dash, value in found if dash}, suffix


class BidsTree:
    """The BIDS data sets below one folder. Every file beside the data is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tables: dict[Path, TableRows | None] = {}
        self._folders: dict[Path, list[Path]] = {}
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
        kind = MODALITIES.get(file.parent.name)
        named = {ENTITIES.get(key, key): value for key, value in found.items()}
        return BidsFacts(
            path=named | ({"modality": kind} if kind else {}),
            # A table that is not there is no table without a row.
            rows={name: row for name, row in rows.items() if row is not None},
            sidecar=sidecar,
            events=tuple(self._events(file, top)),
            channels=self._channels(file, top),
        )

    def _top(self, file: Path) -> Path:
        """The data set that a file is in: the nearest folder with a dataset_description.json."""
        for folder in file.parents:
            if (folder / "dataset_description.json").exists() or folder == self._root:
                return folder
        return self._root

    def _row(self, file: Path, key: str, value: str) -> Row | None:
        if file not in self._tables:
            self._tables[file] = _read_tsv(file, key)
        table = self._tables[file]
        return table.row((value,)) if table else None

    def _inherited(self, file: Path, top: Path, suffix: str, ending: str) -> list[Path]:
        """Files that apply to a data file: in its folder or above, of one suffix, with no entity that it lacks
        (but "space", which tells electrodes of several coordinate systems apart).

        In the order in which later ones override earlier ones: from the top down, fewer entities first.
        """
        own = entities(file.name)[0].items()
        folders = [folder for folder in [file.parent, *file.parent.parents] if folder == top or top in folder.parents]
        applicable: list[Path] = []
        for folder in reversed(folders):
            here = []
            for one in self._listing(folder):
                if one.name.endswith(f"{suffix}{ending}"):
                    found, of = entities(one.name)
                    if of == suffix and {key: found[key] for key in found if key != "space"}.items() <= own:
                        here.append((len(found), one))
            applicable += [one for _, one in sorted(here)]
        return applicable

    def _listing(self, folder: Path) -> list[Path]:
        if folder not in self._folders:
            self._folders[folder] = [one for one in folder.iterdir() if one.suffix in (".json", ".tsv")]
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

    def _channels(self, file: Path, top: Path) -> dict[str, ChannelRule]:
        """Rules from channels.tsv and electrodes.tsv, by channel label."""
        rules: dict[str, ChannelRule] = {}
        for one in self._inherited(file, top, "channels", ".tsv")[-1:]:
            for row in _rows(one):
                if name := row.get("name"):
                    rules[name] = _rule(row)
        for name, position in self._positions(file, top).items():
            rules[name] = rules.get(name, ChannelRule()).model_copy(update={"position": position})
        return rules

    def _positions(self, file: Path, top: Path) -> dict[str, tuple[float, float, float]]:
        """Positions in mm, from coordinate systems whose axes are RAS in the subject's head."""
        systems = self._inherited(file, top, "coordsystem", ".json")
        for table in reversed(self._inherited(file, top, "electrodes", ".tsv")):
            space = entities(table.name)[0].get("space")
            system: dict[str, object] = {}
            for one in systems:
                if entities(one.name)[0].get("space") == space:
                    system |= self._load(one)
            for kind in ("EEG", "iEEG", "EMG"):
                factor = _MM.get(str(system.get(f"{kind}CoordinateUnits")))
                if factor is not None and system.get(f"{kind}CoordinateSystem") in RAS_SYSTEMS:
                    return _places(table, factor)
        return {}


def _places(table: Path, factor: float) -> dict[str, tuple[float, float, float]]:
    found: dict[str, tuple[float, float, float]] = {}
    for row in _rows(table):
        x, y, z = (_number(row.get(axis)) for axis in "xyz")
        if row.get("name") and x is not None and y is not None and z is not None:
            found[str(row["name"])] = (factor * x, factor * y, factor * z)
    return found


def _rule(row: Row) -> ChannelRule:
    """A row of channels.tsv. A type that the name contradicts counts: people wrote it down."""
    name, kind, unit, status = ((row.get(key) or "").strip() for key in ("name", "type", "units", "status"))
    known = canonical_name(name)
    own = TYPES.get(kind.upper())
    return ChannelRule(
        type=own if own and own != known.type else None,
        unit=unit if unit not in MISSING else None,
        status=status if status in ("good", "bad") else None,  # type: ignore[arg-type]
    )


def _number(text: str | None) -> float | None:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text or ""):
        return None
    return float(text or "")


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
