"""`lvmdb verify`: is the corpus whole, and what was frozen still what it was?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvmdb.cli.app import App, Command, OutputFile, format_option, pass_app, show
from lvmdb.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from lvmdb.corpus.health import Check
    from lvmdb.evaluation.vector_health import VectorHealth

_SHOWN = {"tmd": "tmd_codes", "lengths": "lengths", "sample": "sample"}
"""What can be shown instead of the checks, and the query of each."""


@click.command(cls=Command)
@click.option("--dataset", metavar="D", help="One dataset; by default all.")
@click.option("--sequences", "name", metavar="S", help="Also hold a set against its fingerprint.")
@click.option(
    "--forward-signal",
    is_flag=True,
    help="Instead of the checks, show what order and direction are worth in the set.",
)
@click.option(
    "--show",
    "shown",
    type=click.Choice(list(_SHOWN)),
    help="Check nothing, and show the commonest TMD codes, how long texts are, or ten concepts "
    "drawn at random.",
)
@click.option("--picture", type=OutputFile(), help="Draw norms, lengths, codes, neighbours: a PNG.")
@format_option
@pass_app
def verify(
    app: App,
    dataset: str | None,
    name: str | None,
    forward_signal: bool,
    shown: str | None,
    picture: Path | None,
    output_format: str,
) -> None:
    """Check counts, order, norms, repetitions, codes, probes, leaks, stored results.

    Exit 1 if a check fails. What is below what is wanted is said, and is no failure: an encoder
    that nobody has held against imported vectors, texts longer than it reads, probes that are not
    near their concepts. Rows without a result are facts. Of more than 100,000 concepts, vectors are
    compared of every so manyth article.

    \b
    Example:
      lvmdb verify --dataset wiki --sequences wiki5
      lvmdb verify --dataset wiki --picture wiki.png
      lvmdb verify --show sample
      lvmdb verify --sequences wiki5 --forward-signal
    """
    from lvmdb.evaluation.health import doubtful_evaluations
    from lvmdb.reports.named import listing

    if forward_signal and name is None:
        raise UsageError("--forward-signal is about a sequence set: name one with --sequences")
    if shown and (forward_signal or name or picture):
        raise UsageError("--show checks nothing: leave out --sequences and --picture")
    if dataset is not None or picture is not None:
        dataset = app.dataset(dataset)
    if shown:
        show(*listing(app.database, "checks", _SHOWN[shown], {"dataset": dataset}), output_format)
        return
    checks, looked = corpus_checks(app, dataset, with_vectors=not forward_signal)
    if picture is not None:
        _draw(app, dataset, looked, picture)
    if not forward_signal:
        rows = [_row(check) for check in checks]
        show(["dataset", "check", "value", "wanted", "result"], rows, output_format)
    wrong = [check.finding for check in checks if check.finding is not None]
    wrong += doubtful_evaluations(app.database)
    if name is not None:
        wrong += _sequences(app, name)
        if forward_signal:
            _show_forward_signal(app, name, output_format)
    if wrong:
        raise CorpusError("; ".join(wrong))


def corpus_checks(
    app: App, dataset: str | None, *, with_vectors: bool = True
) -> tuple[list[Check], list[VectorHealth]]:
    """All checks of one dataset or of all, and what was found among their vectors."""
    from lvmdb.corpus.health import content_checks, order_checks
    from lvmdb.evaluation.vector_health import look_at, vector_checks
    from lvmdb.reports.named import listing

    asked = {"dataset": dataset}
    _, orders = listing(app.database, "checks", "corpus_health", asked)
    if not with_vectors:
        return [check for row in orders for check in order_checks(row)], []
    _, contents = listing(app.database, "checks", "content_health", asked)
    checks: list[Check] = []
    looked: list[VectorHealth] = []
    for order, content in zip(orders, contents, strict=True):
        source = content["dataset_source"]
        coded = {"dataset": source, "code": content["commonest_code"]}
        _, [commonest] = listing(app.database, "checks", "share_of_code", coded)
        checks += [*order_checks(order), *content_checks(content, commonest["count"])]
        found = look_at(app.database, source, content["concepts"], progress=app.progress)
        if found is not None:
            checks += vector_checks(found)
            looked.append(found)
    return checks, looked


def _sequences(app: App, name: str) -> list[str]:
    """What is wrong with a sequence set."""
    from lvmdb.sequences import freezing, sets

    chosen = sets.get(app.database, name)
    sets.verify(app.database, chosen)
    app.progress.say(f"sequence set {name}: the data is what was frozen")
    leaks = freezing.count_leaks(app.database, chosen, progress=app.progress)
    found = (
        f"sequence set {name}: {leaks} pairs of near-duplicate concepts between splits, "
        f"{chosen.allowed_leaks} allowed"
    )
    app.progress.say(found)
    return [found] if leaks > chosen.allowed_leaks and chosen.scope == "article" else []


def _row(check: Check) -> dict[str, object]:
    return {
        "dataset": check.dataset,
        "check": check.check,
        "value": check.value,
        "wanted": check.wanted,
        "result": check.state.value,
    }


def _draw(app: App, dataset: str | None, looked: list[VectorHealth], path: Path) -> None:
    from lvmdb.reports.files import replace
    from lvmdb.reports.health import health
    from lvmdb.reports.named import listing

    if not looked:
        raise CorpusError(f"dataset '{dataset}' has no vectors to draw: ingest it with an encoder")
    asked = {"dataset": dataset}
    _, lengths = listing(app.database, "checks", "lengths", asked)
    _, codes = listing(app.database, "checks", "tmd_codes", asked)
    replace(path, health(looked[0], lengths, codes))
    app.progress.say(f"wrote {path}")


def _show_forward_signal(app: App, name: str, output_format: str) -> None:
    from dataclasses import asdict

    from lvmdb.evaluation.forward_signal import forward_signal
    from lvmdb.sequences import sets

    found = forward_signal(app.database, sets.get(app.database, name), progress=app.progress)
    rows = [asdict(statistic) for statistic in found]
    show(list(rows[0]), rows, output_format, "Forward signal, with 95 % intervals over articles")
