"""The threads of a stream, for tests of when they end."""

from __future__ import annotations

import threading


def reading() -> list[threading.Thread]:
    """The threads that read ahead (``harmonize.data.ahead``) and are not ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("harmonize-ahead")]
