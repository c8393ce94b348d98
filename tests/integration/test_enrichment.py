"""Codes, probes and negatives for concepts that are there: what is written, kept, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from answering_server import AnsweringServer, Request
from asking import ask
from click.testing import CliRunner
from numpy.typing import NDArray
from sqlalchemy import Connection

from lvmdb.cli.app import App
from lvmdb.cli.main import cli
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle, Vectors
from lvmdb.corpus.embedding_tagger import EmbeddingTagger
from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec
from lvmdb.corpus.enrich import Enriched, enrich
from lvmdb.corpus.http import Patience
from lvmdb.corpus.llm import Llm
from lvmdb.corpus.llm_tagger import LlmTagger
from lvmdb.corpus.negatives import Window, choose_negatives
from lvmdb.corpus.retag import Tagged, retag
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.corpus.tmd import KINDS, SIZES, dense, vocabulary
from lvmdb.db import migrate
from lvmdb.db.engine import Database
from lvmdb.db.files import project_folder
from lvmdb.db.queries import query
from lvmdb.errors import CorpusError, EndpointAwayError
from lvmdb.sequences import sets
from lvmdb.sequences.batch import ProbeBatch
from lvmdb.sequences.probes import ProbeStream
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.sequences.stream import StreamOptions
from lvmdb.training.plan import plan

Fresh = Callable[..., AbstractContextManager[Database]]
Row = tuple[Any, ...]
Answer = Callable[[str], Any]

LENGTHS = [9, 4, 7, 3, 5, 8, 6, 10]
CONCEPTS = sum(LENGTHS)
QUICK = Patience(connect_s=2, answer_s=2, tries=2, first_wait_s=0.001, longest_wait_s=0.002)
KEY = "sk-secret-0123"


@dataclass
class World:
    """A database with a frozen set `s`, whose concepts' vectors are near to labels."""

    db: Database
    sequences: SequenceSet

    def sql(self, statement: str, *parameters: object) -> list[Row]:
        return ask(self.db, statement, parameters or None)

    def codes(self) -> list[Row]:
        return self.sql(
            "SELECT domain_code, task_code, modifier_code, tmd_source, tmd_vec::real[] "
            "FROM article JOIN cpe_entry USING (article_id) ORDER BY ordinal, seq"
        )

    def errors(self) -> list[Row]:
        return self.sql("SELECT source_key, step, message FROM ingest_error ORDER BY error_id")

    def last_job(self) -> Row:
        (row,) = self.sql(
            "SELECT reader, source, status, concepts, options FROM ingest_job "
            "ORDER BY job_id DESC LIMIT 1"
        )
        return row

    def clear(self) -> None:
        self.sql(
            "UPDATE cpe_entry SET domain_code = NULL, task_code = NULL, modifier_code = NULL, "
            "tmd_source = NULL, tmd_vec = NULL, probe_question = NULL, probe_vec = NULL, "
            "expected_answer = NULL, soft_negatives = NULL, hard_negatives = NULL"
        )
        self.sql("DELETE FROM experiment_run")
        self.sql("DELETE FROM ingest_job")


