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
    help="png is for learning_curve.",
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

    \b
    Example:
      lvmdb report leaderboard
      lvmdb report learning_curve --format png --output curve.png
      lvmdb report lineage --run-id 7 --show-sql
    """
    from lvmdb.db import queries, runs
    from lvmdb.reports.files import write
    from lvmdb.reports.named import run_report

    if name is None:
        for known in queries.report_names():
            question = queries.report_sql(known).splitlines()[0].removeprefix("-- ")
            click.echo(f"{known:18} {question}")
        return
    if run_id is not None and "lvmdb.run_id" not in queries.report_sql(name):
        raise UsageError(f"--run-id: the report {name} is not about runs")
    if show_sql:
        prefix = "" if run_id is None else f"SET lvmdb.run_id = {run_id};\n"
        click.echo(prefix + queries.report_sql(name))
        return
    if output_format == "png" and (name != "learning_curve" or output is None):
        raise UsageError("--format png is for learning_curve, with --output FILE")
    if run_id is not None:
        runs.get(app.database, run_id)
    answer = run_report(app.database, name, run_id=run_id)
    if output_format in ("table", "html"):
        app.progress.say(f"(the query: lvmdb report {name} --show-sql)")
    write(app.database, answer, output_format, output)
