"""`lvmdb decode`: a vector to text, and how near a concept must be to be taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lvmdb.cli.app import App, Group, dataset_option, format_option, pass_app, show
from lvmdb.cli.decoding_options import decoding, decoding_options
from lvmdb.cli.evaluated_options import split_option
from lvmdb.errors import UsageError


@click.group(cls=Group, invoke_without_command=True)
@click.option(
    "--vector",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npy",
    help="A vector of 768 numbers.",
)
@click.option(
    "--prediction", metavar="RUN:CPE", help="What a run predicted for a concept, by their ids."
)
@click.option(
    "--exclude",
    type=click.Choice(["article", "context", "none"]),
    help="What is not found for a prediction: all of the truth's article before it, or the "
    "concepts that were read.  [default: context]",
)
@decoding_options
@dataset_option
@format_option
@click.pass_context
def decode(
    context: click.Context,
    vector: Path | None,
    prediction: str | None,
    exclude: str | None,
    method: str,
    k: int,
    exact: bool,
    corrections: int | None,
    beam: int | None,
    dataset: str | None,
    output_format: str,
) -> None:
    """One vector to text: the nearest concepts, or what vec2text writes.

    The first row is the text; others are the nearest concepts beside it. For a prediction, the
    concepts that were read for it are not found, unless --exclude says otherwise. A band says how
    far a text is to be trusted: certain from a cosine of .95 on, likely from .85, possible from
    .75, unsure below.

    \b
    Example:
      lvmdb decode --vector prediction.npy
      lvmdb decode --prediction 7:5d6e8f1a-0000-4000-8000-000000000000 --decode nearest -k 3
    """
    if context.invoked_subcommand is not None:
        if vector is not None or prediction is not None:
            raise UsageError("--vector and --prediction are of 'lvmdb decode' itself")
        return
    if (vector is None) == (prediction is None):
        raise UsageError("give --vector or --prediction, and one of them only")
    app = context.ensure_object(App)
    options = decoding(method, k, corrections, beam)
    if vector is not None:
        if exclude is not None:
            raise UsageError("--exclude is for --prediction: a vector alone has no context")
        asked, name, left_out = _of_file(app, vector, dataset)
    else:
        if dataset is not None:
            raise UsageError("--dataset is for --vector: a prediction is of its run's dataset")
        asked, name, left_out = _of_prediction(app, str(prediction), exclude or "context")
    from sqlalchemy import select

    from lvmdb.db.schema.corpus import dataset as table
    from lvmdb.decoding.decoders import decoder
    from lvmdb.retrieval.searcher import Searcher

    database = app.database
    with database.connect() as connection:
        encoder_id = connection.execute(
            select(table.c.encoder_id).where(table.c.dataset_source == name)
        ).scalar_one()
    with (
        # vec2text alone searches nothing, and needs no index.
        Searcher(database, name, exact=exact or method == "vec2text") as searcher,
        decoder(database, app.settings, searcher, encoder_id, options, app.progress.say) as decodes,
    ):
        (found,) = decodes.decode(asked[None], without=[left_out])
    if found.why is not None:
        app.progress.say(f"the nearest concept's text: {found.why}")
    show(_COLUMNS, _rows(found), output_format)


_COLUMNS = [
    "method", "cosine", "band", "title", "seq", "concept_text", "cpe_id", "article_id",
]  # fmt: skip


def _rows(found: Any) -> list[dict[str, object]]:
    from lvmdb.decoding.decoded import band

    rows: list[dict[str, object]] = [
        {"method": "nearest", "cosine": round(hit.cosine, 4), "band": band(hit.cosine),
         "title": hit.title, "seq": hit.seq, "concept_text": hit.concept_text,
         "cpe_id": hit.cpe_id, "article_id": hit.article_id}
        for hit in found.hits
    ]  # fmt: skip
    if found.method != "nearest":
        written = {"method": found.method, "cosine": round(found.cosine, 4), "band": found.band,
                   "concept_text": found.text}  # fmt: skip
        rows.insert(0, {**dict.fromkeys(_COLUMNS), **written})
    return rows


def _of_file(app: App, path: Path, dataset: str | None) -> tuple[Any, str, list[Any]]:
    from lvmdb.cli.search import read_vector

    return read_vector(path), app.dataset(dataset), []


def _of_prediction(app: App, named: str, exclude: str) -> tuple[Any, str, list[Any]]:
    """The vector that a run has predicted, its dataset, and what is not to be found for it."""
    import uuid

    from lvmdb.db import runs
    from lvmdb.db.bulk import parsed_vectors
    from lvmdb.db.queries import query
    from lvmdb.db.types import DIMENSION
    from lvmdb.decoding.passages import before
    from lvmdb.errors import RunError

    run, _, concept = named.partition(":")
    try:
        run_id, cpe_id = int(run), uuid.UUID(concept)
    except ValueError:
        raise UsageError(f"--prediction is RUN:CPE, a run's id and a UUID, not '{named}'") from None
    runs.get(app.database, run_id)
    with app.database.connect() as connection:
        row = connection.execute(
            query("decoding", "prediction"), {"run_id": run_id, "cpe_id": str(cpe_id)}
        ).one_or_none()
    if row is None:
        raise RunError(
            f"run {run_id} has no prediction for concept {cpe_id}: 'lvmdb evaluate --run-id "
            f"{run_id}' makes those of the test split"
        )
    app.progress.say(f"the truth, at a cosine of {row.cosine:.4f}: {row.concept_text}")
    (vector,) = parsed_vectors([row.predicted], DIMENSION)
    left_out = [] if exclude == "none" else list(row.context_cpe_ids)
    if exclude == "article" and row.seq:
        passage = before(app.database, row.dataset_source, row.article_id, row.seq)
        left_out = list(dict.fromkeys([*left_out, *passage.cpe_ids]))
    return vector, row.dataset_source, left_out


@decode.command()
@click.option("--run-id", type=int, metavar="N", help="Whose predictions decide.")
@click.option(
    "--sequences", "name", metavar="S", help="The set whose windows are asked for: a run's own."
)
@split_option("Which of them; train is what a run has learnt by heart.", default="val")
@click.option(
    "--queries",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    metavar="N",
    help="Windows to draw, at most.",
)
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option("--step", default=0.01, show_default=True, help="From one threshold to the next.")
@click.option("--exact", is_flag=True, help="Compare with every vector instead of an index.")
@format_option
@pass_app
def calibrate(
    app: App,
    run_id: int | None,
    name: str | None,
    split: str,
    queries: int,
    seed: int,
    step: float,
    exact: bool,
    output_format: str,
) -> None:
    """Find the cosine from which on the nearest concept is taken, for an encoder and corpus.

    Thresholds from .95 down to .75, and on below until more than 70 % of the vectors have a concept
    as near: of each the hit rate, how many of the hits are the truth's text or of its article, and
    the time of a search. Chosen is the best accuracy with a hit rate above 70 %, on predictions of
    the run; without one, on vectors of held-out texts, their own concept not to be found. Truths
    stand beside them. Rows are stored; '--decode auto' uses the newest that was chosen, and
    'lvmdb report decoding' shows them.

    \b
    Example:
      lvmdb decode calibrate --run-id 7
      lvmdb decode calibrate --sequences wiki-c5 --queries 300
    """
    from lvmdb.db import runs
    from lvmdb.decoding.calibration import HIT_RATE, LOWEST
    from lvmdb.decoding.calibration import calibrate as measure
    from lvmdb.retrieval.searcher import Searcher
    from lvmdb.sequences import sets
    from lvmdb.training.environment import describe

    if (run_id is None) == (name is None):
        raise UsageError("give --run-id or --sequences, and one of them only")
    if run_id is not None:
        run = runs.get(app.database, run_id)
        with app.database.connect() as connection:
            sequences = sets.get_by_id(connection, run.sequence_set_id)
    else:
        sequences = sets.get(app.database, str(name))
    with Searcher(app.database, sequences.dataset_source, exact=exact) as searcher:
        rows = measure(
            app.database,
            searcher,
            sequences,
            split,
            run_id=run_id,
            queries=queries,
            seed=seed,
            step=step,
            environment=describe(),
            progress=app.progress,
        )
    best = next((row for row in rows if row.chosen), None)
    if best is None:
        app.progress.say(
            f"no threshold has a hit rate above {HIT_RATE:.0%}: none is chosen, and what was "
            "chosen before stays in use"
        )
    elif best.threshold < LOWEST:
        app.progress.say(
            f"{best.calibrated_on} seldom come as near as {LOWEST}: chosen is {best.threshold:.2f}"
        )
    shown = [
        {
            "on": row.calibrated_on,
            "threshold": round(row.threshold, 4),
            "hit_rate": round(row.hit_rate, 4),
            "accuracy": row.accuracy,
            "same_article": row.same_article,
            "queries": row.queries,
            "p50_ms": round(1000 * row.latency_p50, 2),
            "p95_ms": round(1000 * row.latency_p95, 2),
            "chosen": row.chosen,
        }
        for row in rows
    ]
    show(list(shown[0]), shown, output_format)
