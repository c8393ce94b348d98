"""Questions and their answers, streamed from SQL: each concept's probe, the concept, negatives.

The order is that of windows (`order`), a probe being a window of one. Negatives are those that are
stored with a concept; where none are that the split knows, they are chosen from the other targets
of the global batch:

    soft: of the same domain, at a cosine of .6 to .8 with the target, the nearest three
    hard: at a cosine below .5, the nearest three
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import psycopg
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.patience import patiently
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.batch import ProbeBatch, SequenceBatch
from lvmdb.sequences.reader import changed, server_cursor
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.sources import readers
from lvmdb.sequences.stream import SequenceStream, StreamOptions, Verify
from lvmdb.sequences.windows import CONCEPTS, Articles, Spans, article_pieces, spans_of

NEGATIVES = 3
"""Of each kind, at most."""

SOFT = (0.6, 0.8)
HARD = 0.5
"""Cosines with the target between which a concept of the same domain is a soft negative, and below
which any is a hard one."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Probe:
    """One probe with what belongs to it.

    Attributes:
        article_id, seq: of the concept.
        domain: code of its domain; -1 where it is not known.
        context: `(768,)`, or `(784,)` with the concept's TMD code.
        target: `(768,)`.
        soft, hard: `(negatives, 768)`, those that are stored.
    """

    article_id: int
    seq: int
    domain: int
    context: Vectors
    target: Vectors
    soft: Vectors
    hard: Vectors


