"""`lvmdb serve` as a process: start, look, stop, and what is left by `kill -9`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lvmdb.db.engine import Database

FreshDatabase = Callable[..., AbstractContextManager[Database]]

SECONDS = 60.0


@dataclass(frozen=True)
class Lvmdb:
    """The program, with a home and a database."""

    home: Path
    dsn: str
    base: int

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LVMDB_")}
        return {**kept, "LVMDB_HOME": str(self.home), "LVMDB_DSN": self.dsn}

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lvmdb", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        process = self.popen(*arguments)
        out, err = process.communicate(timeout=2 * SECONDS)
        assert process.returncode == code, (arguments, out, err)
        return out, err

    def serve(self, *arguments: str) -> tuple[str, ...]:
        return ("serve", "chunking", "--port-base", str(self.base), *arguments)

    def seen(self, *, code: int) -> dict[str, Any]:
        """What `serve status` says of chunking."""
        out, _ = self("serve", "status", "--format", "json", code=code)
        found: dict[str, Any] = json.loads(out)[0]
        assert found["service"] == "chunking"
        return found

    def record(self) -> dict[str, Any]:
        """The record itself, which costs no process to read."""
        read: dict[str, Any] = json.loads((self.home / "services/chunking.json").read_text())
        return read


@pytest.fixture
def lvmdb(fresh_database: FreshDatabase, tmp_path: Path) -> Iterator[Lvmdb]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        base = free.getsockname()[1] - 1
    with fresh_database() as db:
        program = Lvmdb(tmp_path / "a home", db.dsn, base)
        yield program
        with contextlib.suppress(OSError, ValueError):
            os.kill(program.record()["supervisor"], signal.SIGKILL)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(OSError, ValueError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5) as answer:
        return bool(answer.status == 200)


def test_a_service_is_started_looked_at_and_stopped(lvmdb: Lvmdb) -> None:
    port = lvmdb.base + 1
    out, err = lvmdb(*lvmdb.serve("--detach"))
    assert out == f"chunking: http://127.0.0.1:{port}\n", err
    assert answers(port)
    before = lvmdb.seen(code=0)
    assert (before["state"], before["starts"]) == ("ready", 1)
    _, err = lvmdb(*lvmdb.serve("--detach"), code=1)
    assert err == f"lvmdb: the service chunking runs already at http://127.0.0.1:{port}\n"

    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: lvmdb.record()["starts"] == 2 and lvmdb.record()["live"])
    assert answers(port)
    after = lvmdb.record()
    assert (after["supervisor"], after["pid"] != before["pid"]) == (
        lvmdb.record()["supervisor"], True)  # fmt: skip

    out, _ = lvmdb("serve", "stop")
    assert out == "stopped: chunking\n"
    assert not (lvmdb.home / "services/chunking.json").exists()
    said = (lvmdb.home / "services/chunking.log").read_text()
    assert "by signal 9; starts again" in said
    assert '"GET /health/live HTTP/1.1" 200' in said


def test_what_kill_leaves_is_noticed_and_ctrl_c_leaves_nothing(lvmdb: Lvmdb) -> None:
    port = lvmdb.base + 1
    with lvmdb.popen("-q", *lvmdb.serve()) as supervisor:
        wait_for(lambda: answers(port))
        child = lvmdb.record()["pid"]
        supervisor.kill()
    wait_for(lambda: not _runs(child))  # its lifeline is cut
    killed = lvmdb.seen(code=1)
    assert (killed["state"], killed["reason"]) == (
        "killed", "its processes were killed: start it again")  # fmt: skip

    with lvmdb.popen(*lvmdb.serve()) as supervisor:
        wait_for(lambda: answers(port))
        supervisor.send_signal(signal.SIGINT)
        _, err = supervisor.communicate(timeout=SECONDS)
    assert supervisor.returncode == 0, err
    assert f"chunking: answers at http://127.0.0.1:{port}" in err
    assert "chunking: stopped" in err
    assert not (lvmdb.home / "services/chunking.json").exists()


def test_what_cannot_be_served_is_said_in_one_line(lvmdb: Lvmdb) -> None:
    with socket.create_server(("127.0.0.1", lvmdb.base + 1)):
        _, err = lvmdb(*lvmdb.serve(), code=1)
    assert err == (
        f"lvmdb: port {lvmdb.base + 1} of 127.0.0.1, for chunking, is taken: stop what listens "
        "there, or choose other ports with --port-base\n"
    )
    assert not (lvmdb.home / "services/chunking.json").exists()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
