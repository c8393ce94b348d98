"""Import of vectors made elsewhere: whole or not at all, once or many times."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lvmdb.corpus import importer, jobs
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.hashes import concept_ids, cpe_id
from lvmdb.corpus.importer import batches, import_vectors
from lvmdb.corpus.store import (
    Stored,
    require_dataset,
    store,
)
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, DatabaseError, InputError, UnknownNameError, UsageError
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[object, ...]]]
Counts = Callable[[Database], dict[str, int]]


@dataclass
class Files:
    """Two files of an import, and how to write and load them."""

    folder: Path
    db: Database
    suffix: str = "npz"

    @property
    def vectors(self) -> Path:
        return self.folder / f"concepts.{self.suffix}"

    @property
    def texts(self) -> Path:
        return self.folder / "concepts.jsonl"

    def write(self, articles: list[VectorArticle], dtype: str = "float32") -> None:
        vectors = np.concatenate([article.vectors for article in articles]).astype(dtype)
        self.write_vectors(vectors)
        lines = [
            json.dumps(
                {
                    "article_title": article.title,
                    "article_index": index,
                    "article_key": article.source_key,
                    "chunk_index": seq,
                    "concept_text": text,
                }
            )
            for index, article in enumerate(articles)
            for seq, text in enumerate(article.texts)
        ]
        self.texts.write_text("\n".join(lines) + "\n")

    def write_vectors(self, vectors: NDArray[np.floating]) -> None:
        if self.suffix == "npz":
            np.savez(self.vectors, vectors=vectors)
        elif self.suffix == "npy":
            np.save(self.vectors, vectors)
        else:
            pa = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            flat = pa.array(vectors.ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
            parquet.write_table(pa.table({"vector": column}), self.vectors)

    def load(self, dataset: str = "wiki", encoder: str = "mpnet") -> Stored:
        return import_vectors(self.db, self.vectors, self.texts, dataset=dataset, encoder=encoder)


@pytest.fixture
def files(tmp_path: Path, db: Database) -> Files:
    return Files(tmp_path, db)


@pytest.fixture
def stored(sql: Sql) -> Callable[[], list[tuple[object, ...]]]:
    """All concepts with the version of their rows."""
    return lambda: sql(
        "SELECT source_key, seq, concept_text, vector_send(concept_vec), cpe_id, c.xmin::text "
        "FROM cpe_entry c JOIN article USING (article_id) ORDER BY ordinal, seq"
    )


@pytest.mark.parametrize("suffix", ["npz", "npy", "parquet"])
def test_texts_and_vectors_come_out_as_they_went_in(
    files: Files, make_articles: Corpus, stored: Callable[[], list[tuple[object, ...]]], suffix: str
) -> None:
    files.suffix = suffix
    articles = make_articles([3, 1, 5])
    files.write(articles)
    outcome = files.load()
    assert (outcome.added, outcome.concepts, outcome.refused) == (3, 9, [])
    rows = stored()
    assert [row[:3] for row in rows] == [
        (a.source_key, seq, text) for a in articles for seq, text in enumerate(a.texts)
    ]
    vectors = parsed_vectors([row[3] for row in rows if isinstance(row[3], bytes)], 768)
    given = np.concatenate([a.vectors for a in articles])
    np.testing.assert_allclose(vectors, given, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_again_changes_nothing(
    files: Files,
    make_articles: Corpus,
    stored: Callable[[], list[tuple[object, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files.write(make_articles([3, 1, 5]), dtype="float16")
    files.load()
    before = stored()
    for batch in (1, 2_000):
        monkeypatch.setattr(importer, "BATCH_CONCEPTS", batch)
        outcome = files.load()
        assert (outcome.unchanged, outcome.added, outcome.concepts) == (3, 0, 0)
        assert stored() == before


def test_an_import_that_was_cut_off_goes_on(
    files: Files, make_articles: Corpus, monkeypatch: pytest.MonkeyPatch, counts: Counts, sql: Sql
) -> None:
    files.write(make_articles([4] * 6))
    monkeypatch.setattr(importer, "BATCH_CONCEPTS", 4)
    calls = 0

    def failing(*arguments: object) -> Stored:
        nonlocal calls
        calls += 1
        outcome = store(*arguments)  # type: ignore[arg-type]
        if calls == 3:
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(importer, "store", failing)
    with pytest.raises(KeyboardInterrupt):
        files.load()
    # Two whole articles; of the third, written but not committed, nothing.
    assert counts(files.db)["article"] == 2
    assert counts(files.db)["cpe_entry"] == 8
    assert sql("SELECT status, articles, concepts FROM ingest_job") == [("failed", 2, 8)]
    outcome = files.load()
    assert (outcome.unchanged, outcome.added) == (2, 4)
    assert sql("SELECT source_key FROM article ORDER BY ordinal") == [(f"a{n}",) for n in range(6)]


def test_a_changed_article_is_replaced_in_its_place(
    files: Files, make_articles: Corpus, sql: Sql
) -> None:
    articles = make_articles([3, 4, 5])
    files.write(articles)
    files.load()
    (longer,) = make_articles([6], seed=1, first=1)
    files.write([articles[0], longer, articles[2]])
    outcome = files.load()
    assert (outcome.changed, outcome.unchanged, outcome.concepts) == (1, 2, 6)
    assert sql(
        "SELECT source_key, ordinal, count(*) FROM article JOIN cpe_entry USING "
        "(article_id) GROUP BY 1, 2 ORDER BY 2"
    ) == [("a0", 0, 3), ("a1", 1, 6), ("a2", 2, 5)]
    assert sql(
        "SELECT DISTINCT concept_text FROM cpe_entry JOIN article USING (article_id) "
        "WHERE source_key = 'a1' AND seq = 0"
    ) == [(longer.texts[0],)]


def test_a_changed_article_of_a_frozen_set_is_refused_and_recorded(
    files: Files, make_articles: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    articles = make_articles([5] * 5)
    files.write(articles)
    files.load()
    frozen = sequence_set()
    (changed,) = make_articles([5], seed=1, first=2)
    (new,) = make_articles([5], first=9)
    files.write([*articles[:2], changed, *articles[3:], new])
    outcome = files.load()
    assert (outcome.added, outcome.changed, outcome.unchanged) == (1, 0, 4)
    assert [key for key, _ in outcome.refused] == ["a2"]
    sets.verify(files.db, frozen)
    assert sql(
        "SELECT step, source_key, message LIKE '%frozen sequence set ''s''%' FROM ingest_error"
    ) == [("store", "a2", True)]
    assert sql("SELECT status FROM ingest_job ORDER BY job_id") == [("succeeded",), ("failed",)]


def _cut_last_line(files: Files) -> None:
    lines = files.texts.read_text().splitlines()
    files.texts.write_text("\n".join(lines[:-1]) + "\n")


def _break_json(files: Files) -> None:
    files.texts.write_text(files.texts.read_text()[:-20])


def _break_vector(files: Files, value: float) -> None:
    vectors = np.load(files.vectors)["vectors"].copy()
    vectors[-1, 0] = value
    files.write_vectors(vectors)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut_last_line, "8 texts, but .* has 9 rows"),
        (_break_json, "concepts.jsonl:9: "),
        (lambda files: _break_vector(files, np.nan), "row 9: the vector has NaN"),
        (lambda files: _break_vector(files, 9), "row 9: the vector's norm is"),
    ],
)
def test_a_broken_row_leaves_the_database_as_it_was(
    files: Files,
    make_articles: Corpus,
    counts: Counts,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Files], None],
    told: str,
) -> None:
    files.write(make_articles([3, 1, 5]))
    damage(files)
    monkeypatch.setattr(importer, "BATCH_CONCEPTS", 1)
    before = counts(files.db)
    with pytest.raises(InputError, match=told):
        files.load()
    assert counts(files.db) == before


def test_two_encoders_do_not_meet_in_a_dataset(
    files: Files, make_articles: Corpus, counts: Counts
) -> None:
    files.write(make_articles([3]))
    files.load()
    before = counts(files.db)
    with pytest.raises(CorpusError, match=r"'mpnet', and a dataset has one encoder"):
        files.load(encoder="gtr")
    assert counts(files.db) == before
    assert files.load(dataset="second", encoder="gtr").added == 1


def test_a_wrong_name_changes_nothing(files: Files, make_articles: Corpus, counts: Counts) -> None:
    files.write(make_articles([3]))
    before = counts(files.db)
    with pytest.raises(UsageError, match="'My Wiki' cannot name a dataset"):
        files.load(dataset="My Wiki")
    assert counts(files.db) == before
    with pytest.raises(UnknownNameError, match="unknown dataset 'wiki'; there is none yet"):
        require_dataset(files.db, "wiki")
    files.load()
    require_dataset(files.db, "wiki")
    with pytest.raises(UnknownNameError, match="did you mean 'wiki'"):
        require_dataset(files.db, "wikki")


def test_a_job_tells_what_was_done(files: Files, make_articles: Corpus, sql: Sql) -> None:
    files.write(make_articles([3, 4]))
    files.load()
    assert sql(
        "SELECT reader, source, status, articles, concepts, options ->> 'encoder', "
        "finished_at >= started_at FROM ingest_job"
    ) == [("vectors", str(files.vectors), "succeeded", 2, 7, "mpnet", True)]
    assert sql("SELECT step, items, seconds > 0 FROM pipeline_timing") == [("store", 7, True)]


def test_an_import_must_be_verified_anew(files: Files, make_articles: Corpus, sql: Sql) -> None:
    """A name with a fingerprint says nothing about vectors that were made elsewhere."""
    files.write(make_articles([4, 3]))
    files.load()
    assert sql("SELECT unverified FROM dataset") == [(True,)]
    sql("UPDATE dataset SET unverified = false")
    files.load()
    assert sql("SELECT unverified FROM dataset") == [(False,)], "nothing was written"
    files.write(make_articles([4, 3, 2]))
    files.load()
    assert sql("SELECT unverified FROM dataset") == [(True,)]


def test_batches_are_of_whole_articles(make_articles: Corpus) -> None:
    made = [[len(a.texts) for a in batch] for batch, _ in batches(make_articles([3, 1, 5, 2]), 4)]
    assert made == [[3, 1], [5], [2]]
    assert list(batches([], 4)) == []


def test_the_next_batch_is_read_while_one_is_written(
    files: Files, make_articles: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit between the blocks of a COPY, never beyond the batch, and never more than it."""
    files.write(make_articles([4] * 6))
    monkeypatch.setattr(importer, "BATCH_CONCEPTS", 8)
    ahead: list[int] = []
    real = importer.Batches.read_on

    def counting(batches: importer.Batches) -> bool:
        read = real(batches)
        ahead.append(batches.held)
        return read

    monkeypatch.setattr(importer.Batches, "read_on", counting)
    assert files.load().concepts == 24
    assert max(ahead) == 8
    reading = batches(make_articles([3, 1, 5]), 4)
    assert [reading.read_on() for _ in range(3)] == [True, True, False]
    assert [[len(a.texts) for a in batch] for batch, _ in reading] == [[3, 1], [5]]


