"""`lvmdb generate`: text to vectors to predicted vectors to text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from lvmdb.cli.app import App, Command, format_option, pass_app, show
from lvmdb.cli.decoding_options import decoding, decoding_options
from lvmdb.cli.train import device_option
from lvmdb.errors import LvmdbError, UsageError

if TYPE_CHECKING:
    from lvmdb.corpus.encoder import Encoder
    from lvmdb.decoding.generation import Generation, GenerationOptions
    from lvmdb.evaluation.inference import Inference
    from lvmdb.retrieval.searcher import Searcher


@dataclass
class _Start:
    """What a generation begins with: texts, vectors, what is not to be found, what follows."""

    texts: list[str]
    vectors: Any
    without: list[Any]
    following: Any = None
    source: dict[str, object] = field(default_factory=dict)


@click.command(cls=Command)
@click.option("--run-id", required=True, type=int, metavar="N", help="A run that has succeeded.")
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
    with Searcher(app.database, infer.dataset, exact=exact) as searcher:
        encoder = _encoder(app, infer, options, needed=text is not None)
        if text is not None:
            assert encoder is not None, "without one there was an error"
            start = _of_text(app, infer, searcher, encoder, text, exclude)
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
    app: App, infer: Inference, searcher: Searcher, encoder: Encoder, text: str, exclude: str
) -> _Start:
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
    without = [] if exclude == "none" else same_concepts(searcher, vectors)
    return _Start(texts, vectors, without, source={"text": text})


def _of_article(
    app: App, infer: Inference, article: int, at: int, steps: int, exclude: str
) -> _Start:
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
    return _Start(
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
    start: _Start,
    options: GenerationOptions,
    how: Any,
    smoothing: bool,
    output_format: str,
) -> None:
    from lvmdb.decoding.decoders import decoder
    from lvmdb.decoding.generation import END_TEXT, generate, percentiles, written
    from lvmdb.decoding.passages import snapped

    end = encoder.encode([END_TEXT])[0] if encoder and options.end_cosine is not None else None
    feeds = {"none": None, "vec2text": written, "index": snapped(searcher, tmd=infer.tmd)}
    with decoder(
        app.database, app.settings, searcher, infer.encoder_id, how, app.progress.say
    ) as decodes:
        generation = generate(
            infer,
            decodes,
            start.vectors,
            options,
            end=end,
            without=start.without,
            feed=feeds[options.loop],
        )
        steps = list(generation)
    smoothed = _smoothed(app, start, steps) if smoothing else None
    rows = _rows(steps, start)
    seconds = percentiles(steps)
    if smoothed is not None:
        seconds["smooth"] = {"p50": smoothed.seconds, "p95": smoothed.seconds}
    _show(infer, generation, start, rows, seconds, smoothed, output_format)


def _smoothed(app: App, start: _Start, steps: list[Any]) -> Any:
    from lvmdb.decoding.smoothing import smooth, smoother

    with smoother(app.settings) as llm:
        return smooth(llm, [step.decoded.text for step in steps], context=start.texts)


_COLUMNS = ["step", "cosine", "band", "method", "title", "concept_text"]


def _rows(steps: list[Any], start: _Start) -> list[dict[str, object]]:
    rows = []
    for step in steps:
        hit = step.decoded.hits[0] if step.decoded.method == "nearest" else None
        row: dict[str, object] = {
            "step": step.number,
            "cosine": _number(step.decoded.cosine),
            "band": step.decoded.band,
            "method": step.decoded.method,
            "title": hit and hit.title,
            "concept_text": step.decoded.text,
            "cpe_id": hit and hit.cpe_id,
            "article_id": hit and hit.article_id,
            "moved": _number(step.moved),
            "end_cosine": _number(step.end_cosine),
            "why": step.decoded.why,
            "hits": [
                {"cosine": _number(each.cosine), "title": each.title, "seq": each.seq,
                 "concept_text": each.concept_text, "cpe_id": each.cpe_id}
                for each in step.decoded.hits
            ],
            "seconds": dict(step.seconds),
        }  # fmt: skip
        if start.following is not None:
            place = step.number - 1
            true = start.following[place] if place < len(start.following) else None
            row["true_cosine"] = None if true is None else _number(float(step.vector @ true))
        rows.append(row)
    return rows


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


def _show(
    infer: Inference,
    generation: Generation,
    start: _Start,
    rows: list[dict[str, object]],
    seconds: dict[str, dict[str, float]],
    smoothed: Any,
    output_format: str,
) -> None:
    assert generation.stopped is not None, "its steps have been read"
    stopped = generation.stopped
    whole = " ".join(str(row["concept_text"]) for row in rows)
    if output_format == "json":
        answer: dict[str, object] = {
            "run_id": infer.run_id,
            "architecture": infer.architecture,
            "dataset": infer.dataset,
            **start.source,
            "context": start.texts,
            "steps": rows,
            "stopped": {"reason": stopped.reason, "step": stopped.step, "told": stopped.told},
            "seconds": seconds,
            "generated": whole,
        }
        if smoothed is not None:
            answer["smoothed"] = {
                "text": smoothed.text, "smoothed": smoothed.smoothed, "why": smoothed.why,
                "prompt": smoothed.prompt, "added": list(smoothed.added),
            }  # fmt: skip
        click.echo(json.dumps(answer, indent=2, default=str, ensure_ascii=False))
        return
    columns = list(_COLUMNS)
    if start.following is not None:
        columns.insert(2, "true_cosine")
    show(columns, rows, output_format)
    to_people = output_format == "csv"
    click.echo(f"ended by {stopped.reason}: {stopped.told}", err=to_people)
    for stage, taken in seconds.items():
        click.echo(
            f"{stage}: p50 {1000 * taken['p50']:.1f} ms, p95 {1000 * taken['p95']:.1f} ms",
            err=to_people,
        )
    if smoothed is not None:
        marked = "smoothed" if smoothed.smoothed else f"not smoothed ({smoothed.why})"
        click.echo(f"{marked}: {smoothed.text}", err=to_people)
