"""Tasks through an executor: a bounded number at once, to the end of those that run where it is to stop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait

from harmonize.ingest.pending import Done
from harmonize.ingest.plan import Task
from harmonize.ingest.pool import WorkerDied
from harmonize.ingest.write import failed, run_task
from harmonize.store.catalog import Batch
from harmonize.store.place import Place
from harmonize.store.shards import Codec
from harmonize_converters.contract import ConversionError

LOOK_EVERY_S = 0.2
"""How often it is looked whether to stop."""


def timed_task(root: Place, task: Task, codec: Codec) -> tuple[Batch, float]:
    """The batch of a task, and the seconds it took."""
    began = time.perf_counter()
    return run_task(root, task, codec), time.perf_counter() - began


def run_tasks(
    executor: Executor | None, root: Place, tasks: Sequence[Task], codec: Codec, ahead: int, stop: Callable[[], bool]
) -> Iterator[Done]:
    """Each task as it ends; ``ahead`` are given to the executor at once. Where a process was killed, each recording of
    its task is a task alone.

    Once ``stop`` says True no other task begins. The same where the store cannot be written (``OSError``): those that
    run come to their ends, and then it is raised.
    """
    if executor is None:
        for task in tasks:
            if stop():
                return
            yield Done(task, *timed_task(root, task, codec))
        return
    queue, running, error = deque(tasks), dict[Future[tuple[Batch, float]], Task](), None
    try:
        while queue or running:
            while queue and len(running) < ahead:
                task = queue.popleft()
                running[executor.submit(timed_task, root, task, codec)] = task
            for future in wait(running, LOOK_EVERY_S, FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    yield Done(task, *future.result())
                except CancelledError:
                    pass
                except WorkerDied:
                    if len(task.drafts) > 1:
                        queue.extendleft(Task((one,), one.raw_bytes) for one in task.drafts)
                    else:
                        yield Done(task, Batch(failures=[failed(task.drafts[0], ConversionError("worker_died"))]))
                except OSError as found:
                    error = error or found
            if error or stop():
                queue.clear()
                for future in running:
                    future.cancel()
    except BaseException:
        for future in running:
            future.cancel()
        raise
    if error:
        raise error
