"""The catalog: Delta tables that say which recordings exist and where they lie (DESIGN 5).

The commit to ``recordings`` is the one that makes things visible. Rows of ``streams``, ``annotations``,
``labels`` and ``sources`` are appended before it and carry the same ``commit``; a row counts only if
``recordings`` names its recording with that commit. So one Delta commit is atomic over all tables, and a
version of ``recordings`` is a version of the store.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from harmonize.store.errors import StoreError
from harmonize.store.frames import frame_of
from harmonize.store.object_path import answers
from harmonize.store.place import Place, open_table, scan_options, table_options
from harmonize.store.quality import STATISTICS

TEXT, REAL, INT, BOOL = pl.String(), pl.Float64(), pl.Int64(), pl.Boolean()
TEXTS, REALS, INTS = pl.List(TEXT), pl.List(REAL), pl.List(INT)
TABLES: dict[str, dict[str, pl.DataType]] = {
    "recordings": {
        "recording_id": TEXT, "dataset": TEXT, "subject": TEXT, "session": TEXT, "site": TEXT,
        "series": TEXT, "frame_of_reference": TEXT, "derived_from": TEXTS, "segment_types": TEXTS,
        "device_maker": TEXT, "device_model": TEXT, "device_id": TEXT,
        "device_software": TEXT, "reference": TEXT, "field_strength_t": REAL,
        "modality": TEXT, "age": REAL, "age_pooled": BOOL, "sex": TEXT,
        "height_cm": REAL, "weight_kg": REAL, "handedness": TEXT, "fold": TEXT,
        "start_s": REAL, "duration_s": REAL, "line_frequency_hz": INT, "n_streams": INT, "image": TEXT,
        "format": TEXT, "flags": TEXTS, "source": TEXT, "source_root": TEXT, "source_state": TEXT,
        "converter": TEXT, "recipe_sha256": TEXT, "bytes": INT, "content": TEXT, "document": TEXT,
        "commit": TEXT,
    },
    "streams": {
        "recording_id": TEXT, "stream": TEXT, "stream_index": INT, "part": TEXT, "row": INT, "start": INT,
        "n_samples": INT, "rate_num": INT, "rate_den": INT, "dtype": TEXT, "layout": TEXT,
        "channels": TEXTS, "types": TEXTS, "units": TEXTS, "scale": REALS, "offset": REALS, "missing": REALS,
        "segment_start": INTS, "segment_samples": INTS, "segment_onset_s": REALS, "content": TEXTS,
        **dict.fromkeys(STATISTICS, REALS), "commit": TEXT,
    },
    "annotations": {
        "recording_id": TEXT, "onset_s": REAL, "duration_s": REAL, "label": TEXT, "text": TEXT,
        "channel": INT, "subtype": INT, "number": INT, "source": TEXT, "commit": TEXT,
    },
    "labels": {
        "recording_id": TEXT, "name": TEXT, "kind": TEXT, "value": TEXT, "number": REAL, "commit": TEXT,
    },
    "sources": {
        "recording_id": TEXT, "role": TEXT, "size": INT, "sha256": TEXT, "shared": BOOL, "commit": TEXT,
    },
    "failures": {
        "source": TEXT, "dataset": TEXT, "format": TEXT, "code": TEXT, "message": TEXT, "where": TEXT,
        "commit": TEXT,
    },
}  # fmt: skip
"""Columns of each table. Ids and sources are pseudonyms unless privacy is "keep"; ``source_state`` is a
keyed digest of the files' sizes and times; ``start`` is the first sample in the part; ``content`` is a
SHA-256 of each channel's native samples (of all voxels, in ``recordings``); ``document`` is that of a
recording of events alone (all others' lie beside their samples). ``STATISTICS`` of each channel are explained
in ``harmonize.store.quality``. Labels are long: one row a value, several for a multi-label. ``sources`` has a row
a file; ``shared`` files hold other recordings too."""
DERIVED: dict[str, dict[str, pl.DataType]] = {
    "datasets": {
        "dataset": TEXT, "title": TEXT, "version": TEXT, "url": TEXT, "licence": TEXT, "licence_url": TEXT,
        "citation": TEXTS, "access": TEXT, "access_note": TEXT, "privacy": TEXT, "privacy_statement": TEXT,
        "text_deidentified": TEXT,
    },
    "duplicates": {
        "recording_a": TEXT, "recording_b": TEXT, "kind": TEXT, "similarity": REAL, "channels": INT,
        "overlap_s": REAL, "lag_s": REAL,
    },
    "splits": {
        "split": TEXT, "recording_id": TEXT, "group": TEXT, "side": TEXT, "reason": TEXT,
    },
    "runs": {
        "run": TEXT, "ended": TEXT, "seconds": REAL, "dataset": TEXT, "recipe_sha256": TEXT, "options": TEXT,
        "versions": TEXT, "machine": TEXT, "converted": INT, "unchanged": INT, "failed": INT, "vanished": INT,
        "bytes": INT, "version": INT,
    },
    "trees": {
        "dataset": TEXT, "tree": TEXT, "digest": TEXT, "recordings": TEXTS, "failed": TEXTS,
    },
    "split_runs": {
        "split": TEXT, "method": TEXT, "parameters": TEXT, "seed": INT, "store_version": INT,
        "duplicates_version": INT, "sha256": TEXT,
    },
    "tags": {"tag": TEXT, "version": INT, "created": TEXT},
    "forgotten": {"kind": TEXT, "digest": TEXT},
}  # fmt: skip
"""Tables about a store: what recipes say of data sets, what was computed, names of versions, keyed digests of what
may not come back and of the folders that runs went over, and the runs. They are replaced as a whole, or for one data
set, split or tree, and belong to no ``commit``."""
KEEP_LOG = {"delta.enableExpiredLogCleanup": "false"}
"""Else deltalake drops log entries older than 30 days when it writes a checkpoint, and with them old versions."""

Row = dict[str, Any]
T = TypeVar("T")
RETRIES, RETRY_S = 60, 5.0


@dataclass
class Batch:
    """Rows that one commit makes visible together."""

    recordings: list[Row] = field(default_factory=list)
    streams: list[Row] = field(default_factory=list)
    annotations: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)
    sources: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)

    def extend(self, other: Batch) -> None:
        """Add another batch's rows."""
        for name in TABLES:
            getattr(self, name).extend(getattr(other, name))

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in TABLES)


