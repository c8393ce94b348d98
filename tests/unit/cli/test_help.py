"""The help: complete, true, quick, and the same as the page that is made of it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from lvmdb.cli.main import COMMANDS, cli

PROJECT = Path(__file__).parents[3]

HEAVY = ("torch", "transformers", "sentence_transformers", "matplotlib", "sqlalchemy", "alembic")


def _walk(command: click.Command, words: tuple[str, ...]) -> list[tuple[str, ...]]:
    found = [words]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += _walk(child, (*words, name))
    return found


COMMAND_WORDS = _walk(cli, ())


def _command(words: tuple[str, ...]) -> click.Command:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None, word
        command = found
    return command


def _parses(line: str) -> None:
    """Follow a command line down to its last command without running it."""
    words = shlex.split(line, comments=True)
    assert words[0] == "lvmdb"
    context = cli.make_context("lvmdb", words[1:])
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if command.invoke_without_command and not rest:
            break
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        context = found.make_context(name, rest, parent=context)
        command = found


@pytest.mark.parametrize("words", COMMAND_WORDS, ids=lambda w: " ".join(w) or "lvmdb")
def test_every_command_says_what_it_does_and_gives_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0, result.output
    for said in ("Usage:", "Example:", "--dsn", "-q, --quiet", "-v, --verbose"):
        assert said in result.output
    first = result.output.split("\n\n")[1].strip()
    assert first.endswith((".", ".\n")) or "." in first


@pytest.mark.parametrize("words", COMMAND_WORDS, ids=lambda w: " ".join(w) or "lvmdb")
def test_every_example_is_a_command_line_that_parses(words: tuple[str, ...]) -> None:
    told = inspect.cleandoc(_command(words).help or "")
    lines = told.partition("\b\nExample:\n")[2].replace("\\\n", " ").splitlines()
    assert lines
    for line in lines:
        outer, inner, _ = line.strip().partition(" $(")
        _parses(f"{outer} 7" if inner else outer.partition(" > ")[0])
        if inner:
            _parses(line.strip().partition(" $(")[2].removesuffix(")"))
    if words:
        assert any(" ".join(words) in line for line in lines) or isinstance(
            _command(words), click.Group
        )


def test_every_listing_takes_the_same_formats() -> None:
    listings = [words for words in COMMAND_WORDS if words and words[-1] in ("list", "show")]
    listings += [("db", "status"), ("ingest", "errors"), ("ingest", "status"), ("search",)]
    listings += [("ingest", "vanished"), ("bench", "ingest"), ("serve", "status")]
    listings += [("architectures",), ("verify",), ("evaluate",), ("report",)]
    for words in listings:
        taken = {p.name: p for p in _command(words).params}
        assert "output_format" in taken, words
        kind = taken["output_format"].type
        assert isinstance(kind, click.Choice)
        assert list(kind.choices)[:3] == ["table", "json", "csv"]


def test_help_imports_nothing_heavy() -> None:
    program = f"""
import json, sys
from click.testing import CliRunner
from lvmdb.cli.main import cli
for words in {COMMAND_WORDS!r}:
    assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0, words
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_table_of_commands_names_what_is_there() -> None:
    for name in COMMANDS:
        assert _command((name,)).name is not None


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_commands", PROJECT / "docs" / "generate_commands.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_what_the_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = _generator()
    made = generator.page()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LVMDB_HOME", "/elsewhere")
    assert generator.page() == made, "it must not depend on who makes it"
    written = (PROJECT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == made, "run: python docs/generate_commands.py"


def test_the_page_has_a_section_for_every_command() -> None:
    page = _generator().page()
    for words in COMMAND_WORDS:
        if not isinstance(_command(words), click.Group):
            assert f"\n## lvmdb {' '.join(words)}\n" in page
    assert "/root" not in page
    assert str(Path.home()) not in page
