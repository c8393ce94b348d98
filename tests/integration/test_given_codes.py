"""Codes that came with their source: of articles in JSONL, of concepts in imports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.importer import import_vectors
from lvmdb.corpus.ingest import ingest
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.readers.registry import get_reader
from lvmdb.corpus.retag import retag
from lvmdb.corpus.tagging import Tag
from lvmdb.corpus.tmd import dense
from lvmdb.db.engine import Database
from lvmdb.errors import InputError

Sql = Callable[..., list[tuple[Any, ...]]]

CODES = (
    "SELECT source_key, seq, tmd_code, tmd_source FROM article JOIN cpe_entry USING (article_id) "
    "ORDER BY ordinal, seq"
)


class Sevens:
    """A tagger to whom everything is 7.7.7."""

    name = "llm"
    options: Mapping[str, Any] = {}

    def tag(self, texts: Any, vectors: Vectors | None) -> list[Tag]:
        return [Tag((7, 7, 7)) for _ in texts]


def write(path: Path, codes: list[str | None]) -> None:
    lines = []
    for number, code in enumerate(codes):
        text = "\n\n".join(f"This is passage {k} of the article {number} of all." for k in range(2))
        lines.append({"title": f"T{number}", "text": text, "tmd_code": code})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def planned(path: Path, tagger: Any = None) -> IngestPlan:
    return IngestPlan(
        dataset="news",
        reader_name="jsonl",
        reader=get_reader("jsonl"),
        source=str(path),
        chunker=get_chunker("paragraph"),
        encoder=None,
        load_encoder=lambda: pytest.fail("no encoder was asked for"),
        tagger=tagger,
    )


def test_an_article_gives_its_code_to_its_concepts(db: Database, tmp_path: Path, sql: Sql) -> None:
    path = tmp_path / "a.jsonl"
    write(path, ["3.0.63", None])
    ingest(db, planned(path, Sevens()))
    given = [("T0", k, "3.0.63", "given") for k in range(2)]
    assert sql(CODES) == given + [("T1", k, "7.7.7", "llm") for k in range(2)]
    ((vector,),) = sql("SELECT DISTINCT tmd_vec::real[] FROM cpe_entry WHERE tmd_source = 'given'")
    assert np.array_equal(np.array(vector, dtype=np.float32), dense([(3, 0, 63)])[0])
    again = ingest(db, planned(path, Sevens()))
    assert (again.totals.unchanged, again.totals.changed) == (2, 0)
    # No tagger takes it away; a source that changes its mind does, whoever decided before.
    retag(db, "news", Sevens(), every=True)
    assert sql(CODES)[:2] == given
    ids = sql("SELECT cpe_id FROM cpe_entry ORDER BY 1")
    write(path, ["4.1.2", "5.0.0"])
    assert ingest(db, planned(path, Sevens())).totals.changed == 2
    assert [row[2:] for row in sql(CODES)] == [("4.1.2", "given")] * 2 + [("5.0.0", "given")] * 2
    assert sql("SELECT cpe_id FROM cpe_entry ORDER BY 1") == ids


def test_without_a_tagger_given_codes_are_kept_too(db: Database, tmp_path: Path, sql: Sql) -> None:
    path = tmp_path / "a.jsonl"
    write(path, ["0.0.0", None])
    ingest(db, planned(path))
    assert [row[2:] for row in sql(CODES)] == [("0.0.0", "given")] * 2 + [(None, None)] * 2


def test_a_code_that_is_none_is_an_error_of_its_line(
    db: Database, tmp_path: Path, sql: Sql
) -> None:
    path = tmp_path / "a.jsonl"
    write(path, ["1.2.3", "16.0.0"])
    with pytest.raises(InputError, match=r"a\.jsonl:2: the TMD code '16\.0\.0' is not D\.T\.M"):
        ingest(db, planned(path))
    assert sql(CODES) == []


def test_imports_give_concepts_their_codes(db: Database, tmp_path: Path, sql: Sql) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 768)).astype(np.float32)
    np.savez(tmp_path / "v.npz", vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def load(*codes: str | None) -> Any:
        lines = [
            {"article_title": "A", "article_index": 0, "chunk_index": k, "concept_text": f"T {k}."}
            | ({} if code is None else {"tmd_code": code})
            for k, code in enumerate(codes)
        ]
        texts = tmp_path / "t.jsonl"
        texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return import_vectors(db, tmp_path / "v.npz", texts, dataset="news", encoder="mpnet")

    assert load(None, None, None).added == 1
    assert load(None, None, None).unchanged == 1
    assert load("1.2.3", None, "15.31.63").changed == 1
    assert load("1.2.3", None, "15.31.63").unchanged == 1
    assert [row[2:] for row in sql(CODES)] == [
        ("1.2.3", "given"),
        (None, None),
        ("15.31.63", "given"),
    ]
    load("1.2.4", None, "15.31.63")
    assert sql(CODES)[0][2:] == ("1.2.4", "given")
    with pytest.raises(InputError, match=r"t\.jsonl:1: the TMD code 'x'"):
        load("x", None, None)
