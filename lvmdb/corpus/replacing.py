"""Articles that changed: what is the same stays, with its id and all that hangs on it.

A concept is the same where its text, its place and its article's key are: then its id is. What
differs is overwritten in its place, since an article may at no time have a gap in its order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

import numpy as np
from sqlalchemy import Connection

from lvmdb.corpus.articles import ChunkedArticle
from lvmdb.corpus.concept_rows import Placed, Shape, copy_concepts
from lvmdb.corpus.hashes import content_hash
from lvmdb.db.queries import query

Refused = list[tuple[str, str]]


@dataclass(frozen=True)
class Origin:
    """Where articles come from.

    Attributes:
        job_id: the job.
        options_hash: what was done to their texts, see `article.options_hash`.
    """

    job_id: int | None = None
    options_hash: bytes | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """As parameters of a statement."""
        return {"job_id": self.job_id, "options_hash": self.options_hash}


NOWHERE = Origin()


@dataclass(frozen=True, eq=False)
class Changed:
    """An article that is there and is no longer what it was.

    Attributes:
        article: what it is now.
        digest: its content hash.
        article_id: of its row.
        frozen_in: the frozen sequence set that holds it, if one does.
        recode: whether concepts that stay get the new codes too; else only those without one do.
    """

    article: ChunkedArticle
    digest: bytes
    article_id: int
    frozen_in: str | None
    recode: bool


def article_columns(articles: Iterable[tuple[ChunkedArticle, bytes]]) -> dict[str, list[Any]]:
    """What rows of articles hold, as parameters of a statement."""
    pairs = list(articles)
    return {
        "titles": [article.title for article, _ in pairs],
        "urls": [article.url for article, _ in pairs],
        "content_hashes": [digest for _, digest in pairs],
        "text_hashes": [content_hash(*article.texts) for article, _ in pairs],
    }


def replace(
    connection: Connection,
    shape: Shape,
    changed: Sequence[Changed],
    origin: Origin,
    meanwhile: Callable[[], object] | None = None,
) -> tuple[int, Refused]:
    """Make articles what they are now, in the connection's transaction.

    Returns:
        How many concepts were written, and the articles that were refused, with the reason.
    """
    connection.execute(query("corpus", "make_staging"))
    plain = [Placed(one.article, one.article_id) for one in changed]
    copy_concepts(connection, "staged_concept", replaced(shape, grouped=False), plain, meanwhile)
    ids = {"article_ids": [one.article_id for one in changed]}
    rebuilt = set(connection.execute(query("corpus", "rebuilt_articles"), ids).scalars())
    refused = [one for one in changed if one.frozen_in and one.article_id in rebuilt]
    kept = [one for one in changed if not (one.frozen_in and one.article_id in rebuilt)]
    ids = {"article_ids": [one.article_id for one in kept]}
    encoded = {**ids, "encoded": shape.encoder_id is not None}
    connection.execute(query("corpus", "drop_concepts"), ids)
    written = connection.execute(query("corpus", "overwrite_concepts"), encoded).rowcount
    written += connection.execute(query("corpus", "append_concepts"), ids).rowcount
    if shape.coded:
        recode = [one.article_id for one in kept if one.recode]
        connection.execute(query("corpus", "recode_concepts"), {**ids, "recode": recode})
    _regroup(connection, kept, rebuilt)
    connection.execute(
        query("corpus", "update_articles"),
        {
            **ids,
            **article_columns((one.article, one.digest) for one in kept),
            **origin.columns,
        },
    )
    # The next call in this transaction begins anew.
    connection.execute(query("corpus", "clear_staging"))
    return written, [(one.article.source_key, _frozen(one.frozen_in or "")) for one in refused]


def with_episodes(
    connection: Connection, articles: Sequence[tuple[ChunkedArticle, int]]
) -> list[Placed]:
    """Write the episodes of articles, and say which ids they got."""
    rows = [
        (article_id, ordinal, episode)
        for article, article_id in articles
        for ordinal, episode in enumerate(article.episodes or ())
    ]
    ids: Mapping[int, list[int]] = {}
    if rows:
        ids = _grouped(
            connection.execute(
                query("corpus", "add_episodes"),
                {
                    "article_ids": [article_id for article_id, _, _ in rows],
                    "ordinals": [ordinal for _, ordinal, _ in rows],
                    "firsts": [episode.first_seq for _, _, episode in rows],
                    "lasts": [episode.last_seq for _, _, episode in rows],
                    "coherences": [episode.coherence for _, _, episode in rows],
                },
            )
        )
    return [Placed(article, number, ids.get(number, ())) for article, number in articles]


def _regroup(connection: Connection, changed: Sequence[Changed], rebuilt: set[int]) -> None:
    """Give articles their new episodes; those that are as they were keep their rows."""
    before = defaultdict(list)
    ids = [one.article_id for one in changed]
    for row in connection.execute(query("corpus", "episodes_of"), {"article_ids": ids}):
        before[row.article_id].append((row.first_seq, row.last_seq, row.coherence))
    stale: list[int] = []
    fresh: list[tuple[ChunkedArticle, int]] = []
    for one in changed:
        made = one.article.episodes
        if made is None:
            # Nobody made any: those of another text would be wrong.
            stale += [one.article_id] if one.article_id in rebuilt else []
            continue
        wanted = [(e.first_seq, e.last_seq, _real(e.coherence)) for e in made]
        if before[one.article_id] != wanted:
            stale.append(one.article_id)
            fresh.append((one.article, one.article_id))
    if stale:
        connection.execute(query("corpus", "clear_episodes"), {"article_ids": stale})
    if fresh:
        with_episodes(connection, fresh)
    # Concepts that were overwritten or appended have none yet, in articles with old episodes too.
    connection.execute(query("corpus", "regroup_concepts"), {"article_ids": ids})


def _grouped(rows: Iterable[Any]) -> dict[int, list[int]]:
    """Ids of episodes by article, in the order of the episodes."""
    found: dict[int, list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.ordinal):
        found[row.article_id].append(row.episode_id)
    return found


def _real(value: float | None) -> float | None:
    """As a column of type real gives it back."""
    return None if value is None else float(np.format_float_positional(np.float32(value)))


def _frozen(name: str) -> str:
    return (
        f"its text or vectors changed, but the frozen sequence set '{name}' holds it: load it as "
        "another dataset, or delete that set"
    )
