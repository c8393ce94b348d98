"""`lvmdb migrate`: the schema, from nothing to head."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, pass_app
from lvmdb.errors import RevisionError, UsageError


@click.command(cls=Command)
@click.option("--to", "revision", metavar="REV", help="A revision other than head, or base.")
@click.option(
    "--sql",
    "as_sql",
    is_flag=True,
    help="Print the SQL from nothing to there instead of running it.",
)
@click.option("--check", is_flag=True, help="Fail if the program's tables and the database differ.")
@click.option("--yes", is_flag=True, help="Go down without asking: what is dropped is lost.")
@pass_app
def migrate(app: App, revision: str | None, as_sql: bool, check: bool, yes: bool) -> None:
    """Bring the database to the program's revision.

    \b
    Example:
      lvmdb migrate
      lvmdb migrate --sql > schema.sql
    """
    from lvmdb.db import migrate as migrations
    from lvmdb.db import revisions

    if check and (as_sql or revision):
        raise UsageError("--check goes with neither --sql nor --to")
    if as_sql:
        click.echo(migrations.upgrade_sql(revision or "head"))
        return
    database = app.connect()
    if check:
        differences = migrations.drift(database)
        if differences:
            raise RevisionError(f"{len(differences)} differences: {'; '.join(differences[:5])}")
        click.echo(f"at {revisions.head()}, no difference")
        return
    if migrations.goes_down(database, revision or "head") and not yes:
        click.confirm("Go down? Tables of later revisions are dropped.", abort=True, err=True)
    before, after = migrations.upgrade(database, revision or "head")
    click.echo(f"at {after}" if before == after else f"{before or 'empty'} -> {after or 'empty'}")
