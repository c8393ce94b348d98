"""Ranges of articles on their way through the pipeline: read, cut, encoded, coded, grouped.

Each step leaves what it made in the range's `Batch`. A step that fails at an article takes only
that one out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from lvmdb.corpus.articles import ChunkedArticle, RawArticle, Vectors
from lvmdb.corpus.chunkers.base import Chunk, Chunker
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.episodes import Episode, EpisodeOptions, episodes
from lvmdb.corpus.jobs import Failure
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.ranges import Range
from lvmdb.corpus.tagging import GIVEN, Tagger
from lvmdb.corpus.tmd import PartialCode
from lvmdb.db import bulk
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import DatabaseError, EndpointAwayError, LvmdbError, MissingDependencyError

Cut = tuple[list[list[Chunk] | str], float]
"""The chunks of each text, or why there are none; and the seconds that it took."""


@dataclass(eq=False)
class Work:
    """One article that is new or changed.

    Attributes:
        raw: as it was read.
        digest: its content hash.
        article_id: of its row, if it is there already.
        chunks: its concepts.
        vectors: `(len(chunks), 768)`; None where nothing is encoded.
        known: rows of `vectors` that need not be encoded.
        codes: of the concepts, where a tagger was asked.
        episodes: of the concepts, where they are grouped.
    """

    raw: RawArticle
    digest: bytes
    article_id: int | None
    chunks: list[Chunk] = field(default_factory=list)
    vectors: Vectors | None = None
    known: set[int] = field(default_factory=set)
    codes: tuple[PartialCode | None, ...] | None = None
    episodes: tuple[Episode, ...] | None = None

    @property
    def texts(self) -> list[str]:
        """Of its concepts."""
        return [chunk.text for chunk in self.chunks]

    def row(self, seq: int) -> Vectors:
        """Where the vector of a concept goes, `(768,)`."""
        if self.vectors is None:
            self.vectors = np.empty((len(self.chunks), DIMENSION), dtype=np.float32)
        row: Vectors = self.vectors[seq]
        return row

    def article(self, source: str, tagger: str | None) -> ChunkedArticle:
        """All of it, to be stored."""
        given = self.raw.code
        return ChunkedArticle(
            source_key=self.raw.source_key,
            title=self.raw.title,
            url=self.raw.url,
            texts=tuple(self.texts),
            source=f"{source}: article {self.raw.source_key}",
            vectors=self.vectors,
            codes=self.codes if given is None else (given,) * len(self.chunks),
            tagger=tagger if given is None else GIVEN,
            episodes=self.episodes,
        )


@dataclass(eq=False)
class Batch:
    """A range on its way.

    Attributes:
        range: what was read.
        works: articles that are new or changed, and have not failed.
        present: ids of those that are there and are not written.
        unchanged: how many of them are what they were.
        failures: what went wrong.
        failed: articles of which nothing will be kept.
    """

    range: Range
    works: list[Work] = field(default_factory=list)
    present: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    unchanged: int = 0

    @property
    def concepts(self) -> int:
        """How many its works have."""
        return sum(len(work.chunks) for work in self.works)

    def fail(self, work: Work, step: str, message: str) -> None:
        """Take an article out."""
        self.failures.append(Failure(step, message, work.raw.source_key))
        self.failed += 1
        self.works.remove(work)
        if work.article_id is not None:
            self.present.append(work.article_id)


def compare(connection: Connection, plan: IngestPlan, found: Range) -> Batch:
    """What is to be done of a range: the articles whose hash is not known."""
    batch = Batch(found)
    batch.failures += [Failure("read", message) for message in found.broken]
    batch.failed += len(found.broken)
    keys = [article.source_key for article in found.articles]
    rows = connection.execute(
        query("corpus", "known_articles"), {"dataset": plan.dataset, "source_keys": keys}
    )
    known = {row.source_key: row for row in rows}
    for article in found.articles:
        digest = plan.hash_of(article)
        row = known.get(article.source_key)
        if row is None:
            batch.works.append(Work(article, digest, None))
        elif bytes(row.content_hash) != digest or (plan.tagger is not None and row.uncoded):
            batch.works.append(Work(article, digest, row.article_id))
        else:
            batch.present.append(row.article_id)
            batch.unchanged += 1
    return batch


def cut(chunker: Chunker, texts: Sequence[str]) -> Cut:
    """The chunks of texts; runs in another process too."""
    began = time.perf_counter()
    made: list[list[Chunk] | str] = []
    for text in texts:
        try:
            made.append(chunker.chunks(text) or "nothing is left of its text")
        except (DatabaseError, EndpointAwayError, MissingDependencyError, MemoryError):
            raise
        except Exception as error:  # whatever it is: it is this article's, and others can be cut
            made.append(one_line(error))
    return made, time.perf_counter() - began


def take_chunks(batch: Batch, made: Cut) -> None:
    """Give a batch's articles what `cut` made of their texts."""
    for work, chunks in zip(list(batch.works), made[0], strict=True):
        if isinstance(chunks, str):
            batch.fail(work, "chunk", chunks)
        else:
            work.chunks = chunks


