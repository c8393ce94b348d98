"""`lvmdb schedule`: the hundred runs."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show
from lvmdb.cli.schedule_status import status


@click.group(cls=Group)
def schedule() -> None:
    """The hundred runs of five weeks: planned, queued, and the last week's chosen from the rest.

    \b
    Example:
      lvmdb schedule create first --sequences wiki5 --scale toy
    """


schedule.add_command(status)


@schedule.command()
@click.argument("name")
@click.option("--sequences", required=True, metavar="S", help="A frozen sequence set.")
@click.option(
    "--scale",
    type=click.Choice(["toy", "small", "full"]),
    default="small",
    show_default=True,
    help="Of sizes and epochs; the plan stays the same.",
)
@click.option("--seed", default=0, show_default=True, help="Of all runs; new seeds follow it.")
@pass_app
def create(app: App, name: str, sequences: str, scale: str, seed: int) -> None:
    """Plan the hundred runs and queue the 85 that are fixed; 'lvmdb worker' trains them.

    Baselines that the set has no run of go first. The 15 of the last week are chosen when those of
    the others are done, by what they reached on the validation split.

    \b
    Example:
      lvmdb schedule create first --sequences wiki5 --scale toy
    """
    from lvmdb.scheduling import schedule as schedules

    schedules.create(app.database, name, sequences, scale=scale, seed=seed)
    click.echo(f"schedule {name} is queued: 'lvmdb worker' trains its runs")


@schedule.command("list")
@format_option
@pass_app
def list_schedules(app: App, output_format: str) -> None:
    """All schedules, newest first.

    \b
    Example:
      lvmdb schedule list
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "schedule", "list_schedules"), output_format)
