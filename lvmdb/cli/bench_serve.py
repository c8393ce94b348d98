"""`lvmdb bench serve`: how fast the LVM service answers."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Command, format_option, pass_app
from lvmdb.cli.bench_common import counts, finish, picture_option, repetitions_option


@click.command(cls=Command)
@click.option(
    "--url",
    default="http://127.0.0.1:8003",
    show_default=True,
    metavar="URL",
    help="Of an LVM service that runs.",
)
@click.option(
    "--model",
    default="production",
    show_default=True,
    metavar="M",
    help="A run's number, or the name under which one is promoted.",
)
@click.option(
    "--clients",
    default="1,32",
    show_default=True,
    callback=counts,
    metavar="N,...",
    help="How many ask at the same time, a measurement each.",
)
@click.option("-k", default=10, show_default=True, help="Concepts that /predict finds.")
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1),
    metavar="S",
    help="Of each pass.",
)
@repetitions_option(3)
@picture_option
@format_option
@pass_app
def serve(
    app: App,
    url: str,
    model: str,
    clients: tuple[int, ...],
    k: int,
    seconds: float,
    repetitions: int,
    picture: Path | None,
    output_format: str,
) -> None:
    """Requests a second, and milliseconds of one, of an LVM service that runs.

    Asked about are contexts of held-out windows: /infer is the model alone, /predict the model and
    the search; no encoder has a part in it. The clients share this machine with the service.

    \b
    Example:
      lvmdb serve lvm --detach && lvmdb bench serve
      lvmdb bench serve --model 7 --clients 1,8,32 --seconds 10
    """
    from lvmdb.db import aliases
    from lvmdb.services.bench import bench_serve, held_out_contexts

    asked: int | str = int(model) if model.isascii() and model.isdecimal() else model
    run_id = asked
    if isinstance(asked, str):
        with app.database.connect() as connection:
            run_id = aliases.promoted(connection, asked)
    assert isinstance(run_id, int)
    measured = bench_serve(
        url,
        held_out_contexts(app.database, run_id),
        model=asked,
        clients=clients,
        k=k,
        seconds=seconds,
        repetitions=repetitions,
        token=app.settings.token,
        progress=app.progress,
    )
    parameters = {"run_id": run_id, "k": k, "seconds": seconds, "repetitions": repetitions}
    finish(app, "serve", f"run {run_id}", measured, parameters, output_format, picture)
