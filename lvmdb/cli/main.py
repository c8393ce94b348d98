"""The program `lvmdb`: its commands by name, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib import import_module
from importlib.metadata import version

import click

from lvmdb.cli.app import App, Group
from lvmdb.errors import LvmdbError

COMMANDS = {
    "demo": "demo:demo",
    "db": "db:db",
    "migrate": "migrate:migrate",
    "ingest": "ingest:ingest",
    "import": "imports:imports",
    "encoders": "encoders:encoders",
    "verify": "verify:verify",
    "sequences": "sequences:sequences",
    "export": "exports:exports",
    "architectures": "architectures:architectures",
    "runs": "runs:runs",
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "evaluate-text": "evaluate_text:evaluate_text",
    "ensemble": "ensemble:ensemble",
    "schedule": "schedule:schedule",
    "worker": "worker:worker",
    "index": "index:index",
    "search": "search:search",
    "generate": "generate:generate",
    "decode": "decode:decode",
    "report": "report:report",
    "bench": "bench:bench",
    "serve": "serve:serve",
    "vec2text": "vec2text:vec2text",
}
"""Commands and where they are; a module is imported when its command is asked for."""


class Program(Group):
    """The program: commands in the order in which one needs them, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"lvmdb.cli.{module}"), attribute)
        return command


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("lvmdb"), prog_name="lvmdb")
def cli() -> None:
    """Latent vector models, trained from one PostgreSQL database and answered for in it.

    \b
    Example:
      lvmdb demo
    """


def main() -> None:
    """Run the program; every error that a user can meet ends in one line and an exit code."""
    app = App()
    try:
        # What a command ends with, psql's exit code for one, is handed back here.
        sys.exit(cli(obj=app, standalone_mode=False))
    except SystemExit as ended:
        # What a supervisor, a container or torchrun stops does not end without a word.
        if ended.code == 128 + signal.SIGTERM:
            _fail("stopped by SIGTERM", 128 + signal.SIGTERM)
        raise
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        _fail("interrupted", 130)
    except LvmdbError as error:
        if app.verbose:
            traceback.print_exception(error)
        _fail(str(error), error.exit_code)
    except UnicodeEncodeError as error:
        if app.verbose:
            traceback.print_exception(error)
        _fail(f"not UTF-8: {error.object!a}", 1)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if app.verbose:
            traceback.print_exception(error)
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{where}", 1)
    except Exception as error:  # a fault of the program, or of what it stands on
        if app.verbose:
            traceback.print_exception(error)
        _fail(f"{type(error).__name__}: {error} (-v shows where)", 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"lvmdb: {' '.join(message.split())}", err=True)
    sys.exit(code)
