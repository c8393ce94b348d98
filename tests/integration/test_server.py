"""The embedded server: started by anyone, once; survives what may happen to it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from lvmdb.db import server_programs as programs
from lvmdb.db.engine import Database
from lvmdb.db.server import Server
from lvmdb.db.server_settings import machine_memory, settings
from lvmdb.errors import ServerError

MakeServer = Callable[[Path], Server]

START = """
import sys
from pathlib import Path
from lvmdb.db.server import Server
server = Server(Path(sys.argv[1]))
print(int(server.start()), server.pid(), flush=True)
"""

ROOT = os.geteuid() == 0


@pytest.fixture
def make_server(open_folder: Path) -> Iterator[MakeServer]:
    """`make_server(home)`: a server that is stopped, and whose socket is removed, at the end.

    It asks for `open_folder` so that the folder is removed after the server has stopped.
    """
    assert open_folder.is_dir()
    made: list[Server] = []

    def make(home: Path) -> Server:
        made.append(Server(home))
        return made[-1]

    yield make
    for server in made:
        with contextlib.suppress(ServerError):
            server.stop()
        shutil.rmtree(server.socket_folder, ignore_errors=True)


@pytest.fixture(scope="module")
def initialised(open_folders: Callable[[], AbstractContextManager[Path]]) -> Iterator[Path]:
    """A home with a data directory, for copying: to make one takes a second."""
    with open_folders() as folder:
        server = Server(folder)
        server.start()
        server.stop()
        yield folder
        shutil.rmtree(server.socket_folder)


@pytest.fixture
def server(make_server: MakeServer, open_folder: Path, initialised: Path) -> Server:
    """A server that runs."""
    made = make_server(open_folder / "home")
    # With owners, which shutil does not keep.
    subprocess.run(["cp", "-a", initialised, made.home], check=True)
    assert made.start()
    return made


def one(server: Server, statement: str) -> object:
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_start_and_stop(make_server: MakeServer, open_folder: Path) -> None:
    server = make_server(open_folder / "new" / "home")
    assert server.pid() is None
    assert not server.stop()
    assert server.start()
    pid = server.pid()
    assert pid is not None
    assert not server.start()
    assert server.pid() == pid
    assert one(server, "SELECT current_database()") == "lvmdb"
    assert one(server, "SELECT extversion FROM pg_extension WHERE extname = 'plpgsql'")
    Database(server.dsn).check()
    assert server.stop()
    assert server.pid() is None
    assert not server.stop()
    assert server.start()


def test_it_is_made_for_this_machine(server: Server) -> None:
    wanted = settings(machine_memory(), os.cpu_count() or 1)
    assert one(server, "SHOW jit") == "off"
    assert one(server, "SHOW listen_addresses") == ""
    assert one(server, "SHOW unix_socket_permissions") == "0700"
    assert [one(server, f"SHOW {n}") for n in ("fsync", "full_page_writes")] == ["on", "on"]
    assert one(server, "SHOW synchronous_commit") == "on"
    for name in ("shared_buffers", "work_mem", "maintenance_work_mem", "max_wal_size"):
        size = one(server, f"SELECT pg_size_bytes(current_setting('{name}'))")
        assert size == int(wanted[name].removesuffix("MB")) << 20
    assert one(server, "SHOW server_encoding") == "UTF8"
    assert one(server, "SELECT 'a' < 'B'") is False
    assert one(server, "SHOW TimeZone") == "UTC"
    # Only its own user reaches it.
    assert server.socket_folder.stat().st_mode & 0o077 == 0
    assert server.data.stat().st_mode & 0o077 == 0


def test_settings_of_ones_own_are_kept(server: Server) -> None:
    with (server.data / "postgresql.conf").open("a") as out:
        out.write("work_mem = '99MB'\n")
    server.stop()
    server.start()
    server.stop()
    server.start()
    assert one(server, "SHOW work_mem") == "99MB"
    assert (server.data / "postgresql.conf").read_text().count("lvmdb.conf") == 1


@pytest.mark.parametrize("memory_gib", [0.5, 2, 23, 1024])
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_settings_fit_small_and_large_machines(memory_gib: float, cores: int) -> None:
    memory = int(memory_gib * 2**30)
    made = settings(memory, cores)
    sizes = {n: int(v[:-2]) << 20 for n, v in made.items() if v.endswith("MB")}
    assert 128 << 20 <= sizes["shared_buffers"] <= memory / 4
    assert sizes["maintenance_work_mem"] <= memory / 8
    assert "fsync" not in made
    assert int(made["max_parallel_workers_per_gather"]) <= int(made["max_parallel_workers"])


def test_processes_that_start_it_at_once_get_one_server(
    make_server: MakeServer, open_folder: Path
) -> None:
    server = make_server(open_folder / "home")
    command = [sys.executable, "-c", START, str(server.home)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=120)[0].split() for process in processes]
    assert sorted(started for started, _ in answers) == ["0", "0", "1"]
    assert {pid for _, pid in answers} == {str(server.pid())}
    assert one(server, "SELECT 1") == 1


@pytest.mark.parametrize(
    "name", ["a folder with spaces", "ünï'quote %s", "/".join(["long" * 12] * 4)]
)
def test_folders_may_have_any_name(make_server: MakeServer, open_folder: Path, name: str) -> None:
    server = make_server(open_folder / name)
    server.start()
    assert one(server, "SELECT 1") == 1
    assert server.pid() is not None
    assert len(str(server.socket_folder / ".s.PGSQL.5432")) <= 107
    assert server.stop()


def test_two_homes_are_two_servers_and_a_link_is_the_same_one(
    server: Server, make_server: MakeServer, open_folder: Path
) -> None:
    assert make_server(open_folder / "other").socket_folder != server.socket_folder
    link = open_folder / "link"
    link.symlink_to(server.home)
    other = make_server(link)
    assert not other.start()
    assert other.pid() == server.pid()


def test_it_survives_a_client_that_is_killed(server: Server) -> None:
    pid = server.pid()
    program = "import psycopg, sys, time; c = psycopg.connect(sys.argv[1]); "
    program += "c.execute('CREATE TABLE lost (a int)'); print('in', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, server.dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "in\n"
        client.kill()
    assert server.pid() == pid
    assert one(server, "SELECT to_regclass('lost')") is None


def test_what_was_committed_survives_a_killed_server(server: Server) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    with contextlib.closing(psycopg.connect(server.dsn)):
        kill(server.pid())
        assert server.start()
        assert one(server, "SELECT count(*) FROM kept") == 1000


def test_a_killed_server_whose_processes_still_work_is_waited_for(server: Server) -> None:
    with contextlib.closing(psycopg.connect(server.dsn, autocommit=True)) as busy:
        # Busy without waiting for anything: such a process does not notice that its server died.
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 8000000)")
        time.sleep(0.2)
        kill(server.pid())
        assert server.start()
        assert one(server, "SELECT 1") == 1


def test_what_ending_sessions_say_hides_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of the killed server may end, and say so, after the new one was refused."""
    server.stop()
    refused = [
        "FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use",
        "FATAL:  terminating connection due to unexpected postmaster exit",
    ]
    run = programs.run
    tries: list[str] = []

    def fail_once(command: list[str | Path], *others: object) -> None:
        tries.append(Path(command[0]).name)
        if len(tries) == 1:
            with server.log.open("a") as log:
                log.writelines(f"{line}\n" for line in refused)
            raise subprocess.CalledProcessError(1, command)
        run(command, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(programs, "run", fail_once)
    assert server.start()
    assert tries == ["pg_ctl", "pg_ctl"]
    # An old complaint is no reason to try again, and the newest one is reported.
    server.stop()
    with server.log.open("a") as log:
        log.write("FATAL:  could not do it\nFATAL:  terminating connection\n")

    def fail(command: list[str | Path], *_: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(programs, "run", fail)
    with pytest.raises(ServerError, match="could not do it"):
        server.start()
    monkeypatch.undo()


def test_the_number_of_another_program_in_a_stale_lock_is_no_server(server: Server) -> None:
    kill(server.pid())
    owner = server.data.stat()
    identity = {"user": owner.st_uid, "group": owner.st_gid} if ROOT else {}
    with subprocess.Popen(["sleep", "60"], cwd="/", **identity) as other:  # type: ignore[call-overload]
        lock = server.data / "postmaster.pid"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        assert server.pid() is None
        assert server.start()
        assert server.pid() not in (None, other.pid)
        assert server.stop()
        assert other.poll() is None
        other.kill()


def test_another_server_is_not_taken_for_this_one(
    server: Server, make_server: MakeServer, open_folder: Path
) -> None:
    second = make_server(open_folder / "second")
    second.start()
    second.stop()
    (second.data / "postmaster.pid").write_text(f"{server.pid()}\n")
    assert second.pid() is None
    assert second.start()
    assert second.pid() != server.pid()


@pytest.mark.parametrize("content", ["", "x", "-1\n", "99999999999999999999\n"])
def test_a_broken_lock_is_no_obstacle(server: Server, content: str) -> None:
    server.stop()
    (server.data / "postmaster.pid").write_text(content)
    assert server.pid() is None
    assert server.start()


def test_a_start_that_was_killed_half_way_is_taken_up(
    make_server: MakeServer, open_folder: Path
) -> None:
    server = make_server(open_folder / "home")
    draft = server.home / "postgresql.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    assert server.start()
    assert not draft.exists()
    # Killed between the server's start and the making of its database.
    with psycopg.connect(
        server.dsn.replace("/lvmdb?", "/postgres?"), autocommit=True
    ) as connection:
        connection.execute("DROP DATABASE lvmdb")
    assert not server.start()
    assert one(server, "SELECT 1") == 1


def test_a_folder_of_others_is_left_alone(make_server: MakeServer, open_folder: Path) -> None:
    """`LVMDB_HOME=/var/lib` must not cost anyone `/var/lib/postgresql`."""
    theirs = open_folder / "postgresql" / "16" / "main"
    theirs.mkdir(parents=True)
    (theirs / "data").write_text("precious")
    before = (open_folder / "postgresql").stat()
    with pytest.raises(ServerError):
        make_server(open_folder).start()
    assert (theirs / "data").read_text() == "precious"
    after = (open_folder / "postgresql").stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_a_socket_folder_of_others_is_refused(make_server: MakeServer, open_folder: Path) -> None:
    server = make_server(open_folder / "home")
    target = open_folder / "target"
    target.mkdir()
    server.socket_folder.symlink_to(target)
    try:
        with pytest.raises(ServerError, match="belongs to another user"):
            server.start()
        assert target.stat().st_uid == os.geteuid()
    finally:
        server.socket_folder.unlink()


def test_variables_of_libpq_do_not_lead_elsewhere(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATABASE", "nowhere")
    monkeypatch.setenv("PGDATA", "/nowhere")
    server.stop()
    assert server.start()
    assert one(server, "SELECT current_database()") == "lvmdb"


def test_why_it_did_not_start_is_told(server: Server) -> None:
    server.stop()
    with (server.data / "postgresql.conf").open("a") as out:
        out.write("no_such_setting = 1\n")
    with pytest.raises(ServerError, match=r"failed at pg_ctl: .*\(log: .*postgresql.log\)"):
        server.start()


def test_a_home_that_cannot_be_made_is_told(make_server: MakeServer, open_folder: Path) -> None:
    (open_folder / "file").write_text("")
    with pytest.raises(ServerError, match="set LVMDB_HOME"):
        make_server(open_folder / "file" / "home").start()


@pytest.mark.skipif(not ROOT, reason="only root needs another user")
def test_a_home_that_is_closed_to_the_servers_user_is_told(
    make_server: MakeServer, open_folder: Path
) -> None:
    open_folder.chmod(0o700)
    with pytest.raises(ServerError, match=r"closed to the user 'pgserver'.*chmod o\+x"):
        make_server(open_folder / "home").start()


def test_a_machine_without_the_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ServerError, match="set LVMDB_DSN"):
        programs.programs_folder()


@pytest.mark.skipif(not ROOT, reason="runs as an ordinary user as it is")
def test_it_works_for_an_ordinary_user_too(make_server: MakeServer, open_folder: Path) -> None:
    """Started by `nobody`, in a process that becomes it after its imports."""
    user = pwd.getpwnam("nobody")
    os.chown(open_folder, user.pw_uid, user.pw_gid)
    home = open_folder / "a home"
    if not programs.others_may_enter(programs.programs_folder()):
        pytest.skip("the environment is closed to other users, so that they cannot run its server")
    program = f"""
import os, sys, encodings.idna
from pathlib import Path
import psycopg
from lvmdb.db.server import Server
os.setgroups([]); os.setgid({user.pw_gid}); os.setuid({user.pw_uid})
server = Server(Path(sys.argv[1]))
assert server.start() and not server.start()
with psycopg.connect(server.dsn) as connection:
    connection.execute("CREATE EXTENSION vector")
print(server.data.stat().st_uid, server.stop(), server.stop())
"""
    server = make_server(home)
    done = subprocess.run(
        [sys.executable, "-c", program, str(home)],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.stderr == ""
    assert done.stdout.split() == [str(user.pw_uid), "True", "False"]
    assert server.pid() is None


@pytest.mark.skipif(not ROOT, reason="only root's server runs as another user")
def test_for_root_it_runs_as_another_user(server: Server) -> None:
    user = pwd.getpwnam(programs.ROOT_RUNS_AS)
    assert Path(f"/proc/{server.pid()}").stat().st_uid == user.pw_uid
    assert server.data.stat().st_uid == user.pw_uid


@pytest.mark.skipif(not ROOT, reason="only root's server runs as another user")
def test_programs_in_a_closed_folder_are_copied(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where root's virtual environment lies in root's own home."""
    monkeypatch.setattr(programs, "others_may_enter", lambda folder: folder == server.home)
    server.stop()
    assert server.start()
    program = programs.folder_for(programs.server_user(), server.home) / "psql"
    assert program.is_relative_to(server.home)
    assert len(list(server.home.glob("programs-*"))) == 1
    assert subprocess.run([program, "--version"], check=True, capture_output=True).stdout
