"""Chunks shared by threads, and memory that is used again."""

from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from harmonize.data import buffers
from harmonize.data.buffers import Buffers
from harmonize.data.reader import Chunks

INT16 = np.dtype("int16")


@pytest.fixture(autouse=True, params=[1, 240], ids=["apart", "slabs"])
def slab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers by themselves, and ten of 24 bytes cut from one piece."""
    monkeypatch.setattr(buffers, "_SLAB_BYTES", request.param)


def test_each_chunk_is_read_once_by_whoever_asks_first() -> None:
    chunks, reads, lock = Chunks(), list[tuple[int, ...]](), threading.Lock()

    def read(index: tuple[int, ...], empty: object) -> np.ndarray:
        with lock:
            reads.append(index)
        time.sleep(0.001)
        return np.array(index)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: int(chunks(("a", (n % 50,)), read)[0]), range(2000)))
    assert found == [n % 50 for n in range(2000)]
    assert sorted(reads) == [(n,) for n in range(50)]


def test_who_waits_for_a_read_that_fails_tries_again() -> None:
    chunks, tries = Chunks(), 0

    def read(index: tuple[int, ...], empty: object) -> np.ndarray:
        nonlocal tries
        tries += 1
        time.sleep(0.01)
        if tries < 3:
            raise OSError("not now")
        return np.array(index)

    def ask(_: int) -> int | None:
        try:
            return int(chunks(("a", (7,)), read)[0])
        except OSError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert sorted(found, key=str) == [7] * 6 + [None] * 2
    assert tries == 3


@pytest.mark.parametrize("hold", ["array", "view", "reshaped", "tensor", "part of a tensor", "array of a tensor"])
def test_memory_is_used_again_when_nobody_holds_it(hold: str) -> None:
    memory = Buffers()
    held = {
        "array": lambda a: a,
        "view": lambda a: a[1:3],
        "reshaped": lambda a: a.reshape(-1).view(np.uint8)[5:],
        "tensor": torch.from_numpy,
        "part of a tensor": lambda a: torch.from_numpy(a)[2].view(-1),
        "array of a tensor": lambda a: torch.from_numpy(a)[2].numpy(),
    }[hold](memory.empty((4, 3), INT16))
    low = held.data_ptr() if isinstance(held, torch.Tensor) else held.ctypes.data
    n = len(memory._kept[24])
    for _ in range(3 * n):  # the others over and over, never that one
        address = memory.empty((2, 6), INT16).ctypes.data
        assert not address <= low < address + 24
    there = len(memory._kept[24])
    assert there == max(2, n)
    del held
    every = [memory.empty((4, 3), INT16) for _ in range(there)]
    assert len({one.ctypes.data for one in every}) == there == len(memory._kept[24])
    assert any(one.ctypes.data <= low < one.ctypes.data + 24 for one in every)


def test_no_two_threads_get_the_same_memory() -> None:
    memory = Buffers()

    def fill(number: int) -> bool:
        array = memory.empty((1000,), INT16)
        array[:] = number
        time.sleep(0.0002)
        return bool((array == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(400)))
    assert sum(map(len, memory._kept.values())) <= 9 + 9  # one more than threads, or two slabs


def test_memory_is_not_pickled() -> None:
    memory = Buffers()
    memory.empty((1000,), INT16)
    assert len(pickle.dumps(memory)) < 100
