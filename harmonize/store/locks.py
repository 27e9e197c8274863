"""Locks between the processes of a store on a file system; the system lets go of them when a process ends."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonize.store.place import Place

COMMITTING = "committing.lock"
"""Held by a conversion from its last look at what was forgotten to its commit; alone by ``forget`` while it lists."""
CONVERTING = "converting.lock"
"""Held by a conversion from before it first looks at what was forgotten until its end."""
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def held(root: Place, name: str, *, alone: bool = False, wait: bool = True) -> Iterator[bool]:
    """Hold a lock of the store, with others or ``alone``; False where it cannot be had without waiting.

    A file system without locks is taken for one: ``forget`` refuses to run there, so conversions need none. An object
    store has no locks either, and ``forget`` runs there: no conversion may run beside it (docs/object_stores.md).
    """
    if not isinstance(root, Path):
        yield True
        return
    with (root / "catalog" / name).open("a") as handle:
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield True