def _frame(table: str, rows: list[Row]) -> pl.DataFrame:
    return frame_of(rows, TABLES[table])


def table_at(root: Place, table: str, version: int | None = None) -> DeltaTable:
    """A table at a version, or its newest."""
    return open_table(root / "catalog" / table, version)


def _write(root: Place, table: str, frame: pl.DataFrame, **how: Any) -> None:
    place = root / "catalog" / table
    with answers(root):
        write_deltalake(str(place), frame, storage_options=table_options(place), **how)


def create_tables(root: Place) -> None:
    """Make the empty tables; tables that are there already stay as they are."""
    for table in TABLES:
        retried(partial(_write, root, table, _frame(table, []), mode="ignore", configuration=KEEP_LOG))


def commit(root: Place, batch: Batch) -> int:
    """Make a batch visible; returns the new version of the store.

    Recordings with an id that exists are replaced, and a failure is forgotten once its source converts,
    each in one Delta transaction.
    """
    mark = {"commit": uuid.uuid4().hex}
    rows = {name: [row | mark for row in getattr(batch, name)] for name in TABLES}
    for table in ("streams", "annotations", "labels", "sources"):
        if rows[table]:
            _write(root, table, _frame(table, rows[table]), mode="append")
    retried(lambda: _update_failures(root, rows["failures"], rows["recordings"]))
    if not rows["recordings"]:
        return version_of(root)
    return retried(lambda: _merge_recordings(root, _frame("recordings", rows["recordings"])))


def _merge_recordings(root: Place, frame: pl.DataFrame) -> int:
    table = table_at(root, "recordings")
    merge = table.merge(
        frame,
        predicate="old.recording_id = new.recording_id",
        source_alias="new",
        target_alias="old",
        merge_schema=True,  # the table may be older than a column
    )
    with answers(root):
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
    return int(table.version())


def retried(change: Callable[[], T]) -> T:
    """Make a change to a table that another process may change at the same moment: of two, Delta refuses the later,
    which is then made to what the other left. Raises ``StoreError`` where that goes on for minutes."""
    for attempt in range(RETRIES):
        try:
            return change()
        except CommitFailedError:
            time.sleep(random.uniform(0, min(RETRY_S, 0.05 * 2**attempt)))
    raise StoreError("other processes keep changing the store; try again when fewer are at it")


