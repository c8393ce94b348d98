"""`lvmdb generate`: text to vectors to predicted vectors to text."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from lvmdb.cli.app import App, Command, format_option, pass_app
from lvmdb.cli.decoding_options import decoding, decoding_options
from lvmdb.cli.evaluated_options import run_option
from lvmdb.cli.generated import Start, show_generation, step_rows
from lvmdb.cli.train import device_option
from lvmdb.errors import LvmdbError, UsageError

if TYPE_CHECKING:
    from lvmdb.corpus.encoder import Encoder
    from lvmdb.decoding.generation import GenerationOptions
    from lvmdb.evaluation.inference import Inference
    from lvmdb.retrieval.searcher import Searcher


@click.command(cls=Command)
@run_option
@click.option("--text", metavar="TEXT", help="What comes before: a few sentences.")
@click.option("--article", type=int, metavar="ID", help="What comes before: this article's text.")
@click.option("--at", type=int, metavar="SEQ", help="... up to this place, from 1 on.")
@click.option("--steps", default=5, show_default=True, metavar="N", help="Concepts, at most.")
@decoding_options
@click.option(
    "--loop",
    type=click.Choice(["none", "index", "vec2text"]),
    default="index",
    show_default=True,
    help="What the model reads of its own predictions: themselves, the nearest concept's vector "
    "(snapping), or that of vec2text's text.",
)
@click.option(
    "--exclude",
    type=click.Choice(["article", "context", "none"]),
    default="article",
    show_default=True,
    help="What is not found: all of the article before SEQ, or the concepts that are read.",
)
@click.option("--repeat/--no-repeat", default=False, help="What was generated may be found again.")
@click.option(
    "--end-cosine",
    default=0.9,
    show_default=True,
    metavar="C",
    help="A prediction as near to the vector of 'End of text.' ends it; above 1 none does.",
)
@click.option(
    "--repeated",
    default=0.98,
    show_default=True,
    metavar="C",
    help="A prediction as near to one before ends it; above 1 none does.",
)
@click.option(
    "--least-cosine", type=float, metavar="C", help="A text further from its prediction ends it."
)
@click.option(
    "--smooth", "smoothing", is_flag=True, help="Let a language model (LVMDB_LLM_URL) rewrite it."
)
@device_option
@format_option
@pass_app
def generate(
    app: App,
    run_id: int,
    text: str | None,
    article: int | None,
    at: int | None,
    steps: int,
    method: str,
    k: int,
    exact: bool,
    corrections: int | None,
    beam: int | None,
    loop: str,
    exclude: str,
    repeat: bool,
    end_cosine: float,
    repeated: float,
    least_cosine: float | None,
    smoothing: bool,
    device: str,
    output_format: str,
) -> None:
    """Go on from a text, or from a place in an article, concept by concept.

    A text is cut as the dataset's articles were and encoded by its encoder. The run predicts the
    vector of the next concept, which is decoded and read in turn, until there are N, or the
    prediction is the end concept, says again what was said, or is far from any text. Of an article
    the cosine to what truly follows stands beside each step. Nothing is random.

    \b
    Example:
      lvmdb generate --run-id 7 --text "Bees live in colonies. Each has one queen." --steps 4
      lvmdb generate --run-id 7 --article 12 --at 5 --decode nearest --format json
    """
    from lvmdb.decoding.generation import GenerationOptions

    if (text is None) == (article is None):
        raise UsageError("give --text or --article, and one of them only")
    if (article is None) != (at is None):
        raise UsageError("--article and --at go together")
    how = decoding(method, k, corrections, beam)
    if loop == "vec2text" and method != "vec2text":
        raise UsageError("--loop vec2text reads what vec2text writes: add --decode vec2text")
    if loop == "index" and method == "vec2text":
        raise UsageError(
            "--loop index reads concepts that are found: with --decode vec2text use --loop "
            "vec2text or --loop none"
        )
    options = GenerationOptions(
        steps=steps,
        loop=loop,  # type: ignore[arg-type]
        novel=not repeat,
        end_cosine=end_cosine if end_cosine <= 1 else None,
        repeated=repeated if repeated <= 1 else None,
        least_cosine=least_cosine,
    )
    from lvmdb.evaluation.inference import load_inference
    from lvmdb.retrieval.searcher import Searcher
    from lvmdb.training.environment import resolve_device

    infer = load_inference(app.database, run_id, resolve_device(device))
    # vec2text alone searches nothing, and needs no index.
    unindexed = exact or method == "vec2text"
    with Searcher(app.database, infer.dataset, exact=unindexed) as searcher:
        encoder = _encoder(app, infer, options, needed=text is not None)
        if text is not None:
            assert encoder is not None, "without one there was an error"
            nothing = exclude == "none" or method == "vec2text"
            start = _of_text(app, infer, None if nothing else searcher, encoder, text)
        else:
            start = _of_article(app, infer, int(article or 0), int(at or 0), steps, exclude)
        _generate(app, infer, searcher, encoder, start, options, how, smoothing, output_format)


def _encoder(
    app: App, infer: Inference, options: GenerationOptions, *, needed: bool
) -> Encoder | None:
    """The dataset's encoder; None where only the end concept wants it, and it is not there."""
    if not needed and options.end_cosine is None:
        return None
    from lvmdb.corpus.encoders import load_beside

    try:
        return load_beside(app.database, app.settings, infer.dataset, progress=app.progress)
    except LvmdbError as error:
        if needed:
            raise
        app.progress.say(f"without the encoder no end concept ends it: {error}")
        return None


