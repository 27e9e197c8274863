"""Splits that cannot leak: whole groups of recordings to sides. Pure; storing them is in ``split_tables``.

A side is a name ("train", fold "3", site "B"); a recording without one is excluded, with a reason. Every
method takes groups (``harmonize.data.groups``) and never tears one apart. Given an earlier split, what it
assigned stays as it is, and only new recordings get sides.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from harmonize.data.domains import device_name

Value = float | str
Choice = tuple[str | None, str | None]
"""A side, or None and the reason."""
ALL = ""
"""The stratum that every recording is in."""


def balanced(
    groups: pl.DataFrame,
    fractions: Mapping[str, float],
    seed: int = 0,
    strata: pl.DataFrame | None = None,
    earlier: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Random sides of these fractions of recordings, each stratum spread in the same fractions.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) over groups: the stratum with the fewest
    recordings left is dealt out first, its largest groups first, each to the side that lacks most of it.
    Depends on the seed and the recordings' ids, not on the order of rows.

    Parameters
    ----------
    groups
        (recording_id, group).
    strata
        (recording_id, stratum), any number of rows a recording (see ``strata_of``).
    earlier
        (recording_id, side) of an earlier split. New recordings of its groups join their side; those that
        connect two sides are excluded.

    Returns
    -------
    (recording_id, group, side, reason), sorted by recording.
    """
    if not fractions or not math.isclose(sum(fractions.values()), 1) or min(fractions.values()) <= 0:
        raise ValueError(f"fractions must be above 0 and sum to 1, not {dict(fractions)}")
    table, settled = _with_earlier(groups, earlier)
    counts = _counts(table, strata)
    free = {group: counts[group] for group in counts if group not in settled}
    have: dict[str, Counter[str]] = {side: Counter() for side in fractions}
    for group, sides in settled.items():
        for side in sides & have.keys():
            have[side].update(counts[group])
    dealt = _deal(free, have, fractions, seed)

    def choose(group: str, _: str) -> Choice:
        return (dealt[group] if group in dealt else min(settled[group])), None

    return _sides(table, settled, choose)


def by_value(groups: pl.DataFrame, wanted: Mapping[str, str], what: str, earlier: pl.DataFrame | None) -> pl.DataFrame:
    """The side that each recording wants, where its whole group wants the same; else excluded.

    ``wanted`` has no entry for recordings whose ``what`` is unknown, which are excluded; the rest of their
    group is not.
    """
    table, settled = _with_earlier(groups, earlier)
    of_group: dict[str, set[str]] = defaultdict(set)
    for name, group in table.select("recording_id", "group").iter_rows():
        if name in wanted:
            of_group[group].add(wanted[name])

    def choose(group: str, name: str) -> Choice:
        if name not in wanted:
            return None, f"{what} unknown"
        if len(of_group[group]) > 1:
            return None, f"its group spans {what} {', '.join(sorted(of_group[group]))}"
        return wanted[name], None

    return _sides(table, settled, choose)


def official_sides(recordings: pl.DataFrame, sides: Mapping[str, str] | None) -> dict[str, str]:
    """The side of each recording's official fold; ``sides`` names them ("*": any other), None: as they are.

    Raises ``ValueError`` for a fold that ``sides`` does not name.
    """
    rows = recordings.filter(pl.col("fold").is_not_null()).select("recording_id", "fold").iter_rows()
    if sides is None:
        return dict(rows)
    out = {}
    for name, fold in rows:
        if fold not in sides and "*" not in sides:
            raise ValueError(f"no side is given for fold {fold!r}; name it, or all others with '*'")
        out[name] = sides[fold] if fold in sides else sides["*"]
    return out


def cuts_of(values: Mapping[str, Value], fractions: Mapping[str, float]) -> dict[str, Value]:
    """The last value of each side but the last, so that recordings fall in these fractions, in order."""
    ordered = sorted(values.values())
    if not ordered:
        raise ValueError("no recording has a value to order by")
    ends = np.cumsum(list(fractions.values()))[:-1]
    at = [ordered[min(len(ordered), max(1, round(float(end) * len(ordered)))) - 1] for end in ends]
    return dict(zip(list(fractions)[:-1], at, strict=True))


def temporal_sides(values: Mapping[str, Value], cuts: Mapping[str, Value], last: str) -> dict[str, str]:
    """The first side whose cut is not before a recording's value, else the last side."""
    out = {}
    for name, value in values.items():
        out[name] = next((side for side, cut in cuts.items() if value <= cut), last)  # type: ignore[operator]
    return out