def _update_failures(root: Place, failures: list[Row], converted: list[Row]) -> None:
    """Replace the rows of sources that failed again; drop those of sources that converted."""
    old, new = read(root, "failures"), _frame("failures", failures)
    seen = pl.concat([new, _frame("failures", [{k: row.get(k) for k in ("dataset", "source")} for row in converted])])
    kept = old.join(seen, on=["dataset", "source"], how="anti", nulls_equal=True)
    if failures or len(kept) < len(old):
        _write(root, "failures", pl.concat([kept, new]), mode="overwrite")


def read(root: Place, table: str, version: int | None = None) -> pl.DataFrame:
    """One table as it is stored, uncommitted rows included. Raises ``StoreError``."""
    with _scanned(root, table, version) as lazy:
        return lazy.collect()


@contextmanager
def _scanned(root: Place, table: str, version: int | None = None) -> Iterator[pl.LazyFrame]:
    """A table to be asked within. Raises ``StoreError``."""
    try:
        with answers(root):
            opened = table_at(root, table, version)
            lazy = pl.scan_delta(opened, storage_options=scan_options(root), credential_provider=None)
            yield _widened(table, lazy, {field.name for field in opened.schema().fields})
    except DeltaError as error:
        raise StoreError(f"the store has no table {table!r}, or no version {version} of it") from error


def _widened(table: str, lazy: pl.LazyFrame, there: set[str]) -> pl.LazyFrame:
    """A table with the columns that came after it was made, which are null in it."""
    wanted = TABLES.get(table, {})
    if wanted.keys() <= there:
        return lazy
    added = {name: pl.lit(None, kind) for name, kind in wanted.items() if name not in there}
    others = sorted(there - wanted.keys())
    return lazy.with_columns(**added).select(*wanted, *others)


def drop_rows(root: Place, table: str, pairs: pl.DataFrame) -> None:
    """Delete the rows of ``pairs`` (recording_id, commit). By a merge, because a condition would be kept in the
    table's log, word for word."""
    if pairs.is_empty():
        return
    merge = table_at(root, table).merge(
        pairs,
        predicate='old.recording_id = gone.recording_id AND old."commit" = gone."commit"',
        source_alias="gone",
        target_alias="old",
    )
    with answers(root):
        merge.when_matched_delete().execute()


def drop_failures(root: Place, sources: pl.DataFrame) -> None:
    """Delete the failures of ``sources`` (dataset, source)."""
    _update_failures(root, [], sources.to_dicts())


def move_recordings(root: Place, moved: pl.DataFrame, gone: pl.Series, operation: str) -> int:
    """Give recordings another commit and remove others, in one transaction; returns the new version.

    ``moved`` (recording_id, before, commit): whose rows in the other tables are those of ``commit`` from now on;
    one that is not of commit ``before`` any more was replaced meanwhile and stays as it is.
    """
    frame = pl.concat(
        [
            moved.select("recording_id", "before", "commit", gone=pl.lit(False)),
            pl.DataFrame({"recording_id": gone}, schema={"recording_id": TEXT}).select(
                "recording_id", before=pl.lit(None, TEXT), commit=pl.lit(None, TEXT), gone=pl.lit(True)
            ),
        ]
    )
    table = table_at(root, "recordings")
    merge = table.merge(
        frame,
        predicate='old.recording_id = new.recording_id AND (new.gone OR old."commit" = new.before)',
        source_alias="new",
        target_alias="old",
        commit_properties=CommitProperties(custom_metadata={"harmonize": operation}),
    )
    with answers(root):
        merge.when_matched_delete("new.gone").when_matched_update({'"commit"': 'new."commit"'}).execute()
    return int(table.version())


def remove_recordings(root: Place, names: Sequence[str], operation: str) -> int:
    """Remove recordings in one transaction; older versions keep them. Returns the new version."""
    moved = pl.DataFrame(schema=dict.fromkeys(("recording_id", "before", "commit"), TEXT))
    return retried(partial(move_recordings, root, moved, pl.Series(names, dtype=TEXT), operation))


