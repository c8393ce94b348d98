"""A service's process, again and again: started, listened to, ended.

A process that crashes is started again, later and later. One that never came to answer is not: its
last line says why.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from lvmdb.errors import ServiceError, UsageError
from lvmdb.services import records
from lvmdb.services.catalogue import GRACE, LIVE, REFUSED, Service
from lvmdb.services.options import ServiceOptions
from lvmdb.settings import child_environment

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
"""Seconds before a crashed process is started again; each delay doubles the last."""

GIVEN = ("host", "dataset", "encoder", "chunker", "tagger", "inverter", "corrector")
"""Options that a process is given as arguments."""

STEADY = 60.0
"""A process that lived so long crashes for a new reason: the delays begin anew."""

LOG_BYTES, LOGS_KEPT = 10 << 20, 2
"""A log is renamed when it is so large; so many old ones are kept."""

WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that have nothing to compute sleep, so that other services and the database can."""

BACKLOG = 512
"""Connections that the system holds while nobody accepts them."""


class Child:
    """A service, and the process that it has at the moment, if any.

    Args:
        service: which one.
        port: that it answers at.
        options: what it is started with.
        variables: more of its environment.
        say: told each line that it says, and what becomes of it.

    Attributes:
        done: it has ended and will not be started again.
    """

    def __init__(
        self,
        service: Service,
        port: int,
        options: ServiceOptions,
        variables: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._variables = variables
        self._name, self._port, self._options, self._say = service.name, port, options, say
        self._claim: records.Claim | None = None
        self._listener: socket.socket | None = None
        self._log: logging.Logger | None = None
        self._process: subprocess.Popen[str] | None = None
        self._last_line = ""
        self._was_live = self._asked = False
        self._began, self._again_at = 0.0, float("inf")
        self._kill_at = float("inf")
        self._delay = FIRST_DELAY
        self._writing = threading.Lock()
        self._record = records.Record(self._name, options.host, port, os.getpid())
        self.done = False

    def claim(self) -> None:
        """Take the service's file and port."""
        home = self._options.settings.home
        self._claim = records.claim(home, self._name)
        self._listener = listen(self._options.host, self._port, self._name)
        self._claim.write(self._record)
        self._log = _log(records.log_file(home, self._name), self._name)

    def start(self) -> None:
        """Start the process."""
        assert self._claim is not None
        assert self._listener is not None
        given = {key: getattr(self._options, key) for key in GIVEN}
        inherited = (self._listener.fileno(), self._claim.descriptor)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lvmdb.services.process", self._name),
                *("--socket", str(inherited[0]), "--options", json.dumps(given)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Anyone sees arguments.
            env=child_environment(
                {**self._variables, "LVMDB_DSN": self._options.dsn}, unless_set=WAITING
            ),
            pass_fds=inherited,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C is for the supervisor, which then asks its processes.
            start_new_session=True,
        )
        self._began, self._again_at = time.monotonic(), float("inf")
        self._write(pid=self._process.pid, starts=self._record.starts + 1)
        for read in (self._read_lines, self._read_live):
            thread = threading.Thread(target=read, args=(self._process,), daemon=True)
            thread.name = f"lvmdb-{self._name}"
            thread.start()

    def stop(self) -> None:
        """Ask the process to end, once; after a while it is killed."""
        if self._asked:
            return
        self._asked = True
        if self._process is None or self._process.poll() is not None:
            self._finish()
        else:
            self._process.send_signal(signal.SIGTERM)
            self._kill_at = time.monotonic() + GRACE + 5

    def kill(self) -> None:
        """End the process at once."""
        self._asked = True
        if self._process is not None:
            self._process.kill()

    def look(self) -> None:
        """Start it again if it crashed and its time has come; see whether it has ended.

        Raises:
            ServiceError: it does not start.
        """
        if self.done:
            return
        if not self._asked and self._claim is not None and self._claim.withdrawn:
            self._tell("stops, as somebody asked")
            self.stop()
            return
        now = time.monotonic()
        if now >= self._again_at:
            self.start()
        if self._process is None:
            return
        code = self._process.poll()
        if code is None:
            if now >= self._kill_at:
                self._process.kill()
            return
        self._ended(self._process, code)

    def _ended(self, process: subprocess.Popen[str], code: int) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
        if self._asked or code in (0, -signal.SIGTERM, -signal.SIGINT):
            self._tell("stopped")
            self._finish()
            return
        how = f"with code {code}" if code >= 0 else f"by signal {-code}"
        if code == REFUSED or not self._was_live:
            self._finish()
            last = self._last_line.removeprefix("lvmdb: ") or f"its process ended {how}"
            raise ServiceError(f"the service {self._name} does not start: {last}")
        if time.monotonic() - self._began > STEADY:
            self._delay = FIRST_DELAY
        self._write(pid=None, live=False)
        self._tell(f"its process ended {how}; starts again in {self._delay:g} s")
        self._again_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    def close(self) -> None:
        """Give back file, port and log."""
        self._finish()
        for handler in list(self._log.handlers) if self._log else []:
            handler.close()
            assert self._log is not None
            self._log.removeHandler(handler)

    def _finish(self) -> None:
        self.done = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        with self._writing:
            if self._claim is not None:
                self._claim.release()
                self._claim = None

    def _write(self, **changes: object) -> None:
        with self._writing:
            self._record = replace(self._record, **changes)  # type: ignore[arg-type]
            if self._claim is not None:
                self._claim.write(self._record)

    def _tell(self, line: str) -> None:
        if self._log is not None:
            self._log.info("lvmdb: %s", line)
        self._say(f"{self._name}: {line}")

    def _read_lines(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                if line := line.rstrip():
                    self._last_line = line
                    assert self._log is not None
                    self._log.info("%s", line)
                    self._say(f"{self._name} | {line}")

    def _read_live(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed when the process had ended
            if process.stdout.readline().strip() == LIVE:
                self._was_live = True
                self._write(live=True)
                self._tell(f"answers at {self._record.url}")


def listen(host: str, port: int, service: str) -> socket.socket:
    """A socket that listens there.

    Raises:
        ServiceError: the port is taken, or not to be had.
        UsageError: the host is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: no such address") from None
    family, *_, address = found[0]
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServiceError(
                f"port {port} of {host}, for {service}, is taken: stop what listens there, or "
                "choose other ports with --port-base"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host}: not an address of this machine") from None
        raise ServiceError(
            f"cannot listen on port {port} of {host}, for {service}: {error.strerror}"
        ) from error


def _log(path: Path, name: str) -> logging.Logger:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger(f"lvmdb.serve.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return logger
