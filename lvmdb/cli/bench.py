"""`lvmdb bench`: measured beside a named peer, in the same run, as rows and as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Group, format_option, pass_app
from lvmdb.cli.bench_common import (
    counts,
    finish,
    picture_option,
    repetitions_option,
    sequences_option,
    shapes_of,
)
from lvmdb.cli.bench_generate import generate
from lvmdb.cli.bench_ingest import ingest
from lvmdb.cli.bench_retrieval import retrieval
from lvmdb.cli.bench_serve import serve
from lvmdb.cli.bench_vecrag import vecrag
from lvmdb.cli.train import device_option


@click.group(cls=Group)
def bench() -> None:
    """Benchmarks, each beside a named peer; rows go to the table benchmark.

    Those of retrieval go to ann_benchmark.

    \b
    Example:
      lvmdb bench stream --sequences wiki5
    """


@bench.command()
@sequences_option
@repetitions_option(5, "; the slow contenders have one")
@click.option(
    "--readers",
    default="1,2,4",
    show_default=True,
    callback=counts,
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
    finish(app, "stream", name, measured, parameters, output_format, picture)


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
@repetitions_option(3)
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
    finish(app, "train", name, measured, parameters, output_format, picture)


@bench.command()
@click.option(
    "--architectures",
    metavar="A,...",
    help="Whose parts are timed. [default: all that are trained]",
)
@click.option(
    "--shapes",
    default="64x5,32x64,8x256,4x1024",
    show_default=True,
    callback=shapes_of,
    metavar="BxT,...",
    help="Sequences of a batch, and positions of each.",
)
@click.option(
    "--d-model",
    default=512,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Width of the stream.",
)
@click.option(
    "--steps",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Forward and backward, so often in a pass.",
)
@repetitions_option(5)
@device_option
@picture_option
@format_option
@pass_app
def blocks(
    app: App,
    architectures: str | None,
    shapes: tuple[tuple[int, int], ...],
    d_model: int,
    steps: int,
    repetitions: int,
    device: str,
    picture: Path | None,
    output_format: str,
) -> None:
    """Positions a second of one part that mixes along time, forward and backward.

    Beside it, where there is one, the same part of transformers with the same weights (pip install
    'lvmdb[encoders]'). A shape of 64x5 is 64 sequences of 5 positions. The part of hybrid is its
    attention. Threads are those of OMP_NUM_THREADS.

    
    Example:
      lvmdb bench blocks
      lvmdb bench blocks --architectures mamba2,rwkv --shapes 64x5,8x256
    """
    from lvmdb.training.bench_blocks import bench_blocks

    measured = bench_blocks(
        [name.strip() for name in architectures.split(",")] if architectures else None,
        shapes,
        d_model=d_model,
        steps=steps,
        repetitions=repetitions,
        device=device,
        progress=app.progress,
        warn=lambda line: click.echo(line, err=True),
    )
    parameters = {"d_model": d_model, "steps": steps, "repetitions": repetitions}
    finish(app, "blocks", f"d_model {d_model}", measured, parameters, output_format, picture)


bench.add_command(retrieval)
bench.add_command(ingest)
bench.add_command(vecrag)
bench.add_command(generate)
bench.add_command(serve)
