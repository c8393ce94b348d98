"""`lvmdb index build --engine faiss`: FAISS's index of a dataset as a file, and a row about it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert

from lvmdb.db.engine import Database
from lvmdb.db.nearest import Filter
from lvmdb.db.schema.retrieval import ann_index
from lvmdb.errors import CorpusError, UsageError
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval import faiss_files
from lvmdb.retrieval.corpus import fingerprint, load
from lvmdb.retrieval.faiss_indexes import Plan, parameters, threads
from lvmdb.retrieval.found import Found, check_k, directions
from lvmdb.retrieval.indexes import EF_SEARCH, check_workers, mark


@dataclass(frozen=True)
class Written:
    """A FAISS index that was written.

    Attributes:
        path: its file.
        vectors: how many it holds.
        seconds: how long building took, without reading the vectors.
        bytes: of the file.
    """

    path: Path
    vectors: int
    seconds: float
    bytes: int


def build(
    db: Database,
    dataset: str,
    plan: Plan,
    path: Path,
    *,
    workers: int = 0,
    progress: Progress = SILENT,
) -> Written:
    """Read a dataset's vectors, build an index of inner product over them, and write it.

    Args:
        db: the database.
        dataset: whose vectors.
        plan: which index.
        path: where to.
        workers: threads beside the one.
        progress: told what happens.

    Raises:
        CorpusError: the dataset has no vectors.
        UsageError: it has too few for so many lists; or so many workers there cannot be.
        InputError: the file cannot be written.
    """
    check_workers(workers)
    path = path.resolve()
    # Before the vectors are read: of rows written meanwhile it is not.
    with db.connect() as connection:
        corpus_mark = mark(connection, dataset)
    corpus = load(db, dataset)
    own = parameters(plan, len(corpus))
    progress.say(f"building FAISS {plan.kind} over {len(corpus)} vectors of {dataset}")
    began = time.perf_counter()
    with threads(workers + 1):
        index = plan.make(corpus.vectors)
    seconds = time.perf_counter() - began
    size = faiss_files.write(path, index, corpus, kind=plan.kind, parameters=own)
    with db.begin() as connection:
        connection.execute(delete(ann_index).where(ann_index.c.name == str(path)))
        connection.execute(
            insert(ann_index).values(
                name=str(path),
                dataset_source=dataset,
                engine="faiss",
                kind=plan.kind,
                storage="vector",
                metric="ip",
                parameters=own,
                vectors=len(corpus),
                seconds=seconds,
                bytes=size,
                corpus_fingerprint=corpus.fingerprint,
                corpus_mark=corpus_mark,
                workers=workers,
            )
        )
    return Written(path, len(corpus), seconds, size)


def search(
    db: Database, path: Path, dataset: str, vector: NDArray[np.float32], k: int, only: Filter
) -> Found:
    """The k nearest concepts of a vector `(768,)` by the index in a file.

    Raises:
        UsageError: a filter was given that only the database can apply; k is not from 1 to 999.
        CorpusError: the index is stale, or of another dataset.
        InputError: there is no such index.
    """
    if only.article_id is not None or only.tmd is not None:
        raise UsageError("a FAISS file knows no codes or articles: leave out --index or the filter")
    more = k + len(only.without)
    check_k(more)
    stored = faiss_files.read(path, partial(fingerprint, db))
    if stored.dataset != dataset:
        raise CorpusError(f"{path}: an index of dataset '{stored.dataset}', not '{dataset}'")
    if stored.kind == "hnsw":
        stored.index.hnsw.efSearch = max(EF_SEARCH, more)
    elif stored.kind == "ivfflat":
        stored.index.nprobe = max(1, round(stored.parameters["nlist"] ** 0.5))
    cosines, places = stored.index.search(directions(vector[None]), more)
    found = [
        (uuid.UUID(bytes=stored.ids[place].tobytes()), float(cosine))
        for place, cosine in zip(places[0].tolist(), cosines[0].tolist(), strict=True)
        if place >= 0
    ]
    kept = [each for each in found if each[0] not in only.without][:k]
    exact = stored.kind == "flat"
    return Found(tuple(i for i, _ in kept), tuple(c for _, c in kept), exact)
