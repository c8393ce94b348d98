"""`lvmdb bench vecrag`: retrieval by a model's prediction beside retrieval by what was read."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.cli.bench_common import draw, picture_option
from lvmdb.cli.evaluated_options import split_option
from lvmdb.cli.train import device_option


@click.command(cls=Command)
@click.option("--run-id", required=True, type=int, metavar="N", help="Whose predictions.")
@split_option("Whose windows are the queries.")
@click.option(
    "--queries",
    default=500,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Windows, drawn at random: the same for every run.",
)
@click.option(
    "--timed",
    default=50,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Of them, those that vector searches are timed on.",
)
@click.option(
    "--rarest",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Words that the second full-text contender asks for.",
)
@click.option(
    "--text-search",
    "config",
    default="english",
    show_default=True,
    metavar="NAME",
    help="PostgreSQL's configuration: which words count, and what they are stemmed to.",
)
@click.option("--exact", is_flag=True, help="Compare with every vector instead of an index.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@device_option
@picture_option
@format_option
@pass_app
def vecrag(
    app: App,
    run_id: int,
    split: str,
    queries: int,
    timed: int,
    rarest: int,
    config: str,
    exact: bool,
    seed: int,
    device: str,
    picture: Path | None,
    output_format: str,
) -> None:
    """P@1, P@5 and MRR of a model's prediction, the plain vector and full-text search.

    Each is asked with held-out windows: for concepts near to what the run predicts, near to the
    last concept that was read, or with the words of its text. Concepts of the context are left out
    for all. Counted are the true next concept, and any concept of its article. Gains are paired, to
    the plain vector, with 95 % intervals over articles. Rows go to the table benchmark.

    \b
    Example:
      lvmdb bench vecrag --run-id 7
      lvmdb bench vecrag --run-id 7 --queries 200 --exact --format csv
    """
    from lvmdb.db.benchmarks import write
    from lvmdb.evaluation.vecrag import VecRag
    from lvmdb.evaluation.vecrag import vecrag as measure
    from lvmdb.reports.vecrag import dots
    from lvmdb.training.environment import describe

    asked = VecRag(run_id, split, queries, timed, rarest, config, exact, seed, device)
    found = measure(app.database, asked, progress=app.progress)
    write(
        app.database,
        "vecrag",
        found.subject,
        found.measured,
        parameters=found.parameters,
        environment=describe(),
    )
    show(list(found.rows[0]), found.rows, output_format)
    for each in found.times:
        app.progress.say(
            f"{each['contender']}: {each['ms_p50']:.1f} ms a query (p50), "
            f"{each['ms_p95']:.1f} ms (p95), of {each['queries']}"
        )
    app.progress.say(f"words indexed in {found.parameters['text_index_seconds']} s")
    title = f"lvmdb bench vecrag: {found.subject}, run {run_id}"
    draw(app, "vecrag", lambda: dots(found.rows, title), picture)