def unit(rows: NDArray[np.floating[Any]]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def definitions(texts: Sequence[str]) -> Vectors:
    """Vectors of labels' definitions: each is a direction of its own."""
    return np.eye(len(texts), 768, dtype=np.float32)


def articles_near_labels() -> list[VectorArticle]:
    """Concepts in a few clusters, each near one label of each kind; some of one kind only."""
    generator = np.random.default_rng(7)
    centres = generator.standard_normal((5, 768))
    centres[:, :112] = 0
    made = []
    for number, length in enumerate(LENGTHS):
        rows = np.zeros((length, 768))
        for seq in range(length):
            cluster = (number + seq // 4) % 5
            rows[seq] = centres[cluster] + 0.62 * generator.standard_normal(768)
            rows[seq, :112] = 0
            rows[seq, cluster % 3] = 12
            if seq != 2:
                rows[seq, 16 + seq] = 12
                rows[seq, 48 + cluster] = 12
        texts = tuple(f"Passage {seq} of article {number}." for seq in range(length))
        key = f"a{number}"
        made.append(VectorArticle(key, f"Article {number}", None, texts, "test", unit(rows)))
    return made


@pytest.fixture(scope="module")
def made(fresh_database: Fresh) -> Iterator[World]:
    with fresh_database() as db:
        articles = articles_near_labels()
        with db.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            store(connection, "wiki", encoder_id, articles, [import_hash(a) for a in articles])
        fractions = (Decimal("0.6"), Decimal("0.2"), Decimal("0.2"))
        spec = SequenceSpec("s", "wiki", 2, fractions=fractions, allowed_leaks=1000)
        yield World(db, sets.create(db, spec))


@pytest.fixture
def world(made: World) -> World:
    made.clear()
    return made


@contextmanager
def model(answer: Answer) -> Iterator[tuple[Llm, AnsweringServer]]:
    """A language model that answers the user's text so: what it says, or a status."""

    def respond(request: Request) -> Any:
        said = answer(request.body["messages"][-1]["content"])
        content = said if isinstance(said, str) else json.dumps(said)
        return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}

    with (
        AnsweringServer(respond) as server,
        Llm(server.url, "tiny", key=KEY, concurrency=2, patience=QUICK) as llm,
    ):
        yield llm, server


# Codes


def test_the_vocabulary_is_the_one_of_the_table(world: World) -> None:
    rows = world.sql("SELECT vocabulary, kind, code, label FROM tmd_label")
    expected = {
        (1, kind, place, entry.label)
        for kind in KINDS
        for place, entry in enumerate(vocabulary()[kind])
    }
    assert set(rows) == expected
    assert len(rows) == len(expected) == sum(SIZES)


def test_concepts_get_the_codes_that_are_near(world: World) -> None:
    told: list[int] = []

    class Counting(EmbeddingTagger):
        def tag(self, texts: Sequence[str], vectors: Vectors | None) -> Any:
            told.append(len(texts))
            return super().tag(texts, vectors)

    world.sql(
        "UPDATE cpe_entry SET domain_code = 15, tmd_source = 'given' WHERE seq = 1 "
        "AND article_id = (SELECT article_id FROM article WHERE ordinal = 0)"
    )
    done = retag(world.db, "wiki", Counting(definitions, 0.05), together=20)
    without = len(LENGTHS)  # of each article the third concept is near a domain alone
    assert done == Tagged(CONCEPTS - 1, CONCEPTS - 1 - without, without, 0)
    assert told == [0, 20, 20, 11]
    place = 0
    rows = world.codes()
    for number, length in enumerate(LENGTHS):
        for seq in range(length):
            domain, task, modifier, source, vector = rows[place]
            place += 1
            if (number, seq) == (0, 1):
                assert (domain, task, modifier, source, vector) == (15, None, None, "given", None)
                continue
            cluster = (number + seq // 4) % 5
            assert (domain, source) == (cluster % 3, "embedding")
            assert (task, modifier) == ((None, None) if seq == 2 else (seq, cluster))
            if seq == 2:
                assert vector is None
            else:
                expected = dense([(domain, task, modifier)])[0]
                assert np.array(vector, dtype=np.float32).tobytes() == expected.tobytes()
    assert world.last_job()[:4] == ("tag", "embedding", "succeeded", CONCEPTS - 1)
    # What is frozen is what it was; and nothing is left to do.
    sets.verify(world.db, world.sequences)
    assert retag(world.db, "wiki", Counting(definitions, 0.05)) == Tagged()
    assert world.codes() == rows


def test_what_taggers_decided_can_be_decided_anew(world: World) -> None:
    retag(world.db, "wiki", EmbeddingTagger(definitions, 0.05))
    before = world.codes()
    versions = world.sql("SELECT xmin::text FROM cpe_entry ORDER BY cpe_id")
    again = retag(world.db, "wiki", EmbeddingTagger(definitions, 0.05), every=True)
    assert again.concepts == CONCEPTS
    assert world.codes() == before
    # Rows that are right are not written.
    assert world.sql("SELECT xmin::text FROM cpe_entry ORDER BY cpe_id") == versions
    world.sql("UPDATE cpe_entry SET tmd_source = 'given' WHERE seq = 0")
    retag(world.db, "wiki", EmbeddingTagger(definitions, 2), every=True)
    kept = world.codes()
    assert {row[3] for row in kept} == {"given", None}
    assert [row[:3] for row in kept if row[3] == "given"] == [
        row[:3] for row in before if row[1] == 0
    ]


def test_a_model_that_does_not_know_leaves_no_code(world: World) -> None:
    """INTEGRITY 17: a failure is NULL with a row in ingest_error, never code 0.0.0."""

    def answer(text: str) -> Any:
        if text.startswith("Passage 0"):
            return {"domain": "Sports", "task": "Translation", "modifier": "Global"}
        if text.startswith("Passage 1"):
            return "I think it is History."
        if text.startswith("Passage 2"):
            return {"domain": None, "task": None, "modifier": None}
        return {"domain": "History", "task": 31, "modifier": "Temporal"}

    with model(answer) as (llm, server):
        server.then(500, {"error": KEY}).then(500)
        done = retag(world.db, "wiki", LlmTagger(llm), together=16)
        assert done == Tagged(CONCEPTS, CONCEPTS - 24, 0, 16)
        rows = world.codes()
        assert {row[:4] for row in rows} == {(7, 31, 16, "llm"), (None, None, None, None)}
        assert sum(row[3] is None for row in rows) == 24
        errors = world.errors()
        assert len(errors) == 16
        assert (
            "a3",
            "tag",
            "concept 1: the model's answer is no JSON: 'I think it is History.'",
        ) in errors
        assert world.last_job()[:4] == ("tag", "llm", "failed", CONCEPTS)
        assert world.last_job()[4]["model"] == "tiny"
        assert KEY not in str(errors) + str(world.sql("SELECT options FROM ingest_job"))
        # Those alone are asked about again, and one that fails keeps what it had.
        server.requests.clear()
        assert retag(world.db, "wiki", LlmTagger(llm)) == Tagged(24, 0, 0, 16)
        assert len(server.requests) == 24
        world.sql("UPDATE cpe_entry SET domain_code = 3, tmd_source = 'llm' WHERE seq < 2")
        retag(world.db, "wiki", LlmTagger(llm), every=True)
        assert [row[:4] for row in world.codes()[:3]] == [(3, None, None, "llm")] * 2 + [
            (None, None, None, None)
        ]


def test_a_model_that_goes_away_keeps_what_was_decided(world: World) -> None:
    code = {"domain": 1, "task": 2, "modifier": 3}
    with model(lambda _: code) as (llm, server):
        asked = 0

        def answer(request: Request) -> Any:
            nonlocal asked
            asked += 1
            if asked > 20:
                server.then(401, {"error": f"no such key: {KEY}"})
            return {"choices": [{"message": {"content": json.dumps(code)}}]}

        server.answer = answer
        with pytest.raises(
            EndpointAwayError, match=r"\(no such key: \*\*\*\): check LVMDB_LLM_KEY"
        ):
            retag(world.db, "wiki", LlmTagger(llm), together=8)
        decided = sum(row[3] == "llm" for row in world.codes())
        assert decided in (16, 24)
        assert world.last_job()[2:4] == ("failed", decided)
        server.answer = lambda _: {"choices": [{"message": {"content": json.dumps(code)}}]}
        server.requests.clear()
        assert (
            retag(world.db, "wiki", LlmTagger(llm), together=8).complete >= CONCEPTS - decided - 2
        )
    assert {row[:4] for row in world.codes()} == {(1, 2, 3, "llm")}


def test_runs_that_read_codes_or_probes_are_asked_about(world: World) -> None:
    tagger = EmbeddingTagger(definitions, 0.05)
    world.sql(
        "UPDATE cpe_entry SET domain_code = 1, task_code = 1, modifier_code = 1, tmd_source = "
        "'given', tmd_vec = array_fill(.25, '{16}')::vector, probe_vec = concept_vec WHERE seq = 0"
    )
    small: dict[str, object] = {"d_model": 16, "layers": 1, "headdim": 16, "d_state": 4}
    reads_codes = plan(world.db, "mamba2", "s", {**small, "tmd": "condition"})
    with pytest.raises(CorpusError, match=rf"^1 runs .* codes .*\(run {reads_codes}\): give --yes"):
        retag(world.db, "wiki", tagger)
    assert choose_negatives(world.db, "wiki") == CONCEPTS
    reads_probes = plan(world.db, "mamba2", "s", {**small, "objective": "probe"})
    for change in (
        lambda: choose_negatives(world.db, "wiki", every=True),
        lambda: enrich(world.db, "wiki", None, definitions),  # type: ignore[arg-type]
    ):
        with pytest.raises(CorpusError, match=rf"^1 runs .* probes .*\(run {reads_probes}\)"):
            change()
    with pytest.raises(CorpusError, match=r"^2 runs"):
        retag(world.db, "wiki", tagger)
    world.sql("UPDATE experiment_run SET status = 'cancelled'")
    assert retag(world.db, "wiki", tagger).concepts == CONCEPTS - len(LENGTHS)


# Negatives


def by_hand(world: World) -> dict[Any, tuple[list[str], list[str]]]:
    rows = world.sql("SELECT cpe_id, concept_text, domain_code, concept_vec::real[] FROM cpe_entry")
    vectors = np.array([row[3] for row in rows], dtype=np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    found = {}
    for k, (cpe_id, text, domain, _) in enumerate(rows):
        others = sorted((-cosine[k, n], rows[n][1], rows[n][2]) for n in range(len(rows)) if n != k)
        soft = [t for c, t, d in others if 0.6 <= -c <= 0.8 and d == domain is not None]
        hard = [t for c, t, _ in others if -c < 0.5]
        assert text not in (*soft, *hard)
        found[cpe_id] = (soft[:3], hard[:3])
    return found


def stored(world: World) -> dict[Any, tuple[list[str], list[str]]]:
    rows = world.sql("SELECT cpe_id, soft_negatives, hard_negatives FROM cpe_entry")
    return {cpe_id: (soft, hard) for cpe_id, soft, hard in rows}


def test_negatives_are_those_of_the_rule(world: World) -> None:
    """Beside a window that holds all; a concept of unknown domain has no soft ones."""
    retag(world.db, "wiki", EmbeddingTagger(definitions, 0.05))
    world.sql("UPDATE cpe_entry SET domain_code = NULL WHERE seq = 5")
    assert choose_negatives(world.db, "wiki", window=Window(together=10)) == CONCEPTS
    expected = by_hand(world)
    assert stored(world) == expected
    assert sum(len(soft) for soft, _ in expected.values()) > CONCEPTS
    assert sum(len(soft) for soft, _ in expected.values()) < 3 * CONCEPTS
    assert all(len(hard) == 3 for _, hard in expected.values())
    unknown = world.sql("SELECT DISTINCT soft_negatives FROM cpe_entry WHERE seq = 5")
    assert unknown == [([],)]
    # A second call has nothing to do; another rule of domains is another choice, if asked for.
    assert choose_negatives(world.db, "wiki") == 0
    world.sql("UPDATE cpe_entry SET domain_code = 0 WHERE seq = 5")
    assert choose_negatives(world.db, "wiki", every=True) == CONCEPTS
    assert stored(world) == by_hand(world) != expected


def test_windows_bound_what_is_looked_at(world: World) -> None:
    """What is chosen is by the rule, the same however it is cut into batches and calls."""
    retag(world.db, "wiki", EmbeddingTagger(definitions, 0.05))
    window = Window(candidates=40, soft=6, hard=4, together=1)
    assert choose_negatives(world.db, "wiki", limit=10, window=window) == LENGTHS[0] + LENGTHS[1]
    assert choose_negatives(world.db, "wiki", window=window) == CONCEPTS - LENGTHS[0] - LENGTHS[1]
    found = stored(world)
    assert all(len(hard) <= 3 for _, hard in found.values())
    assert 20 < sum(len(hard) for _, hard in found.values()) < 3 * CONCEPTS
    texts = {
        text: row
        for *row, text in world.sql(
            "SELECT domain_code, concept_vec::real[], concept_text FROM cpe_entry"
        )
    }
    own: dict[Any, str] = dict(world.sql("SELECT cpe_id, concept_text FROM cpe_entry"))
    seen = set()
    for cpe_id, (soft, hard) in found.items():
        domain, vector = texts[own[cpe_id]]
        for kind, chosen in (("soft", soft), ("hard", hard)):
            for text in chosen:
                cosine = float(np.dot(vector, texts[text][1]))
                assert 0.6 <= cosine <= 0.8 if kind == "soft" else cosine < 0.5
                assert kind == "hard" or texts[text][0] == domain
                seen.add(text)
    assert len(seen) > CONCEPTS / 2  # windows begin in different places
    world.sql("UPDATE cpe_entry SET soft_negatives = NULL, hard_negatives = NULL")
    choose_negatives(world.db, "wiki", window=Window(40, 6, 4, together=1000))
    assert stored(world) == found


def test_what_is_stored_is_what_training_finds(world: World) -> None:
    retag(world.db, "wiki", EmbeddingTagger(definitions, 0.05))
    choose_negatives(world.db, "wiki")
    world.sql("UPDATE cpe_entry SET probe_vec = concept_vec")
    vectors: dict[str, list[float]] = dict(
        world.sql("SELECT concept_text, concept_vec::real[] FROM cpe_entry")
    )
    rows = world.sql(
        "SELECT article_id, seq, hard_negatives FROM cpe_entry JOIN sequence_article "
        "USING (article_id) WHERE split = 'train'"
    )
    within = {
        text
        for (text,) in world.sql(
            "SELECT concept_text FROM cpe_entry JOIN sequence_article USING (article_id) "
            "WHERE split = 'train'"
        )
    }
    hard = {(article, seq): [t for t in texts if t in within] for article, seq, texts in rows}
    compared = 0
    for batch in ProbeStream(world.db, world.sequences, "train", StreamOptions(batch_size=5)):
        assert isinstance(batch, ProbeBatch)
        for k in range(len(batch)):
            texts = hard[int(batch.article_id[k]), int(batch.target_seq[k])]
            if texts:
                expected = np.array([vectors[text] for text in texts], dtype=np.float32)
                assert np.allclose(batch.hard[k][batch.hard_present[k]].numpy(), expected)
                compared += 1
    assert compared > 10


# Probes


def spoken(texts: Sequence[str]) -> Vectors:
    """Vectors of questions: the numbers in them, more or less."""
    rows = np.zeros((len(texts), 768))
    for row, text in zip(rows, texts, strict=True):
        numbers = [int(word) for word in text.split() if word.isdecimal()]
        row[:] = np.random.default_rng(numbers).standard_normal(768)
    return unit(rows)


def writes(text: str) -> Any:
    """What a model writes about "Passage K of article N."."""
    words = text.rstrip(".").split()
    place = f"{words[-4]} of {words[-1]}"
    if words[-4] == "1":
        return {"probe_question": f"What is {place} ?", "expected_answer": ""}
    return {
        "probe_question": f" What is {place} ?\n",
        "expected_answer": f"It is {place}.",
        "soft_negatives": [f"Nearly {place}", "b", "c", "d"],
        "hard_negatives": ["Rain."],
    }


def test_probes_are_written_embedded_and_gone_on_with(world: World) -> None:
    failing = len(LENGTHS)
    with model(writes) as (llm, server):
        assert enrich(world.db, "wiki", llm, spoken, limit=20) == Enriched(17, 3)
        assert len(server.requests) == 20
        schema = server.requests[0].body["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["probe_question", "expected_answer"]
        # Several are on their way at once, so that the first need not arrive first.
        asked = [str(request.body["messages"][-1]["content"]) for request in server.requests]
        assert any("Title: Article 0\n\nPassage: Passage 0 of article 0." in one for one in asked)
        assert enrich(world.db, "wiki", llm, spoken) == Enriched(CONCEPTS - 17 - failing, failing)
        assert enrich(world.db, "wiki", llm, spoken) == Enriched(0, failing)
    rows = world.sql(
        "SELECT ordinal, seq, probe_question, expected_answer, probe_vec::real[], soft_negatives "
        "FROM article JOIN cpe_entry USING (article_id) ORDER BY ordinal, seq"
    )
    for ordinal, seq, question, answer, vector, soft in rows:
        assert soft is None
        if seq == 1:
            assert (question, answer, vector) == (None, None, None)
            continue
        assert question == f"What is {seq} of {ordinal} ?"
        assert answer == f"It is {seq} of {ordinal}."
        assert np.array(vector, dtype=np.float32).tobytes() == spoken([question])[0].tobytes()
    assert ("a0", "enrich", "concept 1: the model's answer has no text expected_answer") in (
        world.errors()
    )
    assert world.last_job()[:4] == ("enrich", "tiny", "failed", 0)


def test_a_model_may_write_negatives_too(world: World) -> None:
    with model(writes) as (llm, _):
        assert enrich(world.db, "wiki", llm, spoken, negatives=True, limit=4) == Enriched(3, 1)
    rows = world.sql(
        "SELECT soft_negatives, hard_negatives FROM article JOIN cpe_entry USING (article_id) "
        "WHERE ordinal = 0 AND seq < 3 ORDER BY seq"
    )
    assert rows[0] == (["Nearly 0 of 0", "b", "c"], ["Rain."])
    assert rows[1] == (None, None)
    # Those from vectors are for the others.
    assert choose_negatives(world.db, "wiki") == CONCEPTS - 3
    assert world.sql("SELECT count(*) FROM cpe_entry WHERE 'Rain.' = ANY (hard_negatives)") == [
        (3,)
    ]


def test_probe_health_by_hand(world: World) -> None:
    def health(connection: Connection, most: int) -> Row:
        asked = {"dataset": "wiki", "wanted": 0.82, "most": most}
        return tuple(connection.execute(query("enrichment", "probe_health"), asked).one())

    with world.db.begin() as connection:
        assert health(connection, 10) == (0, None, 0, 0, None)
    concepts = world.sql("SELECT cpe_id, concept_vec::real[] FROM cpe_entry ORDER BY cpe_id")
    vectors = np.array([vector for _, vector in concepts])
    probes = unit(vectors + 0.04 * np.random.default_rng(1).standard_normal(vectors.shape))
    probes[::4] = np.roll(vectors, 1, axis=0)[::4]
    with world.db.raw_connection() as writing:
        for (cpe_id, _), probe in zip(concepts, probes, strict=True):
            writing.execute(
                "UPDATE cpe_entry SET probe_vec = %s::vector WHERE cpe_id = %s",
                [str(probe.tolist()), cpe_id],
            )
    cosine = (probes * vectors).sum(axis=1)
    first = (probes @ vectors.T).argmax(axis=1) == np.arange(CONCEPTS)
    assert 0 < first.sum() < CONCEPTS
    with world.db.begin() as connection:
        for most in (20, 1000):
            found = health(connection, most)
            asked = min(most, CONCEPTS)
            assert found == pytest.approx(
                (CONCEPTS, cosine.mean(), (cosine <= 0.82).sum(), asked, first[:asked].mean()),
                rel=1e-5,
            )


# The commands


class Words:
    """An encoder by words alone: quick to load, and as good as its name."""

    name, revision, pooling, normalised, max_tokens = "words", "1", "mean", True, 99
    spec, precision = EncoderSpec("words"), "fp32"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), 768))
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row += np.random.default_rng([self.seed, *word.encode()]).standard_normal(768)
        return unit(rows)

    def probe_vectors(self) -> Vectors:
        return self.encode(PROBE_SENTENCES)


def test_the_commands(fresh_database: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    words: Any = Words()
    monkeypatch.setattr(encoders, "load", lambda *_, **__: words)
    texts = ("The colour of the sea.", "A law of the land.", "What the poets wrote.")
    article = VectorArticle("a", "A", None, texts, "test", words.encode(texts))

    def answer(text: str) -> Any:
        if "poets" in text:
            return "no"
        return {"probe_question": f"Which {text[-9:]}?", "expected_answer": "That one."}

    with fresh_database() as db, model(answer) as (_, server):
        with db.begin() as connection:
            encoder_id = encoders.register(connection, words)
            ensure_dataset(connection, "d", encoder_id)
            store(connection, "d", encoder_id, [article], [import_hash(article)])

        def run(*arguments: str) -> Any:
            app = App(dsn=db.dsn, quiet=True)
            return CliRunner().invoke(cli, ["ingest", *arguments], obj=app)

        assert str(run("tag", "--tagger", "llm").exception).startswith("LVMDB_LLM_URL is not set")
        assert run("tag", "--margin", "0").output == (
            "d: 3 concepts looked at; 3 have a code, 0 a part of one, 0 none\n"
        )
        # The encoder is not even loaded where there is nothing to do.
        assert run("tag").output.startswith("d: 0 concepts looked at")
        assert run("enrich", "--negatives-only").output == "d: negatives chosen for 3 concepts\n"
        monkeypatch.setenv("LVMDB_LLM_URL", server.url)
        monkeypatch.setenv("LVMDB_LLM_MODEL", "tiny")
        monkeypatch.setenv("LVMDB_LLM_KEY", KEY)
        found = run("enrich", "--negatives", "none")
        assert found.output == "d: 2 concepts have got a probe question and its answer\n"
        assert str(found.exception) == "1 concepts failed: 'lvmdb ingest errors' says why"
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
        with db.raw_connection() as reading:
            (row,) = reading.execute(
                "SELECT probe_question, probe_vec::real[] FROM cpe_entry WHERE seq = 0"
            ).fetchall()
        assert np.allclose(row[1], words.encode([row[0]])[0], atol=1e-6)
        for wrong in (
            ("tag", "--tagger", "llm", "--margin", "1"),
            ("tag", "--margin", "3"),
            ("enrich", "--negatives-only", "--negatives", "llm"),
            ("enrich", "--all", "--negatives", "none"),
        ):
            assert run(*wrong).exception.exit_code == 2
        words = Words(seed=1)
        assert "is not the one whose vectors are stored" in str(run("tag", "--all").exception)


# The schema


def below(name: str) -> str:
    """The revision below the one of this name."""
    config = Config()
    config.set_main_option("script_location", str(project_folder("migrations")))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    return next(str(s.down_revision) for s in scripts if s.path.endswith(f"_{name}.py"))


def test_a_part_of_a_code_has_a_source_and_goes_with_the_older_schema(
    fresh_database: Fresh,
) -> None:
    with fresh_database() as db, db.raw_connection(autocommit=True) as connection:
        connection.execute("INSERT INTO dataset (dataset_source) VALUES ('d')")
        connection.execute(
            "INSERT INTO article (dataset_source, source_key, ordinal, title, content_hash, "
            "text_hash) VALUES ('d', 'k', 0, 't', '', '')"
        )
        connection.execute(
            "INSERT INTO cpe_entry (cpe_id, article_id, seq, concept_text, dataset_source, "
            "task_code, tmd_source) SELECT gen_random_uuid(), article_id, 0, 'x', 'd', 3, 'llm' "
            "FROM article"
        )
        migrate.upgrade(db, below("allow_partial_codes"))
        rows = connection.execute("SELECT task_code, tmd_source FROM cpe_entry").fetchall()
        assert rows == [(None, None)]
