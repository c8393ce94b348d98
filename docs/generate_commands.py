"""Writes `docs/commands.md` from the commands' own help: `python docs/generate_commands.py`."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from lvmdb.cli.main import cli

TARGET = Path(__file__).with_name("commands.md")

COMMON = ("dsn", "verbose", "quiet", "help")
"""Options of every command, or of the program itself: said once, at the top."""

INTRODUCTION = """# The commands

<!-- Written by docs/generate_commands.py from the commands' own help: change that, not this. -->

`lvmdb` is one program, `python -m lvmdb` the same; `lvmdb --version` says which. Without
`--dsn` or `LVMDB_DSN` it starts a PostgreSQL server of its own. What a command answers goes to
standard output, what it does in the meantime to standard error. It exits with 0 when it is done,
with 1 and one line that says what is wrong, and with 2 where the command line itself is wrong;
`lvmdb db psql` exits as psql does.

Every command also takes, before or after its name:
"""


def page() -> str:
    """The whole page."""
    root = click.Context(cli, info_name="lvmdb", **cli.context_settings)
    named = list(commands(root))
    parts = [
        INTRODUCTION + "\n" + options(root, common=True),
        "\n".join(f"- [`{path}`](#{path.replace(' ', '-')})" for path, _ in named),
        *(section(path, context) for path, context in named),
    ]
    return "\n\n".join(parts) + "\n"


def commands(context: click.Context, path: str = "lvmdb") -> Iterator[tuple[str, click.Context]]:
    """Every command that does something, with the words that call it."""
    command = context.command
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path, context
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        below = click.Context(child, parent=context, info_name=name)
        yield from commands(below, f"{path} {name}")


def section(path: str, context: click.Context) -> str:
    """One command: what it does, how it is called, its options, an example."""
    command = context.command
    told, example = help_and_example(command)
    pieces = command.collect_usage_pieces(context)
    parts = [f"## {path}", told, f"```console\n{' '.join([path, *pieces])}\n```"]
    table = options(context, common=False)
    if table:
        parts.append(table)
    parts.append(f"Example:\n\n```sh\n{example}\n```")
    return "\n\n".join(parts)


def help_and_example(command: click.Command) -> tuple[str, str]:
    """A command's help, split before `Example:`."""
    told, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    paragraphs = [" ".join(p.split()) for p in told.strip().split("\n\n")]
    return "\n\n".join(paragraphs), textwrap.dedent(example).rstrip()


def options(context: click.Context, *, common: bool) -> str:
    """A table of the common options or of a command's own, as click's help words them."""
    rows: list[str] = []
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        names = {option.lstrip("-") for option in parameter.opts}
        if record is None or isinstance(parameter, click.Argument):
            continue
        if "version" not in names and common == (not names.isdisjoint(COMMON)):
            name, told = (" ".join(part.split()).replace("|", r"\|") for part in record)
            rows.append(f"| `{name}` | {told} |")
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    sys.stderr.write(f"wrote {TARGET}\n")
