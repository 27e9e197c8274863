"""What was forgotten and may not come back: keyed digests of sources and subjects, and the check that convert makes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import polars as pl

from harmonize.ingest.identify import Policy
from harmonize.ingest.packed import PackedDraft
from harmonize.ingest.privacy import ProjectKey
from harmonize.ingest.rows import failure_row
from harmonize.store import catalog
from harmonize.store.catalog import Row
from harmonize.store.place import Place
from harmonize_converters.contract import ConversionError

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


def is_listed(key: ProjectKey, listed: Collection[str], dataset: str, source: str, subject: str | None) -> bool:
    """Whether a recording may not come back: its source or its subject is on the list."""
    names = (("source", source), ("subject", subject)) if listed else ()
    return any(name is not None and digest(key, kind, dataset, name) in listed for kind, name in names)


def refuse(policy: Policy, listed: set[str], drafts: Sequence[PackedDraft], failures: list[Row]) -> list[PackedDraft]:
    """The drafts that may be converted. Those of forgotten sources and subjects become failures "forgotten", and a
    forgotten source that failed already loses its name. ``listed``: what ``read_forgotten`` gives."""
    if not listed:
        return list(drafts)
    for row in failures:
        if digest(policy.key, "source", row["dataset"], row["source"]) in listed:
            row["source"] = _unnamed(policy, row["source"])
    kept = []
    for one in drafts:
        if not is_listed(policy.key, listed, one.dataset, one.source_id, one.subject):
            kept.append(one)
            continue
        error = ConversionError("forgotten")
        name = _unnamed(policy, one.source_id)
        failures.append(failure_row(name, one.dataset, one.converter, error.code, error.message, None))
    return kept


def _unnamed(policy: Policy, source: str) -> str:
    """What a forgotten source is called in the failures: a pseudonym also where paths are kept, as they may name who
    was forgotten."""
    return f"src-{policy.key.digest('source', policy.recipe.dataset, source)}" if policy.keep else source
