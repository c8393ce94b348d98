"""`lvmdb verify`: is the corpus whole, and what was frozen still what it was?"""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.errors import CorpusError, UsageError


@click.command(cls=Command)
@click.option("--dataset", metavar="D", help="One dataset; by default all.")
@click.option("--sequences", "name", metavar="S", help="Also hold a set against its fingerprint.")
@click.option(
    "--forward-signal",
    is_flag=True,
    help="Instead of the checks, show what order and direction are worth in the set.",
)
@format_option
@pass_app
def verify(
    app: App, dataset: str | None, name: str | None, forward_signal: bool, output_format: str
) -> None:
    """Check counts, order, norms, repetitions, leaks, stored results; exit 1 if a check fails.

    \b
    Example:
      lvmdb verify --dataset wiki --sequences wiki5
      lvmdb verify --sequences wiki5 --forward-signal
    """
    from lvmdb.corpus.health import findings
    from lvmdb.evaluation.health import doubtful_evaluations
    from lvmdb.reports.named import listing
    from lvmdb.sequences import freezing, sets

    if forward_signal and name is None:
        raise UsageError("--forward-signal is about a sequence set: name one with --sequences")
    if dataset is not None:
        dataset = app.dataset(dataset)
    columns, rows = listing(app.database, "checks", "corpus_health", {"dataset": dataset})
    if not forward_signal:
        show(columns, rows, output_format)
    wrong = [line for row in rows for line in findings(row)]
    wrong += doubtful_evaluations(app.database)
    if name is not None:
        chosen = sets.get(app.database, name)
        sets.verify(app.database, chosen)
        app.progress.say(f"sequence set {name}: the data is what was frozen")
        leaks = freezing.count_leaks(app.database, chosen, progress=app.progress)
        found = (
            f"sequence set {name}: {leaks} pairs of near-duplicate concepts between splits, "
            f"{chosen.allowed_leaks} allowed"
        )
        app.progress.say(found)
        if leaks > chosen.allowed_leaks and chosen.scope == "article":
            wrong.append(found)
        if forward_signal:
            _show_forward_signal(app, name, output_format)
    if wrong:
        raise CorpusError("; ".join(wrong))


def _show_forward_signal(app: App, name: str, output_format: str) -> None:
    from dataclasses import asdict

    from lvmdb.evaluation.forward_signal import forward_signal
    from lvmdb.sequences import sets

    found = forward_signal(app.database, sets.get(app.database, name), progress=app.progress)
    rows = [asdict(statistic) for statistic in found]
    show(list(rows[0]), rows, output_format, "Forward signal, with 95 % intervals over articles")
