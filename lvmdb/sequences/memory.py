"""Peak memory of this process during a piece of work."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

_RESET_PEAK = "5"
"""What makes Linux forget the peak so far (man 5 proc_pid_clear_refs)."""


class Peak:
    """What the process needs from here on, above what it holds.

    Memory that nobody uses is handed back first, so that work does not fit into what work before
    it has left. Pages of mapped files that are touched count.
    """

    def __init__(self) -> None:
        gc.collect()
        self._before = _start_anew()

    def bytes(self) -> int | None:
        """The most so far; None where the system does not tell."""
        if self._before is None:
            return None
        return max(0, _peak() - self._before)


def _start_anew() -> int | None:
    if sys.platform != "linux":
        return None
    # Only the GNU library has it, and elsewhere there is nothing of the kind to do.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text(_RESET_PEAK)
        return _peak()
    except OSError:  # a kernel or a container without it
        return None


def _peak() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
