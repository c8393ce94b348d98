"""PostgreSQL's full-text search over a dataset, as a contender of `lvmdb bench vecrag`.

A text is asked for as its words with OR between them. The ranking (`ts_rank`) counts how often and
how densely words stand in a concept, and does not know which of them are rare; so one contender
asks for all words, and one for the rarest alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any
from uuid import UUID

import psycopg

from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql
from lvmdb.errors import UsageError

ALL_WORDS = 100_000
"""More than any text has."""


class FullText:
    """Searches the words of a dataset; made by `full_text`.

    Attributes:
        seconds: that the table of words and its index took.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], dataset: str, config: str, seconds: float
    ) -> None:
        self._connection, self._given = connection, {"dataset": dataset, "config": config}
        self.seconds = seconds

    def nearest(
        self,
        text: str,
        k: int,
        without: Sequence[UUID],
        *,
        most_words: int = ALL_WORDS,
        indexed: bool = True,
    ) -> list[UUID]:
        """The ids of the best concepts for a text, best first; none if it has no word that counts.

        Args:
            text: what is searched for.
            k: how many.
            without: concepts that are not to be found.
            most_words: its rarest words.
            indexed: ask the table of words; else words are found in texts while it is asked.
        """
        name = "search_words" if indexed else "search_words_unindexed"
        given = {**self._given, "asked": text, "k": k, "without": list(without)}
        rows = self._connection.execute(
            psycopg_sql("vecrag", name).encode(), {**given, "most_words": most_words}
        )
        return [row[0] for row in rows]


@contextmanager
def full_text(db: Database, dataset: str, config: str = "english") -> Iterator[FullText]:
    """Make the words of a dataset's concepts searchable, until the block ends.

    Args:
        db: the database.
        dataset: whose concepts.
        config: of PostgreSQL's text search: which words count, and what they are stemmed to.

    Raises:
        UsageError: the server has no such configuration.
    """
    with db.connect() as opened:
        connection = raw(opened)
        began = perf_counter()
        given = {"dataset": dataset, "config": config}
        try:
            connection.execute(psycopg_sql("vecrag", "make_documents").encode())
            connection.execute(psycopg_sql("vecrag", "fill_documents").encode(), given)
        except psycopg.errors.UndefinedObject:
            raise UsageError(
                f"the server has no text search configuration '{config}': 'simple' is always there"
            ) from None
        for name in (
            "index_documents",
            "settle_documents",
            "make_word_counts",
            "make_rarest_words",
        ):
            connection.execute(psycopg_sql("vecrag", name).encode())
        # The transaction ends with the block, and takes all of it with it.
        yield FullText(connection, dataset, config, perf_counter() - began)
