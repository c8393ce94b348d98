"""`lvmdb evaluate`: what a run is worth."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.cli.train import device_option


@click.command(cls=Command)
@click.option("--run-id", required=True, type=int, metavar="N", help="A run that has succeeded.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Which windows to predict.",
)
@click.option(
    "--pool",
    type=click.Choice(["corpus"]),
    default="corpus",
    show_default=True,
    help="What the truth is ranked among: all concepts of the dataset.",
)
@device_option
@format_option
@pass_app
def evaluate(app: App, run_id: int, split: str, pool: str, device: str, output_format: str) -> None:
    """Predict every window of a split; write predictions and metrics.

    \b
    Example:
      lvmdb evaluate --run-id 7 --split test
    """
    from lvmdb.evaluation.evaluate import Evaluator

    evaluator = Evaluator(app.database, device=device, progress=app.progress)
    found = evaluator.evaluate(run_id, split)
    rows = [
        {"run": run_id, "split": split, "pool": pool, "metric": name, "value": value,
         "chance": chance, "queries": found.queries, "pool_size": found.pool_size}
        for name, (value, chance) in found.metrics.items()
    ]  # fmt: skip
    show(list(rows[0]), rows, output_format)
