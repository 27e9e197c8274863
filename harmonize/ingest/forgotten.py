"""What was forgotten and may not come back: keyed digests of sources and subjects, and the check that convert makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from harmonize.ingest.identify import Draft, Policy
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.rows import failure_row
from harmonize.store import catalog
from harmonize.store.catalog import Row
from harmonize.store.place import Place
from harmonize_converters.contract import ConversionError, FoundFile

DIGITS = 32


def digest(key: ProjectKey, kind: str, dataset: str, name: str) -> str:
    """What the list holds of a "source" or "subject", by its name in the store."""
    return key.digest("forgotten", kind, dataset, name, length=DIGITS)


def read_forgotten(root: Place) -> set[str]:
    """The digests of a store's list."""
    return set(catalog.read_derived(root, "forgotten")[0]["digest"])


def add_forgotten(root: Place, rows: Iterable[tuple[str, str]]) -> None:
    """Put (kind, digest) on the list."""
    schema = catalog.DERIVED["forgotten"]
    known = catalog.read_derived(root, "forgotten")[0]
    frame = pl.concat([known, pl.DataFrame(list(rows), schema=schema, orient="row")]).unique().sort("kind", "digest")
    if not frame.equals(known.sort("kind", "digest")):
        catalog.replace_derived(root, "forgotten", frame, catalog.version_of(root))


def refuse(
    policy: Policy, root: Place, drafts: Sequence[Draft], failures: list[Row], files: dict[str, FoundFile]
) -> list[Draft]:
    """The drafts that may be converted. Those of forgotten sources and subjects become failures "forgotten", and a
    forgotten source that failed already loses its name."""
    listed = read_forgotten(root)
    if not listed:
        return list(drafts)
    for row in failures:
        if digest(policy.key, "source", row["dataset"], row["source"]) in listed:
            row["source"] = _unnamed(policy, row["source"], files)
    kept = []
    for one in drafts:
        recording = one.recording
        names = (("source", recording.source.id), ("subject", recording.subject))
        if not any(name and digest(policy.key, kind, recording.dataset, name) in listed for kind, name in names):
            kept.append(one)
            continue
        error = ConversionError("forgotten")
        name = _unnamed(policy, recording.source.id, files)
        failures.append(failure_row(name, recording.dataset, one.source.converter, error.code, error.message, None))
    return kept


def _unnamed(policy: Policy, source: str, files: dict[str, FoundFile]) -> str:
    """What a forgotten source is called in the failures: a pseudonym also where paths are kept, as they may name who
    was forgotten."""
    if not policy.keep:
        return source
    name = f"src-{policy.key.digest('source', policy.recipe.dataset, source)}"
    files[name] = files.pop(source)
    return name
