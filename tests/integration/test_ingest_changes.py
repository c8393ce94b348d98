"""What an ingest finds again: kept, replaced, retried, or no longer in its source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lvmdb.cli.main import cli
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import RawArticle, Vectors
from lvmdb.corpus.bench import bench_ingest
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec
from lvmdb.corpus.episodes import EpisodeOptions
from lvmdb.corpus.ingest import given_articles, ingest
from lvmdb.corpus.pipeline import GIVE_UP_AFTER
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.readers.registry import get_reader
from lvmdb.corpus.tagging import UNSURE, Tag
from lvmdb.db import bulk
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, EncoderError, EndpointAwayError, UsageError
from lvmdb.sequences.sets import SequenceSet

Sql = Callable[..., list[tuple[Any, ...]]]
Write = Callable[..., None]


class Drawn:
    """An encoder by the text alone, that may refuse some."""

    name, revision, pooling, normalised, max_tokens = "drawn", "1", "mean", True, 64
    spec, precision = EncoderSpec("drawn"), "fp32"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refuses: tuple[str, ...] = ()

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Vectors:
        if any(word in text for word in self.refuses for text in texts):
            raise EncoderError("it gave no usable vector")
        self.texts += texts
        rows = [np.random.default_rng([*text.encode()]).standard_normal(768) for text in texts]
        made = np.stack(rows)
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)

    def probe_vectors(self) -> Vectors:
        return self.encode(PROBE_SENTENCES)


class Tagger:
    """Knows one code; of some texts it is not sure, at some it fails."""

    name = "llm"

    def __init__(self, code: tuple[int, int, int] = (1, 2, 3)) -> None:
        self.code = code
        self.asked: list[str] = []
        self.fails_at = self.unsure_at = "(nowhere)"

    @property
    def options(self) -> dict[str, Any]:
        return {"code": list(self.code)}

    def tag(self, texts: Sequence[str], vectors: Vectors | None) -> list[Tag]:
        self.asked += texts
        return [
            Tag(None, "the answer was no JSON")
            if self.fails_at in text
            else UNSURE
            if self.unsure_at in text
            else Tag(self.code)
            for text in texts
        ]


def said(what: str, number: int) -> str:
    return f"The {what} of article {number} says this and nothing else."


@pytest.fixture
def encoder() -> Drawn:
    return Drawn()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(a=["one", "two"])`: the source's articles, with these passages."""

    def to_file(**articles: Sequence[str]) -> None:
        lines = [
            {"id": key, "title": key, "text": "\n\n".join(said(what, n) for what in passages)}
            for n, (key, passages) in enumerate(articles.items())
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "articles.jsonl").write_text(text, encoding="utf-8")

    return to_file


@pytest.fixture
def plan(tmp_path: Path, encoder: Drawn) -> IngestPlan:
    return IngestPlan(
        dataset="news",
        reader_name="jsonl",
        reader=get_reader("jsonl"),
        source=str(tmp_path / "articles.jsonl"),
        chunker=get_chunker("paragraph"),
        encoder="drawn",
        load_encoder=lambda: encoder,
        range_articles=2,
    )


CONCEPTS = (
    "SELECT cpe_id::text, seq, concept_text, vector_send(concept_vec), probe_question, tmd_code, "
    "cpe_entry.created_at FROM cpe_entry JOIN article USING (article_id) WHERE source_key = %s "
    "ORDER BY seq"
)


def test_what_is_the_same_stays_with_all_that_it_has(
    db: Database, plan: IngestPlan, write: Write, encoder: Drawn, sql: Sql
) -> None:
    write(a=["one", "two", "three"], b=["one"])
    ingest(db, plan)
    sql("UPDATE cpe_entry SET probe_question = 'Which ' || seq || '?', domain_code = 1, "
        "task_code = 2, modifier_code = 3, tmd_source = 'given'")  # fmt: skip
    before = sql(CONCEPTS, ["a"])
    encoder.texts.clear()
    write(a=["one", "other", "three", "four", "five"], b=["one"])
    done = ingest(db, plan).totals
    assert (done.changed, done.unchanged, done.concepts) == (1, 1, 3)
    new = [said(what, 0) for what in ("other", "four", "five")]
    assert sorted(encoder.texts[-3:]) == sorted(new)
    after = sql(CONCEPTS, ["a"])
    assert [after[0], after[2]] == [before[0], before[2]]
    assert [row[2] for row in after] == [
        said(what, 0) for what in ("one", "other", "three", "four", "five")
    ]
    # Nothing of what stood in its place is left at the one that was replaced.
    assert after[1][0] != before[1][0]
    (vector,) = bulk.parsed_vectors([after[1][3]], 768)
    np.testing.assert_array_equal(vector, encoder.encode([said("other", 0)])[0])
    assert after[1][4:6] == (None, None)
    # And back, and shorter.
    write(a=["one", "two"], b=["one"])
    assert ingest(db, plan).totals.concepts == 1
    shorter = sql(CONCEPTS, ["a"])
    assert shorter[0] == before[0]
    assert [row[:4] for row in shorter] == [row[:4] for row in before[:2]]
    # An article that loses a passage at its beginning has others in all places.
    write(a=["two"], b=["one"])
    ingest(db, plan)
    assert [row[1:3] for row in sql(CONCEPTS, ["a"])] == [(0, said("two", 0))]


