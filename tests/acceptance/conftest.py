"""What the acceptance tests share: the program as a process, and one demo for all of them.

The demo is run once for all workers of pytest-xdist, by the first that wants it, on the embedded
server and with the tiny encoder; its home has a space in its name. The tests only read it; what
changes something happens in a home of its own.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from lvmdb.db.engine import Database
from lvmdb.db.server import Server

SHARED = "LVMDB_TEST_HOME"
"""The folder that all workers know; the suite's own server lives in it too."""

ARTICLES, EPOCHS = 12, 2

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Program:
    """The program as a user calls it, with an `LVMDB_HOME`."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sees: none of lvmdb's but its home, and no hub to wait for."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LVMDB_", "PG"))}
        return {
            **kept,
            "LVMDB_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
        }

    def __call__(self, *arguments: str, code: int = 0, timeout: int = 280) -> Done:
        """`program("runs", "list")`; it must end with exit code `code`."""
        return self._run([sys.executable, "-m", "lvmdb", *arguments], code, timeout)

    def shell(self, line: str, *, code: int = 0) -> Done:
        """A command line, as a shell takes it; `lvmdb` is on the path."""
        return self._run(["bash", "-c", line], code, 280)

    def _run(self, command: list[str], code: int, timeout: int) -> Done:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.home.parent,
            env=self.environment,
            timeout=timeout,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    @property
    def database(self) -> Database:
        """The embedded server's database, which must be running."""
        return Database(Server(self.home).dsn)


@dataclass(frozen=True)
class Demo:
    """The demo's first run, and what it printed."""

    home: str
    encoder: str
    out: str
    err: str

    @property
    def program(self) -> Program:
        return Program(Path(self.home))

    @property
    def arguments(self) -> list[str]:
        """The demo's command line."""
        return ["demo", "--articles", str(ARTICLES), "--encoder", self.encoder,
                "--epochs", str(EPOCHS)]  # fmt: skip


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The demo, run from nothing; the last worker to leave it stops its server."""
    folder = Path(os.environ[SHARED]) / "acceptance"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    with _locked(folder):
        told = folder / "demo.json"
        if not told.exists():
            told.write_text(json.dumps(asdict(_run_demo(folder))))
        made = Demo(**json.loads(told.read_text()))
        _count_users(folder, 1)
    yield made
    with _locked(folder):
        if _count_users(folder, -1) == 0:
            remove_home(made.program.home)
            told.unlink()


@pytest.fixture
def program(open_folder: Path) -> Iterator[Program]:
    """The program with an empty home of its own, whose path has a space."""
    home = open_folder / "a home"
    yield Program(home)
    remove_home(home)


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout."""
    return Path(__file__).parents[2]


def remove_home(home: Path) -> None:
    """Stop the embedded server of a home and remove both."""
    server = Server(home)
    server.stop()
    shutil.rmtree(server.socket_folder, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


def _run_demo(folder: Path) -> Demo:
    home = Path(tempfile.mkdtemp(prefix="demo ", dir=folder))
    home.chmod(0o755)
    encoder = _build_tiny(folder / "tiny-encoder")
    planned = Demo(str(home), str(encoder), "", "")
    done = planned.program(*planned.arguments)
    return replace(planned, out=done.stdout, err=done.stderr)


def _build_tiny(folder: Path) -> Path:
    if folder.exists():
        return folder
    file = Path(__file__).parents[1] / "tiny_encoder.py"
    spec = importlib.util.spec_from_file_location("tiny_encoder", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(folder)
    limits = {"max_seq_length": 24, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _count_users(folder: Path, change: int) -> int:
    file = folder / "users"
    users = (int(file.read_text()) if file.exists() else 0) + change
    file.write_text(str(users))
    return users
