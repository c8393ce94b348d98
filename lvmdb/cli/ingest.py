"""`lvmdb ingest`: text to ordered, embedded, coded concepts."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show
from lvmdb.cli.enrichment import enrich, tag
from lvmdb.cli.ingest_options import PlanOptions, plan_options
from lvmdb.errors import CorpusError


@click.group(cls=Group)
def ingest() -> None:
    """Text to ordered, embedded, coded concepts.

    \b
    Example:
      lvmdb ingest run articles.jsonl --reader jsonl --dataset news
    """


@ingest.command()
@click.argument("source")
@click.option("--dataset", required=True, metavar="D", help="Where to; made if it is not there.")
@plan_options
@click.option(
    "--survey/--no-survey",
    default=None,
    help="Read the source beforehand, so that a broken one changes nothing.  [default: survey, "
    "but for wikipedia]",
)
@click.option(
    "--skip-broken/--stop-at-broken",
    default=None,
    help="Record articles that cannot be read as failed, and go on.  [default: stop, but for "
    "wikipedia]",
)
@pass_app
def run(
    app: App,
    source: str,
    dataset: str,
    options: PlanOptions,
    survey: bool | None,
    skip_broken: bool | None,
) -> None:
    """Read, cut, encode, code and store articles; what is there already is left alone.

    The same command goes on after an interruption. Started while it runs, here or on another
    machine, it joins: processes share the articles, and none is done twice.

    \b
    Example:
      lvmdb ingest run articles.jsonl.gz --reader jsonl --dataset news --limit 1000
      lvmdb ingest run - --reader python-docs --dataset docs --encoder none
    """
    from lvmdb.corpus.ingest import ingest as run_ingest

    plan = options.plan(app, source, dataset, survey=survey, skip_broken=skip_broken)
    done = run_ingest(app.database, plan, progress=app.progress)
    totals = done.totals
    shared = f", by {totals.workers} processes" if totals.workers > 1 else ""
    click.echo(
        f"{dataset}: {totals.added} articles added, {totals.changed} changed, "
        f"{totals.unchanged} as they were; {totals.concepts} concepts written{shared}"
    )
    if totals.vanished:
        click.echo(
            f"{totals.vanished} articles are no longer in {source}; they were not deleted: "
            "'lvmdb ingest vanished' lists them",
            err=True,
        )
    if totals.failed:
        raise CorpusError(f"{totals.failed} articles failed: 'lvmdb ingest errors' says why")
    if totals.errors:
        raise CorpusError(
            f"{totals.errors} articles have concepts without a code: 'lvmdb ingest errors' says why"
        )


@ingest.command()
@click.option("--all", "everything", is_flag=True, help="Also what was done later.")
@format_option
@pass_app
def errors(app: App, everything: bool, output_format: str) -> None:
    """What could not be ingested, why, and how often it was tried.

    \b
    Example:
      lvmdb ingest errors --format csv
    """
    from lvmdb.reports.named import listing

    name = "ingest_errors" if everything else "ingest_open_errors"
    show(*listing(app.database, "ingest", name), output_format)


@ingest.command()
@format_option
@pass_app
def status(app: App, output_format: str) -> None:
    """Ingest jobs, newest first: how far they are, and the time that each step took.

    \b
    Example:
      lvmdb ingest status
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "ingest", "ingest_status"), output_format)


@ingest.command()
@format_option
@pass_app
def vanished(app: App, output_format: str) -> None:
    """Articles that are no longer in the source that they came from.

    \b
    Example:
      lvmdb ingest vanished
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "ingest", "ingest_vanished"), output_format)


ingest.add_command(tag)
ingest.add_command(enrich)
