"""Being asked to stop while a run trains: where that is wanted, a checkpoint is written first."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_asked = threading.Event()


@contextmanager
def after_a_checkpoint(wanted: bool) -> Iterator[None]:
    """In the block SIGTERM does not end the process: the loop does, once it has saved a batch.

    Args:
        wanted: if not, SIGTERM does what it did; so it does in a thread that is not the main one.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: _asked.set())
    try:
        yield
        # It came after the last batch.
        end_if_asked()
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def asked() -> bool:
    """Whether this process is to stop after the next checkpoint."""
    return _asked.is_set()


def end_if_asked() -> None:
    """Do what SIGTERM would have done."""
    if _asked.is_set():
        sys.exit(128 + signal.SIGTERM)
