"""`lvmdb bench ingest`: concepts a second of an ingest, beside the encoder alone."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Command, format_option, pass_app
from lvmdb.cli.bench_common import finish, picture_option, repetitions_option
from lvmdb.cli.ingest_options import PlanOptions, plan_options


@click.command(cls=Command)
@click.argument("source")
@plan_options
@repetitions_option(3)
@picture_option
@format_option
@pass_app
def ingest(
    app: App,
    source: str,
    options: PlanOptions,
    repetitions: int,
    picture: Path | None,
    output_format: str,
) -> None:
    """Concepts a second of an ingest, beside the encoder alone on the same texts.

    Everything but encoding is measured too, with the vectors given, and each step by itself, beside
    what the pipeline before lvmdb took. Passes write to databases of their own, which are dropped.

    \b
    Example:
      lvmdb bench ingest articles.jsonl --reader jsonl --limit 100
      lvmdb bench ingest - --reader python-docs --limit 30 --repetitions 1
    """
    from lvmdb.corpus.bench import bench_ingest

    plan = options.plan(app, source, "bench")
    measured = bench_ingest(app.database, plan, repetitions=repetitions, progress=app.progress)
    parameters = {**plan.options, "repetitions": repetitions}
    finish(app, "ingest", plan.encoder or "", measured, parameters, output_format, picture)