def test_a_prediction_of_a_concept_that_stays_survives_and_of_one_that_goes_refuses(
    db: Database, plan: IngestPlan, write: Write, sql: Sql
) -> None:
    write(a=["one", "two"], b=["one"])
    ingest(db, plan)
    for seq in (0, 1):
        sql("CREATE TABLE IF NOT EXISTS rests (cpe_id uuid REFERENCES cpe_entry)")
        sql("INSERT INTO rests SELECT cpe_id FROM cpe_entry JOIN article USING (article_id) "
            "WHERE source_key = 'a' AND seq = %s", [seq])  # fmt: skip
        write(a=["one", "other"], b=["one", "two"])
        done = ingest(db, plan).totals
        # Of the same range, the other article is written all the same.
        assert (done.changed, done.failed) == ((2, 0) if seq == 0 else (1, 1))
        write(a=["one", "two"], b=["one"])
        ingest(db, plan)
    assert sql("SELECT step, source_key FROM ingest_error") == [("store", "a")]


def test_only_codes_and_episodes_of_a_frozen_article_may_change(
    db: Database,
    plan: IngestPlan,
    write: Write,
    sequence_set: Callable[..., SequenceSet],
    encoder: Drawn,
    sql: Sql,
) -> None:
    write(**{key: ["one", "two", "three"] for key in "abcde"})
    ingest(db, plan)
    sequence_set(dataset="news")
    before = sql("SELECT cpe_id::text, vector_send(concept_vec) FROM cpe_entry ORDER BY 1")
    encoder.texts.clear()
    coded = replace(plan, tagger=Tagger(), episodes=EpisodeOptions())
    done = ingest(db, coded).totals
    assert (done.changed, done.failed, done.concepts) == (5, 0, 0)
    assert encoder.texts == [*PROBE_SENTENCES]
    assert sql("SELECT cpe_id::text, vector_send(concept_vec) FROM cpe_entry ORDER BY 1") == before
    assert sql("SELECT tmd_code, count(*), count(episode_id) FROM cpe_entry GROUP BY 1") == [
        ("1.2.3", 15, 15)
    ]
    write(**{key: ["one", "two", "four"] for key in "abcde"})
    done = ingest(db, coded).totals
    assert (done.changed, done.failed) == (0, 5)


def test_codes_are_decided_once_and_where_they_failed_again(
    db: Database, plan: IngestPlan, write: Write, sql: Sql
) -> None:
    tagger = Tagger()
    tagger.fails_at, tagger.unsure_at = "two", "three"
    coded = replace(plan, tagger=tagger, episodes=EpisodeOptions())
    write(a=["one", "two", "three"], b=["one"])
    codes = "SELECT tmd_code, tmd_source, vector_norm(tmd_vec)::numeric(4, 2)::text FROM cpe_entry "
    codes += "JOIN article USING (article_id) ORDER BY ordinal, seq"
    known, none = ("1.2.3", "llm", "1.00"), (None, None, None)
    for tries in (1, 2):
        done = ingest(db, coded).totals
        # The article is kept; that a concept has no code is told.
        assert (done.status, done.failed, done.errors) == ("failed", 0, 1)
        assert sql(codes) == [known, none, none, known]
        assert sql(
            "SELECT step, source_key, message, tries, resolved_at FROM ingest_error "
            "ORDER BY error_id DESC LIMIT 1"
        ) == [("tag", "a", "the answer was no JSON", tries, None)]
    tagger.fails_at = "(nowhere)"
    done = ingest(db, coded).totals
    assert (done.status, done.changed, done.unchanged, done.errors) == ("succeeded", 1, 1, 0)
    assert sql(codes) == [known, known, none, known]
    assert sql("SELECT count(*) FROM ingest_error WHERE resolved_at IS NULL") == [(0,)]
    # Being unsure is no failure: nothing is asked again.
    tagger.asked.clear()
    assert ingest(db, coded).totals.unchanged == 2
    assert tagger.asked == []
    # Another model decides all anew, but what somebody gave.
    sql("UPDATE cpe_entry SET tmd_source = 'given' WHERE seq = 1")
    ingest(db, replace(coded, tagger=Tagger((4, 5, 6))))
    assert [code for code, *_ in sql(codes)] == ["4.5.6", "1.2.3", "4.5.6", "4.5.6"]


