"""Signal quality by site: numbers worked out by hand."""

import polars as pl
import pytest

from harmonize.report.quality import signal_quality
from harmonize.store.quality import STATISTICS


def streams(rows):
    """(recording, types, flat shares, standard deviations) to rows of ``Store.streams``; None: no statistics."""
    table = []
    for recording_id, types, flat, std in rows:
        n = len(types)
        values = dict.fromkeys(STATISTICS, [0.0] * n) | {"flat_share": flat, "std": std, "line60_share": [None] * n}
        if std is None:
            values = dict.fromkeys(STATISTICS)
        table.append({"recording_id": recording_id, "types": types, "units": ["mV"] * n} | values)
    schema = {"recording_id": pl.String, "types": pl.List(pl.String), "units": pl.List(pl.String)}
    return pl.DataFrame(table, schema | dict.fromkeys(STATISTICS, pl.List(pl.Float64)))


@pytest.fixture
def frame():
    rows = pl.DataFrame(
        {"recording_id": list("abcd"), "site": ["N", "N", "N", "S"], "person": ["p", "q", "q", "r"]},
    )
    table = streams(
        [
            ("a", ["ecg", "ecg", "trigger"], [0.0, 0.3, 1.0], [1.0, 2.0, 50.0]),
            ("b", ["ecg"], [0.6], [6.0]),
            ("c", ["ecg"], None, None),
            ("d", ["ecg"], [0.5], [9.0]),
        ]
    )
    return signal_quality(rows, table, min_cell=2)


def test_means_and_medians_by_site(frame) -> None:
    north = frame.row(0, named=True)
    assert (north["site"], north["type"], north["unit"]) == ("N", "ecg", "mV")
    assert (north["channels"], north["subjects"], north["hidden"]) == (3, 2, None)
    assert north["flat_share"] == pytest.approx(0.3)
    assert (north["std"], north["line50_share"], north["line60_share"]) == (2.0, 0.0, None)


def test_triggers_and_streams_without_statistics_are_left_out(frame) -> None:
    assert frame["type"].to_list() == ["ecg", "ecg"]


def test_few_subjects_are_hidden(frame) -> None:
    south = frame.row(1, named=True)
    assert (south["site"], south["hidden"]) == ("S", "<2")
    assert all(south[name] is None for name in ("channels", "subjects", "flat_share", "std"))
