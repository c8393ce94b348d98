"""`lvmdb demo`: the whole main job, from nothing to a leaderboard and a picture."""

from __future__ import annotations

import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvmdb.cli.app import App, Command, pass_app, show
from lvmdb.errors import CorpusError

if TYPE_CHECKING:
    from lvmdb.db.engine import Database

DATASET = "python-docs"
MODELS: dict[str, dict[str, object]] = {
    "lstm": {"dropout": 0.2},
    "mamba2": {"d_model": 256, "layers": 2, "d_state": 64, "dropout": 0.2},
}
"""Small models, a little regularised: the corpus has about a thousand windows."""

SPLIT = (Decimal("0.6"), Decimal("0.15"), Decimal("0.25"))
"""Of so few articles, more than usual are kept for the test: intervals come from them."""

SEED = 1
"""Of the split. Three topics are a third of the corpus: by this one most of it is for training."""

SHOWN = [
    *("run", "architecture", "cosine", "cosine_gain", "gain_interval", "verdict"),
    *("mrr_10", "mrr_gain", "mrr_verdict", "r_5", "r_10"),
]
"""Columns of the leaderboard that fit a terminal."""

NEXT_STEPS = """
Three queries to try ('{lvmdb} db psql' opens psql on this database):

  {lvmdb} report predictions --run-id {run_id}
      what the run predicted best and worst, in words

  {lvmdb} db psql -- -c "SELECT split, count(*) FROM training_sequence GROUP BY split"
      the training examples, as the view defines them

  {lvmdb} db psql -- -c "SELECT architecture, cosine, cosine_low, cosine_high, cosine_verdict
                       FROM run_leaderboard ORDER BY cosine DESC"
      every run with its 95 % interval, and whether it beats the best baseline

The learning curves are in {picture}"""


@click.command(cls=Command)
@click.option(
    "--articles",
    default=60,
    show_default=True,
    type=click.IntRange(10),
    metavar="N",
    help="How many of the longest topics.",
)
@click.option(
    "--encoder",
    default="sentence-transformers/all-mpnet-base-v2",
    show_default=True,
    metavar="E",
    help="Another sentence encoder of 768 dimensions, by name or folder.",
)
@click.option(
    "--epochs",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Of each model.",
)
@pass_app
def demo(app: App, articles: int, encoder: str, epochs: int) -> None:
    """The whole main job on a small real corpus: CPython's own language reference.

    Starts the embedded server, migrates, ingests and encodes, makes a sequence set, runs the
    baselines, trains an LSTM and a Mamba-2, evaluates all, prints the leaderboard and draws the
    learning curves. A second call goes on from what is there.

    \b
    Example:
      lvmdb demo
      lvmdb demo --articles 20 --epochs 3
    """
    from lvmdb.db.migrate import upgrade
    from lvmdb.evaluation.evaluate import Evaluator
    from lvmdb.reports.files import draw_learning_curves
    from lvmdb.reports.named import run_report
    from lvmdb.training.train import train

    say = app.progress.say
    database = app.connect()
    before, after = upgrade(database)
    say(f"1/7 database at revision {after}" + ("" if before == after else ", just migrated"))
    _ingest(app, database, articles, encoder)
    sequences = _sequences(app, database)
    run_ids = _plan(database, sequences, epochs)
    say(f"4/7 training {len(run_ids)} runs: baselines first")
    for run_id in run_ids:
        train(database, run_id, progress=app.progress)
    say("5/7 evaluating on the test split: every truth is ranked among all concepts")
    evaluator = Evaluator(database, progress=app.progress)
    for run_id in run_ids:
        if not evaluator.done(run_id):
            evaluator.evaluate(run_id)
    say("6/7 the leaderboard, from SQL ('lvmdb report leaderboard --show-sql')")
    answer = run_report(database, "leaderboard")
    rows = [row for row in answer.rows if row["run"] in run_ids]
    title = (
        f"{sequences}, split test: {rows[0]['queries']} windows of {rows[0]['articles']} articles, "
        f"{rows[0]['pool']} candidates"
    )
    show(SHOWN, rows, "table", title)
    flags = sorted({flag for row in rows for flag in str(row["flags"]).split()})
    if flags:
        say(f"    flags: {', '.join(flags)} (docs/metrics.md says what they mean)")
    picture = app.settings.home / "pictures" / "learning_curves.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    curves = run_report(database, "learning_curve").rows
    draw_learning_curves(database, picture, [row for row in curves if row["run_id"] in run_ids])
    say(f"7/7 learning curves: {picture}")
    click.echo(NEXT_STEPS.format(lvmdb=_program(), run_id=run_ids[-1], picture=picture))


def _ingest(app: App, database: Database, articles: int, encoder: str) -> None:
    from lvmdb.corpus import encoders
    from lvmdb.corpus.chunker import get_chunker
    from lvmdb.corpus.ingest import ingest
    from lvmdb.corpus.plan import IngestPlan
    from lvmdb.corpus.readers.registry import get_reader

    app.progress.say(f"2/7 ingesting CPython's language reference, encoded by {encoder}")
    plan = IngestPlan(
        dataset=DATASET,
        reader_name="python-docs",
        reader=get_reader("python-docs"),
        source="-",
        chunker=get_chunker("sentence"),
        encoder=encoder,
        load_encoder=lambda: encoders.load(
            app.database, app.settings, encoder, progress=app.progress
        ),
        limit=articles,
    )
    done = ingest(database, plan, progress=app.progress).totals
    if done.failed:
        raise CorpusError(f"{done.failed} articles failed: 'lvmdb ingest errors' says why")
    app.progress.say(
        f"    {done.added} articles added with {done.concepts} concepts, "
        f"{done.unchanged} were there"
    )


def _sequences(app: App, database: Database) -> str:
    """The demo's sequence set: frozen by the first call, another one for another corpus."""
    from sqlalchemy import func, select

    from lvmdb.db.schema.corpus import article
    from lvmdb.errors import UnknownNameError
    from lvmdb.sequences import sets

    with database.connect() as connection:
        articles = connection.execute(
            select(func.count()).where(article.c.dataset_source == DATASET)
        ).scalar_one()
    name = f"{DATASET}-{articles}"
    try:
        found = sets.get(database, name)
    except UnknownNameError:
        found = sets.create(
            database,
            sets.SequenceSpec(name, DATASET, fractions=SPLIT, seed=SEED),
            progress=app.progress,
        )
    windows = ", ".join(f"{split} {count}" for split, count in found.windows.items())
    app.progress.say(f"3/7 sequence set {found.name}: {windows} windows, split by article")
    return found.name


def _plan(database: Database, sequences: str, epochs: int) -> list[int]:
    from lvmdb.models import registry
    from lvmdb.training.plan import plan

    wanted: list[tuple[str, dict[str, object]]] = [
        (name, {}) for name in registry.names(trained=False)
    ]
    wanted += [(name, {**options, "epochs": epochs}) for name, options in MODELS.items()]
    return [plan(database, name, sequences, options, reuse=True) for name, options in wanted]


def _program() -> str:
    """What a user types to call the program again."""
    typed = sys.argv[0]
    if Path(typed).name != "lvmdb" or shutil.which("lvmdb") == typed:
        return "lvmdb"
    return typed
