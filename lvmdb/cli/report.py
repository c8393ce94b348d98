"""`lvmdb report`: named questions, answered by SQL that anyone can run."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Command, OutputFile, pass_app
from lvmdb.errors import UsageError

_REFUSED = {
    "run_id": "the report {} is not about runs",
    "split": "the report {} has no split to choose",
    "schedule": "the report {} is not about schedules",
}


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--run-id", type=int, metavar="N", help="One run; by default all.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv", "html", "png"]),
    default="table",
    show_default=True,
    help="html is one page with the query and the picture, where there is one; png is the picture, "
    "of learning_curve, leaderboard, recall_curve, architectures, cost, strategies and weeks.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="What was evaluated, for reports that compare configurations.  [default: test]",
)
@click.option("--schedule", metavar="NAME", help="One schedule; by default all.")
@click.option("--output", type=OutputFile(), help="A file.")
@click.option("--show-sql", is_flag=True, help="Print the query instead of its answer.")
@pass_app
def report(
    app: App,
    name: str | None,
    run_id: int | None,
    split: str | None,
    schedule: str | None,
    output_format: str,
    output: Path | None,
    show_sql: bool,
) -> None:
    """Answer a named question; without NAME, list them.

    A picture holds one sequence set, split and pool of candidates, those of the newest run, the
    test split before others; with --run-id, those of that run. There the leaderboard draws that
    run beside the baselines. That of weeks holds one schedule, the newest.

    \b
    Example:
      lvmdb report leaderboard
      lvmdb report leaderboard --format png --output leaderboard.png
      lvmdb report predictions --run-id 7 --format html --output predictions.html
      lvmdb report lineage --run-id 7 --show-sql
      lvmdb report architectures --split val
      lvmdb report weeks --schedule first --format png --output weeks.png
    """
    from lvmdb.db import queries, runs
    from lvmdb.db.types import checked_name
    from lvmdb.reports.files import write
    from lvmdb.reports.named import as_psql_takes_it, comment, run_report, settable
    from lvmdb.reports.pictures import PICTURES, pictured
    from lvmdb.reports.schedules import require_schedule

    if name is None:
        for known in queries.report_names():
            click.echo(f"{known:18} {comment(known)[0]}")
        return
    taken = settable(name)
    given = {"run_id": run_id, "split": split, "schedule": schedule}
    chosen = {setting: str(value) for setting, value in given.items() if value is not None}
    for setting in chosen:
        if setting not in taken:
            raise UsageError(f"--{setting.replace('_', '-')}: {_REFUSED[setting].format(name)}")
    if schedule is not None:
        checked_name("schedule", schedule)
    if show_sql:
        click.echo(as_psql_takes_it(name, chosen))
        return
    if output_format == "png" and (name not in PICTURES or output is None):
        raise UsageError(f"--format png is for {pictured()}, with --output FILE")
    if run_id is not None:
        runs.get(app.database, run_id)
    if schedule is not None:
        require_schedule(app.database, schedule)
    answer = run_report(app.database, name, run_id=run_id, split=split, schedule=schedule)
    if output_format in ("table", "html"):
        app.progress.say(f"(the query: lvmdb report {name} --show-sql)")
    write(app.database, answer, output_format, output)
