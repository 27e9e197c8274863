"""What a run did, by format and site. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harmonize.ingest.plan import Task
from harmonize.store.catalog import Batch, Row

Group = tuple[str | None, str | None]
"""The format's converter and the site, each None where it is not known."""


@dataclass
class Tally:
    """Recordings, hours of signals, images, native bytes, seconds that workers took, and failures by code."""

    recordings: int = 0
    hours: float = 0.0
    images: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another's counts."""
        for name in ("recordings", "hours", "images", "bytes", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures.update(other.failures)


def add_batch(tallies: dict[Group, Tally], task: Task | None, batch: Batch, seconds: float) -> None:
    """Count a batch. The seconds of its task are shared out by bytes. ``task`` is None for failures seen in headers,
    whose sites are not known."""
    total = sum(row["bytes"] for row in batch.recordings)
    for row in batch.recordings:
        share = row["bytes"] / total if total else 1 / len(batch.recordings)
        one = tallies.setdefault((row["converter"].partition("/")[0], row["site"]), Tally())
        hours = 0.0 if row["image"] else (row["duration_s"] or 0.0) / 3600
        one.add(Tally(1, hours, int(row["image"] is not None), row["bytes"], seconds * share))
    sites = {draft.source_id: draft.site for draft in task.drafts} if task else {}
    for row in batch.failures:
        place = row["format"], sites.get(row["source"])
        tallies.setdefault(place, Tally()).failures[row["code"]] += 1


def by(tallies: Mapping[Group, Tally], at: int) -> dict[str | None, Tally]:
    """Summed up by format (0) or site (1), the most bytes first."""
    found: dict[str | None, Tally] = {}
    for place, one in tallies.items():
        found.setdefault(place[at], Tally()).add(one)
    return dict(sorted(found.items(), key=lambda item: (-item[1].bytes, str(item[0]))))


def codes(rows: Iterable[Row]) -> Counter[str]:
    """How many failures have which code."""
    return Counter(row["code"] for row in rows)