def test_ids_of_an_article_are_those_of_each_concept() -> None:
    texts = ["one", "zwei ü", "\x1f", "one"]
    expected = [cpe_id("wiki", "a\x1f1", seq, text).bytes for seq, text in enumerate(texts, 7)]
    assert concept_ids("wiki", "a\x1f1", texts, 7) == expected
    assert concept_ids("wiki", "a", []) == []


def test_an_article_of_several_blocks_is_whole_and_in_order(
    files: Files, make_articles: Corpus, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lvmdb.corpus.concept_rows.BLOCK", 2)
    articles = make_articles([5, 1, 4])
    files.write(articles)
    assert files.load().concepts == 10
    rows = sql(
        "SELECT concept_text, cpe_id::text FROM cpe_entry JOIN article USING (article_id) "
        "ORDER BY ordinal, seq"
    )
    assert rows == [
        (text, str(cpe_id("wiki", a.source_key, seq, text)))
        for a in articles
        for seq, text in enumerate(a.texts)
    ]


def test_two_imports_at_once_number_the_articles_without_a_gap(
    db: Database, corpus: Corpus, make_articles: Corpus
) -> None:
    """The second waits for the first: both would give the same ordinals."""
    corpus([3])

    def add_impatiently() -> None:
        with db.begin() as two:
            two.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            store(two, "wiki", 1, make_articles([3], first=1), [b"x" * 32])

    with db.begin() as one:
        one.exec_driver_sql("SELECT FROM dataset WHERE dataset_source = 'wiki' FOR UPDATE")
        with pytest.raises(DatabaseError, match="lock timeout"):
            add_impatiently()


def test_a_job_that_fails_says_so(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([3])

    def fail() -> None:
        with jobs.job(db, "wiki", "reader", "source", {}) as (running, _), running.timed("read", 1):
            pass
        with jobs.job(db, "wiki", "reader", "source", {}):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sql("SELECT status, finished_at IS NOT NULL FROM ingest_job ORDER BY job_id") == [
        ("succeeded", True),
        ("failed", True),
    ]


@pytest.mark.shared_data
def test_the_shared_corpus(db: Database, sequence_set: MakeSet, sql: Sql) -> None:
    folder = Path(os.environ.get("LVMDB_TEST_DATA", "")) / "wiki"
    if not os.environ.get("LVMDB_TEST_DATA") or not (folder / "concepts.npz").is_file():
        pytest.skip("LVMDB_TEST_DATA names no folder with wiki/concepts.npz")
    texts = folder / "concepts.jsonl.gz"
    with gzip.open(texts, "rt") as lines:
        records = [json.loads(line) for line in lines]
    outcome = import_vectors(
        db, folder / "concepts.npz", texts, dataset="wiki", encoder="all-mpnet-base-v2"
    )
    assert outcome.concepts == len(records)
    found = sql(
        "SELECT concept_text FROM cpe_entry JOIN article USING (article_id) ORDER BY ordinal, seq"
    )
    assert [text for (text,) in found] == [record["concept_text"] for record in records]
    made = sequence_set(context_len=5, split=(80, 10, 10))
    lengths = np.bincount([record["article_index"] for record in records])
    windows = {s: made.window_count(s) for s in ("train", "val", "test")}
    assert sum(windows.values()) == int(np.maximum(lengths - 5, 0).sum())
    assert (
        dict(
            sql("SELECT split, count(*) FROM training_sequence GROUP BY split")  # type: ignore[arg-type]
        )
        == windows
    )
    old = sequence_set("old", scope="corpus", context_len=5, split=(80, 10, 10))
    assert sum(old.window_count(s) for s in ("train", "val", "test")) == len(records) - 5