def recall(connection: Connection, batch: Batch) -> None:
    """Take the vectors of texts that stand where they stood: they are not encoded again."""
    changed = {w.article_id: w for w in batch.works if w.article_id is not None}
    if not changed:
        return
    rows = connection.execute(query("corpus", "kept_concepts"), {"article_ids": list(changed)})
    for row in rows:
        work = changed[row.article_id]
        if row.seq >= len(work.chunks) or work.chunks[row.seq].text != row.concept_text:
            continue
        if row.vector is not None:
            work.row(row.seq)[:] = bulk.parsed_vectors([row.vector], DIMENSION)[0]
            work.known.add(row.seq)


def encode(batch: Batch, encoder: Encoder, advance: Callable[[int], object]) -> int:
    """Encode what has no vector yet, all articles together; returns how many texts.

    Where that fails they are encoded one by one, so that it is known at which one it does.
    """
    for work in batch.works:
        for seq, chunk in enumerate(work.chunks):
            # The chunker had the vector of a single sentence made already: it is its text.
            if chunk.sentences is not None and len(chunk.sentences) == 1:
                work.row(seq)[:] = chunk.sentences[0]
                work.known.add(seq)
    try:
        return _encode(batch.works, encoder, advance)
    except (DatabaseError, EndpointAwayError):
        raise
    except LvmdbError:
        encoded = 0
        for work in list(batch.works):
            try:
                encoded += _encode([work], encoder, advance)
            except LvmdbError as error:
                batch.fail(work, "encode", one_line(error))
        return encoded


def tag(batch: Batch, tagger: Tagger) -> None:
    """Give all concepts their codes, or none where the tagger is unsure or fails.

    Articles whose source gives them a code are left alone.
    """
    works = [work for work in batch.works if work.raw.code is None]
    texts = [text for work in works for text in work.texts]
    if not texts:
        return
    vectors = [work.vectors for work in works if work.vectors is not None]
    tags = iter(tagger.tag(texts, np.concatenate(vectors) if vectors else None))
    for work in works:
        own = [next(tags) for _ in work.chunks]
        work.codes = tuple(one.code for one in own)
        errors = [one.error for one in own if one.error is not None]
        if errors:
            others = f" (and {len(errors) - 1} more of {len(own)} concepts)"
            message = errors[0] + (others if len(errors) > 1 else "")
            batch.failures.append(Failure("tag", message, work.raw.source_key))


def group(batch: Batch, options: EpisodeOptions) -> None:
    """Group the concepts of each article into episodes."""
    for work in batch.works:
        if work.vectors is not None:
            paragraphs = [chunk.paragraph for chunk in work.chunks]
            work.episodes = tuple(episodes(work.vectors, paragraphs, options))


def one_line(error: BaseException) -> str:
    """An error's message, on one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if isinstance(error, LvmdbError) else f"{type(error).__name__}: {message}"


def _encode(works: Sequence[Work], encoder: Encoder, advance: Callable[[int], object]) -> int:
    missing = [
        (work, seq) for work in works for seq in range(len(work.chunks)) if seq not in work.known
    ]
    if missing:
        made = encoder.encode([work.chunks[seq].text for work, seq in missing], advance)
        for (work, seq), vector in zip(missing, made, strict=True):
            work.row(seq)[:] = vector
    return len(missing)