def _of_text(
    app: App, infer: Inference, searcher: Searcher | None, encoder: Encoder, text: str
) -> Start:
    """What begins with a text; a searcher looks for concepts that say the same."""
    from lvmdb.decoding.passages import same_concepts
    from lvmdb.decoding.typed import DEFAULT, concepts_of, dataset_chunker

    chunker, own = dataset_chunker(app.database, infer.dataset, encoder)
    if not own:
        app.progress.say(
            f"the concepts of dataset '{infer.dataset}' were imported: the text is cut by the "
            f"{DEFAULT} chunker"
        )
    texts = concepts_of(chunker, text)
    vectors = encoder.encode(texts)
    if infer.tmd:
        app.progress.say(f"run {infer.run_id} reads TMD codes, and a text has none")
    without = [] if searcher is None else list(same_concepts(searcher, [vectors])[0])
    return Start(texts, vectors, without, source={"text": text})


def _of_article(
    app: App, infer: Inference, article: int, at: int, steps: int, exclude: str
) -> Start:
    import numpy as np

    from lvmdb.decoding.passages import before

    passage = before(app.database, infer.dataset, article, at, steps=steps)
    read = slice(max(0, at - infer.context_len), at)
    without = {
        "article": list(passage.cpe_ids[:at]),
        "context": list(passage.cpe_ids[read]),
        "none": [],
    }
    vectors = passage.vectors[read]
    if infer.tmd:
        vectors = np.concatenate([vectors, passage.codes[read]], axis=1)
    return Start(
        list(passage.texts[read]),
        vectors,
        without[exclude],
        passage.vectors[at:],
        {"article": article, "title": passage.title, "at": at},
    )


def _generate(
    app: App,
    infer: Inference,
    searcher: Searcher,
    encoder: Encoder | None,
    start: Start,
    options: GenerationOptions,
    how: Any,
    smoothing: bool,
    output_format: str,
) -> None:
    from lvmdb.decoding.decoders import decoder
    from lvmdb.decoding.generation import END_TEXT, feed_of, generate, percentiles
    from lvmdb.decoding.passages import snapped
    from lvmdb.decoding.smoothing import smooth, smoother

    end = encoder.encode([END_TEXT])[0] if encoder and options.end_cosine is not None else None
    with (
        # Before anything is generated: a language model that nobody has named is an error.
        smoother(app.settings) if smoothing else nullcontext() as llm,
        decoder(
            app.database, app.settings, searcher, infer.encoder_id, how, app.progress.say
        ) as decodes,
    ):
        generation = generate(
            infer,
            decodes,
            start.vectors,
            options,
            end=end,
            without=start.without,
            feed=feed_of(options.loop, snapped(searcher, tmd=infer.tmd)),
        )
        steps = list(generation)
        smoothed = None
        if llm is not None:
            smoothed = smooth(llm, [step.decoded.text for step in steps], context=start.texts)
    rows = step_rows(steps, start)
    seconds = percentiles(steps)
    if smoothed is not None:
        seconds["smooth"] = {"p50": smoothed.seconds, "p95": smoothed.seconds}
    show_generation(infer, generation, start, rows, seconds, smoothed, output_format)
