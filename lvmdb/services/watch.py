"""How the services of a home are, and how to stop them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lvmdb.errors import ServiceError
from lvmdb.services import records
from lvmdb.services.catalogue import GRACE, SERVICES, Service

ASK_SECONDS = 6.0
"""To wait for an answer of `/health`."""

STOP_SECONDS = GRACE + 10.0
"""To wait for the end of a service before its processes are killed."""


@dataclass(frozen=True)
class Seen:
    """A service as it is now.

    Attributes:
        service: its name.
        state: `ready`, `not ready`, `starting`, `killed` (with its supervisor) or `stopped`.
        reason: why it is not ready.
        record: what it was started with; None where nobody started it.
    """

    service: str
    state: str
    reason: str = ""
    record: records.Record | None = None

    @property
    def well(self) -> bool:
        """Whether it is as it was meant to be."""
        return self.state in ("ready", "stopped")

    def row(self, home: Path) -> dict[str, object]:
        """As a row for people."""
        at = self.record
        since = None if at is None else datetime.fromtimestamp(at.since, UTC)
        return {
            "service": self.service,
            "state": self.state,
            "address": None if at is None else at.url,
            "pid": None if at is None else at.pid,
            "since": since,
            "starts": None if at is None else at.starts,
            "reason": self.reason or None,
            "log": str(records.log_file(home, self.service)) if at else None,
        }


def look(home: Path) -> list[Seen]:
    """Every service, in the catalogue's order."""
    return [_seen(home, service) for service in SERVICES.values()]


def stop(home: Path, services: Sequence[Service]) -> list[str]:
    """Stop those of these services that run.

    Returns:
        Their names.

    Raises:
        ServiceError: one did not end, not even when it was killed.
    """
    stopped = []
    for service in services:
        found, runs = records.running(home, service.name)
        left = records.withdraw(home, service.name, STOP_SECONDS)
        if left is not None:
            _kill(left)
            raise ServiceError(
                f"the service {service.name} (process {left.pid}) did not stop within "
                f"{STOP_SECONDS:g} s, and was killed"
            )
        if found is not None and runs:
            stopped.append(service.name)
    return stopped


def _seen(home: Path, service: Service) -> Seen:
    found, runs = records.running(home, service.name)
    if found is None:
        return Seen(service.name, "starting" if runs else "stopped")
    if not runs:
        return Seen(service.name, "killed", "its processes were killed: start it again", found)
    if not found.live:
        reason = "its process crashed, and is started again" if found.starts > 1 else ""
        return Seen(service.name, "starting", reason, found)
    state, reason = _ask(found)
    return Seen(service.name, state, reason, found)


def _ask(found: records.Record) -> tuple[str, str]:
    """What `/health` says."""
    host = records.EVERY_HOST.get(found.host, found.host)
    connection = http.client.HTTPConnection(host, found.port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            return "ready", ""
        return "not ready", str(json.loads(body)["error"]["message"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return "not ready", f"/health does not answer: {error or type(error).__name__}"
    finally:
        connection.close()


def _kill(record: records.Record) -> None:
    for pid in (record.supervisor, record.pid):
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
