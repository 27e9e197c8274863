"""The bytes of a shard: mapped from a local file, or asked for in ranges from an object store."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from harmonize.store.object_path import ObjectPath, answers, client
from harmonize.store.place import Place


class ShardBytes(Protocol):
    """``size`` of the shard in bytes, and its last bytes ``tail``."""

    size: int
    tail: bytes

    def ranges(self, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        """Bytes of each span (start, size), which lie inside."""


def open_shard(file: Place, tail_bytes: int) -> ShardBytes:
    """Open a shard with its last ``tail_bytes`` (all of it where it is shorter). Raises ``FileNotFoundError`` for one
    that is not there or, where that cannot be told apart, is empty."""
    return _Mapped(file, tail_bytes) if isinstance(file, Path) else _Ranged(file, tail_bytes)


class _Mapped:
    def __init__(self, file: Path, tail_bytes: int) -> None:
        with file.open("rb") as handle:
            try:
                self._view = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
            except ValueError:  # an empty file cannot be mapped
                raise FileNotFoundError(str(file)) from None
        self.size = len(self._view)
        self.tail = bytes(self._view[-tail_bytes:])

    def ranges(self, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        return [self._view[start : start + size] for start, size in spans]


class _Ranged:
    def __init__(self, file: ObjectPath, tail_bytes: int) -> None:
        self._file = file
        with answers(file):
            self.size, self.tail = _tail(file, tail_bytes)

    def ranges(self, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        import obstore

        starts, sizes = zip(*spans, strict=True)
        with answers(self._file):  # ranges that are near each other are one request
            found = obstore.get_ranges(client(self._file), self._file.key, starts=starts, lengths=sizes)
        return [memoryview(one) for one in found]


def _tail(file: ObjectPath, n: int) -> tuple[int, bytes]:
    """The size of an object and its last ``n`` bytes, in one request where the store counts from the end (Azure does
    not) and the object has any bytes."""
    import obstore
    from obstore.exceptions import GenericError, NotSupportedError

    store: Any = client(file)
    try:
        got = obstore.get(store, file.key, options={"range": {"suffix": n}})
        return got.meta["size"], bytes(got.bytes())
    except NotSupportedError:
        pass
    except GenericError as error:  # an empty object has no last bytes: 416 or, of some servers, 200
        if "status code: 416" not in str(error) and "non-partial" not in str(error):
            raise
    size = obstore.head(store, file.key)["size"]
    return size, bytes(obstore.get_range(store, file.key, start=max(0, size - n), end=size)) if size else b""
