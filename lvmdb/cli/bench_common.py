"""What all benches share: their options, and what is done with what they measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmdb.cli.app import App, Function, OutputFile, show

if TYPE_CHECKING:
    from lvmdb.db.benchmarks import Measured


def counts(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers of 1 or more with commas between them, each once."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"'{value}' is not a list of numbers of 1 or more, as in 1,2,4.")
    return tuple(dict.fromkeys(map(int, parts)))


def shapes_of(_: click.Context, __: click.Parameter, value: str) -> tuple[tuple[int, int], ...]:
    """Numbers of sequences and of positions, as 64x5, with commas between them."""
    found = []
    for part in value.split(","):
        sizes = part.strip().split("x")
        if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
            raise click.BadParameter(f"'{value}' is not a list of shapes, as in 64x5,32x64.")
        found.append((int(sizes[0]), int(sizes[1])))
    return tuple(dict.fromkeys(found))


sequences_option = click.option(
    "--sequences", "name", required=True, metavar="S", help="A frozen sequence set."
)

picture_option = click.option(
    "--picture",
    type=OutputFile(),
    help="Where the picture goes; by default to LVMDB_HOME/pictures.",
)


def repetitions_option(default: int, note: str = "") -> Callable[[Function], Function]:
    """`--repetitions N`, so many if it is left out; `note` ends what it is said to be."""
    return click.option(
        "--repetitions",
        default=default,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help=f"Measured passes{note}.",
    )


def finish(
    app: App,
    benchmark: str,
    subject: str,
    measured: Sequence[Measured],
    parameters: Mapping[str, Any],
    output_format: str,
    picture: Path | None,
) -> None:
    """Store what was measured, print it, draw it.

    Raises:
        RunError: there is nothing.
        MissingDependencyError: a picture was asked for, and matplotlib is not installed.
    """
    from lvmdb.db.benchmarks import write
    from lvmdb.errors import RunError
    from lvmdb.reports.benchmarks import bars, peers, side_by_side
    from lvmdb.training.environment import describe

    if not measured:
        raise RunError("nothing was measured: no contender could take part")
    rows = write(
        app.database, benchmark, subject, measured, parameters=parameters, environment=describe()
    )
    shown = side_by_side(rows) if output_format == "table" else rows
    show(list(shown[0]), shown, output_format)
    if compared := peers(rows):
        app.progress.say(f"ratios are to: {'; '.join(compared)}")
    draw(app, benchmark, lambda: bars(rows, f"lvmdb bench {benchmark}: {subject}"), picture)


def draw(app: App, benchmark: str, drawn: Callable[[], bytes], picture: Path | None) -> None:
    """Write a benchmark's picture; without matplotlib, say that there is none.

    Raises:
        MissingDependencyError: a picture was asked for, and matplotlib is not installed.
    """
    from lvmdb.errors import MissingDependencyError
    from lvmdb.reports.files import replace

    path = picture or app.settings.home / "pictures" / f"bench_{benchmark}.png"
    try:
        data = drawn()
    except MissingDependencyError as error:
        if picture:
            raise
        click.echo(f"no picture: {error}", err=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, data)
    app.progress.say(f"picture: {path}")
