"""Negatives from the vectors alone: what is near a concept's vector without being the concept.

    soft: of the same domain, at a cosine of .6 to .8, the nearest three
    hard: at a cosine below .5, the nearest three

They are stored as the texts of concepts, which is how `sequences.probes` finds them. Each concept
looks at a window of candidates, not at all of a corpus: the window begins where the concept's id
says, a hash, so that it is the same at every call, and another for each concept. One statement
chooses for all concepts of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.corpus.jobs import job
from lvmdb.corpus.retag import grouped, require_changeable
from lvmdb.corpus.store import Stored
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import CorpusError
from lvmdb.progress import SILENT, Progress

NEGATIVES = 3
"""Of each kind, at most."""

SOFT = (0.6, 0.8)
HARD = 0.5
"""Cosines with the concept between which a soft negative lies, and below which a hard one."""

_PREPARING = (
    *("allow_candidates", "make_candidates", "fill_candidates"),
    *("index_candidates", "index_candidate_domains", "analyse_candidates"),
)
"""Statements that give a session what it chooses from, in their order."""


@dataclass(frozen=True)
class Window:
    """How many candidates are looked at.

    Attributes:
        candidates: of the whole dataset; of more concepts, so many are a sample.
        soft: of a concept's domain, besides those of its article.
        hard: of all.
        together: concepts that one statement chooses for, and more if one article has more.
    """

    candidates: int = 65_536
    soft: int = 1_024
    hard: int = 256
    together: int = 512


def choose_negatives(
    db: Database,
    dataset: str,
    *,
    every: bool = False,
    anyway: bool = False,
    limit: int | None = None,
    window: Window | None = None,
    progress: Progress = SILENT,
) -> int:
    """Choose negatives for the concepts of a dataset; returns for how many.

    A concept for which there is none of a kind gets an empty list, so that it is not looked at
    again; so does one of unknown domain for its soft ones.

    Args:
        db: the database.
        dataset: which one.
        every: choose anew for those that have some, as after a change of codes.
        anyway: even if there are runs that would be refused for it.
        limit: stop after so many concepts, at the end of a batch.
        window: how many candidates are looked at.
        progress: told of each concept.

    Raises:
        UnknownNameError: there is no such dataset.
        CorpusError: it has no vectors, or there are runs that read its probes.
    """
    require_changeable(db, dataset, "probes", anyway=anyway)
    size = window or Window()
    asked = {"dataset": dataset, "every": every}
    with db.connect() as connection:
        found = connection.execute(query("enrichment", "articles_without_negatives"), asked).all()
        vectors = connection.execute(query("enrichment", "has_vectors"), {"dataset": dataset})
        if not vectors.scalar_one():
            raise CorpusError(
                f"dataset '{dataset}' has no vectors, by which negatives are chosen: ingest it "
                "with an encoder"
            )
    if not found:
        return 0
    options = {"negatives": "vectors", "every": every}
    total = sum(row.concepts for row in found)
    with (
        job(db, dataset, "enrich", "negatives", options) as (running, stored),
        progress.task("negatives", min(total, limit or total), "concepts") as advance,
        db.connect() as connection,
    ):
        with running.timed("gather candidates"):
            for name in _PREPARING:
                given = {"dataset": dataset, "most": size.candidates}
                connection.execute(query("enrichment", name), given if "fill" in name else None)
            connection.commit()
        for articles in grouped(found, size.together):
            concepts = sum(row.concepts for row in articles)
            with running.timed("choose negatives", concepts), connection.begin():
                connection.execute(
                    query("enrichment", "choose_negatives"),
                    {
                        "article_ids": [row.article_id for row in articles],
                        "every": every,
                        "soft_from": SOFT[0],
                        "soft_to": SOFT[1],
                        "hard_below": HARD,
                        "soft_window": size.soft,
                        "hard_window": size.hard,
                        "negatives": NEGATIVES,
                    },
                )
            stored += Stored(concepts=concepts)
            advance(concepts)
            if limit is not None and stored.concepts >= limit:
                break
    return stored.concepts
