"""The README holds: its commands parse, its SQL runs on the demo's database, its files exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import update

from lvmdb.cli.main import cli
from lvmdb.db.engine import raw
from lvmdb.db.schema.runs import experiment_run
from lvmdb.scheduling import queue
from lvmdb.services.catalogue import ALL, SERVICES

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(lvmdb [^`]+)`")
_PLACEHOLDER = {"ID": "7", "N": "7"}


def blocks(*languages: str) -> list[str]:
    """The contents of the pages' code blocks in one of these languages."""
    return [
        body
        for page in PAGES
        for language, body in _BLOCK.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def command_lines() -> Iterator[str]:
    """Every call of the program in a block, and those within $(...)."""
    for body in blocks("sh", "console", "bash"):
        if "[OPTIONS]" in body:  # a usage line of the generated page
            continue
        for line in body.replace("\\\n", " ").splitlines():
            stripped = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            inner = re.findall(r"\$\((lvmdb [^)]*)\)", stripped)
            yield from (re.sub(r"\$\w+", "7", command) for command in inner)
            outer = re.sub(r"\$\(.*?\)|\$\w+", "7", stripped)
            if outer.startswith("lvmdb"):
                yield re.split(r"\s[>|&]", outer)[0]


def parse(line: str) -> None:
    """Follow a command line to its last command, without running it."""
    words = shlex.split(line, comments=True)
    context = cli.make_context("lvmdb", words[1:])
    command: click.Command = cli
    while isinstance(command, click.Group):
        words = [*context._protected_args, *context.args]
        if not words and command.invoke_without_command:
            return
        name, found, rest = command.resolve_command(context, words)
        assert found is not None
        context, command = found.make_context(name, rest, parent=context), found


def test_the_pages_have_commands_and_sql() -> None:
    assert len(list(command_lines())) > 40
    assert len(blocks("sql")) >= 3


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_commands_parse(line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "words", sorted({w for page in PAGES for w in _INLINE.findall(page.read_text("utf-8"))})
)
def test_commands_named_in_the_text_exist(words: str) -> None:
    command: click.Command = cli
    for word in shlex.split(words)[1:]:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        found = command.get_command(click.Context(command), word)
        if command.name == "serve" and (word == ALL or word in SERVICES):
            found = command.get_command(click.Context(command), "start")
        assert found is not None, word
        command = found
    options = re.findall(r"\s(--[a-z-]+)", words.partition(" -- ")[0])
    known = {option for p in command.params for option in p.opts} | {"--help", "--version"}
    assert set(options) <= known


def test_sql_runs(demo: Any) -> None:
    with demo.program.database.connect() as connection:
        # One page asks what happened to a run in the queue.
        tried = update(experiment_run).where(experiment_run.c.run_id == 7)
        connection.execute(tried.values(status="failed", error="tried"))
        queue.enqueue(connection, 7)
        for body in blocks("sql"):
            rows = 0
            cursor = raw(connection).execute(body.encode())
            while True:
                rows += cursor.rowcount
                if not cursor.nextset():
                    break
            assert rows > 0, body
        connection.rollback()


def test_what_the_readme_links_to_is_there() -> None:
    for page in PAGES:
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        for link in links:
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
