"""`lvmdb import`: vectors made elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Group, pass_app
from lvmdb.errors import CorpusError


@click.group(cls=Group)
def imports() -> None:
    """Load what was made elsewhere.

    \b
    Example:
      lvmdb import vectors concepts.npz --texts concepts.jsonl --dataset wiki --encoder gtr-t5-base
    """


@imports.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--texts",
    required=True,
    type=click.Path(path_type=Path),
    help=".jsonl or .jsonl.gz: article_title, article_index, chunk_index, concept_text a line.",
)
@click.option("--dataset", required=True, metavar="D", help="Where to; made if it is not there.")
@click.option(
    "--encoder", required=True, metavar="E", help="Name of the encoder that made the vectors."
)
@click.option("--normalize", is_flag=True, help="Accept vectors that are not of unit norm.")
@pass_app
def vectors(app: App, file: Path, texts: Path, dataset: str, encoder: str, normalize: bool) -> None:
    """Load vectors (NPZ, NPY or Parquet) with their texts, order and articles.

    Every row is checked before anything is written. A second call with the same files changes
    nothing.

    \b
    Example:
      lvmdb import vectors concepts.npz --texts concepts.jsonl.gz --dataset wiki \\
          --encoder sentence-transformers/all-mpnet-base-v2
    """
    from lvmdb.corpus.importer import import_vectors
    from lvmdb.db.types import checked_name

    checked_name("dataset", dataset)
    stored = import_vectors(
        app.database,
        file,
        texts,
        dataset=dataset,
        encoder=encoder,
        normalise=normalize,
        progress=app.progress,
    )
    click.echo(
        f"{dataset}: {stored.added} articles added, {stored.changed} changed, "
        f"{stored.unchanged} as they were; {stored.concepts} concepts written"
    )
    if stored.refused:
        key, reason = stored.refused[0]
        raise CorpusError(f"{len(stored.refused)} articles were refused; article {key}: {reason}")
