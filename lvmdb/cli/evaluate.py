"""`lvmdb evaluate`: what a run is worth."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.cli.evaluated_options import run_option, split_option
from lvmdb.cli.train import device_option


@click.command(cls=Command)
@run_option
@split_option("Which windows to predict.")
@click.option(
    "--pool",
    metavar="corpus|article|NAME",
    help="What the truth is held against: all concepts of the dataset, those of its article, or "
    "distractors that were drawn once. By default each of them.",
)
@device_option
@format_option
@pass_app
def evaluate(
    app: App, run_id: int, split: str, pool: str | None, device: str, output_format: str
) -> None:
    """Predict every window of a split; write predictions, and metrics with their 95 % intervals.

    Intervals and differences to the baselines come from drawing articles with replacement.

    \b
    Example:
      lvmdb evaluate --run-id 7 --split test
    """
    from lvmdb.evaluation.evaluate import Evaluator
    from lvmdb.metrics.definitions import METRICS

    evaluator = Evaluator(app.database, device=device, progress=app.progress)
    found = evaluator.evaluate(run_id, split, pool)
    rows = []
    for key, score in found.scores.items():
        metric = METRICS[key]
        ranked = found.pools[metric.pool]
        low, high = score.interval or (None, None)
        rows.append(
            {"run": run_id, "split": split, "pool": ranked.name, "metric": metric.name,
             "value": score.value, "low": low, "high": high, "chance": score.chance,
             "queries": found.queries, "pool_size": ranked.size}
        )  # fmt: skip
    show(list(rows[0]), rows, output_format)
