"""Outliving a restart of the server: the same again, later and later, until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lvmdb.errors import ConnectionLostError
from lvmdb.progress import SILENT, Progress

PATIENCE = 300.0
"""Seconds without an answer after which the server is given up."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Seconds before the first try again, and at most between two; each delay doubles the last."""

Result = TypeVar("Result")


def patiently(action: Callable[[], Result], progress: Progress = SILENT) -> Result:
    """What `action` gives; while the server is away, it is tried again.

    Args:
        action: may run more than once, so it opens its own connection and leaves nothing behind
            when it fails, as one transaction does.
        progress: told once that the server is waited for.

    Raises:
        ConnectionLostError: the server stayed away.
    """
    deadline, delay = time.monotonic() + PATIENCE, FIRST_DELAY
    while True:
        try:
            return action()
        except ConnectionLostError as error:
            if time.monotonic() + delay > deadline:
                raise
            if delay == FIRST_DELAY:
                progress.say(f"waiting for the server to come back: {error}")
        time.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY)
