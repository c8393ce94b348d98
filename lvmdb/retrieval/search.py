"""Nearest concepts of a text, a vector or a concept: one call each, over a connection of its own.

What searches again and again holds a `Searcher`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus import encoders
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.nearest import EVERYTHING, Filter
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError, UnknownNameError, UsageError
from lvmdb.retrieval import faiss_building
from lvmdb.retrieval.exact import Neighbours
from lvmdb.retrieval.found import Found, Hit, check_k
from lvmdb.retrieval.searcher import Searcher
from lvmdb.settings import Settings


def search(
    db: Database,
    dataset: str | None = None,
    *,
    vector: NDArray[np.floating[Any]] | Sequence[float] | None = None,
    text: str | None = None,
    concept: str | uuid.UUID | None = None,
    settings: Settings | None = None,
    k: int = 10,
    only: Filter = EVERYTHING,
    exact: bool = False,
    file: Path | None = None,
    **index: Any,
) -> tuple[list[Hit], Found]:
    """The k nearest concepts of a vector, a text or a concept, and what they were found by.

    Args:
        db: the database.
        dataset: where to search; a concept's own by default.
        vector: `(768,)`, of any length.
        text: a sentence, which the dataset's encoder turns into a vector.
        concept: the id of a concept, which is not found itself.
        settings: where the encoder's weights are; for a text.
        k: how many.
        only: which concepts may be found.
        exact: compare with every vector.
        file: ask the FAISS index in this file.
        index: `kind`, `storage`, `metric` and `effort` of the index, as for `Searcher`.

    Raises:
        InputError: the file is none of an index.
        UsageError: not one of vector, text and concept; k is not from 1 to 999.
        CorpusError: the dataset has no index, and an exact search was not asked for; the vector
            has no direction.
        UnknownNameError: there is no such concept, or the article is none of the dataset.
        EncoderError: the dataset's encoder is not there, or not verified.
    """
    if sum(each is not None for each in (vector, text, concept)) != 1:
        raise UsageError("give one of a vector, a text and a concept to search for")
    if concept is not None:
        key, home, vector = concept_vector(db, concept)
        dataset = dataset or home
        only = replace(only, without=(*only.without, key))
    if dataset is None:
        raise UsageError("name the dataset to search in")
    if only.article_id is not None:
        _require_article(db, dataset, only.article_id)
    # Before an encoder is loaded: an index that is not there is no matter of seconds.
    with Searcher(db, dataset, exact=exact or file is not None, **index) as searcher:
        check_k(k)
        if text is not None:
            if settings is None:
                raise UsageError("a text needs the settings that say where encoders are")
            vector = encoders.encode_beside(db, settings, dataset, [text])[0]
        assert vector is not None
        if file is None:
            return searcher.hits(vector, k, only=only)
        found = faiss_building.search(
            db, file, dataset, np.asarray(vector, dtype=np.float32), k, only
        )
        return searcher.texts(found), found


def batch_search(
    db: Database,
    dataset: str,
    vectors: NDArray[np.floating[Any]],
    k: int = 10,
    *,
    without: Sequence[Sequence[uuid.UUID]] | None = None,
    exact: bool = False,
    **index: Any,
) -> Neighbours:
    """The k nearest concepts of each vector `(n, 768)`: `ids, cosines = batch_search(...)`, ids
    `(n, k, 16)` bytes and cosines `(n, k)`; as `Searcher.batch`."""
    with Searcher(db, dataset, exact=exact, **index) as searcher:
        return searcher.batch(vectors, k, without=without)


def concept_vector(
    db: Database, concept: str | uuid.UUID
) -> tuple[uuid.UUID, str, NDArray[np.float32]]:
    """A concept's id, its dataset and its vector.

    Raises:
        UsageError: this is no id.
        UnknownNameError: there is no such concept.
        CorpusError: it has no vector.
    """
    try:
        key = uuid.UUID(str(concept))
    except ValueError:
        raise UsageError(f"--cpe-id is a UUID, not '{concept}'") from None
    with db.connect() as connection:
        row = connection.execute(
            query("retrieval", "concept_vector"), {"cpe_id": str(key)}
        ).one_or_none()
    if row is None:
        raise UnknownNameError("concept", concept)
    if row.sent is None:
        raise CorpusError(f"concept {concept} has no vector")
    return key, row.dataset_source, parsed_vectors([row.sent], DIMENSION)[0]


def _require_article(db: Database, dataset: str, article_id: int) -> None:
    with db.connect() as connection:
        found = connection.execute(
            query("retrieval", "article_dataset"), {"article_id": article_id}
        ).scalar_one_or_none()
    if found is None:
        raise UnknownNameError("article", article_id)
    if found != dataset:
        raise UnknownNameError(
            "article", article_id, hint=f"dataset '{dataset}' has none of that id, '{found}' has"
        )
