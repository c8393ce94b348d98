"""`lvmdb import`: vectors made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvmdb.cli.app import App, Group, pass_app
from lvmdb.errors import CorpusError

if TYPE_CHECKING:
    from lvmdb.corpus.store import Stored


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
    _tell(dataset, stored)


@imports.command()
@click.option("--dataset", required=True, metavar="D", help="Where to; made if it is not there.")
@click.option(
    "--articles", "count", default=400, show_default=True, type=click.IntRange(1), help="How many."
)
@click.option(
    "--concepts", default=20, show_default=True, type=click.IntRange(1), help="Of each article."
)
@click.option("--rank", default=8, show_default=True, help="Dimensions that are turned; even.")
@click.option(
    "--carry", default=1.0, show_default=True, help="a: what a concept keeps of the last."
)
@click.option("--topic", default=0.2, show_default=True, help="b: of the article's own direction.")
@click.option("--noise", default=0.5, show_default=True, help="s: length of the noise.")
@click.option("--angle", default=0.6, show_default=True, help="Mean angle of a turn, in radians.")
@click.option("--seed", default=0, show_default=True, help="Of subspace, planes and articles.")
@pass_app
def synthetic(
    app: App,
    dataset: str,
    count: int,
    concepts: int,
    rank: int,
    carry: float,
    topic: float,
    noise: float,
    angle: float,
    seed: int,
) -> None:
    """Draw a corpus whose best prediction is known, to hold models and metrics against.

    v[t+1] = normalise(a R v[t] + b u + s noise), R a rotation inside a random subspace, u the
    article's own direction. Says what the best predictor, copy-last and context-mean reach with
    contexts of 5, by Monte Carlo. With --angle 0 it is a walk that looks the same backwards, with
    --carry 0 its concepts are in no order.

    \b
    Example:
      lvmdb import synthetic --dataset known
      lvmdb import synthetic --dataset walk --angle 0 --rank 64 --topic 0 --noise 0.9
    """
    from lvmdb.corpus.synthetic import CONTEXT, Process, expected
    from lvmdb.corpus.synthetic_import import import_synthetic
    from lvmdb.db.types import checked_name

    checked_name("dataset", dataset)
    process = Process(rank=rank, carry=carry, topic=topic, noise=noise, angle=angle, seed=seed)
    stored = import_synthetic(
        app.database,
        process,
        dataset=dataset,
        count=count,
        concepts=concepts,
        progress=app.progress,
    )
    _tell(dataset, stored)
    if concepts > CONTEXT and (noise or not topic):
        # The process is stationary: long articles have the values of short ones.
        known = expected(process, CONTEXT, min(concepts, 4 * CONTEXT))
        click.echo(
            f"expected cosine with contexts of {CONTEXT}: best {known.best_from_context.value:.4f} "
            f"({known.best_knowing_topic.value:.4f} knowing u), "
            f"copy-last {known.copy_last.value:.4f}, context-mean {known.context_mean.value:.4f}"
        )


def _tell(dataset: str, stored: Stored) -> None:
    click.echo(
        f"{dataset}: {stored.added} articles added, {stored.changed} changed, "
        f"{stored.unchanged} as they were; {stored.concepts} concepts written"
    )
    if stored.refused:
        key, reason = stored.refused[0]
        raise CorpusError(f"{len(stored.refused)} articles were refused; article {key}: {reason}")
