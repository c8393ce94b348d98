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
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lvmdb.db.engine import Database
from lvmdb.errors import ServiceError
from lvmdb.services import watch
from lvmdb.services.catalogue import chosen
from lvmdb.services.options import ServiceOptions
from lvmdb.services.supervisor import Supervisor
from lvmdb.settings import Settings

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
    before = lvmdb.seen(code=0)
    assert (before["state"], before["starts"]) == ("ready", 1)

    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: lvmdb.record()["starts"] == 2 and lvmdb.record()["live"])
    assert answers(port)
    assert lvmdb.record()["pid"] != before["pid"]

    assert lvmdb("serve", "stop") == ("stopped: chunking\n", "")
    assert not (lvmdb.home / "services/chunking.json").exists()
    said = (lvmdb.home / "services/chunking.log").read_text()
    assert "by signal 9; starts again" in said
    assert '"GET /health/live HTTP/1.1" 200' in said


def test_what_kill_leaves_is_noticed(lvmdb: Lvmdb) -> None:
    with lvmdb.popen("-q", *lvmdb.serve()) as supervisor:
        wait_for(lambda: answers(lvmdb.base + 1))
        child = lvmdb.record()["pid"]
        supervisor.kill()
    wait_for(lambda: not _runs(child))  # its lifeline is cut
    (seen,) = [s for s in watch.look(lvmdb.home) if s.service == "chunking"]
    assert (seen.state, seen.well) == ("killed", False)


def test_ctrl_c_leaves_nothing(lvmdb: Lvmdb) -> None:
    said: list[str] = []
    options = ServiceOptions(Settings(lvmdb.home), lvmdb.dsn)
    supervisor = Supervisor(chosen(["chunking"]), options, lvmdb.base, said.append)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(supervisor.run)
        wait_for(lambda: answers(lvmdb.base + 1))
        with pytest.raises(ServiceError, match="runs already"):
            supervisor.run()
        supervisor.stop()  # as the handler of SIGINT and SIGTERM does
        running.result(timeout=SECONDS)
    assert f"chunking: answers at http://127.0.0.1:{lvmdb.base + 1}" in said
    assert said[-1] == "chunking: stopped"
    assert not (lvmdb.home / "services/chunking.json").exists()


def test_a_port_that_is_taken_is_said_in_one_line(lvmdb: Lvmdb) -> None:
    options = ServiceOptions(Settings(lvmdb.home), lvmdb.dsn)
    supervisor = Supervisor(chosen(["chunking"]), options, lvmdb.base, pytest.fail)
    said = f"port {lvmdb.base + 1} of 127.0.0.1, for chunking, is taken: .* --port-base"
    with (
        socket.create_server(("127.0.0.1", lvmdb.base + 1)),
        pytest.raises(ServiceError, match=said),
    ):
        supervisor.run()
    assert not (lvmdb.home / "services/chunking.json").exists()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
