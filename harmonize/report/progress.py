"""Progress of a conversion: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from harmonize.ingest import Progress

LINE_EVERY_S = 5.0


class Reporter(Protocol):
    """Shows ``Progress`` while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: Progress) -> None:
        """Show where the run is."""
        ...


class _Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, progress: Progress) -> None:
        """Show nothing."""


class _Rates:
    """Files and megabytes a second since the stage began."""

    def __init__(self) -> None:
        self.stage, self._began = "", time.monotonic()

    def restart(self, stage: str) -> None:
        self.stage, self._began = stage, time.monotonic()

    def text(self, progress: Progress) -> str:
        seconds = max(time.monotonic() - self._began, 1e-3)
        rate = f"{progress.sources_done / seconds:.0f} files/s"
        if progress.bytes:
            rate += f", {progress.bytes_done / 1e6 / seconds:.0f} MB/s"
        return rate + (f", {sum(progress.failures.values())} failed" if progress.failures else "")


class _Lines(_Silent):
    def __init__(self, console: Console) -> None:
        self._console, self._rates = console, _Rates()
        self._last = 0.0

    def update(self, progress: Progress) -> None:
        """Print a line at the start of a stage, every few seconds, and at its end."""
        changed, now = progress.stage != self._rates.stage, time.monotonic()
        if changed:
            self._rates.restart(progress.stage)
        text = self._rates.text(progress)
        done = progress.sources_done == progress.sources
        if changed or done or now - self._last >= LINE_EVERY_S:
            self._last = now
            count = f"{progress.sources_done}/{progress.sources} sources, {text}" if progress.sources else ""
            self._console.print(f"{progress.stage}: {count}".rstrip(": "), highlight=False)


class _Bars(_Silent):
    def __init__(self, console: Console) -> None:
        self._rates = _Rates()
        columns = ("[bold]{task.description}", "{task.fields[count]}", "{task.fields[rates]}")
        first, count, rates = (TextColumn(column) for column in columns)
        self._bar = Bar(first, BarColumn(), count, rates, TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("find", total=None, count="", rates="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Move the bar; a new stage starts it again."""
        if progress.stage != self._rates.stage:
            self._bar.reset(self._task, description=progress.stage)
            self._rates.restart(progress.stage)
        self._bar.update(
            self._task,
            description=progress.stage,
            total=progress.sources or None,
            completed=progress.sources_done,
            count=f"{progress.sources_done}/{progress.sources}" if progress.sources else "",
            rates=self._rates.text(progress) if progress.sources else "",
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
