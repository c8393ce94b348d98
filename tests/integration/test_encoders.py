"""Encoders as rows: a fingerprint, and what does not match it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_t5
from answering_server import AnsweringServer, Request
from click.testing import CliRunner
from safetensors.numpy import load_file

from lvmdb.cli.main import cli
from lvmdb.corpus import encoder_verification, encoders
from lvmdb.corpus.articles import VectorArticle, Vectors
from lvmdb.corpus.encoder import PROBE_SENTENCES, Encoder, EncoderSpec, typical_length
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.corpus.weights import sha256
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import CorpusError, EncoderError, UnknownNameError
from lvmdb.settings import Settings

Corpus = Callable[..., list[VectorArticle]]
Sql = Callable[..., list[tuple[Any, ...]]]
Counts = Callable[[Database], dict[str, int]]


@dataclass
class Stub:
    """An encoder whose vectors are drawn from a hash of seed and text, plus some noise."""

    name: str = "stub"
    seed: int = 0
    noise: float = 0.0
    revision: str = "r1"
    pooling: str = "mean"
    normalised: bool = True
    max_tokens: int = 64
    precision: str = "fp32"
    length: float = 1.0

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec(self.name, precision=self.precision)

    def encode(self, texts: list[str]) -> Vectors:
        rows = []
        for text in texts:
            digest = hashlib.sha256(f"{self.seed}:{text}".encode()).digest()
            row = np.random.default_rng(list(digest)).standard_normal(768)
            row += self.noise * np.random.default_rng(list(digest[::-1])).standard_normal(768)
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32)

    def probe_vectors(self) -> Vectors:
        return self.encode(list(PROBE_SENTENCES)) * np.float32(self.length)


def as_encoder(stub: Stub) -> Encoder:
    return stub  # type: ignore[return-value]


def register(db: Database, stub: Stub) -> int:
    with db.begin() as connection:
        return encoders.register(connection, as_encoder(stub))


@pytest.fixture
def imported(db: Database, make_articles: Corpus) -> list[VectorArticle]:
    """Forty-eight concepts whose vectors the stub made, known by its name alone."""
    stub = Stub()
    articles = [
        replace(article, vectors=stub.encode(list(article.texts)))
        for article in make_articles([12] * 4)
    ]
    with db.begin() as connection:
        encoder_id = encoders.register_imported(connection, "stub")
        ensure_dataset(connection, "wiki", encoder_id)
        hashes = [import_hash(article) for article in articles]
        store(connection, "wiki", encoder_id, articles, hashes)
    return articles


def test_an_encoder_is_registered_with_its_fingerprint_once(db: Database, sql: Sql) -> None:
    first = register(db, Stub())
    assert register(db, Stub()) == first
    assert register(db, Stub(name="other", seed=1)) != first
    assert sql(
        "SELECT name, revision, pooling, normalised, max_tokens, dimension FROM encoder "
        "WHERE encoder_id = %s",
        [first],
    ) == [("stub", "r1", "mean", True, 64, 768)]
    rows = sql("SELECT sentence FROM encoder_probe WHERE encoder_id = %s ORDER BY ordinal", [first])
    assert [sentence for (sentence,) in rows] == list(PROBE_SENTENCES)
    with db.connect() as connection:
        sentences, vectors = encoders.probes(connection, first)
    assert sentences == list(PROBE_SENTENCES)
    np.testing.assert_array_equal(vectors, Stub().probe_vectors())


@pytest.mark.parametrize(("noise", "fits"), [(0.01, True), (0.1, False)])
def test_rounding_is_the_same_model_and_noise_is_not(
    db: Database, noise: float, fits: bool
) -> None:
    first = register(db, Stub())
    if fits:
        assert register(db, Stub(noise=noise)) == first
    else:
        with pytest.raises(EncoderError, match=r"cosine is 0\.99\d+, and at least 0\.999"):
            register(db, Stub(noise=noise))


def test_another_model_of_the_same_name_is_refused(db: Database, counts: Counts) -> None:
    register(db, Stub())
    before = counts(db)
    with pytest.raises(EncoderError, match="is not the one whose vectors are stored"):
        register(db, Stub(seed=1, revision="r2"))
    with pytest.raises(EncoderError, match="is not the one"):
        encoder_verification.verify(db, as_encoder(Stub(seed=1)))
    assert counts(db) == before


def test_imported_vectors_are_verified_by_their_own_texts(
    db: Database, imported: list[VectorArticle], sql: Sql
) -> None:
    with pytest.raises(EncoderError, match="run 'lvmdb encoders verify stub' first"):
        register(db, Stub())
    found = encoder_verification.verify(db, as_encoder(Stub()))
    assert (found.against, found.compared) == ("its own concepts", 32)
    assert found.lowest == pytest.approx(1, abs=1e-5)
    assert sql("SELECT name, revision, pooling, max_tokens FROM encoder") == [
        ("stub", "r1", "mean", 64)
    ]
    assert sql("SELECT encoder_verified FROM corpus_health") == [(True,)]
    again = encoder_verification.verify(db, as_encoder(Stub()))
    assert (again.against, again.compared) == ("fingerprint", len(PROBE_SENTENCES))
    assert register(db, Stub()) == sql("SELECT encoder_id FROM encoder")[0][0]


def test_a_model_that_does_not_give_its_vectors_is_refused(
    db: Database, imported: list[VectorArticle], counts: Counts, sql: Sql
) -> None:
    before = counts(db)
    with pytest.raises(EncoderError, match=r"lowest cosine -?0\.\d+ of 32.*another one"):
        encoder_verification.verify(db, as_encoder(Stub(seed=1)))
    assert counts(db) == before
    assert sql("SELECT revision FROM encoder") == [(None,)]


def test_vectors_swapped_between_two_articles_are_refused(
    db: Database, imported: list[VectorArticle], sql: Sql
) -> None:
    """Each is a vector of this model, but not of this text."""
    sql(
        "UPDATE cpe_entry c SET concept_vec = o.concept_vec FROM cpe_entry o, article a, article b "
        "WHERE a.article_id = c.article_id AND b.article_id = o.article_id AND c.seq = o.seq "
        "AND (a.ordinal, b.ordinal) IN ((0, 1), (1, 0))"
    )
    with pytest.raises(EncoderError, match="another one"):
        encoder_verification.verify(db, as_encoder(Stub()))


def test_there_must_be_something_to_verify(db: Database) -> None:
    with pytest.raises(UnknownNameError, match=r"there is none yet: 'lvmdb encoders add'"):
        encoder_verification.verify(db, as_encoder(Stub()))
    with db.begin() as connection:
        encoders.register_imported(connection, "stub")
    with pytest.raises(UnknownNameError, match="unknown encoder 'stab'; did you mean 'stub'"):
        encoder_verification.verify(db, as_encoder(Stub(name="stab")))
    with pytest.raises(EncoderError, match="has no vectors to be held against"):
        encoder_verification.verify(db, as_encoder(Stub()))


def test_an_imports_name_never_stands_for_a_known_model(db: Database, sql: Sql) -> None:
    first = register(db, Stub())
    with db.begin() as connection:
        assert encoders.register_imported(connection, "stub") == first
    assert sql("SELECT count(*) FROM encoder") == [(1,)]


def test_a_query_is_encoded_by_the_datasets_own_model(
    db: Database,
    imported: list[VectorArticle],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sql: Sql,
) -> None:
    settings = Settings(home=tmp_path)
    loaded = Stub()
    monkeypatch.setattr(encoders, "load", lambda *_, **__: as_encoder(loaded))
    with pytest.raises(EncoderError, match="run 'lvmdb encoders verify stub' first"):
        encoders.encode_beside(db, settings, "wiki", ["some words"])
    encoder_verification.verify(db, as_encoder(loaded))
    found = encoders.encode_beside(db, settings, "wiki", ["some words"])
    np.testing.assert_array_equal(found, loaded.encode(["some words"]))
    loaded.seed = 1
    with pytest.raises(EncoderError, match="is not the one whose vectors are stored"):
        encoders.encode_beside(db, settings, "wiki", ["some words"])
    sql("INSERT INTO dataset (dataset_source) VALUES ('text')")
    with pytest.raises(EncoderError, match="dataset 'text' has no vectors"):
        encoders.encode_beside(db, settings, "text", ["some words"])


def test_the_same_vectors_may_be_loaded_in_another_way(db: Database, sql: Sql) -> None:
    """bf16 rounds otherwise and is the same encoder; what computes something else is not."""
    encoders.add(db, as_encoder(Stub()))
    encoders.add(db, as_encoder(Stub(noise=0.01, precision="bf16", revision="r2")))
    assert sql("SELECT kind, precision, revision FROM encoder") == [
        ("sentence-transformers", "bf16", "r2")
    ]
    with db.connect() as connection:
        assert encoders.spec_of(connection, "stub") == EncoderSpec("stub", precision="bf16")
        stored = encoders.probes(connection, 1)[1]
    np.testing.assert_array_equal(stored, Stub().probe_vectors())
    with pytest.raises(EncoderError, match="is not the one whose vectors are stored"):
        encoders.add(db, as_encoder(Stub(noise=0.1, precision="int8")))
    assert sql("SELECT precision FROM encoder") == [("bf16",)]


def test_a_fingerprint_keeps_the_length(db: Database) -> None:
    loaded = as_encoder(Stub(length=2.5))
    first = register(db, Stub(length=2.5))
    with db.connect() as connection:
        _, stored = encoders.probes(connection, first)
        [row] = connection.execute(query("corpus", "list_encoders")).all()
    assert typical_length(stored) == pytest.approx(2.5)
    assert row.length == pytest.approx(2.5)
    assert encoder_verification.verify(db, loaded).lowest == pytest.approx(1)


def test_vectors_of_the_other_space_are_refused(
    db: Database, make_articles: Corpus, tmp_path: Path, sql: Sql
) -> None:
    """Imported under the name of the one, made as the other, by the same folder's weights."""
    folder = tiny_t5.build(tmp_path / "sentence-transformers--gtr-t5-base")
    name, other = "vec2text/gtr-t5-base", "sentence-transformers/gtr-t5-base"
    states = encoders.load(db, Settings(home=tmp_path, models=tmp_path), name)
    assert states.revision == sha256(folder / "model.safetensors")
    [article] = make_articles([6])
    dense = load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"]
    vectors = states.encode(article.texts) @ dense.T  # what sentence-transformers would give
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    article = replace(article, vectors=vectors)
    with db.begin() as connection:
        encoder_id = encoders.register_imported(connection, name)
        ensure_dataset(connection, "wiki", encoder_id)
        store(connection, "wiki", encoder_id, [article], [import_hash(article)])
    with pytest.raises(EncoderError, match=r"two spaces.* --kind sentence-transformers"):
        encoder_verification.verify(db, states)
    encoders.add(db, as_encoder(Stub(name=other)))
    with db.begin() as connection:
        another = encoders.encoder_id_of(connection, other)
        with pytest.raises(CorpusError, match=f"encoder '{name}'"):
            ensure_dataset(connection, "wiki", another)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        sql("UPDATE cpe_entry SET encoder_id = %s", [another])
    assert sql("SELECT name, kind FROM encoder ORDER BY name") == [
        (other, "sentence-transformers"),
        (name, None),
    ]


