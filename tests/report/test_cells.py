"""Small counts: hidden, not to be had by subtraction, and gone from every number."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from harmonize.report.cells import count, hide, shares


def frame(subjects, **keys):
    return pl.DataFrame({**keys, "recordings": subjects, "subjects": subjects, "hours": [1.0] * len(subjects),
                         "windows": subjects})  # fmt: skip


def test_a_small_cell_takes_the_next_smallest_with_it() -> None:
    found = hide(frame([100, 3, 8, 20], site=list("ABCD")), 5)
    assert found["hidden"].to_list() == [None, "<5", "withheld", None]
    assert found["recordings"].to_list() == [100, None, None, 20]
    assert found["hours"].to_list() == [1.0, None, None, 1.0]


def test_two_small_cells_guard_each_other_only_if_they_are_enough_together() -> None:
    assert hide(frame([100, 3, 4, 20], site=list("ABCD")), 5)["hidden"].to_list() == [None, "<5", "<5", None]
    assert hide(frame([100, 1, 1, 20], site=list("ABCD")), 5)["hidden"].to_list() == [None, "<5", "<5", "withheld"]


def test_rows_and_columns_are_both_guarded() -> None:
    """A1 is small. In its row A2 goes with it, in its column B1, and then B2 with those."""
    keys = {"site": list("AABBCC"), "sex": list("121212")}
    found = hide(frame([2, 30, 40, 50, 60, 70], **keys), 5, [["site"], ["sex"]])
    assert found["hidden"].to_list() == ["<5", "withheld", "withheld", "withheld", None, None]


def test_nothing_small_nothing_hidden() -> None:
    assert hide(frame([5, 6], site=["A", "B"]), 5)["hidden"].null_count() == 2
    assert hide(frame([3], site=["A"]), 5)["hidden"].to_list() == ["<5"]
    assert len(hide(frame([], site=[]).cast({"subjects": pl.Int64}), 5)) == 0


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz"), st.integers(1, 12)), min_size=1, max_size=9,
                unique_by=lambda cell: cell[:2]))  # fmt: skip
def test_no_line_gives_a_small_count_away(cells) -> None:
    keys = {"a": [c[0] for c in cells], "b": [c[1] for c in cells]}
    subjects = [c[2] for c in cells]
    found = hide(frame(subjects, **keys), 5, [["a"], ["b"]])
    hidden = [value is not None for value in found["hidden"]]
    assert all(hidden[i] for i, n in enumerate(subjects) if n < 5)
    assert [value is None for value in found["recordings"]] == hidden
    for key in ("a", "b"):
        for name in set(keys[key]):
            line = [i for i in range(len(cells)) if keys[key][i] == name]
            closed = [i for i in line if hidden[i]]
            everything = len(closed) == len(line)
            assert not closed or everything or (len(closed) > 1 and sum(subjects[i] for i in closed) >= 5)


def test_count_by_hand() -> None:
    rows = pl.DataFrame({"site": ["A", "A", None], "person": ["p", "p", "q"], "hours": [1.0, 0.5, 2.0],
                         "windows": [3, 1, 0]})  # fmt: skip
    assert count(rows, ["site"]).rows() == [("A", 2, 1, 1.5, 4), ("unknown", 1, 1, 2.0, 0)]
    assert count(rows, ()).rows() == [(3, 2, 3.5, 4)]


def test_shares_hide_few_and_all_but_few() -> None:
    rows = pl.DataFrame({
        "site": ["A"] * 20 + ["B"] * 20 + ["C"] * 20 + ["D"] * 20 + ["E"] * 3,
        "person": [f"{i}" for i in range(83)],
        "gone": [i < 10 for i in range(20)] + [i < 3 for i in range(20)] + [i < 18 for i in range(20)] + [True] * 23,
    })  # fmt: skip
    found = shares(rows, ["site"], "gone", 5)
    assert found["share"].to_list() == [0.5, None, None, 1.0, None]
    assert found["hidden"].to_list() == [None, "<5", "all but <5", None, "<5"]
    assert found["of"].to_list() == [20, 20, 20, 20, None]
