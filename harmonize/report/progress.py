"""Progress of a conversion: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from harmonize.ingest import Progress

LINE_EVERY_S = 5.0
STOPPING = "stopping after the tasks that run; Ctrl-C again: at once"
UNITS = {"describe": "headers", "write": "recordings"}


class Reporter(Protocol):
    """Shows ``Progress`` while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: Progress) -> None:
        """Show where the run is."""
        ...

    def stopping(self) -> None:
        """Show that the run was asked to stop. Called by a signal's handler: nothing is written here."""
        ...


class _Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, progress: Progress) -> None:
        """Show nothing."""

    def stopping(self) -> None:
        """Show nothing."""


class Stage:
    """A stage of a run and the time since it began."""

    def __init__(self, name: str, now_s: float) -> None:
        self.name, self._began_s = name, now_s

    def rates(self, progress: Progress, now_s: float) -> str:
        """ "312 recordings/s, 41.0 MB/s"."""
        seconds = max(now_s - self._began_s, 1e-3)
        rate = f"{progress.sources_done / seconds:,.0f} {UNITS.get(self.name, 'files')}/s"
        return rate + (f", {progress.bytes_done / 1e6 / seconds:,.1f} MB/s" if progress.bytes else "")

    def left_s(self, progress: Progress, now_s: float) -> float | None:
        """Seconds that are left at the rate so far, by bytes where there are any; None where that says nothing."""
        done, total = done_of(progress)
        return (now_s - self._began_s) / done * (total - done) if done and total > done else None


def done_of(progress: Progress) -> tuple[int, int]:
    """How much of how much: bytes where there are any, else sources."""
    if progress.bytes:
        return progress.bytes_done, progress.bytes
    return progress.sources_done, progress.sources


def codes_text(failures: Mapping[str, int]) -> str:
    """ "truncated 2, empty_file 1": the most frequent first."""
    return ", ".join(f"{code} {count}" for code, count in Counter(failures).most_common())


def failures_text(failures: Mapping[str, int]) -> str:
    """ "3 failed (truncated 2, empty_file 1)"."""
    return f"{sum(failures.values())} failed ({codes_text(failures)})" if failures else ""


class _Lines(_Silent):
    def __init__(self, console: Console) -> None:
        self._console, self._stage = console, Stage("", time.monotonic())
        self._last, self._stopping = 0.0, False

    def stopping(self) -> None:
        """Say so with the next line, which comes with the next task."""
        self._stopping = True

    def update(self, progress: Progress) -> None:
        """Print a line at the start of a stage, every few seconds, and at its end."""
        now = time.monotonic()
        changed = progress.stage != self._stage.name
        if changed:
            self._stage = Stage(progress.stage, now)
        done = progress.sources_done == progress.sources
        if not (changed or done or self._stopping or now - self._last >= LINE_EVERY_S):
            return
        self._last = now
        words = [f"{progress.sources_done}/{progress.sources}"] if progress.sources else []
        if progress.sources_done:
            words.append(self._stage.rates(progress, now))
        if (left := self._stage.left_s(progress, now)) is not None:
            words.append(f"{timedelta(seconds=round(left))} left")
        words += [failures_text(progress.failures)] if progress.failures else []
        words += [STOPPING] if self._stopping else []
        self._stopping = False
        self._console.print(f"{progress.stage}: {', '.join(words)}".rstrip(": "), highlight=False, soft_wrap=True)


class _Bar(Bar):
    """A bar with a line of its own below it."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the line where there is one."""
        yield from super().get_renderables()
        if self.below:
            yield Text(self.below, style="red")


class _Bars(_Silent):
    def __init__(self, console: Console) -> None:
        self._stage, self._stopping = Stage("", time.monotonic()), False
        columns = ("[bold]{task.description}", "{task.fields[count]}", "{task.fields[rates]}")
        first, count, rates = (TextColumn(column) for column in columns)
        self._bar = _Bar(first, BarColumn(), count, rates, TextColumn("{task.fields[left]}"), console=console)
        self._task = self._bar.add_task("find", total=None, count="", rates="", left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stopping(self) -> None:
        """Say so below the bar, when that is drawn next."""
        self._stopping = True
        self._bar.below = STOPPING

    def update(self, progress: Progress) -> None:
        """Move the bar; a new stage starts it again."""
        now = time.monotonic()
        if progress.stage != self._stage.name:
            self._bar.reset(self._task, description=progress.stage)
            self._stage = Stage(progress.stage, now)
        done, total = done_of(progress)
        left = self._stage.left_s(progress, now)
        below = failures_text(progress.failures), STOPPING if self._stopping else ""
        self._bar.below = ", ".join(filter(None, below))
        self._bar.update(
            self._task,
            description=progress.stage,
            total=total or None,
            completed=done,
            count=f"{progress.sources_done}/{progress.sources}" if progress.sources else "",
            rates=self._stage.rates(progress, now) if progress.sources_done else "",
            left="" if left is None else f"{timedelta(seconds=round(left))} left",
        )


class JsonLog:
    """A line of JSON for each event of a run, with its time; a path of None keeps none."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1) if path else None

    def __call__(self, event: str, fields: Mapping[str, object]) -> None:
        if self._file:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


def reporter(console: Console, quiet: bool) -> Reporter:
    """Bars on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return _Silent()
    return _Bars(console) if console.is_terminal else _Lines(console)
