"""`lvmdb index`: vector indexes."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, dataset_option, format_option, pass_app, show


@click.group(cls=Group)
def index() -> None:
    """Vector indexes, built after loading.

    \b
    Example:
      lvmdb index build --dataset wiki
    """


@index.command()
@dataset_option
@click.option("--storage", default="halfvec", show_default=True, metavar="T", help="Or vector.")
@click.option("--m", default=16, show_default=True, help="Neighbours of a vector.")
@click.option(
    "--ef-construction", default=64, show_default=True, help="Candidates while inserting."
)
@pass_app
def build(app: App, dataset: str | None, storage: str, m: int, ef_construction: int) -> None:
    """Build an HNSW index for inner product, in place of one of the same storage.

    \b
    Example:
      lvmdb index build --dataset wiki --m 16 --ef-construction 64
    """
    from lvmdb.db.indexes import HNSW
    from lvmdb.retrieval.indexes import build as build_index

    plan = HNSW(storage=storage, m=m, ef_construction=ef_construction)
    name = app.dataset(dataset)
    app.progress.say(f"building an HNSW index on {storage} over dataset {name}")
    built = build_index(app.database, name, plan)
    click.echo(
        f"{built.name}: {built.vectors} vectors in {built.seconds:.1f} s, "
        f"{built.bytes / 1e6:.0f} MB (estimated to build in {built.memory / 1e6:.0f} MB)"
    )


@index.command("list")
@format_option
@pass_app
def list_indexes(app: App, output_format: str) -> None:
    """Indexes as they were built, and whether the database still has them.

    \b
    Example:
      lvmdb index list
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "retrieval", "list_indexes"), output_format)


@index.command()
@click.argument("name")
@pass_app
def drop(app: App, name: str) -> None:
    """Drop an index; it can be built again.

    \b
    Example:
      lvmdb index drop ix_cpe_entry_hnsw_halfvec_wiki
    """
    from lvmdb.retrieval.indexes import remove

    remove(app.database, name)
    click.echo(f"dropped {name}")
