"""`lvmdb train`: a run, streamed from SQL."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, pass_app

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; one that is not there is an error.",
)


@click.command(cls=Command)
@click.option("--run-id", required=True, type=int, metavar="N", help="See 'lvmdb runs create'.")
@device_option
@pass_app
def train(app: App, run_id: int, device: str) -> None:
    """Train what the run's row says; after any interruption the same command goes on.

    \b
    Example:
      lvmdb train --run-id 7
    """
    from lvmdb.training.train import train as run_training

    outcome = run_training(app.database, run_id, device=device, progress=app.progress)
    if not outcome.trained:
        click.echo(f"run {run_id} has succeeded already: 'lvmdb evaluate --run-id {run_id}'")
    elif outcome.best_loss is None:
        click.echo(f"run {run_id} is fitted")
    else:
        click.echo(
            f"run {run_id}: {outcome.epochs} epochs, best validation loss "
            f"{outcome.best_loss:.5f} in epoch {outcome.best_epoch}"
        )