def test_an_article_whose_step_fails_is_tried_again(
    db: Database, plan: IngestPlan, write: Write, encoder: Drawn, sql: Sql
) -> None:
    write(a=["one"], b=["bad"], c=["one"], d=["one"])
    encoder.refuses = ("bad",)
    for tries in (1, 2):
        done = ingest(db, plan).totals
        assert (done.added + done.unchanged, done.failed) == (3, 1)
        assert sql("SELECT step, source_key, tries FROM ingest_error "
                   "ORDER BY error_id DESC LIMIT 1") == [("encode", "b", tries)]  # fmt: skip
    encoder.refuses = ()
    done = ingest(db, plan).totals
    assert (done.added, done.failed, done.status) == (1, 0, "succeeded")
    assert sql("SELECT source_key FROM article ORDER BY ordinal") == [
        ("a",),
        ("c",),
        ("d",),
        ("b",),
    ]
    assert sql("SELECT count(*) FROM ingest_error WHERE resolved_at IS NOT NULL") == [(2,)]


def test_where_nothing_can_be_encoded_it_ends(
    db: Database, plan: IngestPlan, write: Write, encoder: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(**{f"a{n}": ["bad"] for n in range(2 * (GIVE_UP_AFTER + 2))})
    encoder.refuses = ("bad",)
    with pytest.raises(CorpusError, match="nothing could be encoded of 3 ranges"):
        ingest(db, plan)

    def away(*_: object) -> Vectors:
        raise EndpointAwayError("the endpoint is not there")

    encoder.refuses = ()
    monkeypatch.setattr(plan.load_encoder(), "probe_vectors", lambda: Drawn().probe_vectors())
    monkeypatch.setattr(encoder, "encode", away)
    with pytest.raises(EndpointAwayError):
        ingest(db, plan)


def test_what_vanished_is_told_and_stays(
    db: Database, plan: IngestPlan, write: Write, sql: Sql
) -> None:
    write(a=["one"], b=["one"], c=["one"])
    assert ingest(db, plan).totals.vanished == 0
    write(a=["one"], c=["two"])
    done = ingest(db, plan).totals
    assert (done.vanished, done.unchanged, done.changed) == (1, 1, 1)
    assert sql("SELECT source_key FROM ingest_vanished") == [("b",)]
    assert sql("SELECT source_key FROM article ORDER BY ordinal") == [("a",), ("b",), ("c",)]
    # A limit hides the rest of a source; that is not gone.
    assert ingest(db, replace(plan, limit=1)).totals.vanished is None
    # Another source says nothing about this one.
    other = Path(plan.source).with_name("other.jsonl")
    other.write_text(Path(plan.source).read_text(encoding="utf-8"), encoding="utf-8")
    assert ingest(db, replace(plan, source=str(other))).totals.vanished == 0
    # Back again.
    write(a=["one"], b=["one"], c=["two"])
    assert ingest(db, plan).totals.vanished == 0


def test_articles_at_hand_are_a_job_of_their_own(db: Database, plan: IngestPlan, sql: Sql) -> None:
    for text, added in ((said("one", 0), 1), (said("two", 0), 0)):
        articles = [RawArticle("a", "A", text)]
        at_hand = replace(
            plan, reader_name="http", reader=given_articles(articles), source="request",
            shared=False, survey=False,
        )  # fmt: skip
        done = ingest(db, at_hand).totals
        assert (done.added, done.changed, done.vanished) == (added, 1 - added, None)
    assert sql("SELECT reader, source FROM ingest_job") == [("http", "request")] * 2


def test_without_a_survey_a_broken_source_leaves_a_beginning(
    db: Database, plan: IngestPlan, write: Write, sql: Sql
) -> None:
    write(a=["one"], b=["one"], c=["one"])
    with Path(plan.source).open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    with pytest.raises(Exception, match="not JSON"):
        ingest(db, replace(plan, survey=False))
    assert sql("SELECT source_key FROM article ORDER BY ordinal") in ([], [("a",), ("b",)])
    assert sql("SELECT status, (SELECT count(*) FROM ingest_range) FROM ingest_job") == [
        ("failed", 0)
    ]


def test_the_command_does_it_all_with_the_semantic_chunker_too(
    db: Database,
    plan: IngestPlan,
    write: Write,
    encoder: Drawn,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoders, "load", lambda *_, **__: encoder)
    write(a=["one", "two", "three", "four"], b=["one"])

    def call(*arguments: str) -> Result:
        given = ["--dsn", db.dsn, "-q", *arguments]
        return CliRunner().invoke(cli, ["ingest", *given], catch_exceptions=False)

    command = ("run", plan.source, "--reader", "jsonl", "--dataset", "news", "--encoder", "drawn",
               "--chunker", "semantic", "--words", "5-30", "--margin", "0",
               "--episode-min", "2")  # fmt: skip
    done = call(*command)
    assert (done.exit_code, done.stdout) == (
        0,
        "news: 2 articles added, 0 changed, 0 as they were; 5 concepts written\n",
    )
    assert sql("SELECT count(*), count(concept_vec), count(tmd_vec), count(DISTINCT tmd_source), "
               "count(episode_id) FROM cpe_entry") == [(5, 5, 5, 1, 5)]  # fmt: skip
    assert sql("SELECT count(*), min(first_seq), max(last_seq) FROM episode") == [(2, 0, 3)]
    # Each text is one sentence: its vector is there once it has been cut.
    assert len(encoder.texts) == len(set(encoder.texts))
    steps = sql("SELECT step, items FROM pipeline_timing WHERE step <> 'load encoder' ORDER BY 1")
    assert steps == [("chunk", 5), ("encode", 0), ("episodes", 5), ("read", 2), ("store", 5),
                     ("tag", 5)]  # fmt: skip
    write(b=["one"])
    done = call(*command)
    assert done.exit_code == 0
    assert "1 articles are no longer in" in done.stderr
    (status, before) = json.loads(call("status", "--format", "json").stdout)
    assert (status["status"], status["read"], status["changed"], status["vanished"]) == (
        *("succeeded", 1, 1), 1,
    )  # fmt: skip
    assert (before["concepts"], before["processes"], before["pending"]) == (5, 0, None)
    (gone,) = json.loads(call("vanished", "--format", "json").stdout)
    assert (gone["article"], gone["source"]) == ("a", plan.source)
    for wrong, said_ in (
        (("--tagger", "none", "--margin", "1"), "--margin is for --tagger embedding, not none"),
        (("--no-episodes",), "--no-episodes makes none"),
        (("--concurrency", "2"), "--concurrency is for --tagger llm, not embedding"),
    ):
        failed = CliRunner().invoke(cli, ["ingest", "--dsn", db.dsn, *command, *wrong])
        assert said_ in str(failed.exception) + failed.output


def test_the_bench_is_beside_the_encoder_and_leaves_nothing(
    db: Database, plan: IngestPlan, write: Write, sql: Sql, counts: Callable[..., dict[str, int]]
) -> None:
    write(a=["one", "two"], b=["one"])
    before = counts(db)
    measured = bench_ingest(
        db, replace(plan, tagger=Tagger(), episodes=EpisodeOptions()), repetitions=1
    )
    assert counts(db) == before
    assert sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'lvmdb_bench_%%'") == [(0,)]
    found = {one.contender: one for one in measured}
    assert [name for name in found if "predecessor" not in name] == [
        *("encoder alone", "ingest", "ingest, vectors given"),
        *("read", "chunk", "encode", "tag", "episodes", "store"),
    ]
    assert {one.unit for one in measured} == {"concepts/s"}
    assert found["ingest"].peer == "encoder alone"
    assert all(len(one.samples) == 1 for one in measured)
    assert found["ingest"].parameters["concepts"] == 3
    # 48.4 concepts in 4.6 seconds.
    assert found["whole, the predecessor's"].value == pytest.approx(10.52, abs=0.01)
    with pytest.raises(UsageError, match="give an --encoder"):
        bench_ingest(db, replace(plan, encoder=None))


def test_what_needs_vectors_says_so(plan: IngestPlan) -> None:
    with pytest.raises(UsageError, match="episodes are found by vectors"):
        replace(plan, encoder=None, episodes=EpisodeOptions())
    tagger = Tagger()
    tagger.name = "embedding"
    with pytest.raises(UsageError, match="--tagger embedding compares vectors"):
        replace(plan, encoder=None, tagger=tagger)
    with pytest.raises(UsageError, match="--range is at least 1, not 0"):
        replace(plan, range_articles=0)
    with pytest.raises(UsageError, match="--jobs is at least 0, not -1"):
        replace(plan, processes=-1)


def test_options_that_are_not_used_leave_the_hash_as_it_was(plan: IngestPlan) -> None:
    """So that what earlier versions ingested is not done again."""
    article = RawArticle("a", "A", "text")
    parts = (b"text", b"paragraph", b'{"min_words": 8}', b"drawn")
    expected = hashlib.sha256(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).digest()
    assert plan.hash_of(article) == expected
    assert plan.hash_of(article) != replace(plan, tagger=Tagger()).hash_of(article)
    assert plan.hash_of(article) != replace(plan, episodes=EpisodeOptions()).hash_of(article)
    assert plan.hash_of(article) == replace(plan, limit=3, range_articles=9).hash_of(article)
