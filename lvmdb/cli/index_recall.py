"""`lvmdb index tune` and `lvmdb index ranks`: what an index finds of what exact search finds."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, dataset_option, format_option, pass_app, show

storage_option = click.option(
    "--storage", metavar="T", help="Ask the index on halfvec, vector or bit."
)
metric_option = click.option(
    "--metric", metavar="M", help="What is nearest: by ip, inner product, or cosine."
)


@click.command(cls=Command)
@dataset_option
@click.option("--recall", default=0.99, show_default=True, metavar="R", help="To be reached.")
@click.option(
    "--percentile",
    type=float,
    metavar="P",
    help="This percentile of the queries must reach it too; else the mean alone.",
)
@click.option("-k", "--k", default=10, show_default=True, metavar="N", help="Of the N nearest.")
@click.option("--queries", default=500, show_default=True, metavar="N", help="How many to ask.")
@click.option(
    "--run-id",
    type=int,
    metavar="N",
    help="Ask with predictions of this run; else with sums of neighbouring concepts.",
)
@click.option("--kind", metavar="K", help="Of several indexes this: hnsw or ivfflat.")
@storage_option
@metric_option
@format_option
@pass_app
def tune(
    app: App,
    dataset: str | None,
    recall: float,
    percentile: float | None,
    k: int,
    queries: int,
    run_id: int | None,
    kind: str | None,
    storage: str | None,
    metric: str | None,
    output_format: str,
) -> None:
    """Find the least ef_search (of ivfflat: probes) that reaches a recall, and keep it.

    What exact search finds is the measure. Searches through the index use what was found from then
    on; one for more than the k nearest, in proportion more.

    \b
    Example:
      lvmdb index tune --dataset wiki --recall 0.99
      lvmdb index tune --dataset wiki --recall 0.95 --percentile 5 --run-id 7
    """
    from lvmdb.db import runs
    from lvmdb.retrieval.indexes import choose
    from lvmdb.retrieval.tuning import tune as tune_index

    name = app.dataset(dataset)
    if run_id is not None:
        runs.get(app.database, run_id)
    chosen = choose(app.database, name, kind=kind, storage=storage, metric=metric)
    tuned = tune_index(
        app.database,
        name,
        chosen,
        recall=recall,
        percentile=percentile,
        k=k,
        queries=queries,
        run_id=run_id,
        progress=app.progress,
    )
    low = f"p{5 if percentile is None else percentile:g}"
    rows = [
        {chosen.effort_name: effort, "recall": round(found.mean, 4), low: found.low,
         "min": found.least, "chosen": "*" if effort == tuned.effort else ""}
        for effort, found in tuned.steps
    ]  # fmt: skip
    title = f"{chosen.name}: recall@{k} of {tuned.queries} {tuned.origin}"
    show([chosen.effort_name, "recall", low, "min", "chosen"], rows, output_format, title)


@click.command(cls=Command)
@click.option("--run-id", required=True, type=int, metavar="N", help="A run that was evaluated.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Which predictions.",
)
@click.option("--exact", is_flag=True, help="Exact ranks alone; the dataset needs no index.")
@click.option(
    "--depth", default=100, show_default=True, metavar="N", help="Nearest to ask the index for."
)
@format_option
@pass_app
def ranks(app: App, run_id: int, split: str, exact: bool, depth: int, output_format: str) -> None:
    """Where the truths of a run's predictions rank, by exact search and through the index.

    Exact ranks are computed again from the vectors that the database has, and held against those
    that evaluation stored. not_found: truths that are not among the nearest that the index gives.

    \b
    Example:
      lvmdb index ranks --run-id 7
    """
    from lvmdb.evaluation.ranks import rank_run
    from lvmdb.retrieval.found import check_k

    check_k(depth)
    ranked = rank_run(app.database, run_id, split, index=not exact, depth=depth)
    timed = ("predictions", "pool", "ranks")
    seconds = ", ".join(f"{what} {ranked.seconds[what]:.2f} s" for what in timed)
    app.progress.say(f"exact: {seconds}")
    if not ranked.stored:
        app.progress.say("these are not the ranks that evaluation stored: evaluate the run again")
    rows = ranked.rows()
    show(list(rows[0]), rows, output_format)