class ProbeStream(SequenceStream):
    """The probes of one split in batches; for the rest a stream like that of windows.

    Every process reads all of each global batch, because negatives are chosen among all of it, and
    keeps its part. It reads by one connection.

    Args:
        db, sequences, split, options, progress, verify: as of `SequenceStream`; the objective is
            `last`, nothing is read in half precision or held in a cache.

    Raises:
        SequenceError: the set is a draft, or its windows run across articles, or a cache is asked
            for.
    """

    def __init__(
        self,
        db: Database,
        sequences: SequenceSet,
        split: str,
        options: StreamOptions,
        progress: Progress = SILENT,
        verify: Verify | None = None,
    ) -> None:
        super().__init__(db, sequences, split, options, progress, verify)
        if sequences.scope != "article":
            raise SequenceError(
                f"objective=probe reads the probes of each split's articles, and the splits of "
                f"sequence set '{sequences.name}' cut through them: create a set with "
                "--scope article"
            )
        if options.cache_bytes:
            raise SequenceError("--cache holds windows, and this run reads probes: leave it out")

    @cached_property
    def windows(self) -> int:
        """Probes of an epoch, all processes together."""

        def count() -> int:
            with readers(self._db, 1, None) as (connection,):
                return int(self._probed(connection).concepts.sum())

        return patiently(count, self._progress)

    def _batches(self, first_batch: int, snapshot: str | None) -> Generator[SequenceBatch]:
        size, probes = self.options.batch_size, self.windows
        first_position = first_batch * size
        with readers(self._db, 1, snapshot) as (connection,):
            articles = self._probed(connection)
            order = self._order(article_pieces(articles, CONCEPTS), shuffle=self.options.shuffle)
            if order.windows != probes:
                raise changed()
            blocks = order.mine(0, 1, first_position)
            needed = np.maximum(blocks.first, first_position) // size
            waiting: dict[int, Probe] = {}  # by position; no more than the blocks in use have
            received = 0
            with closing(self._read(connection, spans_of(blocks.pieces, articles))) as read:
                for batch in range(first_batch, -(-probes // size)):
                    while received < len(blocks) and needed[received] <= batch:
                        for position in order.positions(blocks, received).tolist():
                            probe = next(read)
                            if position >= first_position:
                                waiting[position] = probe
                        received += 1
                    end = min((batch + 1) * size, probes)
                    yield self._batch([waiting.pop(n) for n in range(batch * size, end)])

    def _probed(self, connection: psycopg.Connection[Any]) -> Articles:
        """The articles with probes; `concepts` counts the probes."""
        rows = connection.execute(
            psycopg_sql("sequences", "probe_articles"),
            {"sequence_set_id": self.sequences.sequence_set_id, "split": self.split},
        ).fetchall()
        table = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return Articles(table[:, 0], table[:, 1])

    def _read(self, connection: psycopg.Connection[Any], spans: Spans) -> Generator[Probe]:
        """The probes of the spans, in order, through a server-side cursor.

        Raises:
            SequenceError: the database holds others than were counted.
        """
        expected = zip(spans.article_id.tolist(), spans.concepts.tolist(), strict=True)
        articles = (article for article, count in expected for _ in range(count))
        with server_cursor(connection, "stream_probes") as cursor:
            cursor.itersize = self.options.batch_size
            cursor.execute(
                psycopg_sql("sequences", "probe_spans"),
                {
                    "sequence_set_id": self.sequences.sequence_set_id,
                    "split": self.split,
                    "article_ids": spans.article_id.tolist(),
                    "firsts": spans.first_seq.tolist(),
                    "lasts": spans.last_seq.tolist(),
                    "most": NEGATIVES,
                },
            )
            place = 0
            for place, row in enumerate(cursor, start=1):
                if row[:2] != (place, next(articles, None)):
                    raise changed()
                yield self._parsed(row)
        if place != int(spans.concepts.sum()):
            raise changed()

    def _parsed(self, row: tuple[Any, ...]) -> Probe:
        _, article_id, seq, domain, probe, concept, code, soft, hard = row
        (context,) = parsed_vectors([probe], DIMENSION)
        if self.options.tmd:
            tmd = np.zeros(TMD_DIMENSION, dtype=np.float32)
            if code is not None:
                (tmd,) = parsed_vectors([code], TMD_DIMENSION)
            context = np.concatenate([context, tmd])
        (target,) = parsed_vectors([concept], DIMENSION)
        return Probe(
            article_id,
            seq,
            -1 if domain is None else domain,
            context,
            target,
            _split(soft, len(concept)),
            _split(hard, len(concept)),
        )

    def _batch(self, probes: list[Probe]) -> ProbeBatch:
        """This process's part of a global batch."""
        target = np.stack([probe.target for probe in probes])
        domain = np.array([probe.domain for probe in probes])
        soft, hard = chosen(target, domain)
        rank, world_size = self.options.rank, self.options.world_size
        mine = np.arange(rank, len(probes), world_size)
        kinds = {
            "soft": [probes[n].soft if len(probes[n].soft) else target[soft[n]] for n in mine],
            "hard": [probes[n].hard if len(probes[n].hard) else target[hard[n]] for n in mine],
        }
        contexts = [probes[n].context for n in mine]
        width = DIMENSION + (TMD_DIMENSION if self.options.tmd else 0)
        batch = ProbeBatch(
            context=torch.from_numpy(np.array(contexts, np.float32).reshape(-1, 1, width)),
            mask=torch.ones(len(mine), 1, dtype=torch.bool),
            target=torch.from_numpy(target[mine]),
            article_id=torch.tensor([probes[n].article_id for n in mine], dtype=torch.int64),
            target_seq=torch.tensor([probes[n].seq for n in mine], dtype=torch.int64),
            **{kind: _padded(vectors) for kind, vectors in kinds.items()},
            **{f"{kind}_present": _present(vectors) for kind, vectors in kinds.items()},
        )
        return batch.pin_memory() if self.options.pin_memory else batch


def chosen(
    target: Vectors, domain: NDArray[np.integer[Any]]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The rows that are soft and hard negatives of each target, by the rule; at most `NEGATIVES`.

    Args:
        target: `(rows, 768)`.
        domain: `(rows,)`; below 0 where it is not known, which is no domain in common.
    """
    wide = target.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    cosine = wide @ wide.T
    alike = (domain[:, None] == domain) & (domain >= 0)
    soft = alike & (cosine >= SOFT[0]) & (cosine <= SOFT[1])
    return list(_nearest(cosine, soft)), list(_nearest(cosine, cosine < HARD))


def _nearest(
    cosine: NDArray[np.float64], allowed: NDArray[np.bool_]
) -> Iterator[NDArray[np.int64]]:
    """Of each row the allowed columns of the largest cosines; of equal ones the first."""
    order = np.argsort(-np.where(allowed, cosine, -np.inf), axis=1, kind="stable")[:, :NEGATIVES]
    for row, columns in enumerate(order):
        yield columns[allowed[row, columns]]


def _split(sent: bytes | None, size: int) -> Vectors:
    """Vectors that were sent one after the other, each in so many bytes."""
    parts = [] if sent is None else [sent[at : at + size] for at in range(0, len(sent), size)]
    return parsed_vectors(parts, DIMENSION)


def _padded(vectors: list[Vectors]) -> Tensor:
    """`(rows, NEGATIVES, 768)`, zeros where a row has fewer."""
    padded = torch.zeros(len(vectors), NEGATIVES, DIMENSION)
    for row, found in enumerate(vectors):
        padded[row, : len(found)] = torch.from_numpy(found)
    return padded


def _present(vectors: list[Vectors]) -> Tensor:
    counts = torch.tensor([len(found) for found in vectors], dtype=torch.int64)
    return torch.arange(NEGATIVES) < counts.unsqueeze(1)
