"""`lvmdb index`: vector indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lvmdb.cli.app import App, Group, OutputFile, dataset_option, format_option, pass_app, show
from lvmdb.cli.index_recall import ranks, tune
from lvmdb.errors import UsageError


@click.group(cls=Group)
def index() -> None:
    """Vector indexes, built after loading.

    \b
    Example:
      lvmdb index build --dataset wiki
    """


@index.command()
@dataset_option
@click.option(
    "--engine",
    type=click.Choice(["pgvector", "faiss"]),
    default="pgvector",
    show_default=True,
    help="In the database, or as a file that FAISS reads.",
)
@click.option(
    "--kind",
    type=click.Choice(["hnsw", "ivfflat", "flat"]),
    default="hnsw",
    show_default=True,
    help="A graph, lists around centroids, or (FAISS) every vector.",
)
@click.option(
    "--storage",
    metavar="T",
    help="halfvec, vector or bit, of which candidates are ranked again.  [default: halfvec]",
)
@click.option("--metric", metavar="M", help="ip, inner product, or cosine.  [default: ip]")
@click.option("--m", type=int, metavar="N", help="Neighbours of a vector.  [default: 16]")
@click.option(
    "--ef-construction", type=int, metavar="N", help="Candidates while inserting.  [default: 64]"
)
@click.option(
    "--nlist",
    type=int,
    metavar="N",
    help="Lists of ivfflat, at most one for 40 vectors.  [default: the root of their number; for "
    "FAISS four times that]",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Processes (FAISS: threads) beside the one that builds.  [default: one less than cores]",
)
@click.option(
    "--concurrently/--no-concurrently",
    default=None,
    help="Whether others may write meanwhile, which takes longer.  [default: if somebody writes]",
)
@click.option("--output", type=OutputFile(), help="FAISS's file.")
@pass_app
def build(
    app: App,
    dataset: str | None,
    engine: str,
    kind: str,
    storage: str | None,
    metric: str | None,
    m: int | None,
    ef_construction: int | None,
    nlist: int | None,
    workers: int | None,
    concurrently: bool | None,
    output: Path | None,
) -> None:
    """Build an index, in place of one of the same storage and metric.

    Searches have the former one until the new one is whole. Its memory is estimated, and
    maintenance_work_mem set to that. With --engine faiss the index is a file, with the ids of its
    concepts and the fingerprint of their vectors beside it; 'lvmdb search --index FILE' uses it.

    \b
    Example:
      lvmdb index build --dataset wiki --m 16 --ef-construction 64
      lvmdb index build --dataset wiki --kind ivfflat --storage vector --nlist 200
      lvmdb index build --engine faiss --kind ivfflat --output wikipedia_42k_ivf_flat_ip.index
    """
    given = {"storage": storage, "metric": metric, "m": m, "ef_construction": ef_construction,
             "nlist": nlist}  # fmt: skip
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if engine == "faiss":
        _build_faiss(app, dataset, kind, options, workers, concurrently, output)
        return
    from lvmdb.db.indexes import HNSW, IVFFlat
    from lvmdb.retrieval.building import build as build_index

    if output is not None:
        raise UsageError("--output is for --engine faiss: pgvector's indexes are in the database")
    if kind == "flat":
        raise UsageError("--kind flat is for --engine faiss: the database needs no index for that")
    _only(kind, options)
    plan = HNSW(**options) if kind == "hnsw" else IVFFlat(**options)
    built = build_index(
        app.database,
        app.dataset(dataset),
        plan,
        concurrently=concurrently,
        workers=workers,
        progress=app.progress,
    )
    click.echo(
        f"{built.name}: {built.vectors} vectors in {built.seconds:.1f} s, "
        f"{built.bytes / 1e6:.0f} MB (estimated to build in {built.memory / 1e6:.0f} MB, "
        f"maintenance_work_mem {built.given / 1e6:.0f} MB, {built.workers} workers"
        + (", concurrently)" if built.concurrently else ")")
    )
    for former in built.replaced:
        if former != built.name:
            click.echo(f"in place of {former}")


_OPTIONS = {
    "hnsw": {"storage", "metric", "m", "ef_construction"},
    "ivfflat": {"storage", "metric", "nlist"},
    "flat": {"storage", "metric"},
}


def _only(kind: str, options: dict[str, Any]) -> None:
    for name in options:
        if name not in _OPTIONS[kind]:
            raise UsageError(f"--{name.replace('_', '-')} is not for --kind {kind}")


def _build_faiss(
    app: App,
    dataset: str | None,
    kind: str,
    options: dict[str, Any],
    workers: int | None,
    concurrently: bool | None,
    output: Path | None,
) -> None:
    import os

    from lvmdb.retrieval.faiss_building import build as build_file
    from lvmdb.retrieval.faiss_indexes import PLANS

    if output is None:
        raise UsageError("--engine faiss writes a file: name it with --output")
    if concurrently is not None:
        raise UsageError("--concurrently is for pgvector: FAISS's indexes keep nobody waiting")
    _only(kind, options)
    if options.pop("storage", "vector") != "vector" or options.pop("metric", "ip") != "ip":
        raise UsageError("--engine faiss is for --storage vector and --metric ip")
    written = build_file(
        app.database,
        app.dataset(dataset),
        PLANS[kind](**options),
        output,
        workers=max(0, (os.cpu_count() or 1) - 1) if workers is None else workers,
        progress=app.progress,
    )
    click.echo(
        f"{written.path}: {written.vectors} vectors in {written.seconds:.1f} s, "
        f"{written.bytes / 1e6:.0f} MB"
    )


@index.command("list")
@format_option
@pass_app
def list_indexes(app: App, output_format: str) -> None:
    """Indexes as they were built and tuned, and what has become of them since.

    usable: the database, or the disk, still has it. stale: the dataset has other vectors than when
    it was built. pgvector keeps its indexes in step with the table, so that a stale one finds what
    is there; but its recall may be another, and the lists of ivfflat lie where the vectors were. A
    stale file is refused. tuning_stale: the same of the corpus that it was tuned on.

    \b
    Example:
      lvmdb index list
    """
    from lvmdb.retrieval.indexes import listing

    show(*listing(app.database), output_format)


@index.command()
@click.argument("name")
@pass_app
def drop(app: App, name: str) -> None:
    """Drop an index, or a file of FAISS; it can be built again.

    \b
    Example:
      lvmdb index drop ix_cpe_entry_hnsw_halfvec_wiki
    """
    from lvmdb.retrieval.indexes import remove

    remove(app.database, name)
    click.echo(f"dropped {name}")


index.add_command(tune)
index.add_command(ranks)
