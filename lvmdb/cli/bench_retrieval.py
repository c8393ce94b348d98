"""`lvmdb bench retrieval`: pgvector's indexes beside FAISS's, on the user's own vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmdb.cli.app import App, Command, dataset_option, format_option, pass_app, show
from lvmdb.cli.bench_common import counts, draw, picture_option
from lvmdb.errors import UsageError

if TYPE_CHECKING:
    from lvmdb.retrieval.bench_corpus import Searched


def _counts_if_given(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    return None if value is None else counts(context, option, value)


@click.command(cls=Command)
@dataset_option
@click.option(
    "--synthetic",
    callback=_counts_if_given,
    metavar="N,...",
    help="Instead of a dataset, made corpora of so many vectors.",
)
@click.option(
    "--run-id",
    type=int,
    metavar="N",
    help="Ask for this run's stored predictions. [default: normalised sums of two neighbours]",
)
@click.option(
    "--queries",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Of each kind.",
)
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Each query is asked so often.",
)
@click.option(
    "--threads",
    callback=_counts_if_given,
    metavar="N,...",
    help="Clients that ask at the same time, a measurement each; the most of them build. "
    "[default: 1 and all processors]",
)
@click.option("--m", default=16, show_default=True, help="Neighbours of a vector, of all graphs.")
@click.option(
    "--ef-construction", default=64, show_default=True, help="Candidates while inserting."
)
@click.option(
    "--ef-search",
    default="10,20,40,80,120,160",
    show_default=True,
    callback=counts,
    metavar="N,...",
    help="Candidates of a search, of all graphs; four times as many of bits.",
)
@click.option(
    "--nlist", type=click.IntRange(1), metavar="N", help="Lists of IVF; at most vectors / 40."
)
@click.option(
    "--probes",
    default="1,4,16,64",
    show_default=True,
    callback=counts,
    metavar="N,...",
    help="Lists that a search reads.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Engines whose name holds this; may be given several times.",
)
@click.option("--seed", default=0, show_default=True, help="Of what is left out and asked.")
@picture_option
@format_option
@pass_app
def retrieval(
    app: App,
    dataset: str | None,
    synthetic: tuple[int, ...] | None,
    run_id: int | None,
    queries: int,
    rounds: int,
    threads: tuple[int, ...] | None,
    picture: Path | None,
    output_format: str,
    seed: int,
    m: int,
    ef_construction: int,
    ef_search: tuple[int, ...],
    nlist: int | None,
    probes: tuple[int, ...],
    only: tuple[str, ...],
) -> None:
    """Recall against latency of pgvector's indexes and FAISS's, on the same vectors.

    Queries are of two kinds, measured apart: concepts of articles that are left out of the corpus,
    and what a model would ask for. pgvector's indexes are built on a table of the benchmark's own,
    which is dropped at the end. Rows go to the table ann_benchmark.

    \b
    Example:
      lvmdb bench retrieval --dataset wiki
      lvmdb bench retrieval --dataset wiki --run-id 7 --only "hnsw halfvec" --only "faiss hnsw"
      lvmdb bench retrieval --synthetic 10000,100000 --only hnsw
    """
    from lvmdb.db.bench_table import bench_table
    from lvmdb.reports.retrieval import builds, compared, curves, side_by_side
    from lvmdb.retrieval.bench import build, measure
    from lvmdb.retrieval.bench_engines import Sweep, engines, require_memory
    from lvmdb.retrieval.bench_rows import write
    from lvmdb.training.environment import describe

    if synthetic and (dataset is not None or run_id is not None):
        raise UsageError("--synthetic makes its own vectors: leave --dataset and --run-id out")
    plan = Sweep(m, ef_construction, ef_search, probes, nlist, only)
    clients = threads or tuple(dict.fromkeys((1, os.cpu_count() or 1)))
    corpora: list[int | None] = list(synthetic) if synthetic else [None]
    name = "synthetic" if synthetic else app.dataset(dataset)
    rows: list[dict[str, Any]] = []
    for size in corpora:
        with ExitStack() as stack:
            searched = stack.enter_context(
                _searched(app, name, size, queries=queries, run_id=run_id, seed=seed)
            )
            vectors = len(searched.ids)
            kinds = " and ".join(f"{len(q.vectors)} {q.kind}" for q in searched.queries)
            app.progress.say(f"{vectors} vectors; queries: {kinds}")
            table = stack.enter_context(bench_table(app.database, name))
            made = engines(table, vectors, plan, stack)
            require_memory(made, vectors)
            searched.fill(table)
            built = build(made, searched, max(clients), progress=app.progress)
            points = measure(
                made, built, searched, rounds=rounds, threads=clients, progress=app.progress
            )
            rows += write(app.database, searched, points, run_id=run_id, environment=describe())
    if output_format == "table":
        for shown in (builds(rows), side_by_side(rows)):
            show(list(shown[0]), shown, output_format)
        for line in compared(rows):
            app.progress.say(line)
    else:
        show(list(rows[0]), rows, output_format)
    draw(app, "retrieval", lambda: curves(rows, f"lvmdb bench retrieval: {name}"), picture)


@contextmanager
def _searched(
    app: App, name: str, size: int | None, *, queries: int, run_id: int | None, seed: int
) -> Iterator[Searched]:
    """The corpus and its queries: of a dataset, or made."""
    from lvmdb.retrieval.bench_corpus import made, of_dataset
    from lvmdb.retrieval.corpus import load

    if size is not None:
        with made(size, queries, seed=seed) as searched:
            yield searched
        return
    corpus = load(app.database, name)
    yield of_dataset(app.database, corpus, queries, run_id=run_id, seed=seed)