@pytest.fixture
def program(db: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`program("encoders", "list")`: exit code and output."""
    monkeypatch.setenv("LVMDB_ENCODER_KEY", "sesame")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["--dsn", db.dsn, *arguments])
        error = "" if isinstance(result.exception, SystemExit) else str(result.exception or "")
        return result.exit_code, result.output + error

    return run


def test_an_endpoint_is_added_by_the_program_and_its_key_is_nowhere(
    db: Database, program: Callable[..., tuple[int, str]], tmp_path: Path, sql: Sql
) -> None:
    stub = Stub()

    def answer(request: Request) -> Any:
        assert request.headers["Authorization"] == "Bearer sesame"
        texts = request.body["input"]
        rows = stub.encode(texts).tolist()
        return {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]}

    with AnsweringServer(answer) as server:
        remote = ("--kind", "openai", "--endpoint", f"{server.url}/v1", "--model", "m")
        assert program("encoders", "add", "far", *remote)[0] == 0
        settings = Settings(home=tmp_path, encoder_key="sesame")
        loaded = encoders.load(db, settings, "far")
        np.testing.assert_allclose(loaded.encode(["x"]), stub.encode(["x"]), atol=1e-6)
        assert register(db, Stub(name="far")) == 1, "the same vectors from elsewhere"
        code, told = program("encoders", "verify", "far")
        assert (code, told[:23]) == (0, "far matches fingerprint")
        stub.seed = 1
        code, told = program("encoders", "verify", "far")
        assert code == 1
        assert "is not the one whose vectors are stored" in told
        code, told = program("encoders", "add", "far", "--kind", "tei")
        assert "--endpoint goes with" in told
    assert sql("SELECT kind, model, endpoint, precision FROM encoder") == [
        ("openai", "m", f"{server.url}/v1", None)
    ]
    assert sql("SELECT count(*) FROM encoder e WHERE e::text LIKE '%%sesame%%'") == [(0,)]
