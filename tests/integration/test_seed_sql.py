"""The statements of the document that the project began with run as they stand in it.

`seed_statements.sql` holds them word for word, in its order: the query to access, the statistics,
the verification, the export, the 10K subset.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import migrate
from lvmdb.db.engine import Database

Corpus = Callable[..., list[VectorArticle]]
Rows = list[tuple[object, ...]]

STATEMENTS = [
    statement.strip()
    for statement in Path(__file__).with_name("seed_statements.sql").read_text().split(";\n")
    if statement.strip()
]


@pytest.fixture
def answers(db: Database, corpus: Corpus) -> list[Rows]:
    """What each statement answers over 2 articles of "user_input" and one of another dataset."""
    corpus([8, 5], dataset="user_input")
    corpus([7], dataset="other")
    with db.raw_connection() as connection:
        connection.execute(
            "UPDATE cpe_entry SET domain_code = 1, task_code = seq % 2, modifier_code = 3, "
            "tmd_source = 'given'"
        )
        cursors = [connection.execute(statement.encode()) for statement in STATEMENTS]
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]


def test_they_answer_what_the_document_expects(db: Database, answers: list[Rows]) -> None:
    access, total, vectors, tmd, verified, sample, dimensions, export, subset = answers
    assert len(access) == 10
    assert {row[4] for row in access} == {"user_input"}
    assert total == vectors == verified == [(13,)]
    assert tmd == [("1.0.3", 7), ("1.1.3", 6)]
    assert len(sample) == 10
    assert dimensions == [(768,)]
    assert len(export) == 13
    assert [str(row[0]) for row in export] == sorted(str(row[0]) for row in export)
    assert subset == []
    with db.raw_connection() as connection:
        count = connection.execute(
            "SELECT count(*), count(DISTINCT cpe_id), min(array_length(concept_vec, 1)) "
            "FROM cpe_entry_10k"
        )
        assert count.fetchone() == (13, 13, 768)
    assert migrate.drift(db) == []


def test_the_length_of_a_vector_is_asked_as_that_of_an_array(db: Database) -> None:
    with db.raw_connection() as connection:
        row = connection.execute(
            "SELECT array_length('[1,2,3]'::vector, 1), array_length('[1,2,3]'::vector, 2), "
            "array_length('{1,2}'::int[], 1), array_length(NULL::vector, 1)"
        ).fetchone()
    assert row == (3, None, 2, None)
