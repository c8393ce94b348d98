"""Which services run: a file for each in `LVMDB_HOME/services`, locked as long as it runs.

The lock is held by the supervisor and by the service's process together, and the system takes it
from whoever ends, `kill -9` included. So a file without a lock is what a killed process left, and
no number of a process is ever taken for another's. Removing the file asks the supervisor to stop
the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lvmdb.errors import ServiceError

CLAIM_SECONDS = 20.0
"""How long to wait for a process whose supervisor was killed: it ends by itself."""

LOOK_SECONDS = 0.5
"""How long others may hold a lock to look at a file."""

EVERY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a service is found that listens on every address."""

_PAUSE = 0.1


@dataclass(frozen=True)
class Record:
    """A service that was started.

    Attributes:
        service: its name.
        host, port: where it listens.
        supervisor: number of the process that looks after it.
        pid: number of its own process; None while it is not running.
        live: whether that process answers.
        since: when it was started, in seconds since 1970.
        starts: how often its process was started.
    """

    service: str
    host: str
    port: int
    supervisor: int
    pid: int | None = None
    live: bool = False
    since: float = field(default_factory=time.time)
    starts: int = 0

    @property
    def url(self) -> str:
        """Its address for people."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def folder(home: Path) -> Path:
    """Where records and logs are."""
    return home / "services"


def log_file(home: Path, service: str) -> Path:
    """What a service says."""
    return folder(home) / f"{service}.log"


def path_of(home: Path, service: str) -> Path:
    """The file of a service."""
    return folder(home) / f"{service}.json"


class Claim:
    """The lock of a service's file, and what is written there; use `claim`.

    Attributes:
        descriptor: of the open file, to be inherited by the service's process.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self.descriptor = path, descriptor

    def write(self, record: Record) -> None:
        """Say how the service is."""
        data = json.dumps(asdict(record)).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, data, 0)

    @property
    def withdrawn(self) -> bool:
        """Whether somebody removed the file, and so wants the service to stop."""
        return not _is_file_of(self.descriptor, self._path)

    def release(self) -> None:
        """Remove the file, if it is still this one, and give up the lock."""
        if not self.withdrawn:
            self._path.unlink(missing_ok=True)
        os.close(self.descriptor)


def claim(home: Path, service: str) -> Claim:
    """Take the file of a service.

    Raises:
        ServiceError: the service runs already, or the folder cannot be written to.
    """
    path = path_of(home, service)
    began = time.monotonic()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if _locks(descriptor, fcntl.LOCK_EX) and _is_file_of(descriptor, path):
                return Claim(path, descriptor)
            found = _read(descriptor)
            os.close(descriptor)
            waited = time.monotonic() - began
            # Somebody may only be looking at the file of a service that was killed.
            looked_after = found is not None and _exists(found.supervisor)
            if waited > (LOOK_SECONDS if looked_after else CLAIM_SECONDS):
                where = f" (process {found.pid}, {found.url})" if found else ""
                raise ServiceError(
                    f"the service {service} runs already{where}: 'lvmdb serve stop {service}' "
                    "stops it"
                )
            time.sleep(_PAUSE)
    except OSError as error:
        raise ServiceError(f"cannot write to {path.parent}: {error.strerror}") from error


def running(home: Path, service: str) -> tuple[Record | None, bool]:
    """The record of a service, None where there is none; and whether it runs.

    One that does not run was killed together with its supervisor.
    """
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path_of(home, service), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(descriptor), not _locks(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)
    return None, False


def withdraw(home: Path, service: str, seconds: float) -> Record | None:
    """Ask for a service to be stopped, and wait.

    Args:
        home: `LVMDB_HOME`.
        service: its name.
        seconds: to wait for its end.

    Returns:
        Its record if it has not ended by then.
    """
    path = path_of(home, service)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = _read(descriptor)
        path.unlink(missing_ok=True)
        deadline = time.monotonic() + seconds
        while not _locks(descriptor, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                return found
            time.sleep(_PAUSE)
        return None
    finally:
        os.close(descriptor)


def _locks(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _read(descriptor: int) -> Record | None:
    """What the file says; None while it is being written."""
    with contextlib.suppress(ValueError, TypeError):
        return Record(**json.loads(os.pread(descriptor, 1 << 16, 0)))
    return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
