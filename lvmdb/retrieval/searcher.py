"""Nearest concepts over one connection, set up once: what asks thousands of times uses this.

    with Searcher(db, "wiki") as searcher:
        found = searcher.nearest(vector, 10)            # ids and cosines, best first
        ids, cosines = searcher.batch(vectors, 10)      # (n, 10, 16) and (n, 10)

What makes a query fast is not asked for with each: the connection keeps the settings, the server
the plan, and vectors go there in binary.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.nearest import EVERYTHING, Filter, matching, nearest, nearest_of_many
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.errors import CorpusError, UsageError
from lvmdb.retrieval.exact import Neighbours, exact_neighbours, none_found
from lvmdb.retrieval.found import Found, Hit, check_k, direction, directions, found_of
from lvmdb.retrieval.indexes import EF_MOST, Usable, check_options, choose
from lvmdb.retrieval.order import alike_first
from lvmdb.retrieval.session import Session

VISIT = 6
"""What it costs to visit a concept through a filtered index, in comparisons of an exact search:
measured on 42,000 concepts, with filters that leave from 3 to 3,200 of them."""

_TOGETHER = 1_000
"""Vectors of one statement: 3 MB."""


class Searcher:
    """Searches one dataset; for one thread. A connection that broke is opened again by the next
    search; the one that meets it broken raises `ConnectionLostError`.

    Args:
        db: the database.
        dataset: where to search.
        exact: compare with every vector, and need no index.
        kind, storage, metric: of the index; None takes the preferred one of those there are. An
            exact search has a metric alone, by default `ip`.
        effort: `ef_search` or `probes`; None takes what the index was tuned to, or the default.

    Raises:
        CorpusError: there is no such index.
        UsageError: an option is none.
    """

    def __init__(
        self,
        db: Database,
        dataset: str,
        *,
        exact: bool = False,
        kind: str | None = None,
        storage: str | None = None,
        metric: str | None = None,
        effort: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.index: Usable | None = None
        if exact:
            check_options(metric=metric)
        else:
            self.index = choose(db, dataset, kind=kind, storage=storage, metric=metric)
        self.metric = self.index.metric if self.index else metric or "ip"
        self._db = db
        self.effort = effort
        self._session = Session(db)
        if self.index and effort is not None and not 1 <= effort <= self.index.most_effort:
            raise UsageError(
                f"{self.index.effort_name} of {self.index.name} is from 1 to "
                f"{self.index.most_effort}, not {effort}"
            )

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; a further search opens another."""
        self._session.close()

    def nearest(
        self,
        vector: NDArray[np.floating[Any]] | Sequence[float],
        k: int = 10,
        *,
        only: Filter = EVERYTHING,
        exact: bool = False,
    ) -> Found:
        """The k nearest concepts of a vector `(768,)` of any length, fewer only where there are
        fewer.

        A search through the index that ends with fewer is done again exactly, and says so.

        Args:
            vector: what to search for.
            k: how many.
            only: which concepts may be found.
            exact: compare with every vector.

        Raises:
            UsageError: k is not from 1 to 999.
            CorpusError: the vector has no direction.
        """
        check_k(k)
        unit = direction(vector)
        why = None
        if self.index is not None and not exact:
            why = self._too_few(self.index, k, only)
            if why is None:
                # First as far as nothing is filtered; on from there where that was not enough.
                for onwards in (False, True) if only == EVERYTHING else (True,):
                    found = self._through_index(self.index, unit, k, only, onwards=onwards)
                    if len(found.cpe_ids) == k:
                        return found
                why = f"the index {self.index.name} ended with {len(found.cpe_ids)} of {k}"
        rows = self._session.nearest(
            unit,
            lambda: nearest(self.dataset, self.metric, None, k, k, only),
            ("exact", k) if only == EVERYTHING else None,
        )
        return found_of(rows, exact=True, why=why)

    def batch(
        self,
        vectors: NDArray[np.floating[Any]],
        k: int = 10,
        *,
        without: Sequence[Sequence[uuid.UUID]] | None = None,
        exact: bool = False,
    ) -> Neighbours:
        """The k nearest concepts of each vector `(n, 768)`, by one statement for a thousand.

        Args:
            vectors: what to search for.
            k: how many for each.
            without: of each vector, concepts that are not to be found.
            exact: compare with every vector, by products of matrices over all of the dataset.

        Raises:
            UsageError: k, with those left out, is not from 1 to 999.
            CorpusError: a vector has no direction.
        """
        left_out = max(map(len, without), default=0) if without else 0
        check_k(k + left_out)
        units = directions(np.asarray(vectors, dtype=np.float32))
        if without is not None and len(without) != len(units):
            raise UsageError(f"{len(units)} vectors need as many lists of what to leave out")
        if self.index is None or exact:
            found = exact_neighbours(
                self._db, self.dataset, units, k + left_out, metric=self.metric
            )
        else:
            found = self._many(self.index, units, k + left_out)
        return found if without is None else found.without(without, k)

    def hits(
        self,
        vector: NDArray[np.floating[Any]] | Sequence[float],
        k: int = 10,
        *,
        only: Filter = EVERYTHING,
        exact: bool = False,
    ) -> tuple[list[Hit], Found]:
        """As `nearest`, with the texts, and what they were found by."""
        found = self.nearest(vector, k, only=only, exact=exact)
        return self.texts(found), found

    def texts(self, found: Found) -> list[Hit]:
        """What was found, in words; what was deleted since is not there any more."""
        rows = self._session.rows(
            psycopg_sql("retrieval", "concepts_found"),
            {"cpe_ids": list(found.cpe_ids)},
            again=True,
        )
        cosine = dict(zip(found.cpe_ids, found.cosines, strict=True))
        return [
            Hit(cpe_id, title, article_id, seq, text, cosine[cpe_id])
            for cpe_id, title, article_id, seq, text in rows
        ]

    def vectors(self, cpe_ids: Sequence[uuid.UUID], *, tmd: bool = False) -> NDArray[np.float32]:
        """The vectors `(n, 768)` of concepts, in their order; with their TMD codes `(n, 784)`,
        zeros where one has none.

        Raises:
            CorpusError: one of them is not there any more.
        """
        asked = list(dict.fromkeys(cpe_ids))
        rows = self._session.rows(
            psycopg_sql("retrieval", "concept_vectors"), {"cpe_ids": asked}, again=True
        )
        if len(rows) < len(asked):
            raise CorpusError("a concept that was found is no longer in the dataset")
        vectors = parsed_vectors([row[1] for row in rows], DIMENSION)
        if tmd:
            codes = parsed_vectors([row[2] for row in rows], TMD_DIMENSION)
            vectors = np.concatenate([vectors, codes], axis=1)
        place = {row[0]: number for number, row in enumerate(rows)}
        return vectors[[place[each] for each in cpe_ids]]

    def _too_few(self, index: Usable, k: int, only: Filter) -> str | None:
        """Why comparing all that a filter leaves is the faster way; None if it is not.

        Of N concepts m are left: one after the other costs m, and the index visits about k N / m
        before it has met k of them, at VISIT times the price.
        """
        if only.article_id is not None:
            return "an article has few concepts"
        if only.tmd is None:
            return None
        few = math.ceil(math.sqrt(VISIT * k * index.vectors))
        ((count,),) = self._session.rows(matching(self.dataset, only, few))
        return f"{count} concepts have such a code" if count < few else None

    def _through_index(
        self, index: Usable, unit: NDArray[np.float32], k: int, only: Filter, *, onwards: bool
    ) -> Found:
        effort = self._prepare(index, k, onwards=onwards)
        rows = self._session.nearest(
            unit,
            lambda: nearest(
                self.dataset, index.metric, index.storage, k, index.among(effort), only
            ),
            _key("one", index, k, effort) if only == EVERYTHING else None,
        )
        return found_of(rows, exact=False)

    def _many(self, index: Usable, units: NDArray[np.float32], k: int) -> Neighbours:
        found = none_found(len(units), k)
        # Of like queries the second finds in caches what the first has read.
        self._put(found, index, units, alike_first(units), k, onwards=False)
        short = np.flatnonzero(found.counts < k)
        if len(short):
            self._put(found, index, units, short, k, onwards=True)
            short = np.flatnonzero(found.counts < k)
        if len(short):
            again = exact_neighbours(self._db, self.dataset, units[short], k, metric=self.metric)
            found.cpe_id[short], found.cosine[short] = again.cpe_id, again.cosine
            found = replace(found, exact=tuple(short.tolist()))
        return found

    def _put(
        self,
        found: Neighbours,
        index: Usable,
        units: NDArray[np.float32],
        order: NDArray[np.int64],
        k: int,
        *,
        onwards: bool,
    ) -> None:
        """Ask for the vectors at these places, in their order, and put down what is found."""
        effort = self._prepare(index, k, onwards=onwards)
        for start in range(0, len(order), _TOGETHER):
            part = order[start : start + _TOGETHER]
            place, ids, cosines = self._session.nearest_of_many(
                units[part],
                lambda: nearest_of_many(
                    self.dataset, index.metric, index.storage, k, index.among(effort)
                ),
                _key("many", index, k, effort),
            )
            found.put(part[place], ids, cosines)

    def _prepare(self, index: Usable, k: int, *, onwards: bool) -> int:
        """Sets what the search needs, where it is not set yet; its effort.

        Onwards, an index that has shown what it holds goes on for more until k are there. Where
        nothing is filtered that is seldom needed, and costs a twentieth of each search.
        """
        effort = index.effort(k) if self.effort is None else self.effort
        if index.kind == "ivfflat":
            self._session.set("ivfflat.probes", effort)
            self._session.set("ivfflat.iterative_scan", "relaxed_order" if onwards else "off")
            return effort
        # Fewer candidates than are wanted would be asked for again and again.
        effort = min(EF_MOST, max(effort, k))
        self._session.set("hnsw.ef_search", effort)
        self._session.set("hnsw.iterative_scan", "strict_order" if onwards else "off")
        return effort


def _key(form: str, index: Usable, k: int, effort: int) -> tuple[Any, ...]:
    # Only of bits does a statement say how many candidates there are.
    return form, k, effort if index.storage == "bit" else 0
