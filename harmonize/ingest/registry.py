"""The converters installed, by name (entry-point group ``harmonize.converters``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from harmonize_converters.contract import Converter


class _Installed(Mapping[str, Converter]):
    """In order of name. Each is imported when it is first asked for: all of them, with the libraries that they stand
    on, take half a second, and a process that converts needs one or two."""

    def __init__(self, found: Mapping[str, EntryPoint]) -> None:
        self._found = dict(sorted(found.items()))
        self._loaded: dict[str, Converter] = {}

    def __getitem__(self, name: str) -> Converter:
        if name not in self._loaded:
            self._loaded[name] = self._found[name].load()()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __reduce__(self) -> tuple[Callable[[], Mapping[str, Converter]], tuple[()]]:
        """In another process: those that are installed there."""
        return converters, ()


@cache
def converters() -> Mapping[str, Converter]:
    """One instance of each installed converter."""
    return _Installed({entry.name: entry for entry in entry_points(group="harmonize.converters")})
