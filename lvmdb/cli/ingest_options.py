"""What `lvmdb ingest run` and `lvmdb bench ingest` share: how text becomes concepts, as options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lvmdb.cli.app import App
from lvmdb.errors import UsageError

if TYPE_CHECKING:
    from lvmdb.corpus.encoder import Encoder
    from lvmdb.corpus.episodes import EpisodeOptions
    from lvmdb.corpus.plan import IngestPlan
    from lvmdb.corpus.tagging import Tagger

Function = TypeVar("Function", bound=Callable[..., Any])

UNSURVEYED = ("wikipedia",)
"""Readers of sources that are dear to read twice: what is broken is met when others are written."""


@dataclass(frozen=True)
class PlanOptions:
    """The options as they were given."""

    reader: str
    encoder: str | None
    chunker: str
    words: str | None
    percentile: float | None
    tagger: str | None
    margin: float | None
    concurrency: int | None
    episodes: bool | None
    episode_min: int | None
    episode_max: int | None
    episode_coherence: float | None
    limit: int | None
    processes: int
    range_articles: int | None

    def plan(
        self,
        app: App,
        source: str,
        dataset: str,
        *,
        survey: bool | None = None,
        skip_broken: bool | None = None,
    ) -> IngestPlan:
        """What they mean.

        Raises:
            UnknownNameError: there is no such reader, chunker or tagger.
            UsageError: they contradict each other.
        """
        from lvmdb.corpus import encoders
        from lvmdb.corpus.chunker import flag_options, get_chunker
        from lvmdb.corpus.plan import RANGE, IngestPlan
        from lvmdb.corpus.readers.registry import get_reader
        from lvmdb.db.types import checked_name

        name = None if self.encoder == "none" else self.encoder or encoders.DEFAULT_ENCODER

        @cache
        def load() -> Encoder:
            return encoders.load(app.database, app.settings, name or "", progress=app.progress)

        cutting = flag_options(self.chunker, words=self.words, percentile=self.percentile)
        embed = None if name is None else lambda texts: load().encode(texts)
        return IngestPlan(
            dataset=checked_name("dataset", dataset),
            reader_name=self.reader,
            reader=get_reader(self.reader),
            source=source,
            chunker=get_chunker(self.chunker, embed=embed, **cutting),
            encoder=name,
            load_encoder=load,
            limit=self.limit,
            tagger=self._tagger(app, name, load),
            episodes=self._episodes(name),
            processes=self.processes,
            range_articles=RANGE if self.range_articles is None else self.range_articles,
            survey=self.reader not in UNSURVEYED if survey is None else survey,
            skip_broken=self.reader in UNSURVEYED if skip_broken is None else skip_broken,
        )

    def _tagger(self, app: App, encoder: str | None, load: Callable[[], Encoder]) -> Tagger | None:
        from lvmdb.corpus.embedding_tagger import DEFAULT_MARGIN, EmbeddingTagger

        name = self.tagger or ("none" if encoder is None else "embedding")
        if self.margin is not None and name != "embedding":
            raise UsageError(f"--margin is for --tagger embedding, not {name}")
        if self.concurrency is not None and name != "llm":
            raise UsageError(f"--concurrency is for --tagger llm, not {name}")
        if name == "none":
            return None
        if name == "llm":
            from lvmdb.corpus.llm import CONCURRENCY, Llm
            from lvmdb.corpus.llm_tagger import LlmTagger

            llm = Llm.from_settings(app.settings, concurrency=self.concurrency or CONCURRENCY)
            return LlmTagger(click.get_current_context().with_resource(llm))
        margin = DEFAULT_MARGIN if self.margin is None else self.margin
        return EmbeddingTagger(lambda texts: load().encode(texts), margin)

    def _episodes(self, encoder: str | None) -> EpisodeOptions | None:
        from lvmdb.corpus.episodes import EpisodeOptions

        given = {
            "min_chunks": self.episode_min,
            "max_chunks": self.episode_max,
            "coherence": self.episode_coherence,
        }
        numbers: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        if numbers and self.episodes is False:
            raise UsageError("--no-episodes makes none: leave the other options of episodes out")
        if self.episodes or numbers or (self.episodes is None and encoder is not None):
            return EpisodeOptions(**numbers)
        return None


_OPTIONS = (
    click.option(
        "--reader",
        required=True,
        metavar="R",
        help="jsonl, text, wikipedia or python-docs (SOURCE is -).",
    ),
    click.option(
        "--encoder",
        metavar="E",
        help="A model's name or folder, or none. [default: sentence-transformers/gtr-t5-base]",
    ),
    click.option(
        "--chunker",
        default="sentence",
        show_default=True,
        metavar="C",
        help="sentence, paragraph or semantic.",
    ),
    click.option("--words", metavar="LOW-HIGH", help="Of a chunk.  [default: 40-80]"),
    click.option(
        "--percentile",
        type=float,
        metavar="P",
        help="The semantic chunker cuts at distances above it.  [default: 75]",
    ),
    click.option(
        "--tagger",
        type=click.Choice(["embedding", "llm", "none"]),
        help="Who gives concepts their codes.  [default: embedding; without an encoder none]",
    ),
    click.option(
        "--margin",
        type=float,
        metavar="COSINE",
        help="By how much the nearest label must be nearer than the second.  [default: 0.01]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Requests to the language model at once.  [default: 4]",
    ),
    click.option(
        "--episodes/--no-episodes",
        default=None,
        help="Group concepts by coherence.  [default: episodes; without an encoder none]",
    ),
    click.option("--episode-min", type=int, metavar="N", help="Concepts at least.  [default: 3]"),
    click.option("--episode-max", type=int, metavar="N", help="Concepts at most.  [default: 20]"),
    click.option(
        "--episode-coherence",
        type=float,
        metavar="COSINE",
        help="Of neighbours, from which on paragraphs stay together.  [default: 0.6]",
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many articles."),
    click.option(
        "--jobs",
        "processes",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        metavar="N",
        help="Processes that cut texts, beside the one that encodes; 0: a thread of that one.",
    ),
    click.option(
        "--range",
        "range_articles",
        type=click.IntRange(1),
        metavar="N",
        help="Articles that are claimed, encoded and committed together.  [default: 16]",
    ),
)


def plan_options(function: Function) -> Any:
    """Options that come as one argument, `options`."""
    names = [field.name for field in fields(PlanOptions)]

    @wraps(function)
    def called(*arguments: Any, **given: Any) -> Any:
        options = PlanOptions(**{name: given.pop(name) for name in names})
        return function(*arguments, options=options, **given)

    decorated: Any = called
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
