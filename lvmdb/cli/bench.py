"""`lvmdb bench`: measured beside a named peer, in the same run, as rows and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmdb.cli.app import App, Group, OutputFile, format_option, pass_app, show
from lvmdb.cli.train import device_option

if TYPE_CHECKING:
    from lvmdb.db.benchmarks import Measured


def _counts(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers of 1 or more with commas between them, each once."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"'{value}' is not a list of numbers of 1 or more, as in 1,2,4.")
    return tuple(dict.fromkeys(map(int, parts)))


sequences_option = click.option(
    "--sequences", "name", required=True, metavar="S", help="A frozen sequence set."
)

picture_option = click.option(
    "--picture",
    type=OutputFile(),
    help="Where the picture goes; by default to LVMDB_HOME/pictures.",
)


@click.group(cls=Group)
def bench() -> None:
    """Benchmarks, each beside a named peer; rows go to the table benchmark.

    \b
    Example:
      lvmdb bench stream --sequences wiki5
    """


@bench.command()
@sequences_option
@click.option(
    "--repetitions",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Measured passes; the slow contenders have one.",
)
@click.option(
    "--readers",
    default="1,2,4",
    show_default=True,
    callback=_counts,
    metavar="N,...",
    help="Connections that lvmdb reads with: a contender each.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Contenders whose name holds this; may be given several times.",
)
@picture_option
@format_option
@pass_app
def stream(
    app: App,
    name: str,
    repetitions: int,
    readers: tuple[int, ...],
    only: tuple[str, ...],
    picture: Path | None,
    output_format: str,
) -> None:
    """Vectors and windows a second from SQL, beside other clients and beside memory.

    Contenders take turns. Ratios are to psycopg with pgvector's adapter, for windows to those of an
    array in memory. pip install 'lvmdb[bench]' brings the optional clients.

    \b
    Example:
      lvmdb bench stream --sequences wiki5
      lvmdb bench stream --sequences wiki5 --readers 1,2 --only lvmdb --only adapter
    """
    from lvmdb.sequences import sets
    from lvmdb.sequences.bench import bench_stream

    measured = bench_stream(
        app.database,
        sets.get(app.database, name),
        repetitions=repetitions,
        readers=readers,
        only=only,
        progress=app.progress,
        warn=lambda line: click.echo(line, err=True),
    )
    parameters = {"split": "train", "repetitions": repetitions}
    _finish(app, "stream", name, measured, parameters, output_format, picture)


@bench.command()
@sequences_option
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    default=("lstm", "mamba2"),
    show_default=True,
    metavar="A",
    help="May be given several times.",
)
@click.option(
    "--batches",
    default=400,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Of a pass; they are held in memory as well.",
)
@click.option(
    "--repetitions",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Measured passes.",
)
@click.option(
    "--readers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Connections that the stream reads with.",
)
@device_option
@picture_option
@format_option
@pass_app
def train(
    app: App,
    name: str,
    architectures: tuple[str, ...],
    batches: int,
    repetitions: int,
    readers: int,
    device: str,
    picture: Path | None,
    output_format: str,
) -> None:
    """Windows a second of training from SQL, beside batches held in memory.

    \b
    Example:
      lvmdb bench train --sequences wiki5
      lvmdb bench train --sequences wiki5 --architecture mamba2 --readers 2
    """
    from lvmdb.sequences import sets
    from lvmdb.training.bench import bench_train

    measured = bench_train(
        app.database,
        sets.get(app.database, name),
        architectures,
        batches=batches,
        repetitions=repetitions,
        readers=readers,
        device=device,
        progress=app.progress,
    )
    parameters = {"split": "train", "batches": batches, "repetitions": repetitions}
    _finish(app, "train", name, measured, parameters, output_format, picture)


def _finish(
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
    from lvmdb.errors import MissingDependencyError, RunError
    from lvmdb.reports.benchmarks import bars, side_by_side
    from lvmdb.reports.files import replace
    from lvmdb.training.environment import describe

    if not measured:
        raise RunError("nothing was measured: no contender could take part")
    rows = write(
        app.database, benchmark, subject, measured, parameters=parameters, environment=describe()
    )
    shown = side_by_side(rows) if output_format == "table" else rows
    show(list(shown[0]), shown, output_format)
    peers = dict.fromkeys(str(row["peer"]) for row in rows if row["ratio"] is not None)
    if peers:
        app.progress.say(f"ratios are to: {'; '.join(peers)}")
    path = picture or app.settings.home / "pictures" / f"bench_{benchmark}.png"
    try:
        drawn = bars(rows, f"lvmdb bench {benchmark}: {subject}")
    except MissingDependencyError as error:
        if picture:
            raise
        click.echo(f"no picture: {error}", err=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, drawn)
    app.progress.say(f"picture: {path}")