def column_of(recordings: pl.DataFrame, labels: pl.DataFrame, name: str) -> pl.DataFrame:
    """(recording_id, value) of a column of recordings ("device": maker and model) or else of a label, known
    values only; a multi-label gives several rows. Raises ``ValueError`` where there is neither.
    """
    if name == "device":
        frame = recordings.select("recording_id", value=device_name(recordings))
    elif name in recordings.columns:
        frame = recordings.select("recording_id", value=name)
    else:
        rows = labels.filter(pl.col("name") == name)
        if rows.is_empty():
            raise ValueError(f"{name!r} is no column of recordings and no label; labels: {_names(labels['name'])}")
        numeric = rows["value"].is_null().all()
        frame = rows.select("recording_id", value="number" if numeric else "value")
    return frame.filter(pl.col("value").is_not_null())


def strata_of(recordings: pl.DataFrame, labels: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """(recording_id, stratum) of columns and labels; numbers are cut at their quartiles."""
    frames = [pl.DataFrame(schema={"recording_id": pl.String, "stratum": pl.String})]
    for name in names:
        values = column_of(recordings, labels, name)
        if values["value"].dtype.is_numeric():
            numbers = values["value"].to_numpy().astype(np.float64)
            edges = np.quantile(numbers, [0.25, 0.5, 0.75]) if len(numbers) else np.zeros(0)
            values = values.with_columns(value=pl.Series(np.searchsorted(edges, numbers)))
        frames.append(values.select("recording_id", stratum=pl.format("{}={}", pl.lit(name), "value")))
    return pl.concat(frames).unique()


def digest(assignment: pl.DataFrame) -> str:
    """SHA-256 (hex) over the lines "recording_id TAB side", sorted; an excluded recording has an empty side."""
    rows = assignment.select("recording_id", pl.col("side").fill_null("")).sort("recording_id").iter_rows()
    return hashlib.sha256("".join(f"{name}\t{side}\n" for name, side in rows).encode()).hexdigest()


def _names(values: Iterable[Any]) -> str:
    return ", ".join(sorted(set(map(str, values)))) or "none"


def _with_earlier(groups: pl.DataFrame, earlier: pl.DataFrame | None) -> tuple[pl.DataFrame, dict[str, set[str]]]:
    """Groups with columns ``old`` and ``side`` of the earlier split, and the sides that each group has there."""
    empty = pl.DataFrame(schema={"recording_id": pl.String, "side": pl.String, "reason": pl.String})
    before = empty if earlier is None else earlier.select(*empty.columns)
    table = groups.join(before.with_columns(old=True), on="recording_id", how="left").sort("recording_id")
    settled: dict[str, set[str]] = defaultdict(set)
    for group, side in table.select("group", "side").iter_rows():
        if side is not None:
            settled[group].add(side)
    return table, dict(settled)


def _sides(
    table: pl.DataFrame,
    settled: Mapping[str, set[str]],
    choose: Callable[[str, str], Choice],
) -> pl.DataFrame:
    """Old rows as they were; new ones as ``choose`` (group, recording) says and their group's earlier side allows."""
    rows = []
    for name, group, side, reason, old in table.select("recording_id", "group", "side", "reason", "old").iter_rows():
        if old:
            rows.append((name, group, side, reason))
            continue
        before = settled.get(group, set())
        if len(before) > 1:
            rows.append((name, group, None, f"connects recordings on sides {', '.join(sorted(before))}"))
            continue
        wish, why = choose(group, name)
        if before and wish is not None and wish not in before:
            wish, why = None, f"belongs to {wish}, its group is on {min(before)}"
        rows.append((name, group, wish, why))
    schema = dict.fromkeys(("recording_id", "group", "side", "reason"), pl.String)
    return pl.DataFrame(rows, schema=schema, orient="row")


def _counts(table: pl.DataFrame, strata: pl.DataFrame | None) -> dict[str, Counter[str]]:
    """Recordings of each group in each stratum."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for group in table["group"]:
        counts[group][ALL] += 1
    if strata is not None:
        for group, stratum in table.join(strata, on="recording_id").select("group", "stratum").iter_rows():
            counts[group][stratum] += 1
    return dict(counts)


def _deal(
    free: Mapping[str, Counter[str]], have: Mapping[str, Counter[str]], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Groups to sides, so that every stratum comes close to its fractions."""
    left: Counter[str] = Counter()
    holders: dict[str, list[str]] = defaultdict(list)
    shuffled = {group: hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in free}
    for group in sorted(free, key=lambda group: (-free[group][ALL], shuffled[group])):
        left.update(free[group])
        for stratum in free[group]:
            holders[stratum].append(group)
    total = left + sum(have.values(), Counter())
    need = {s: {side: part * total[s] - have[side][s] for side, part in fractions.items()} for s in total}
    dealt: dict[str, str] = {}
    while len(dealt) < len(free):
        rarest = min((s for s in left if left[s] > 0), key=lambda s: (s == ALL, left[s], s))
        for group in holders[rarest]:
            if group in dealt:
                continue
            side = max(fractions, key=lambda side: (need[rarest][side], need[ALL][side], side))
            dealt[group] = side
            for stratum, count in free[group].items():
                need[stratum][side] -= count
                left[stratum] -= count
    return dealt
