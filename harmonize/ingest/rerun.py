"""Re-runs: whether anything changed below the folders given, without opening a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from harmonize.ingest.find import Walked
from harmonize.ingest.forgotten import is_listed, read_forgotten
from harmonize.ingest.identify import Policy
from harmonize.ingest.registry import converters
from harmonize.store import Store, catalog, open_store
from harmonize.store.catalog import Row
from harmonize.store.locks import COMMITTING, held
from harmonize.store.place import Place

PASSING = frozenset({"unreadable_file", "source_changed", "internal_error"})
"""Failures that may be gone the next time though no file changed."""


def roots_of(policy: Policy, paths: Iterable[Path]) -> list[str]:
    """Pseudonyms of the folders given, as recordings carry them; single files give none: what lies beside them was
    not looked at."""
    return sorted(policy.root_name(path.resolve()) for path in paths if path.is_dir())


def tree_digest(policy: Policy, walked: Walked) -> str:
    """Keyed digest of all that a run depends on: every file's name, size and time, the recipe, the converters."""
    files = [*walked.files.values(), *walked.unwanted, *(file for file, _ in walked.failures)]
    readers = [f"{name}/{converter.version}" for name, converter in sorted(converters().items())]
    said = sorted(f"{file.key}:{file.size}:{file.mtime_ns}" for file in files)
    recipe = policy.recipe_sha256 or policy.recipe.model_dump_json()
    return policy.key.digest("tree", recipe, *readers, *said, length=32)


def _tree_name(policy: Policy, paths: Sequence[Path]) -> str:
    """One name, without a path in it, for the folders and files of a run."""
    return policy.key.digest("tree", *sorted(str(path.resolve()) for path in paths))


def nothing_changed(store: Store, policy: Policy, paths: Sequence[Path], digest: str) -> tuple[int, list[Row]] | None:
    """How many recordings an earlier run over the same folders left in the store, and its failures; None where
    anything is different now, a recording is gone, or a failure may have passed."""
    trees, _ = catalog.read_derived(store.path, "trees")
    row = trees.filter(dataset=policy.recipe.dataset, tree=_tree_name(policy, paths), digest=digest)
    if row.is_empty() or not all(path.is_dir() for path in paths):
        return None
    failed = store.failures.filter(pl.col("source").is_in(row["failed"][0].implode()), dataset=policy.recipe.dataset)
    mine = pl.col("recording_id").is_in(row["recordings"][0].implode())
    there = len(store.recordings.filter(mine, dataset=policy.recipe.dataset))
    if there < len(row["recordings"][0]) or len(failed) < len(row["failed"][0]):
        return None
    if set(failed["code"]) & PASSING:
        return None
    return there, failed.drop("commit").to_dicts()


def remember(root: Place, policy: Policy, paths: Sequence[Path], digest: str, failed: Iterable[str]) -> None:
    """Keep what ``nothing_changed`` compares with, after a run's last commit."""
    name, dataset = _tree_name(policy, paths), policy.recipe.dataset
    with held(root, COMMITTING):  # what is forgotten from here on is taken out of this row too
        store, listed = open_store(root), read_forgotten(root)
        ours = store.recordings.filter(pl.col("source_root").is_in(roots_of(policy, paths)), dataset=dataset)
        names = ours.select("recording_id", "source", "subject").iter_rows()
        kept = [one for one, *said in names if not is_listed(policy.key, listed, dataset, *said)]
        row = {"dataset": dataset, "tree": name, "digest": digest, "recordings": kept, "failed": sorted(set(failed))}
        frame = pl.DataFrame([row], schema=catalog.DERIVED["trees"], orient="row")
        where = f"dataset = '{dataset}' AND tree = '{name}'"
        catalog.replace_derived(root, "trees", frame, store.version, where)
