"""Ingest: whole articles or none, encoded once, in order, and accounted for."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus.articles import VectorArticle, Vectors
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.encoder import EncoderSpec
from lvmdb.corpus.ingest import Ingested, ingest
from lvmdb.corpus.plan import RANGE, IngestPlan
from lvmdb.corpus.readers.registry import get_reader
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.db import bulk
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, EncoderError, InputError
from lvmdb.sequences.sets import SequenceSet

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Counts = Callable[[Database], dict[str, int]]

NAME = "tiny"


class Counting:
    """An encoder that counts the texts that it is given, and may break at one of them."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.loads = 0
        self.texts: list[str] = []
        self.breaks_at: str | None = None

    def load(self) -> SentenceEncoder:
        self.loads += 1
        return self  # type: ignore[return-value]

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Vectors:
        self.texts += texts
        if self.breaks_at in texts:
            raise KeyboardInterrupt
        return self._encoder.encode(texts, progress)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def _tiny(folder: Path, seed: int) -> SentenceEncoder:
    file = Path(__file__).parents[1] / "tiny_encoder.py"
    spec = importlib.util.spec_from_file_location("tiny_encoder", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SentenceEncoder.load(module.build(folder, seed), EncoderSpec(NAME))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return _tiny(tmp_path_factory.mktemp("tiny"), 0)


@pytest.fixture(scope="module")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    """Another model under the same name."""
    return _tiny(tmp_path_factory.mktemp("impostor"), 1)


@pytest.fixture
def encoder(tiny: SentenceEncoder) -> Counting:
    return Counting(tiny)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "articles.jsonl"


def said(k: int, number: int) -> str:
    return f"Passage {k} of article {number} says this and nothing else."


def article(number: int, passages: int = 3) -> dict[str, str]:
    """Each paragraph is long enough to be a concept, and too long to share one."""
    return {
        "title": f"Article {number}",
        "text": "\n\n".join(said(k, number) for k in range(passages)),
    }


def write(source: Path, articles: Iterable[dict[str, str]]) -> None:
    source.write_text("".join(json.dumps(a) + "\n" for a in articles), encoding="utf-8")


def planned(source: Path, encoder: Counting | None, **given: Any) -> IngestPlan:
    plan = IngestPlan(
        dataset="news",
        reader_name="jsonl",
        reader=get_reader("jsonl"),
        source=str(source),
        chunker=get_chunker("sentence"),
        encoder=None if encoder is None else NAME,
        load_encoder=lambda: encoder.load() if encoder else pytest.fail("no encoder was asked for"),
    )
    return replace(plan, **given)


def numbers(done: Ingested) -> tuple[int, int, int, int]:
    t = done.totals
    return t.added, t.changed, t.unchanged, t.concepts


ROWS = (
    "SELECT a.ordinal, a.source_key, c.seq, c.concept_text, c.cpe_id::text, "
    "md5(vector_send(c.concept_vec)) FROM article a LEFT JOIN cpe_entry c USING (article_id) "
    "ORDER BY a.ordinal, c.seq"
)


def test_text_becomes_concepts_in_order(
    db: Database, source: Path, encoder: Counting, tiny: SentenceEncoder, sql: Sql
) -> None:
    write(source, [article(3), article(1, 1), article(2, 2)])
    done = ingest(db, planned(source, encoder))
    assert (numbers(done), done.totals.failed) == ((3, 0, 0, 6), 0)
    rows = sql(
        "SELECT title, ordinal, seq, concept_text, vector_send(concept_vec) FROM cpe_entry "
        "JOIN article USING (article_id) ORDER BY ordinal, seq"
    )
    texts = [said(k, number) for number, length in ((3, 3), (1, 1), (2, 2)) for k in range(length)]
    assert [row[3] for row in rows] == texts
    assert [row[:3] for row in rows] == [
        *(("Article 3", 0, seq) for seq in range(3)),
        ("Article 1", 1, 0),
        *(("Article 2", 2, seq) for seq in range(2)),
    ]
    vectors = bulk.parsed_vectors([row[4] for row in rows], 768)
    np.testing.assert_allclose(vectors, tiny.encode(texts), atol=1e-5)
    assert sql(
        "SELECT d.dataset_source, e.name, e.revision, (SELECT count(*) FROM encoder_probe) "
        "FROM dataset d JOIN encoder e USING (encoder_id)"
    ) == [("news", NAME, tiny.revision, 8)]


def test_a_job_says_what_was_done(db: Database, source: Path, encoder: Counting, sql: Sql) -> None:
    write(source, [article(1), article(2)])
    ingest(db, planned(source, encoder, limit=5))
    assert sql(
        "SELECT dataset_source, reader, source, status, articles, concepts, "
        "finished_at >= started_at, options ->> 'chunker', options ->> 'encoder', "
        "options -> 'limit' FROM ingest_job"
    ) == [("news", "jsonl", str(source), "succeeded", 2, 6, True, "sentence", NAME, 5)]
    timings = {step: (items, seconds) for step, items, seconds in sql(
        "SELECT step, items, seconds FROM pipeline_timing")}  # fmt: skip
    assert {step: items for step, (items, _) in timings.items()} == {
        "read": 2,
        "chunk": 6,
        "load encoder": 1,
        "encode": 6,
        "store": 6,
    }
    assert all(seconds > 0 for _, seconds in timings.values())


def test_again_nothing_is_loaded_encoded_or_written(
    db: Database, source: Path, encoder: Counting, sql: Sql
) -> None:
    write(source, [article(n) for n in range(RANGE + 3)])
    ingest(db, planned(source, encoder))
    before = sql("SELECT cpe_id::text, xmin::text FROM cpe_entry ORDER BY 1")
    again = Counting(encoder._encoder)
    done = ingest(db, planned(source, again))
    assert (numbers(done), done.totals.failed) == ((0, 0, RANGE + 3, 0), 0)
    assert (again.loads, again.texts) == (0, [])
    assert sql("SELECT cpe_id::text, xmin::text FROM cpe_entry ORDER BY 1") == before
    assert sql("SELECT status, articles FROM ingest_job ORDER BY job_id") == [
        ("succeeded", RANGE + 3),
        ("succeeded", 0),
    ]


def test_only_what_is_new_or_changed_is_encoded(
    db: Database, source: Path, encoder: Counting, sql: Sql
) -> None:
    write(source, [article(1), article(2), article(3)])
    ingest(db, planned(source, encoder))
    before = {row[3]: row for row in sql(ROWS)}
    other = "What stood here before was wrong and is no more."
    changed = {"title": "Article 2", "text": f"{said(0, 2)}\n\n{other}"}
    write(source, [article(1), changed, article(3), article(4, 1)])
    again = Counting(encoder._encoder)
    done = ingest(db, planned(source, again))
    # Of the article that changed, the concept that did not is neither encoded nor written.
    assert numbers(done) == (1, 1, 2, 2)
    assert again.texts == [other, said(0, 4)]
    rows = sql(ROWS)
    assert [(ordinal, seq) for ordinal, _, seq, *_ in rows] == [
        *((0, seq) for seq in range(3)),
        *((1, seq) for seq in range(2)),
        *((2, seq) for seq in range(3)),
        (3, 0),
    ]
    kept = [row for row in rows if row[0] in (0, 2)]
    assert all(before[row[3]] == row for row in kept)
    # The same text in the same place is the same concept.
    assert rows[3][3:5] == before[said(0, 2)][3:5]
    # Other options give other concepts: the hash is of those too.
    done = ingest(db, planned(source, again, chunker=get_chunker("paragraph")))
    assert done.totals.changed == 4


def test_an_article_in_a_frozen_set_stays(
    db: Database, source: Path, encoder: Counting, sequence_set: MakeSet, sql: Sql
) -> None:
    write(source, [article(n) for n in range(5)])
    ingest(db, planned(source, encoder))
    sequence_set(dataset="news")
    before = sql(ROWS)
    write(source, [{"title": "Article 0", "text": said(8, 9)}, article(5)])
    done = ingest(db, planned(source, encoder))
    assert (numbers(done), done.totals.failed) == ((1, 0, 0, 3), 1)
    assert sql(ROWS)[: len(before)] == before
    assert sql("SELECT status FROM ingest_job ORDER BY job_id") == [("succeeded",), ("failed",)]
    ((step, key, message),) = sql("SELECT step, source_key, message FROM ingest_error")
    assert (step, key) == ("store", "Article 0")
    assert "frozen sequence set 's'" in message


def test_what_comes_before_an_interruption_is_whole(
    db: Database, source: Path, encoder: Counting, sql: Sql, counts: Counts
) -> None:
    articles = [article(n) for n in range(2 * RANGE + 5)]
    write(source, articles)
    encoder.breaks_at = said(1, RANGE + 4)
    with pytest.raises(KeyboardInterrupt):
        ingest(db, planned(source, encoder))
    # The articles of the group before are there with all they have; of this one nothing.
    assert (counts(db)["article"], counts(db)["cpe_entry"]) == (RANGE, 3 * RANGE)
    assert sql("SELECT count(*) FROM cpe_entry WHERE concept_vec IS NULL") == [(0,)]
    assert sql("SELECT status, articles, concepts FROM ingest_job") == [
        ("failed", RANGE, 3 * RANGE)
    ]
    again = Counting(encoder._encoder)
    done = ingest(db, planned(source, again))
    assert (numbers(done), done.totals.failed) == ((RANGE + 5, 0, RANGE, 3 * (RANGE + 5)), 0)
    assert len(again.texts) == 3 * (RANGE + 5)
    undisturbed = planned(source, Counting(encoder._encoder), dataset="straight")
    ingest(db, undisturbed)
    assert sql(
        "SELECT count(DISTINCT texts), count(*) FROM (SELECT dataset_source, "
        "string_agg(source_key || ordinal || seq || concept_text, '|' ORDER BY ordinal, seq) "
        "AS texts FROM cpe_entry JOIN article USING (article_id, dataset_source) GROUP BY 1) d"
    ) == [(1, 2)]


def test_an_article_is_stored_whole_or_not_at_all(
    db: Database, source: Path, encoder: Counting, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    """A failure while the concepts of a range are written takes back the range, and no other."""
    from lvmdb.corpus import concept_rows, store

    write(source, [article(n) for n in range(5)])
    real = concept_rows.copy_concepts

    def broken(connection: Any, table: str, shape: Any, placed: Any, meanwhile: Any) -> int:
        done = real(connection, table, shape, placed, meanwhile)
        if any(one.article.title == "Article 2" for one in placed):
            raise OSError("the server went away")
        return done

    monkeypatch.setattr(store, "copy_concepts", broken)
    plan = planned(source, encoder, range_articles=2)
    with pytest.raises(OSError, match="went away"):
        ingest(db, plan)
    assert (counts(db)["article"], counts(db)["cpe_entry"]) == (2, 6)
    monkeypatch.undo()
    done = ingest(db, plan)
    assert numbers(done) == (3, 0, 2, 9)


def test_without_an_encoder_concepts_have_no_vectors(
    db: Database, source: Path, encoder: Counting, sql: Sql
) -> None:
    write(source, [article(1), article(2)])
    done = ingest(db, planned(source, None))
    assert numbers(done) == (2, 0, 0, 6)
    assert sql(
        "SELECT count(*), count(concept_vec), count(encoder_id), (SELECT count(*) FROM encoder) "
        "FROM cpe_entry"
    ) == [(6, 0, 0, 0)]
    ids = sql("SELECT cpe_id FROM cpe_entry ORDER BY 1")
    # With one, later, the same concepts get theirs.
    done = ingest(db, planned(source, encoder))
    assert numbers(done) == (0, 2, 0, 6)
    assert sql("SELECT cpe_id FROM cpe_entry WHERE concept_vec IS NOT NULL ORDER BY 1") == ids
    # And nobody takes them away again by forgetting the option.
    before = sql(ROWS)
    with pytest.raises(CorpusError, match=r"has vectors of the encoder 'tiny'.*would lose"):
        ingest(db, planned(source, None))
    assert sql(ROWS) == before


def test_another_model_of_the_same_name_is_refused(
    db: Database,
    source: Path,
    encoder: Counting,
    impostor: SentenceEncoder,
    counts: Counts,
) -> None:
    write(source, [article(1)])
    ingest(db, planned(source, encoder))
    before = counts(db)
    write(source, [article(1), article(2)])
    for dataset in ("news", "elsewhere"):
        with pytest.raises(EncoderError, match="is not the one whose vectors are stored"):
            ingest(db, planned(source, Counting(impostor), dataset=dataset))
    assert counts(db) == before


def test_a_dataset_has_one_encoder(
    db: Database, source: Path, encoder: Counting, corpus: Corpus, counts: Counts
) -> None:
    corpus([3], dataset="news", encoder="another")
    before = counts(db)
    write(source, [article(1)])
    with pytest.raises(CorpusError, match=r"has vectors of the encoder 'another'.*one encoder"):
        ingest(db, planned(source, encoder))
    assert counts(db) == before


def test_beside_imported_vectors_nothing_is_encoded_before_they_are_verified(
    db: Database, source: Path, encoder: Counting, corpus: Corpus, counts: Counts
) -> None:
    corpus([3], dataset="news", encoder=NAME)
    before = counts(db)
    write(source, [article(1)])
    with pytest.raises(EncoderError, match="run 'lvmdb encoders verify tiny' first"):
        ingest(db, planned(source, encoder))
    assert counts(db) == before


def test_what_fails_before_the_first_article_leaves_nothing(
    db: Database, source: Path, counts: Counts
) -> None:
    before = counts(db)

    def missing() -> SentenceEncoder:
        raise EncoderError("the weights are nowhere")

    write(source, [article(1)])
    with pytest.raises(EncoderError, match="nowhere"):
        ingest(db, replace(planned(source, None), encoder=NAME, load_encoder=missing))
    source.write_text(json.dumps(article(1)) + "\n{broken\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"articles\.jsonl:2: not JSON"):
        ingest(db, planned(source, None))
    with pytest.raises(InputError, match="no such file"):
        ingest(db, planned(source.with_name("none.jsonl"), None))
    assert counts(db) == before


def test_an_article_without_text_is_an_error_of_its_own(
    db: Database, source: Path, encoder: Counting, sql: Sql
) -> None:
    write(source, [article(1), {"title": "Nothing", "text": "Too short."}, article(2)])
    done = ingest(db, planned(source, encoder))
    assert (numbers(done), done.totals.failed) == ((2, 0, 0, 6), 1)
    assert sql("SELECT step, source_key FROM ingest_error") == [("chunk", "Nothing")]
    assert sql("SELECT status FROM ingest_job") == [("failed",)]
    assert sql("SELECT source_key FROM article ORDER BY ordinal") == [
        ("Article 1",),
        ("Article 2",),
    ]


def test_the_documentation_of_python(db: Database, encoder: Counting, sql: Sql) -> None:
    reader = get_reader("python-docs")
    expected = [(a.source_key, a.title) for a in reader("-", limit=4)]
    docs = {"reader": reader, "reader_name": "python-docs", "limit": 4}
    for times in (1, 2):
        done = ingest(db, planned(Path("-"), None, **docs))
        assert done.totals.errors == 0
        assert done.totals.added == (4 if times == 1 else 0)
    assert sql("SELECT source_key, title FROM article ORDER BY ordinal") == expected
    assert sql("SELECT count(*) > 40, min(seq) FROM cpe_entry") == [(True, 0)]
