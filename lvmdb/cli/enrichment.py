"""`lvmdb ingest tag` and `lvmdb ingest enrich`: codes and probes for concepts that are there."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, dataset_option, pass_app
from lvmdb.errors import CorpusError, UsageError

_yes = click.option(
    "--yes", is_flag=True, help="Even if there are runs that would be refused for the change."
)
_concurrency = click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    metavar="N",
    help="Requests to the language model at once.",
)


@click.command(cls=Command)
@dataset_option
@click.option(
    "--tagger",
    type=click.Choice(["embedding", "llm"]),
    default="embedding",
    show_default=True,
    help="Who decides: definitions that are near, or the model at LVMDB_LLM_URL.",
)
@click.option(
    "--margin",
    type=float,
    metavar="COSINE",
    help="By how much the nearest label must be nearer than the second.  [default: 0.01]",
)
@click.option("--all", "every", is_flag=True, help="Decide anew what a tagger has decided.")
@_concurrency
@_yes
@pass_app
def tag(
    app: App,
    dataset: str | None,
    tagger: str,
    margin: float | None,
    every: bool,
    concurrency: int,
    yes: bool,
) -> None:
    """Give concepts without a domain/task/modifier code one; a second call goes on.

    Codes that came with their source stay. What the tagger is not sure of is left NULL.

    \b
    Example:
      lvmdb ingest tag --dataset wiki
      lvmdb ingest tag --dataset wiki --margin 0.03 --all
      lvmdb ingest tag --dataset wiki --tagger llm
    """
    from contextlib import ExitStack

    from lvmdb.corpus import encoders
    from lvmdb.corpus.embedding_tagger import DEFAULT_MARGIN, EmbeddingTagger
    from lvmdb.corpus.enrich import TOGETHER
    from lvmdb.corpus.llm import Llm
    from lvmdb.corpus.llm_tagger import LlmTagger
    from lvmdb.corpus.retag import READ, retag
    from lvmdb.corpus.tagging import Tagger

    if tagger == "llm" and margin is not None:
        raise UsageError("--margin is for --tagger embedding")
    chosen: Tagger
    with ExitStack() as stack:
        if tagger == "llm":
            llm = stack.enter_context(Llm.from_settings(app.settings, concurrency=concurrency))
            chosen = LlmTagger(llm)
        else:
            name = app.dataset(dataset)
            chosen = EmbeddingTagger(
                lambda texts: encoders.load_beside(
                    app.database, app.settings, name, progress=app.progress
                ).encode(texts),
                DEFAULT_MARGIN if margin is None else margin,
            )
        done = retag(
            app.database,
            app.dataset(dataset),
            chosen,
            every=every,
            anyway=yes,
            together=TOGETHER * concurrency if tagger == "llm" else READ,
            progress=app.progress,
        )
    unknown = done.concepts - done.complete - done.partial - done.failed
    click.echo(
        f"{app.dataset(dataset)}: {done.concepts} concepts looked at; {done.complete} have a code, "
        f"{done.partial} a part of one, {unknown} none"
    )
    if done.failed:
        raise CorpusError(f"{done.failed} concepts failed: 'lvmdb ingest errors' says why")


@click.command(cls=Command)
@dataset_option
@click.option(
    "--negatives",
    type=click.Choice(["vectors", "llm", "none"]),
    default="vectors",
    show_default=True,
    help="Where negatives come from: other concepts, by their vectors; the model; nowhere.",
)
@click.option(
    "--negatives-only", is_flag=True, help="Only negatives, from the vectors: asks no model."
)
@click.option("--all", "every", is_flag=True, help="Choose negatives from the vectors anew.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many concepts.")
@_concurrency
@_yes
@pass_app
def enrich(
    app: App,
    dataset: str | None,
    negatives: str,
    negatives_only: bool,
    every: bool,
    limit: int | None,
    concurrency: int,
    yes: bool,
) -> None:
    """Give concepts probe questions, answers and negatives; a second call goes on.

    Questions and answers are written by the language model at LVMDB_LLM_URL, one request a concept.
    The dataset's own encoder makes the questions' vectors.

    \b
    Example:
      lvmdb ingest enrich --dataset wiki --limit 1000
      lvmdb ingest enrich --dataset wiki --negatives-only
    """
    from lvmdb.corpus import encoders
    from lvmdb.corpus.enrich import Enriched
    from lvmdb.corpus.enrich import enrich as ask
    from lvmdb.corpus.llm import Llm
    from lvmdb.corpus.negatives import choose_negatives

    if negatives_only and negatives != "vectors":
        raise UsageError("--negatives-only chooses negatives from the vectors")
    if every and negatives != "vectors":
        raise UsageError("--all chooses negatives from the vectors anew")
    name = app.dataset(dataset)
    done = Enriched()
    if not negatives_only:
        with Llm.from_settings(app.settings, concurrency=concurrency) as llm:
            encoder = encoders.load_beside(app.database, app.settings, name, progress=app.progress)
            done = ask(
                app.database,
                name,
                llm,
                encoder.encode,
                negatives=negatives == "llm",
                limit=limit,
                anyway=yes,
                progress=app.progress,
            )
        click.echo(f"{name}: {done.concepts} concepts have got a probe question and its answer")
    if negatives == "vectors":
        chosen = choose_negatives(
            app.database, name, every=every, anyway=yes, limit=limit, progress=app.progress
        )
        click.echo(f"{name}: negatives chosen for {chosen} concepts")
    if done.failed:
        raise CorpusError(f"{done.failed} concepts failed: 'lvmdb ingest errors' says why")
