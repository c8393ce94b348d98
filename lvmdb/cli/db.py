"""`lvmdb db`: the embedded server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click

from lvmdb.cli.app import App, Group, OutputFile, format_option, pass_app, show
from lvmdb.errors import DatabaseError, InputError


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
    database = app.connect()
    command = [_program("psql"), "--dbname", database.dsn, *arguments]
    raise click.exceptions.Exit(subprocess.run(command, check=False).returncode)


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
        _run(
            *("pg_dump", "--format=custom", "--compress=gzip:1"),
            *(f"--file={draft}", f"--dbname={database.dsn}"),
        )
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Replace what the database holds without asking.")
@pass_app
def restore(app: App, file: Path, yes: bool) -> None:
    """Replace the database by what FILE holds; all of it, or nothing.

    \b
    Example:
      lvmdb db restore lvmdb.dump --yes
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    database = app.connect()
    if not yes:
        click.confirm(f"Replace everything in {database.shown}?", abort=True, err=True)
    _run(
        "pg_restore",
        *("--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"),
        f"--dbname={database.dsn}",
        str(file),
    )
    click.echo(f"restored {file}")


def _program(name: str) -> str:
    """A program of PostgreSQL: the embedded one's, which is never older than the server."""
    from lvmdb.db.server_programs import programs_folder

    return str(programs_folder() / name)


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([_program(name), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DatabaseError(lines[0])
