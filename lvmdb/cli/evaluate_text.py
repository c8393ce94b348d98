"""`lvmdb evaluate-text`: what a run's predictions are worth as text."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.cli.decoding_options import decoding, effort_options
from lvmdb.cli.evaluated_options import run_option, split_option
from lvmdb.cli.train import device_option


@click.command("evaluate-text", cls=Command)
@run_option
@split_option("Which windows to predict.")
@click.option(
    "--decode",
    "method",
    type=click.Choice(["nearest", "vec2text", "auto"]),
    default="nearest",
    show_default=True,
    help="The nearest concept's text, what vec2text writes, or the first where it is near enough "
    "and else the second.",
)
@click.option("--exact", is_flag=True, help="Compare with every vector instead of an index.")
@effort_options
@click.option(
    "--most",
    type=click.IntRange(1),
    metavar="N",
    help="Windows at most, drawn at random: the same for every run. [default: all]",
)
@click.option(
    "--timed",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="Windows that are answered one at a time, for the times of the stages.",
)
@click.option(
    "--smooth",
    type=click.IntRange(1),
    metavar="N",
    help="Let the language model rewrite so many of the texts, and measure them as well.",
)
@device_option
@format_option
@pass_app
def evaluate_text(
    app: App,
    run_id: int,
    split: str,
    method: str,
    exact: bool,
    corrections: int | None,
    beam: int | None,
    most: int | None,
    timed: int,
    smooth: int | None,
    device: str,
    output_format: str,
) -> None:
    """Decode predictions of a split to text, and true vectors beside them; write measures.

    How often the text is the truth's, or of its article; BLEU, ROUGE-L and the encoder's cosine to
    the truth; the round-trip loss; milliseconds of each stage. What true vectors lose is the
    decoder's, the gap between the two is the model's. Rows go to evaluation; 'lvmdb report texts'
    shows them side by side.

    \b
    Example:
      lvmdb evaluate-text --run-id 7 --exact
      lvmdb evaluate-text --run-id 7 --most 200 --smooth 50
    """
    from lvmdb.corpus.encoders import load_beside
    from lvmdb.db import runs
    from lvmdb.decoding.decoders import decoder, depends_on
    from lvmdb.decoding.smoothing import smoother
    from lvmdb.evaluation.text_evaluation import Asking
    from lvmdb.evaluation.text_evaluation import evaluate_text as measure
    from lvmdb.metrics.text_definitions import TEXT_METRICS
    from lvmdb.retrieval.searcher import Searcher
    from lvmdb.sequences import sets

    options = decoding(method, 1, corrections, beam)
    asking = Asking(split=split, most=most, timed=timed, smoothed=smooth or 1, device=device)
    run = runs.get(app.database, run_id)
    with app.database.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    with ExitStack() as stack:
        # vec2text alone searches nothing, and needs no index.
        unindexed = exact or method == "vec2text"
        searcher = stack.enter_context(
            Searcher(app.database, sequences.dataset_source, exact=unindexed)
        )
        asked = (app.database, app.settings, searcher, sequences.encoder_id, options)
        decodes = stack.enter_context(decoder(*asked, app.progress.say))
        extra: dict[str, Any] = {}
        if smooth is not None:
            dataset = sequences.dataset_source
            encoder = load_beside(app.database, app.settings, dataset, progress=app.progress)
            extra["encode"] = encoder.encode
            extra["llm"] = stack.enter_context(smoother(app.settings))
        found = measure(
            app.database,
            run_id,
            decodes,
            f"{method}/exact" if exact else method,
            asking,
            about=depends_on(*asked),
            progress=app.progress,
            **extra,
        )
    for why in found.unsmoothed:
        app.progress.say(f"not rewritten: {why}")
    rows = []
    for key, score in found.scores.items():
        metric = TEXT_METRICS[key]
        low, high = score.interval or (None, None)
        rows.append(
            {"run": run_id, "split": split, "pool": found.pools[metric.pool].name,
             "metric": metric.name, "value": score.value, "low": low, "high": high,
             "chance": score.chance, "queries": score.queries}
        )  # fmt: skip
    times = [row for row in rows if str(row["metric"]).startswith("ms_")]
    if output_format == "table":
        # Milliseconds beside shares would leave the shares no decimals.
        rows = [row for row in rows if row not in times]
        for row in times:
            app.progress.say(f"{row['pool']} {row['metric']}: {row['value']:.2f}")
    show(list(rows[0]), rows, output_format)
