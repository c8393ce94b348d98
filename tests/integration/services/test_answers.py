"""What the services answer: the same as the functions that they stand before."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering_server import AnsweringServer
from sqlalchemy import text
from starlette.testclient import TestClient

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.embedding_tagger import EmbeddingTagger
from lvmdb.corpus.encoder import EncoderSpec, check_usable
from lvmdb.corpus.http import Patience
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.corpus.tagging import UNSURE, Tag
from lvmdb.db.engine import Database
from lvmdb.errors import UnknownNameError
from lvmdb.services import chunking, embedding, ingest, models, tmd
from lvmdb.services.options import ServiceOptions

Clients = Mapping[str, TestClient]
Serving = Callable[..., AbstractContextManager[TestClient]]

TEXTS = [
    "When the harbour froze, the fishermen mended their nets and waited for the ice to break.",
    "Water boils at a lower temperature on a mountain, because the pressure is lower there.",
    "Not guilty.",
]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> SentenceEncoder:
    return SentenceEncoder.load(encoder_folder, EncoderSpec.of_name(str(encoder_folder)))


def article(key: str, said: str = TEXTS[0]) -> dict[str, object]:
    return {"source_key": key, "title": f"Article {key}", "text": said}


def test_vectors_are_the_encoders(clients: Clients, encoder: SentenceEncoder) -> None:
    answer = clients["embedding"].post("/embed", json={"texts": TEXTS}).json()
    expected = encoder.encode(TEXTS)
    np.testing.assert_allclose(np.array(answer["vectors"], np.float32), expected, atol=1e-6)
    assert {k: v for k, v in answer.items() if k != "vectors"} == {
        "encoder": encoder.name,
        "revision": encoder.revision,
        "dimension": 768,
        "max_tokens": 256,
    }


def test_vectors_as_base64_are_the_same_numbers(clients: Clients) -> None:
    asked = {"texts": TEXTS}
    numbers = clients["embedding"].post("/embed", json=asked).json()["vectors"]
    coded = clients["embedding"].post("/embed", json={**asked, "encoding": "base64"}).json()
    raw = b"".join(base64.b64decode(vector) for vector in coded["vectors"])
    np.testing.assert_array_equal(
        np.frombuffer(raw, "<f4").reshape(-1, 768), np.array(numbers, np.float32)
    )


def test_a_text_that_has_no_vector_is_the_callers(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(self: SentenceEncoder, texts: Sequence[str], advance: object = None) -> Vectors:
        vectors = np.zeros((len(texts), 768), dtype=np.float32)
        check_usable(vectors, texts, self.name)
        return vectors

    monkeypatch.setattr(SentenceEncoder, "encode", encode)
    for service, path in (("embedding", "/embed"), ("tmd", "/route/batch")):
        answer = clients[service].post(path, json={"texts": ["\u200b"]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_encodable")
        assert "no usable vector (norm 0.0) for text 1" in answer.json()["error"]["message"]


def test_an_encoder_that_is_not_the_datasets_is_never_used(
    encoder_folder: Path,
    serving: Serving,
    service_options: ServiceOptions,
    service_db: Database,
    tmp_path: Path,
) -> None:
    imported = tmp_path / "imported"
    imported.symlink_to(encoder_folder)
    with service_db.begin() as connection:
        encoders.register_imported(connection, str(imported))
    options = replace(service_options, dataset=None, encoder=str(imported))
    with serving(embedding.create(options), ready=False) as client:
        for _ in range(500):
            answer = client.get("/health")
            if "verify" in answer.text:
                break
        assert answer.status_code == 503
        assert "lvmdb encoders verify" in answer.json()["error"]["message"]
        assert client.post("/embed", json={"texts": ["a"]}).status_code == 503


def test_the_semantic_chunker_has_an_encoder_where_it_was_asked_for(
    clients: Clients, serving: Serving, service_options: ServiceOptions, encoder: SentenceEncoder
) -> None:
    asked = {"text": "\n\n".join(TEXTS), "chunker": "semantic", "options": {"percentile": 50}}
    refused = clients["chunking"].post("/chunk", json=asked)
    assert refused.status_code == 422
    assert "--chunker semantic" in refused.json()["error"]["message"]
    with serving(chunking.create(replace(service_options, chunker="semantic"))) as client:
        assert client.get("/health").json()["checked"] == ["database", "encoder"]
        expected = get_chunker("semantic", embed=encoder.encode, percentile=50.0)
        answer = client.post("/chunk", json=asked).json()
        assert answer["chunks"] == expected.chunk(str(asked["text"]))
        assert answer["options"] == expected.options


@pytest.mark.parametrize("chunker", ["sentence", "paragraph"])
def test_chunks_are_the_chunkers(clients: Clients, chunker: str) -> None:
    whole = "\n\n".join(TEXTS)
    options: dict[str, Any] = {"min_words": 3}
    expected = get_chunker(chunker, **options)
    asked = {"chunker": chunker, "options": options}
    one = clients["chunking"].post("/chunk", json={"text": whole, **asked}).json()
    assert one == {
        "chunker": chunker,
        "options": expected.options,
        "chunks": expected.chunk(whole),
    }
    batch = clients["chunking"].post("/chunk/batch", json={"texts": [whole, "Short."], **asked})
    assert batch.json()["chunks"] == [expected.chunk(whole), []]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"chunker": "sentense"}, "did you mean 'sentence'"),
        ({"options": {"low": "a"}}, "options.low: must be of type int"),
        ({"options": {"low": 1.5}}, "options.low: must be of type int"),
        ({"options": {"hight": 3}}, "did you mean 'high'"),
        ({"options": {"low": 100}}, "min_words <= low <= full"),
        ({"options": {"low": -1}}, "options.low"),
    ],
)
def test_how_not_to_cut(clients: Clients, asked: dict[str, object], said: str) -> None:
    answer = clients["chunking"].post("/chunk", json={"text": "a", **asked})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_codes_are_the_taggers(clients: Clients, encoder: SentenceEncoder) -> None:
    tags = EmbeddingTagger(encoder.encode).tag(TEXTS, encoder.encode(TEXTS))
    expected = [tmd.route(tag).model_dump() for tag in tags]
    batch = clients["tmd"].post("/route/batch", json={"texts": TEXTS}).json()
    assert batch == {"tagger": "embedding", "vocabulary": 1, "routes": expected}
    one = clients["tmd"].post("/route", json={"text": TEXTS[1]}).json()
    assert one == {"tagger": "embedding", "vocabulary": 1, **expected[1]}


def test_a_code_that_is_not_known_is_null() -> None:
    history = tmd.Place(code=7, label="History")
    assert tmd.route(Tag((7, None, 5))).model_dump() == {
        "domain": history.model_dump(),
        "task": None,
        "modifier": {"code": 5, "label": "Historical"},
        "tmd_code": None,
        "error": None,
    }
    assert tmd.route(Tag((7, 0, 5))).tmd_code == "7.0.5"
    nothing = {"domain": None, "task": None, "modifier": None, "tmd_code": None}
    assert tmd.route(UNSURE).model_dump() == {**nothing, "error": None}
    assert tmd.route(Tag(None, "no answer")).model_dump() == {**nothing, "error": "no answer"}


def test_a_language_model_that_is_away_is_not_a_code(
    serving: Serving, service_options: ServiceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PATIENCE", Patience(tries=1))
    options = replace(service_options, tagger="llm")
    with serving(tmd.create(options), ready=False) as client:
        for _ in range(500):
            unready = client.get("/health")
            if "LVMDB_LLM_URL" in unready.text:
                break
        assert unready.status_code == 503
        assert [d["field"] for d in unready.json()["error"]["details"]] == ["tagger"]
    away = replace(options.settings, llm_url="http://127.0.0.1:1/v1", llm_model="none")
    with serving(tmd.create(replace(options, settings=away))) as client:
        assert client.get("/health").json()["checked"] == ["database", "tagger"]
        answer = client.post("/route", json={"text": TEXTS[0]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "endpoint_unavailable")
        assert "retry-after" in answer.headers


def test_codes_of_articles_are_decided_by_the_tagger_that_was_asked_for(
    serving: Serving, service_options: ServiceOptions, service_db: Database
) -> None:
    said = '{"domain": "History", "task": "Fact Retrieval", "modifier": "Temporal"}'
    message = {"message": {"content": said}, "finish_reason": "stop"}
    with AnsweringServer(lambda _: {"choices": [message]}) as model:
        settings = replace(service_options.settings, llm_url=f"{model.url}/v1", llm_model="m")
        options = replace(service_options, dataset="asked", tagger="llm", settings=settings)
        with serving(ingest.create(options)) as client:
            assert client.get("/health").json()["checked"] == ["database", "encoder", "tagger"]
            assert client.post("/ingest", json={"articles": [article("a")]}).json()["added"] == 1
    with service_db.connect() as connection:
        codes = connection.execute(
            text("SELECT tmd_code, tmd_source FROM cpe_entry WHERE dataset_source = 'asked'")
        ).all()
    assert [tuple(row) for row in codes] == [("7.0.16", "llm")]


def test_an_unknown_tagger_or_chunker_is_refused_at_the_start(
    service_options: ServiceOptions,
) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'embedding'"):
        tmd.create(replace(service_options, tagger="embeding"))
    with pytest.raises(UnknownNameError, match="did you mean 'sentence'"):
        ingest.create(replace(service_options, chunker="sentense"))


def test_articles_are_ingested_exactly_once(clients: Clients, service_db: Database) -> None:
    client = clients["ingest"]
    both = [article("a"), article("b", "\n\n".join(TEXTS[:2]))]
    sent = {"dataset": "once", "articles": both}
    first = client.post("/ingest", json=sent).json()
    assert _numbers(first) == (2, 0, 0, 3)
    assert (first["dataset"], first["failed"]) == ("once", [])
    assert _numbers(client.post("/ingest", json=sent).json()) == (0, 0, 2, 0)
    changed = {"dataset": "once", "articles": [article("a", TEXTS[1]), both[1]]}
    assert _numbers(client.post("/ingest", json=changed).json()) == (0, 1, 1, 1)
    with service_db.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT a.source_key, c.seq, c.concept_text, c.concept_vec IS NOT NULL "
                "FROM article a JOIN cpe_entry c USING (article_id) "
                "WHERE a.dataset_source = 'once' ORDER BY a.ordinal, c.seq"
            )
        ).all()
        jobs = connection.execute(
            text("SELECT count(*) FROM ingest_job WHERE source = :job"), {"job": first["job"]}
        ).scalar_one()
    assert [tuple(row) for row in rows] == [
        ("a", 0, TEXTS[1], True),
        ("b", 0, TEXTS[0], True),
        ("b", 1, TEXTS[1], True),
    ]
    assert jobs == 1


def test_the_same_articles_from_many_callers_are_there_once(
    clients: Clients, service_db: Database
) -> None:
    sent = {"dataset": "many", "articles": [article(f"k{k}") for k in range(3)]}
    with ThreadPoolExecutor(4) as callers:
        answers = list(
            callers.map(lambda _: clients["ingest"].post("/ingest", json=sent), range(4))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["added"] for answer in answers) == 3
    with service_db.connect() as connection:
        count = connection.execute(
            text("SELECT count(*) FROM cpe_entry WHERE dataset_source = 'many'")
        ).scalar_one()
    assert count == 3


def test_an_article_of_which_nothing_is_left_fails_alone(clients: Clients) -> None:
    sent = {"articles": [article("short", "Too short."), article("long")]}
    answer = clients["ingest"].post("/ingest", json=sent).json()
    assert (answer["dataset"], answer["added"]) == ("served", 1)
    (failed,) = answer["failed"]
    assert (failed["source_key"], failed["step"]) == ("short", "chunk")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"articles": []}, "articles"),
        ({"articles": [article("a"), article("a")]}, "articles.1.source_key"),
        ({"articles": [{"source_key": "a", "text": "b"}]}, "articles.0.title"),
        ({"articles": [{**article("a"), "id": "b"}]}, "articles.0.id"),
        ({"articles": [article("k" * 513)]}, "articles.0.source_key"),
        ({"articles": [{**article("a"), "url": "a\0"}]}, "articles.0.url"),
        ({"articles": [article("a")], "dataset": "Of Mine"}, "dataset"),
        ({"articles": [article(str(k)) for k in range(257)]}, "articles"),
    ],
)
def test_what_cannot_be_ingested(clients: Clients, wrong: dict[str, object], field: str) -> None:
    answer = clients["ingest"].post("/ingest", json=wrong)
    assert answer.status_code == 422
    assert [d["field"] for d in answer.json()["error"]["details"]] == [field]


def test_vectors_of_two_encoders_do_not_meet(clients: Clients, service_db: Database) -> None:
    with service_db.begin() as connection:
        other = encoders.register_imported(connection, "another")
        connection.execute(
            text("INSERT INTO dataset (dataset_source, encoder_id) VALUES ('theirs', :encoder)"),
            {"encoder": other},
        )
    sent = {"dataset": "theirs", "articles": [article("a")]}
    answer = clients["ingest"].post("/ingest", json=sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert "another" in answer.json()["error"]["message"]


def test_concepts_without_vectors(serving: Serving, service_options: ServiceOptions) -> None:
    bare = replace(service_options, encoder="none", dataset=None)
    with serving(ingest.create(bare)) as client:
        assert client.get("/health").json()["checked"] == ["database"]
        sent = {"dataset": "bare", "articles": [article("a")]}
        assert _numbers(client.post("/ingest", json=sent).json()) == (1, 0, 0, 1)
        nowhere = client.post("/ingest", json={"articles": [article("a")]})
        assert nowhere.json()["error"]["details"][0]["field"] == "dataset"


def _numbers(answer: dict[str, int]) -> tuple[int, int, int, int]:
    return answer["added"], answer["changed"], answer["unchanged"], answer["concepts"]
