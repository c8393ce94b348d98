"""`lvmdb bench`: measured beside a named peer, in the same run, as rows."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show
from lvmdb.cli.train import device_option


@click.group(cls=Group)
def bench() -> None:
    """Benchmarks, each beside a named peer; rows go to the table benchmark.

    \b
    Example:
      lvmdb bench stream --sequences wiki5
    """


@bench.command()
@click.option("--sequences", "name", required=True, metavar="S", help="A frozen sequence set.")
@click.option(
    "--repetitions",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Measured passes.",
)
@format_option
@pass_app
def stream(app: App, name: str, repetitions: int, output_format: str) -> None:
    """Vectors a second from SQL, beside pgvector's numpy adapter and plain text.

    \b
    Example:
      lvmdb bench stream --sequences wiki5
    """
    from lvmdb.db.benchmarks import write
    from lvmdb.sequences import sets
    from lvmdb.sequences.bench import bench_stream
    from lvmdb.training.environment import describe

    chosen = sets.get(app.database, name)
    measured = bench_stream(app.database, chosen, repetitions=repetitions, progress=app.progress)
    parameters = {"split": "train", "repetitions": repetitions}
    rows = write(
        app.database, "stream", name, measured, parameters=parameters, environment=describe()
    )
    show(list(rows[0]), rows, output_format)


@bench.command()
@click.option("--sequences", "name", required=True, metavar="S", help="A frozen sequence set.")
@click.option("--architecture", default="lstm", show_default=True, metavar="A")
@click.option(
    "--batches",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Of a pass.",
)
@click.option(
    "--repetitions",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Measured passes.",
)
@device_option
@format_option
@pass_app
def train(
    app: App,
    name: str,
    architecture: str,
    batches: int,
    repetitions: int,
    device: str,
    output_format: str,
) -> None:
    """Windows a second of training from SQL, beside batches held in memory.

    \b
    Example:
      lvmdb bench train --sequences wiki5 --architecture mamba2
    """
    from lvmdb.db.benchmarks import write
    from lvmdb.sequences import sets
    from lvmdb.training.bench import bench_train
    from lvmdb.training.environment import describe

    chosen = sets.get(app.database, name)
    measured = bench_train(
        app.database,
        chosen,
        architecture,
        batches=batches,
        repetitions=repetitions,
        device=device,
        progress=app.progress,
    )
    parameters = {"architecture": architecture, "batches": batches, "repetitions": repetitions}
    rows = write(
        app.database, "train", name, measured, parameters=parameters, environment=describe()
    )
    show(list(rows[0]), rows, output_format)
