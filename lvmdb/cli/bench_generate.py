"""`lvmdb bench generate`: how far a generation drifts from what truly follows."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.cli.evaluated_options import run_option, split_option
from lvmdb.cli.train import device_option


@click.command(cls=Command)
@run_option
@split_option("Whose articles to go on from.")
@click.option(
    "--steps", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Concepts."
)
@click.option(
    "--articles",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="N",
    help="Articles to draw, at most; those that are long enough.",
)
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option("--exact", is_flag=True, help="Compare with every vector instead of an index.")
@device_option
@format_option
@pass_app
def generate(
    app: App,
    run_id: int,
    split: str,
    steps: int,
    articles: int,
    seed: int,
    exact: bool,
    device: str,
    output_format: str,
) -> None:
    """Cosine of the n-th concept that is generated to the n-th that truly follows, by n.

    Beside each other: the model reads the truth at each step, its own predictions, or the concepts
    nearest to them (index: snapping); copy is the last concept that was given. same_article is the
    share whose nearest concept is of the article that is gone on from. 'lvmdb report generation'
    shows what was stored.

    \b
    Example:
      lvmdb bench generate --run-id 7 --steps 5 --articles 50
    """
    from lvmdb.db import runs
    from lvmdb.db.benchmarks import write
    from lvmdb.decoding.drift import SAME_ARTICLE, drift, measured
    from lvmdb.evaluation.inference import load_inference
    from lvmdb.retrieval.searcher import Searcher
    from lvmdb.sequences import sets
    from lvmdb.training.environment import describe, resolve_device

    run = runs.get(app.database, run_id)
    with app.database.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    infer = load_inference(app.database, run_id, resolve_device(device))
    with Searcher(app.database, infer.dataset, exact=exact) as searcher:
        found = drift(
            app.database,
            infer,
            searcher,
            sequences,
            split,
            steps=steps,
            articles=articles,
            seed=seed,
            tmd=infer.tmd,
            progress=app.progress,
        )
    drawn = found[0].cosine.shape[1]
    parameters = {"run_id": run_id, "split": split, "articles": drawn, "seed": seed}
    rows = write(
        app.database,
        "generate",
        sequences.name,
        measured(found),
        parameters=parameters,
        environment=describe(),
    )
    if output_format == "json":
        show(list(rows[0]), rows, output_format)
        return
    shown = []
    for place in range(steps):
        row: dict[str, object] = {"step": place + 1, "articles": drawn}
        for each in found:
            row[each.way] = round(float(each.cosine[place].mean()), 4)
        for each in found:
            if each.same_article is not None:
                name = f"{each.way}_{SAME_ARTICLE.replace(' ', '_')}"
                row[name] = round(float(each.same_article[place].mean()), 4)
        shown.append(row)
    show(list(shown[0]), shown, output_format)
