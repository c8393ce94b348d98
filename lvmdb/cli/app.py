"""What all commands share: settings, the database, progress, output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lvmdb.errors import UsageError
from lvmdb.progress import Progress
from lvmdb.settings import Settings

if TYPE_CHECKING:
    from lvmdb.db.engine import Database
    from lvmdb.db.server import Server

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class App:
    """The program's state, made from the options that every command takes."""

    dsn: str | None = None
    verbose: bool = False
    quiet: bool = False

    @cached_property
    def settings(self) -> Settings:
        """What the environment says."""
        return Settings.from_environment()

    @cached_property
    def progress(self) -> Progress:
        """Where long work reports to."""
        return Progress(enabled=not self.quiet)

    @property
    def server(self) -> Server:
        """The embedded server.

        Raises:
            UsageError: `--dsn` or `LVMDB_DSN` names another one.
        """
        from lvmdb.db.server import Server

        if self.external_dsn is not None:
            raise UsageError(
                "this is for the embedded server, but --dsn or LVMDB_DSN names another one"
            )
        return Server(self.settings.home)

    @property
    def external_dsn(self) -> str | None:
        """The connection string of another server than the embedded one."""
        return self.dsn or self.settings.dsn

    def connect(self) -> Database:
        """The database, whatever its revision; the embedded server is started if need be."""
        from lvmdb.db.engine import Database
        from lvmdb.db.server import Server

        dsn = self.external_dsn
        if dsn is None:
            server = Server(self.settings.home)
            if server.start():
                self.progress.say(f"started PostgreSQL in {server.data}")
            dsn = server.dsn
        database = Database(dsn)
        if (context := click.get_current_context(silent=True)) is not None:
            context.call_on_close(database.close)
        database.check()
        return database

    @cached_property
    def database(self) -> Database:
        """The database, at the program's revision.

        Raises:
            RevisionError: it is at another one.
        """
        from lvmdb.db.migrate import require_head

        database = self.connect()
        require_head(database)
        return database

    def dataset(self, name: str | None) -> str:
        """The dataset named, or the only one that there is.

        Raises:
            UnknownNameError: there is no such dataset.
            UsageError: none was named and there are several, or none.
        """
        from sqlalchemy import select

        from lvmdb.corpus.store import require_dataset
        from lvmdb.db.schema.corpus import dataset

        if name is not None:
            require_dataset(self.database, name)
            return name
        with self.database.connect() as connection:
            names = connection.execute(select(dataset.c.dataset_source)).scalars().all()
        if len(names) != 1:
            raise UsageError(
                f"name one with --dataset: {', '.join(sorted(names))}"
                if names
                else "there is no dataset yet: 'lvmdb ingest run' or 'lvmdb import vectors'"
            )
        return str(names[0])


class OutputFile(click.Path):
    """A file to be written beside its place and renamed: what it would replace is a file."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """The path; devices, pipes and folders are refused."""
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path), "as path_type says"
        if path.exists() and not path.is_file():
            self.fail(f"'{path}' is not an ordinary file.", param, ctx)
        return path


pass_app = click.make_pass_decorator(App, ensure=True)


def show(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    output_format: str,
    title: str | None = None,
) -> None:
    """Print rows on standard output."""
    from lvmdb.reports.render import render

    render(list(columns), rows, output_format, sys.stdout, title)


format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to print the rows.",
)

dataset_option = click.option(
    "--dataset", metavar="D", help="The dataset; may be left out where there is only one."
)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(App), name, value)

    return callback


def common_parameters() -> list[click.Parameter]:
    """Options that every command takes, before or after its name."""
    return [
        click.Option(
            ["--dsn"],
            metavar="DSN",
            expose_value=False,
            callback=_set("dsn"),
            help="Another PostgreSQL than the embedded one (or LVMDB_DSN).",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_set("verbose"),
            help="Show the causes of an error.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set("quiet"),
            help="No progress.",
        ),
    ]


class Command(click.Command):
    """A command that also takes the options of all commands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or []), *common_parameters()]
        super().__init__(*args, **kwargs)


class Group(click.Group):
    """A group whose commands are of that kind; unknown ones get the nearest spelling."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or []), *common_parameters()]
        super().__init__(*args, **kwargs)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            message = f"{error.message} Did you mean '{near[0]}'?"
            raise click.UsageError(message, ctx) from error