def append_rows(root: Place, table: str, rows: pl.DataFrame) -> None:
    """Add rows that no commit names yet."""
    if len(rows):
        _write(root, table, rows.select(TABLES[table].keys()), mode="append")


def version_of(root: Place) -> int:
    """The newest version of the store."""
    return int(table_at(root, "recordings").version())


def read_committed(root: Place, table: str, named: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``streams``, ``annotations``, ``labels`` or ``sources`` that recordings name: ``named`` has their
    recording_id and commit."""
    return read(root, table).join(named, on=["recording_id", "commit"], how="semi")


def read_where(
    root: Place, table: str, named: pl.DataFrame, condition: pl.Expr, columns: Sequence[str]
) -> pl.DataFrame:
    """Columns of the rows that meet a condition and that recordings name, as in ``read_committed``. Other rows are read
    in pieces and not held. The order of rows is any."""
    keys = ["recording_id", "commit"]
    with _scanned(root, table) as lazy:
        # The condition last: one over several rows must not see those that do not count. polars moves others forward.
        chosen = lazy.join(named.lazy().select(keys), on=keys, how="semi").filter(condition)
        return chosen.select(columns).collect(engine="streaming")


def pair_hash(*columns: str) -> pl.Expr:
    """Column ``_pair``: a hash of these columns, the same in all tables of a process."""
    return pl.struct(columns).hash().alias("_pair")


def read_columns(root: Place, table: str, wanted: Sequence[pl.Expr], version: int | None = None) -> pl.DataFrame:
    """Columns of a table, worked out piece by piece. Uncommitted rows are included, their order is any. Raises
    ``StoreError``."""
    with _scanned(root, table, version) as lazy:
        return lazy.select(wanted).collect(engine="streaming")


def read_by_kind(
    root: Place, table: str, columns: Sequence[pl.Expr], kind: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns of a table and the distinct rows of other columns, to which column ``_kind`` of the first, int64, points.
    Read in pieces, so that what rows have in common is not held for each. Uncommitted rows are included, and the order
    of rows is any."""
    with _scanned(root, table) as lazy:
        digest = pl.struct(kind).hash().alias("_digest")
        kinds = lazy.group_by(kind).agg().collect(engine="streaming").with_columns(digest).sort("_digest")
        if kinds["_digest"].n_unique() < len(kinds):
            raise StoreError("two kinds of rows have the same hash; read the whole table instead")
        rows = lazy.select(*columns, digest).collect(engine="streaming")
    numbered = kinds.select("_digest", _kind=pl.int_range(pl.len()))
    return rows.join(numbered, on="_digest", how="left").drop("_digest"), kinds.drop("_digest")


def replace_derived(root: Place, table: str, frame: pl.DataFrame, store_version: int, where: str | None = None) -> None:
    """Put a table of ``DERIVED`` in place of the one there (of its rows ``where``, an SQL condition), and
    remember which version of the store it is of."""
    note = CommitProperties(custom_metadata={"store_version": str(store_version)})
    frame = frame.select(pl.col(name).cast(kind) for name, kind in DERIVED[table].items())
    # There must be a table, or another process that makes it now would lose its rows. One that is there keeps its
    # properties.
    retried(partial(_write, root, table, frame.clear(), mode="ignore", configuration=KEEP_LOG))
    retried(partial(_write, root, table, frame, mode="overwrite", predicate=where, commit_properties=note))


def append_derived(root: Place, table: str, row: Row) -> None:
    """Add a row to a table of ``DERIVED``."""
    frame = pl.DataFrame([row], schema=DERIVED[table], orient="row")
    configuration = None if _is_there(root, table) else KEEP_LOG
    retried(partial(_write, root, table, frame, mode="append", configuration=configuration))


def _is_there(root: Place, table: str) -> bool:
    place = root / "catalog" / table
    with answers(root):
        return bool(DeltaTable.is_deltatable(str(place), storage_options=table_options(place)))


def read_derived(root: Place, table: str) -> tuple[pl.DataFrame, int | None]:
    """A table of ``DERIVED`` and the store's version it is of; empty and None where it was never made."""
    if not _is_there(root, table):
        return pl.DataFrame(schema=DERIVED[table]), None
    opened = table_at(root, table)
    with answers(root):
        note = opened.history(1)[0]
    found = note.get("store_version")
    return read(root, table), None if found is None else int(found)
