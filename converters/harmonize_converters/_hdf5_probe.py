"""A first look at HDF5 files in a child process: damaged ones crash libhdf5 or make it loop for ever.

Fuzzing finds both within some thousand damaged copies (h5py 3.16, HDF5 2.0), and either would end a worker and
with it the run. The child does what reading does with a file's metadata: it walks groups over hard links, reads
attributes, and follows the index of chunks. One child serves each process; answers are kept by path, size and time.
"""

from __future__ import annotations

import atexit
import os
import select
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

TIMEOUT_S = 60.0
MEMORY_BYTES = 8 << 30
MAX_OBJECTS = 10_000
_children: dict[int, subprocess.Popen[bytes]] = {}


@lru_cache(maxsize=4096)
def survives(path: str, size: int, mtime_ns: int) -> bool:
    """Whether a child came through a walk of the file. What merely cannot be read is survived too."""
    child = _child()
    answer = b""
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(os.fsencode(path).hex().encode() + b"\n")
        child.stdin.flush()
        if select.select([child.stdout], [], [], TIMEOUT_S)[0]:
            answer = child.stdout.readline()
    except OSError:
        pass
    if answer != b"ok\n":
        _end()
    return answer == b"ok\n"


def _child() -> subprocess.Popen[bytes]:
    """This process's child: a forked process makes one of its own."""
    if os.getpid() not in _children:
        command = [sys.executable, "-m", "harmonize_converters._hdf5_probe"]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        _children[os.getpid()] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    return _children[os.getpid()]


@atexit.register
def _end() -> None:
    child = _children.pop(os.getpid(), None)
    if child is not None:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _serve() -> None:
    """One line a file, its path in hex; "ok" after each."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        _walk(Path(os.fsdecode(bytes.fromhex(line.decode().strip()))))
        sys.stdout.buffer.write(b"ok\n")
        sys.stdout.buffer.flush()


def _walk(path: Path) -> None:
    import h5py

    from harmonize_converters._hdf5 import attribute, child, dataset, hdf5_errors, names
    from harmonize_converters.contract import ConversionError

    try:
        size = path.stat().st_size
        with hdf5_errors(), h5py.File(path, "r") as root:
            todo: list[tuple[h5py.Group, str]] = [(root, "")]
            seen: set[int] = set()
            while todo and len(seen) < MAX_OBJECTS:
                group, name = todo.pop()
                try:
                    item = child(group, name)
                    if item is None:
                        continue
                    with hdf5_errors():
                        address = h5py.h5o.get_info(item.id).addr
                        for key in [] if address in seen else list(item.attrs):
                            attribute(item, key)
                    if isinstance(item, h5py.Group) and address not in seen:
                        todo.extend((item, one) for one in names(item))
                    elif isinstance(item, h5py.Dataset):
                        found = dataset(group, name, size, "iufSO")
                        with hdf5_errors():
                            found[tuple(slice(n - 1, n) for n in found.shape)]
                    seen.add(address)
                except ConversionError:
                    continue
    except (ConversionError, OSError):
        return


if __name__ == "__main__":
    _serve()
