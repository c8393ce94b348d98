"""`lvmdb train`: a run, streamed from SQL."""

from __future__ import annotations

import re

import click

from lvmdb.cli.app import App, Command, pass_app

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; one that is not there is an error.",
)


def _bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """The number of bytes in a size such as `500MB`; units are powers of a thousand."""
    from lvmdb.training.reading import BYTES

    if value is None:
        return 0
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([KMGT]B)", value.strip().upper())
    size = round(float(found[1]) * BYTES[found[2]]) if found else 0
    if not size:
        raise click.BadParameter(
            f"'{value}' is not a size such as 2GB or 500MB.", context, parameter
        )
    return size


@click.command(cls=Command)
@click.option("--run-id", required=True, type=int, metavar="N", help="See 'lvmdb runs create'.")
@device_option
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Where to go on is also saved within an epoch, so often; 0 is after every batch.",
)
@click.option(
    "--readers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Connections that read, in each process.",
)
@click.option(
    "--cache",
    callback=_bytes,
    metavar="SIZE",
    help="Hold each process's training data in memory, if it takes no more than that, as in 2GB; "
    "the run is stamped with it.",
)
@pass_app
def train(
    app: App, run_id: int, device: str, checkpoint_every: float, readers: int, cache: int
) -> None:
    """Train what the run's row says; after any interruption the same command goes on.

    A baseline or an ensemble is fitted; what an ensemble is made of is trained before.

    Started by torchrun, as in 'torchrun --nproc-per-node 2 -m lvmdb train --run-id 7', its
    processes train the run together.

    \b
    Example:
      lvmdb train --run-id 7
      lvmdb train --run-id 7 --readers 2 --checkpoint-every 60
    """
    from lvmdb.db import runs
    from lvmdb.decoding.round_trip import round_trip_of
    from lvmdb.training.distributed import joined
    from lvmdb.training.reading import Reading
    from lvmdb.training.train import train as run_training

    with joined() as world:
        run = runs.get(app.database, run_id)
        if run.kind == "ensemble":
            _fit_ensemble(app, run_id, device, leads=world.leads)
            return
        with round_trip_of(app.database, app.settings, run) as round_trip:
            outcome = run_training(
                app.database,
                run_id,
                device=device,
                reading=Reading(checkpoint_every, readers, cache),
                world=world,
                progress=app.progress,
                round_trip=round_trip,
            )
    if not world.leads:
        return
    if not outcome.trained:
        click.echo(f"run {run_id} has succeeded already: 'lvmdb evaluate --run-id {run_id}'")
    elif outcome.best_loss is None:
        click.echo(f"run {run_id} is fitted")
    else:
        click.echo(
            f"run {run_id}: {outcome.epochs} epochs, best validation loss "
            f"{outcome.best_loss:.5f} in epoch {outcome.best_epoch}"
        )


def _fit_ensemble(app: App, run_id: int, device: str, *, leads: bool) -> None:
    """A fit has no steps to share: the process that leads does it."""
    from lvmdb.evaluation import ensembles

    if leads:
        outcome = ensembles.fit(app.database, run_id, device=device, progress=app.progress)
        already = "" if outcome.trained else " already"
        click.echo(f"run {run_id} is fitted{already}: 'lvmdb evaluate --run-id {run_id}'")
