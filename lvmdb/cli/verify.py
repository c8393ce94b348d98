"""`lvmdb verify`: is the corpus whole, and what was frozen still what it was?"""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.errors import CorpusError


@click.command(cls=Command)
@click.option("--dataset", metavar="D", help="One dataset; by default all.")
@click.option("--sequences", "name", metavar="S", help="Also hold a set against its fingerprint.")
@format_option
@pass_app
def verify(app: App, dataset: str | None, name: str | None, output_format: str) -> None:
    """Check counts, order, norms and repetitions; exit 1 if a check fails.

    \b
    Example:
      lvmdb verify --dataset wiki --sequences wiki5
    """
    from lvmdb.corpus.health import findings
    from lvmdb.reports.named import listing
    from lvmdb.sequences import sets

    if dataset is not None:
        dataset = app.dataset(dataset)
    columns, rows = listing(app.database, "checks", "corpus_health", {"dataset": dataset})
    show(columns, rows, output_format)
    wrong = [line for row in rows for line in findings(row)]
    if name is not None:
        sets.verify(app.database, sets.get(app.database, name))
        app.progress.say(f"sequence set {name}: the data is what was frozen")
    if wrong:
        raise CorpusError("; ".join(wrong))
