"""`lvmdb ensemble`: runs made of runs."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, pass_app
from lvmdb.errors import UsageError


@click.group(cls=Group)
def ensemble() -> None:
    """Ensembles: what several runs predict, as one prediction. An ensemble is a run.

    \b
    Example:
      lvmdb train --run-id $(lvmdb ensemble create three --members 3,7,9)
    """


@ensemble.command()
@click.argument("name")
@click.option(
    "--members", required=True, metavar="N,N,...", help="Runs on one sequence set, two at least."
)
@click.option(
    "--method",
    type=click.Choice(["mean", "weighted", "vote"]),
    default="mean",
    show_default=True,
    help="weighted: weights from the validation split; vote: each member for its nearest concept.",
)
@pass_app
def create(app: App, name: str, members: str, method: str) -> None:
    """Plan an ensemble and print its run's id; its members may be trained later.

    'lvmdb train' fits it once they have succeeded, 'lvmdb evaluate' evaluates it like any other.

    \b
    Example:
      lvmdb ensemble create three --members 3,7,9
      lvmdb ensemble create weighed --members 3,7,9 --method weighted
    """
    from lvmdb.evaluation import ensembles

    try:
        run_ids = [int(member) for member in members.split(",")]
    except ValueError:
        raise UsageError(f"--members takes ids of runs, as in 3,7,9, not '{members}'") from None
    click.echo(ensembles.create(app.database, name, run_ids, method))
