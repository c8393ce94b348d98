"""A try of a run as its worker sees it: a process, what it says, and how it ended."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from lvmdb.scheduling.policy import Ended, Ending
from lvmdb.scheduling.queue import Job
from lvmdb.scheduling.slots import Slot
from lvmdb.settings import child_environment

Command = Callable[[Job, Slot], Sequence[str]]

KEPT_LINES = 20
"""Lines of a process that are kept, for one that ends without a report."""

GRACE = 60.0
"""Seconds from asking a process to stop to killing it."""

LAST_WORDS = 1.0
"""Seconds to wait for the last lines of a process that has ended."""


def child_command(checkpoint_every: float) -> Command:
    """What trains a run: `scheduling.child`, in this Python."""

    def command(job: Job, slot: Slot) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "lvmdb.scheduling.child", str(job.run_id)),
            *("--device", slot.device, "--checkpoint-every", str(checkpoint_every)),
        ]

    return command


class Try:
    """A process that tries a run.

    Args:
        job: the run.
        slot: where it runs.
        command: what to start.
        dsn: of the database; the process is told by a variable, since anyone sees arguments.
        say: told each line that the process says; None: they are only kept.
    """

    def __init__(
        self,
        job: Job,
        slot: Slot,
        command: Sequence[str],
        dsn: str,
        say: Callable[[str], None] | None,
    ) -> None:
        self.job, self.slot, self.began = job, slot, time.monotonic()
        self._say = say
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._asked: Ended | None = None
        self._ended: Ended | None = None
        self._kill_at = float("inf")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment({**slot.environment, "LVMDB_DSN": dsn}),
            encoding="utf-8",
            errors="replace",
            # Ctrl-C is for the worker, which then asks its processes.
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, name="lvmdb-lines", daemon=True)
        self._reading.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.began

    def stop(self, why: Ended) -> None:
        """Ask the process to stop, once; after a while it is killed."""
        if self._asked is None:
            self._asked, self._kill_at = why, time.monotonic() + GRACE
            self._process.send_signal(signal.SIGTERM)

    def kill(self, why: Ended) -> None:
        """End the process at once."""
        self._asked = self._asked or why
        self._process.kill()

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        if self._ended is None:
            if self._process.poll() is not None:
                self._ended = self._how_it_ended()
            elif time.monotonic() >= self._kill_at:
                self._process.kill()
        return self._ended

    def _how_it_ended(self) -> Ended:
        """By its report; by what it was asked for; or by its exit code and last line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdin, self._process.stdout as pipe:
            report = _report(pipe.read())
        self._reading.join(timeout=LAST_WORDS)
        if report is not None and report.ending != Ending.INTERRUPTED:
            return report
        if told := self._asked or report:
            return told
        last = f"; its last line: {self._lines[-1]}" if self._lines else ""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            said = "its process was killed, as a system does that runs out of memory"
            return Ended(Ending.OUT_OF_MEMORY, said + last)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return Ended(Ending.ERROR, f"its process ended without a word ({how}){last}")

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if line := line.rstrip():
                    self._lines.append(line)
                    if self._say is not None:
                        self._say(line)


def _report(text: str) -> Ended | None:
    """What `scheduling.child` wrote; None where it did not come to it."""
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(text)
        return Ended(Ending(found["ending"]), found["message"], found["traceback"])
    return None
