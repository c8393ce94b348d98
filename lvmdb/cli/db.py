"""`lvmdb db`: the embedded server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvmdb.cli.app import App, Group, OutputFile, format_option, pass_app, show
from lvmdb.errors import DatabaseError, InputError

if TYPE_CHECKING:
    from lvmdb.db.engine import Database


@click.group(cls=Group)
def db() -> None:
    """The embedded PostgreSQL server, or the one that LVMDB_DSN names.

    \b
    Example:
      lvmdb db status
    """


@db.command()
@pass_app
def start(app: App) -> None:
    """Start the embedded server; it stays up between commands.

    \b
    Example:
      lvmdb db start
    """
    server = app.server
    started = server.start()
    click.echo(f"{'started' if started else 'running already'}: {server.dsn}")


@db.command()
@pass_app
def stop(app: App) -> None:
    """Stop the embedded server and end its sessions.

    \b
    Example:
      lvmdb db stop
    """
    click.echo("stopped" if app.server.stop() else "was not running")


@db.command()
@format_option
@pass_app
def status(app: App, output_format: str) -> None:
    """Show server, versions, revision, sizes, settings and environment.

    \b
    Example:
      lvmdb db status --format json
    """
    from lvmdb.db.engine import Database
    from lvmdb.reports.status import database_status

    dsn = app.external_dsn
    rows: list[dict[str, object]] = []
    if dsn is None:
        server = app.server
        pid = server.pid()
        running = f"running (process {pid})" if pid else "stopped: 'lvmdb db start' starts it"
        rows.append({"item": "embedded server", "value": running})
        rows.append({"item": "data folder", "value": str(server.data)})
        dsn = server.dsn if pid else None
    if dsn is not None:
        rows += database_status(Database(dsn))
    rows += [{"item": name, "value": value} for name, value in app.settings.shown().items()]
    show(["item", "value"], rows, output_format)


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_app
def psql(app: App, arguments: tuple[str, ...]) -> None:
    """Open psql on the database; what follows -- goes to psql.

    \b
    Example:
      lvmdb db psql -- -Atqc "select count(*) from cpe_entry"
    """
    raise click.exceptions.Exit(_run(app.connect(), "psql", *arguments, captured=False).returncode)


@db.command()
@click.argument("file", type=OutputFile())
@pass_app
def dump(app: App, file: Path) -> None:
    """Write the whole database to FILE, in pg_dump's custom format.

    \b
    Example:
      lvmdb db dump lvmdb.dump
    """
    if not file.parent.is_dir():
        raise InputError(f"cannot write {file}: there is no folder {file.parent}")
    database = app.connect()
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        # Weights and vectors hardly compress: more than the least takes four times as long.
        _checked(database, "pg_dump", "--format=custom", "--compress=gzip:1", f"--file={draft}")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Replace what the database holds without asking.")
@pass_app
def restore(app: App, file: Path, yes: bool) -> None:
    """Replace lvmdb's tables by those in FILE; all of them, or nothing.

    Tables that FILE does not know stay as they are.

    \b
    Example:
      lvmdb db restore lvmdb.dump --yes
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    database = app.connect()
    if not yes:
        click.confirm(f"Replace everything in {database.shown}?", abort=True, err=True)
    _checked(
        *(database, "pg_restore", "--clean", "--if-exists", "--no-owner"),
        *("--single-transaction", "--exit-on-error", str(file)),
    )
    from lvmdb.db import native

    with database.begin() as connection:
        native.allow(connection)
    click.echo(f"restored {file}")


def _checked(database: Database, program: str, *arguments: str) -> None:
    done = _run(database, program, *arguments, captured=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DatabaseError(lines[0])


def _run(
    database: Database, program: str, *arguments: str, captured: bool
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs: the embedded one's, never older than the server."""
    from lvmdb.db.server_programs import environment, programs_folder

    dsn, password = database.without_password()
    return subprocess.run(
        [str(programs_folder() / program), f"--dbname={dsn}", *arguments],
        check=False,
        capture_output=captured,
        text=True,
        env=environment(password),
    )
