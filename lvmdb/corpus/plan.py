"""What is to be ingested, and how; and the hashes that decide whether anything is to be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.chunker import Chunker
from lvmdb.corpus.chunkers.semantic import SemanticChunker
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.episodes import EpisodeOptions
from lvmdb.corpus.hashes import content_hash
from lvmdb.corpus.readers.base import Reader
from lvmdb.corpus.tagging import Tagger
from lvmdb.errors import UsageError

RANGE = 16
"""Articles that are claimed, encoded and committed together."""


@dataclass(frozen=True)
class IngestPlan:
    """What is to be ingested, and how.

    Attributes:
        dataset: where to; made if it is not there.
        reader, source: where from; `reader_name` for the record.
        chunker: how texts are cut.
        encoder: name of the encoder; None leaves the concepts without vectors.
        load_encoder: called once, when the first article needs it.
        limit: at most so many articles.
        tagger: gives concepts their codes; None leaves them without.
        episodes: how concepts are grouped, by their vectors; None leaves them ungrouped.
        processes: how many cut texts, beside this one; 0 leaves it to a thread of this one.
        range_articles: how many are claimed, encoded and committed together.
        shared: whether other processes may join in the work.
        survey: read the source once beforehand, so that one that is broken changes nothing.
        skip_broken: record articles that cannot be read as failed, and go on.

    Raises:
        UsageError: a number is out of range, or vectors are needed and there are none.
    """

    dataset: str
    reader_name: str
    reader: Reader
    source: str
    chunker: Chunker
    encoder: str | None
    load_encoder: Callable[[], Encoder]
    limit: int | None = None
    tagger: Tagger | None = None
    episodes: EpisodeOptions | None = None
    processes: int = 0
    range_articles: int = RANGE
    shared: bool = True
    survey: bool = True
    skip_broken: bool = False

    def __post_init__(self) -> None:
        if self.range_articles < 1:
            raise UsageError(f"--range is at least 1, not {self.range_articles}")
        if self.processes < 0:
            raise UsageError(f"--jobs is at least 0, not {self.processes}")
        if self.encoder is None and self.episodes is not None:
            raise UsageError("episodes are found by vectors: give an --encoder, or --no-episodes")
        if self.encoder is None and self.tagger is not None and self.tagger.name == "embedding":
            raise UsageError(
                "--tagger embedding compares vectors: give an --encoder, or --tagger none"
            )

    @property
    def cuts_by_vectors(self) -> bool:
        """Whether cutting texts needs the encoder."""
        return isinstance(self.chunker, SemanticChunker)

    @property
    def options(self) -> dict[str, Any]:
        """Everything that the result depends on besides the source, as JSON."""
        return {
            "chunker": self.chunker.name,
            **self.chunker.options,
            "encoder": self.encoder,
            "limit": self.limit,
            "tagger": self._tagger,
            "episodes": self.episodes and self.episodes.options,
            "range": self.range_articles,
            "skip_broken": self.skip_broken,
        }

    def hash_of(self, article: RawArticle) -> bytes:
        """Content hash of what the article's concepts are made from."""
        given = [] if article.code is None else [json.dumps(article.code)]
        return content_hash(article.text, *self._parts, *given)

    @cached_property
    def options_hash(self) -> bytes:
        """The same without the text."""
        return content_hash(*self._parts)

    @property
    def _tagger(self) -> dict[str, Any] | None:
        if self.tagger is None:
            return None
        return {"name": self.tagger.name, **self.tagger.options}

    @cached_property
    def _parts(self) -> list[str]:
        options = json.dumps(self.chunker.options, sort_keys=True)
        parts = [self.chunker.name, options, self.encoder or ""]
        # Added only where there is one, so that articles keep the hash that they had without.
        further = {"tagger": self._tagger, "episodes": self.episodes and self.episodes.options}
        given = {name: value for name, value in further.items() if value is not None}
        return [*parts, json.dumps(given, sort_keys=True)] if given else parts
