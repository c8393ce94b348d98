"""`lvmdb schedule status`: how far schedules are."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show


@click.command(cls=Command)
@click.argument("name", required=False)
@format_option
@pass_app
def status(app: App, name: str | None, output_format: str) -> None:
    """What is done, what is left, how long that will take, and who gets the compute.

    By week and architecture, then each week, each architecture and all together; without NAME, of
    every schedule. Hours left are the mean of the runs of the same architecture that have
    succeeded, else of all that have; by the clock, dealt out to as many runs as are under way now.

    \b
    Example:
      lvmdb schedule status
      lvmdb schedule status first --format csv
    """
    from lvmdb.reports.named import run_report
    from lvmdb.reports.schedules import in_words, require_schedule

    if name is not None:
        require_schedule(app.database, name)
    answer = run_report(app.database, "schedule_status", schedule=name)
    show(answer.columns, answer.rows, output_format)
    if output_format == "table":
        for line in in_words(answer.rows):
            click.echo(line)
