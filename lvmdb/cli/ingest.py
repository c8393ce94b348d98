"""`lvmdb ingest`: text to ordered, embedded concepts."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show
from lvmdb.cli.enrichment import enrich, tag
from lvmdb.errors import CorpusError


@click.group(cls=Group)
def ingest() -> None:
    """Text to ordered, embedded concepts.

    \b
    Example:
      lvmdb ingest run articles.jsonl --reader jsonl --dataset news
    """


@ingest.command()
@click.argument("source")
@click.option("--reader", required=True, metavar="R", help="jsonl or python-docs (SOURCE is -).")
@click.option("--dataset", required=True, metavar="D", help="Where to; made if it is not there.")
@click.option(
    "--encoder",
    metavar="E",
    help="A model's name or folder, or none. [default: sentence-transformers/gtr-t5-base]",
)
@click.option(
    "--chunker", default="sentence", show_default=True, metavar="C", help="sentence or paragraph."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many articles.")
@pass_app
def run(
    app: App,
    source: str,
    reader: str,
    dataset: str,
    encoder: str | None,
    chunker: str,
    limit: int | None,
) -> None:
    """Read, cut, encode and store articles; what is there already is left alone.

    \b
    Example:
      lvmdb ingest run articles.jsonl.gz --reader jsonl --dataset news --limit 1000
      lvmdb ingest run - --reader python-docs --dataset docs --encoder none
    """
    from lvmdb.corpus import encoders
    from lvmdb.corpus.chunker import get_chunker
    from lvmdb.corpus.ingest import IngestPlan
    from lvmdb.corpus.ingest import ingest as run_ingest
    from lvmdb.corpus.readers.registry import get_reader
    from lvmdb.db.types import checked_name

    name = None if encoder == "none" else encoder or encoders.DEFAULT_ENCODER
    plan = IngestPlan(
        dataset=checked_name("dataset", dataset),
        reader_name=reader,
        reader=get_reader(reader),
        source=source,
        chunker=get_chunker(chunker),
        encoder=name,
        load_encoder=lambda: encoders.load(app.settings, name or "", progress=app.progress),
        limit=limit,
    )
    stored, failed = run_ingest(app.database, plan, progress=app.progress)
    click.echo(
        f"{dataset}: {stored.added} articles added, {stored.changed} changed, "
        f"{stored.unchanged} as they were; {stored.concepts} concepts written"
    )
    if failed:
        raise CorpusError(f"{failed} articles failed: 'lvmdb ingest errors' says why")


@ingest.command()
@format_option
@pass_app
def errors(app: App, output_format: str) -> None:
    """What could not be ingested, and why.

    \b
    Example:
      lvmdb ingest errors --format csv
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "corpus", "ingest_errors"), output_format)


@ingest.command()
@format_option
@pass_app
def status(app: App, output_format: str) -> None:
    """Ingest jobs, newest first, with the time that each step took.

    \b
    Example:
      lvmdb ingest status
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "corpus", "ingest_status"), output_format)


ingest.add_command(tag)
ingest.add_command(enrich)
