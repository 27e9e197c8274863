"""Work ahead of who takes it: in order, as far ahead as asked, errors in their places."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from threading import Event

import pytest

from harmonize.data.ahead import ahead


def late(number: int) -> int:
    time.sleep(0.002 * (number % 3))  # so that threads overtake each other
    return number * number


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("most", [0, 1, 20])
def test_results_come_in_the_order_of_plans(threads: int, most: int) -> None:
    assert list(ahead(iter(range(40)), late, threads, most)) == [n * n for n in range(40)]


def test_there_may_be_nothing_to_do_and_nothing_to_give() -> None:
    assert list(ahead(iter([]), late, 2, 3)) == []
    assert list(ahead(iter(range(3)), lambda _: None, 2, 3)) == [None] * 3


def test_no_more_is_planned_than_may_be_ahead() -> None:
    planned: list[int] = []

    def plans() -> Iterator[int]:
        for number in count():
            planned.append(number)
            yield number

    results = ahead(plans(), late, 2, 3)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    time.sleep(0.1)
    assert len(planned) == 5 + 3
    results.close()  # type: ignore[attr-defined]
    assert len(planned) == 5 + 3


def test_it_goes_on_while_nobody_asks() -> None:
    third = Event()
    results = ahead(iter(range(9)), lambda n: third.set() if n == 3 else None, 1, 3)
    next(results)
    assert third.wait(5)
    results.close()  # type: ignore[attr-defined]


def test_what_is_raised_comes_in_its_place() -> None:
    def plans() -> Iterator[int]:
        yield from range(6)
        raise KeyError("no more plans")

    def work(number: int) -> int:
        if number == 4:
            raise ValueError(number)
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="4"):
        found.extend(ahead(plans(), work, 2, 4))
    assert found == [0, 1, 2, 3]
    with pytest.raises(KeyError, match="no more plans"):
        list(ahead(plans(), late, 2, 2))
