"""What was made of a source's headers, kept in this process while its files stay as they were found."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from harmonize_converters.contract import SourceFiles

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by source; when their sizes together pass ``most``, those that were not asked for longest go.

    A value is right as long as its files have the sizes and times that they were found with: these are part of the
    source, and are compared with the files whenever a value is asked for.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[SourceFiles, tuple[T, int]] = OrderedDict()
        self._size = 0

    def keep(self, source: SourceFiles, value: T, size: int) -> None:
        """Remember what was made of a source."""
        self._drop(source)
        if size <= self._most:
            self._values[source] = value, size
            self._size += size
        while self._size > self._most:
            self._drop(next(iter(self._values)))

    def of(self, source: SourceFiles) -> T | None:
        """What was made of a source; None where that is not known, or not of its files as they are now."""
        if source not in self._values or not unchanged(source):
            return None
        self._values.move_to_end(source)
        return self._values[source][0]

    def _drop(self, source: SourceFiles) -> None:
        _, size = self._values.pop(source, (None, 0))
        self._size -= size


def unchanged(source: SourceFiles) -> bool:
    """Whether its files have the sizes and times that they were found with."""
    try:
        states = [file.path.stat() for file in source.files]
    except OSError:
        return False
    found = [(file.size, file.mtime_ns) for file in source.files]
    return [(state.st_size, state.st_mtime_ns) for state in states] == found
