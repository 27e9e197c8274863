"""Work ahead of who takes it: in order, as far ahead as asked, errors in their places."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from threading import Event

import pytest

from harmonize.data.ahead import ahead
from threads import reading


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


@pytest.mark.parametrize("how", ["closed", "failed", "exhausted"])
def test_its_threads_end_with_it(how: str) -> None:
    results = ahead(iter(range(9)), lambda n: 1 // (4 - n) if how == "failed" else n, 3, 4)
    next(results)
    assert len(reading()) == 3
    if how == "closed":
        results.close()  # type: ignore[attr-defined]
    elif how == "failed":
        with pytest.raises(ZeroDivisionError):
            list(results)
    else:
        list(results)
    assert not reading()


def test_closing_it_waits_for_what_is_begun_and_begins_no_more() -> None:
    begun, ended = [], []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.02)
        ended.append(number)

    results = ahead(count(), work, 2, 50)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert sorted(ended) == sorted(begun)
    assert len(begun) < 10  # not all of the 50 that it was free to begin


def test_one_of_its_threads_may_collect_what_is_left_of_it() -> None:
    """A dropped iterator in a cycle is closed by whichever thread collects cycles: a thread cannot wait for itself."""
    dropped = Event()

    def work(number: int) -> None:
        if number == 1:
            assert dropped.wait(5)
            gc.collect()

    gc.collect()
    gc.disable()
    try:
        cycle: list[object] = [results := ahead(count(), work, 2, 3)]
        cycle.append(cycle)
        next(results)
        threads = reading()
        del cycle, results
        dropped.set()
        for thread in threads:
            thread.join(5)
        assert len(threads) == 2
        assert not reading()
    finally:
        gc.enable()


LEFT_OPEN = """
import time
from itertools import count
from harmonize.data.ahead import ahead

results = ahead(count(), lambda n: time.sleep(0.01), 2, 3)
next(results)
print("left open")
"""


FORKED = """
import os, warnings
from itertools import count
from harmonize.data.ahead import ahead

results = ahead(count(), lambda n: n, 2, 3)
next(results)
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, of forks where there are threads
child = os.fork()
if not child:
    try:
        next(results)
    except RuntimeError as error:
        print("child:", error, flush=True)
    assert next(ahead(count(), lambda n: n, 2, 3)) == 0
    raise SystemExit
assert os.waitpid(child, 0)[1] == 0
print("parent:", next(results))
"""


def printed(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_a_program_may_end_with_one_open() -> None:
    assert printed(LEFT_OPEN) == "left open\n"


def test_a_forked_process_is_told_that_it_has_no_threads() -> None:
    child, parent = printed(FORKED).splitlines()
    assert child.startswith("child: begun before a fork")
    assert parent == "parent: 1"
