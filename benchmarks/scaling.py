"""``python -m benchmarks.scaling [RECORDINGS]``: what a second core gives a stream: two threads of one process,
and, as the most that the machine has to give, two processes that share neither a lock nor memory, each with half of
every batch and of the memory for decoded chunks. A recording has 60 windows.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.streaming import BATCH, CODECS, RECORDINGS, ROUNDS, SECONDS, WINDOW_S, drained
from benchmarks.synthetic import eeg_store
from benchmarks.timing import alternating_s, one_thread, row
from harmonize.data import WindowStream


def _serve(asked: Connection, store: Path, rank: int, world_size: int) -> None:
    """A process that makes an epoch's batches with as many threads as it is told, again and again; none: it ends."""
    one_thread()
    streams: dict[int, WindowStream] = {}
    while threads := asked.recv():
        if threads not in streams:
            streams[threads] = WindowStream(
                store, WINDOW_S, BATCH, threads=threads, prefetch=2, rank=rank, world_size=world_size,
                memory=2**30 // world_size,
            )  # fmt: skip
        drained(streams[threads])
        asked.send(None)


def _epoch(processes: Sequence[Connection], threads: int) -> None:
    """An epoch of all of these at once."""
    for one in processes:
        one.send(threads)
    for one in processes:
        one.recv()


def rows(recordings: int = RECORDINGS) -> list[str]:
    """Table rows, for a data set of so many recordings."""
    found, n = [], recordings * SECONDS // WINDOW_S
    for codec, name in CODECS:
        with tempfile.TemporaryDirectory() as folder:
            found += _rows(eeg_store(Path(folder) / "eeg.zarr", codec, recordings, SECONDS)[0], name, n)
    return found


def _rows(store: Path, name: str, n: int) -> list[str]:
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        ours, theirs = spawn.Pipe()
        processes.append(spawn.Process(target=_serve, args=(theirs, store, rank, world_size)))
        processes[-1].start()
        theirs.close()  # else it would not be seen where the process ends
        pipes.append(ours)
    whole, *halves = pipes
    works: dict[str, Callable[[], object]] = {
        "one": partial(_epoch, [whole], 1),
        "threads": partial(_epoch, [whole], 2),
        "processes": partial(_epoch, halves, 1),
    }
    s = alternating_s(works, ROUNDS)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(0)
        process.join()
    beside = "one thread", s["one"], "windows"
    return [
        row(f"`WindowStream`, shuffled, {name}, two threads", n, s["threads"], *beside),
        row(f"the same, {name}, two processes, half of each batch", n, s["processes"], *beside),
    ]


if __name__ == "__main__":
    print("\n".join(rows(*map(int, sys.argv[1:]))))
