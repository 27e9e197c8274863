"""Forget: remove subjects' rows, and every byte of them from parts, tables and logs (DESIGN 5).

The order makes it safe to be killed: what may not come back is listed first; parts that others share are rewritten
without the subjects; one commit removes them; then everything that only older versions named is deleted, and last
the older versions' logs, whose statistics hold names. Until the end a marker file says that it was begun, and running
it again finishes it. A step that was done already finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from harmonize.ingest.forgotten import add_forgotten, digest, read_forgotten
from harmonize.ingest.identify import Policy
from harmonize.ingest.privacy import ProjectKey
from harmonize.maintain.claim import Claim, claimed
from harmonize.maintain.derived import forget_derived
from harmonize.maintain.leftovers import remove_leftovers
from harmonize.maintain.rewrite import rewrite_parts
from harmonize.store import Store, StoreError, catalog, open_store
from harmonize.store.delta_log import data_files, forget_history, logged_files, tables
from harmonize.store.locks import COMMITTING, CONVERTING, held
from harmonize.store.part_files import remove_part
from harmonize.store.place import Place, read_parquets
from harmonize.store.vacuum import COMMITTED, GRACE_S, PAIR, named_parts
from harmonize.store.versions import openable, read_tags
from harmonize_schemas import Recipe

Subject = tuple[str, str]
"""(dataset, subject as the store names it)."""
ROUNDS = 3
WHO = ["recording_id", "dataset", "subject", "source", "image", "commit"]


@dataclass
class Forgotten:
    """What was done. ``subjects`` (dataset, name in the store); ``waiting``: parts and files that no version names,
    too young to be told from those of a running conversion, that are of the subjects or cannot be read; ``converting``:
    a conversion runs, which commits nothing of the subjects but may have written, and removes, what is of them;
    ``tags`` that named versions that are gone."""

    subjects: list[Subject]
    recordings: int = 0
    parts_rewritten: int = 0
    parts_removed: int = 0
    versions_removed: int = 0
    refused_sources: int = 0
    tags: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    converting: bool = False
    resumed: bool = False
    version: int = -1


def forget(
    root: Place,
    names: Sequence[str],
    key: ProjectKey | None,
    dataset: str | None = None,
    grace_s: float = GRACE_S,
    step: Callable[[str], None] = lambda _: None,
) -> Forgotten:
    """Remove subjects from a store, in all versions; the newest version stays the only one.

    Parameters
    ----------
    names
        Subjects as ``Store.recordings`` shows them or, with the key, by their real identifiers.
    key
        The store's project key; None: later conversions are not refused what was forgotten.
    dataset
        Of which data set they are; needed where a name is known in several.
    grace_s
        What no version names and is younger than this may be of a running conversion: it is not touched, and
        listed as waiting if it is of the subjects or does not say.
    step
        Called with the name of each step before it is done.

    Raises
    ------
    ValueError
        For a name that the store does not know, or knows in several data sets.
    StoreError
        For another project key; for a part that cannot be rewritten, because another's samples in it are damaged;
        where other runs keep changing the store. Nothing is lost then, and it can be run again.
    """
    store = open_store(root)
    if key is not None and key.key_id != store.attributes["key_id"]:
        raise StoreError(f"the store was made under the project key {store.attributes['key_id']}, not {key.key_id}")
    with claimed(root, store.version) as claim:

        def checked(name: str) -> None:
            claim.check()
            step(name)

        return _forget(root, names, key, dataset, grace_s, checked, claim)


def _forget(
    root: Place,
    names: Sequence[str],
    key: ProjectKey | None,
    dataset: str | None,
    grace_s: float,
    step: Callable[[str], None],
    claim: Claim,
) -> Forgotten:
    history = _history(root)
    found = _resolve(root, history, names, key, dataset, claim.resumed)
    done = Forgotten(found.subjects, resumed=claim.resumed)
    if found.known or claim.resumed:
        if key is not None:
            step("list what may not come back")
            with held(root, COMMITTING, alone=True):
                # Every commit is before this, and so in what is read from here on; or after, and refuses the subjects.
                history = pl.concat([history, _history(root)]).unique()
                done.refused_sources = _refuse(root, history, found.subjects, key)
        try:
            done.recordings, done.parts_rewritten = _commit_without(root, found.subjects, claim.prefix, step)
        except StoreError:
            if not claim.resumed and catalog.version_of(root) == claim.version:
                claim.finish()  # nothing was changed, so nothing is to be finished
            raise
        # What other runs committed meanwhile, and the last round removed, is history by now.
        history = pl.concat([history, _history(root)]).unique()
        done.parts_removed = _remove_old_parts(root, history, step)
        gone = _gone(history, catalog.read(root, "recordings"), found.subjects)
        with held(root, COMMITTING, alone=True):  # commits wait: what they would add to is taken away here
            _clean_tables(root, history, gone, claim.version, step)
            done.versions_removed = _end_history(root, step)
    step("look for conversions")
    with held(root, CONVERTING, alone=True, wait=False) as free:
        done.converting = not free
    step("remove leftovers")
    ids = set(history.filter(_is_of(found.subjects))["recording_id"])
    done.waiting = remove_leftovers(root, found.spelled, ids, claim.prefix, grace_s)
    step("unmark")
    claim.finish()
    there = {one.version for one in openable(root)}
    done.tags = [tag for tag, version, _ in read_tags(root).iter_rows() if version not in there]
    done.version = catalog.version_of(root)
    return done


def _history(root: Place) -> pl.DataFrame:
    """Who every recording of every version is of, as far as the files are there."""
    table = root / "catalog" / "recordings"
    frames = read_parquets(table, sorted(logged_files(table) & data_files(table)), WHO)
    return pl.concat([pl.DataFrame(schema=dict.fromkeys(WHO, pl.String)), *frames]).unique()


def _is_of(subjects: Iterable[Subject]) -> pl.Expr:
    found = pl.lit(False)
    for dataset, subject in subjects:
        found = found | ((pl.col("dataset") == dataset) & (pl.col("subject") == subject))
    return found.fill_null(False)


@dataclass
class _Found:
    """``subjects`` that were found; ``known``: a version of the store still names one; ``spelled``: all that the
    names given could be called in the store."""

    subjects: list[Subject] = field(default_factory=list)
    spelled: list[Subject] = field(default_factory=list)
    known: bool = False


def _resolve(
    root: Place, history: pl.DataFrame, names: Sequence[str], key: ProjectKey | None, dataset: str | None, resumed: bool
) -> _Found:
    everyone = set(history.drop_nulls("subject").select("dataset", "subject").iter_rows())
    listed = read_forgotten(root) if key else set()
    named = {*history["dataset"], *catalog.read_derived(root, "datasets")[0]["dataset"]}
    datasets = [dataset] if dataset else sorted(named)
    found = _Found()
    for name in names:
        spelled = [(one, name) for one in datasets]
        if key is not None:
            policies = [Policy(Recipe(dataset=one), None, key) for one in datasets]
            spelled += [(one.recipe.dataset, str(one.pseudonym("sub", name, one.recipe.dataset))) for one in policies]
        found.spelled += spelled
        these = [one for one in spelled if one in everyone]
        found.known = found.known or bool(these)
        if not these and key is not None:  # a run before removed all, but for leftovers
            these = [one for one in spelled if digest(key, "subject", *one) in listed]
        if len(these) > 1:
            sets = ", ".join(one for one, _ in these)
            raise ValueError(f"a subject of that name is in several data sets ({sets}): name one with --dataset")
        if not these and not resumed:
            more = "" if key else "; its real identifier can be given with the project key"
            raise ValueError(f"no version of the store names the subject {name!r}{more}")
        found.subjects += these
    return found


def _refuse(root: Place, history: pl.DataFrame, subjects: list[Subject], key: ProjectKey) -> int:
    """Keep digests of the subjects and of their sources, so that a later conversion is refused them."""
    sources = set(history.filter(_is_of(subjects)).select("dataset", "source").iter_rows())
    rows = [("source", digest(key, "source", *one)) for one in sources]
    add_forgotten(root, [*rows, *(("subject", digest(key, "subject", *one)) for one in subjects)])
    return len(sources)


def _gone(history: pl.DataFrame, live: pl.DataFrame, subjects: list[Subject]) -> pl.Series:
    """Recordings that are the subjects' now, or were and are nobody's now."""
    ever = history.filter(_is_of(subjects))["recording_id"]
    others = live.filter(~_is_of(subjects))["recording_id"]
    return ever.filter(~ever.is_in(others.implode())).unique().sort()


def _commit_without(root: Place, subjects: list[Subject], prefix: str, step: Callable[[str], None]) -> tuple[int, int]:
    """Rewrite the parts that hold bytes of the subjects beside others', and commit. Again while another run puts
    some there meanwhile."""
    recordings = parts = 0
    for _ in range(ROUNDS):
        store = open_store(root)
        gone = store.recordings.filter(_is_of(subjects))["recording_id"]
        step("rewrite parts")
        moved = rewrite_parts(store, subjects, prefix)
        if gone.is_empty() and not moved.parts:
            return recordings, parts
        step("add rows")
        _add_rows(store, moved.streams, moved.mark)
        step("commit")
        before = store.recordings.filter(pl.col("recording_id").is_in(moved.streams["recording_id"].implode()))
        changes = before.select("recording_id", before="commit", commit=pl.lit(moved.mark))
        with held(root, COMMITTING, alone=True):
            catalog.move_recordings(root, changes, gone, "forget")
        recordings += len(gone)
        parts += moved.parts
    raise StoreError("other runs keep adding recordings to the parts that are rewritten: forget again when they ended")


def _add_rows(store: Store, streams: pl.DataFrame, mark: str) -> None:
    """Rows of the recordings that move, under their new commit."""
    ids = streams["recording_id"].unique()
    catalog.append_rows(store.path, "streams", streams)
    for table in COMMITTED[1:]:
        rows = catalog.read_committed(store.path, table, store.recordings)
        rows = rows.filter(pl.col("recording_id").is_in(ids.implode()))
        catalog.append_rows(store.path, table, rows.with_columns(commit=pl.lit(mark)))


def _remove_old_parts(root: Place, history: pl.DataFrame, step: Callable[[str], None]) -> int:
    """Delete parts that older versions name and the newest does not."""
    live = catalog.read(root, "recordings").select(*PAIR, "image")
    dead = sorted(named_parts(root, history.select(*PAIR, "image").unique()) - named_parts(root, live))
    there = [part for part in dead if (root / part).exists()]
    for part in there:
        step("remove part")
        remove_part(root, part)
    return len(there)


def _clean_tables(
    root: Place, history: pl.DataFrame, gone: pl.Series, before: int, step: Callable[[str], None]
) -> None:
    """Delete rows of what is gone, and of what only older versions named."""
    live = catalog.read(root, "recordings")
    ended = history.select(PAIR).unique().join(live, on=PAIR, how="anti")
    for table in COMMITTED:
        step(f"clean {table}")
        pairs = catalog.read(root, table).select(PAIR).unique()
        is_gone = pairs.filter(pl.col("recording_id").is_in(gone.implode()))
        catalog.drop_rows(root, table, pl.concat([is_gone, pairs.join(ended, on=PAIR, how="semi")]).unique())
    step("clean failures")
    sources = history.filter(pl.col("recording_id").is_in(gone.implode())).select("dataset", "source").unique()
    catalog.drop_failures(root, sources)
    step("clean derived")
    forget_derived(root, set(gone), before)


def _end_history(root: Place, step: Callable[[str], None]) -> int:
    """Older versions of all tables end; ``recordings`` last, as they tell what is to be done."""
    for table in tables(root):
        if table.name != "recordings":
            step(f"end history of {table.name}")
            forget_history(table)
    step("end history of recordings")
    return forget_history(root / "catalog" / "recordings")
