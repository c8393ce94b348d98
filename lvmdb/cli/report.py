"""`lvmdb report`: named questions, answered by SQL that anyone can run."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Command, OutputFile, pass_app
from lvmdb.errors import UsageError


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--run-id", type=int, metavar="N", help="One run; by default all.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv", "html", "png"]),
    default="table",
    show_default=True,
    help="html is one page with the query and the picture; png is the picture, of learning_curve, "
    "leaderboard and recall_curve.",
)
@click.option("--output", type=OutputFile(), help="A file.")
@click.option("--show-sql", is_flag=True, help="Print the query instead of its answer.")
@pass_app
def report(
    app: App,
    name: str | None,
    run_id: int | None,
    output_format: str,
    output: Path | None,
    show_sql: bool,
) -> None:
    """Answer a named question; without NAME, list them.

    The pictures of leaderboard and recall_curve hold one sequence set and split, those of the
    newest run, the test split before others; with --run-id, those of that run. There the
    leaderboard draws that run beside the baselines.

    \b
    Example:
      lvmdb report leaderboard
      lvmdb report leaderboard --format png --output leaderboard.png
      lvmdb report predictions --run-id 7 --format html --output predictions.html
      lvmdb report lineage --run-id 7 --show-sql
    """
    from lvmdb.db import queries, runs
    from lvmdb.reports.files import write
    from lvmdb.reports.named import comment, run_report
    from lvmdb.reports.pictures import PICTURES, pictured

    if name is None:
        for known in queries.report_names():
            click.echo(f"{known:18} {comment(known)[0]}")
        return
    if run_id is not None and "lvmdb.run_id" not in queries.report_sql(name):
        raise UsageError(f"--run-id: the report {name} is not about runs")
    if show_sql:
        prefix = "" if run_id is None else f"SET lvmdb.run_id = {run_id};\n"
        click.echo(prefix + queries.report_sql(name))
        return
    if output_format == "png" and (name not in PICTURES or output is None):
        raise UsageError(f"--format png is for {pictured()}, with --output FILE")
    if run_id is not None:
        runs.get(app.database, run_id)
    answer = run_report(app.database, name, run_id=run_id)
    if output_format in ("table", "html"):
        app.progress.say(f"(the query: lvmdb report {name} --show-sql)")
    write(app.database, answer, output_format, output)
