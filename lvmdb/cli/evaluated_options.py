"""Options of commands that ask what a trained run predicts: which run, and which windows."""

from __future__ import annotations

from collections.abc import Callable

import click

from lvmdb.cli.app import Function
from lvmdb.db.types import SPLITS

run_option = click.option(
    "--run-id", required=True, type=int, metavar="N", help="A run that has succeeded."
)


def split_option(help: str, default: str = "test") -> Callable[[Function], Function]:
    """`--split`, one of the parts of a sequence set; `help` says what its windows are for."""
    return click.option(
        "--split", type=click.Choice(SPLITS), default=default, show_default=True, help=help
    )
