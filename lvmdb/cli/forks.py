"""`lvmdb runs fork` and `lvmdb runs stages`: runs that begin with the weights of others."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, pass_app
from lvmdb.cli.run_options import loss_option, set_option
from lvmdb.errors import UsageError


@click.command(cls=Command)
@click.argument("run_id", type=int)
@set_option
@click.option("--sequences", metavar="S", help="Another frozen set.  [default: the run's]")
@click.option("--loss", metavar="L", help="Another loss.  [default: the run's]")
@click.option("--seed", type=int, help="Decides the order of batches.  [default: the run's]")
@pass_app
def fork(
    app: App,
    run_id: int,
    options: dict[str, object],
    sequences: str | None,
    loss: str | None,
    seed: int | None,
) -> None:
    """Plan a run that starts from the best weights of another, and print its id.

    What is not named is the other run's, which need not have been trained yet. On another set
    nothing may be held out that the other run, or one that it was forked from, was trained on:
    make one set within the other.

    \b
    Example:
      lvmdb runs fork 7 --set lr=1e-4 --set epochs=3
      lvmdb runs fork 7 --sequences wiki50k
    """
    from lvmdb.training import fork as forks

    new = forks.fork(app.database, run_id, options, sequences=sequences, loss=loss, seed=seed)
    click.echo(new)


@click.command(cls=Command)
@click.option("--architecture", required=True, metavar="A", help="See 'lvmdb architectures'.")
@click.option(
    "--sequences", required=True, metavar="S,S,...", help="Frozen sets, one for each stage."
)
@click.option("--epochs", required=True, metavar="N,N,...", help="Epochs of each stage.")
@set_option
@loss_option
@click.option("--seed", default=0, show_default=True, help="Decides weights and order.")
@pass_app
def stages(
    app: App,
    architecture: str,
    sequences: str,
    epochs: str,
    options: dict[str, object],
    loss: str | None,
    seed: int,
) -> None:
    """Plan a training in stages: each run starts from the weights of the one before.

    Prints the ids, one a line, in the order in which they are to be trained. The sets are as a
    rule each within the last ('lvmdb sequences create --within').

    \b
    Example:
      lvmdb runs stages --architecture lstm --sequences s1k,s5k,s10k --epochs 5,10,20
    """
    from lvmdb.training import fork as forks

    try:
        counts = [int(count) for count in epochs.split(",")]
    except ValueError:
        raise UsageError(f"--epochs takes whole numbers, as in 5,10,20, not '{epochs}'") from None
    names = [name.strip() for name in sequences.split(",")]
    run_ids = forks.stages(app.database, architecture, names, counts, options, loss=loss, seed=seed)
    for run_id in run_ids:
        click.echo(run_id)
