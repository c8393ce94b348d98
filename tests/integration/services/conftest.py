"""What the tests of the services share: one database, one tiny encoder, each service once.

Fixtures:
    service_db      the services' database (session); `service_db.dsn` is its connection string.
    encoder_folder  the folder of a tiny encoder, which is also its name (session).
    service_options the options that the services have (session).
    served          runs over a small corpus of that encoder's in `service_db` (session).
    clients         `clients["embedding"]`: a client of that service, which is ready (session);
                    vec2text is stood in for.
    database_away   `with database_away(db)`: connections to it are refused, and broken (session).
    serving         `with serving(app) as client`: the same for an application of a test's own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
import stand_in_vec2text
from answering_server import Answer, AnsweringServer, Request
from fastapi import FastAPI
from psycopg import conninfo, sql
from starlette.testclient import TestClient

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.encoder import EncoderSpec
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import aliases
from lvmdb.db.engine import Database
from lvmdb.db.indexes import HNSW
from lvmdb.retrieval import building
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.services.catalogue import SERVICES
from lvmdb.services.options import ServiceOptions
from lvmdb.settings import Settings
from lvmdb.training.plan import plan
from lvmdb.training.train import train

FreshDatabase = Callable[..., AbstractContextManager[Database]]
Serving = Callable[..., AbstractContextManager[TestClient]]

READY_SECONDS = 60.0

DECODED = ("The cat slept on the windowsill all afternoon.", "Not guilty.")
"""What vectors are decoded to."""


@pytest.fixture(scope="session")
def service_db(fresh_database: FreshDatabase) -> Iterator[Database]:
    with fresh_database() as database:
        yield database


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = Path(__file__).parents[2] / "tiny_encoder.py"
    spec = importlib.util.spec_from_file_location("tiny_encoder", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: Path = module.build(tmp_path_factory.mktemp("encoder") / "tiny")
    return built


@pytest.fixture(scope="session")
def service_options(
    service_db: Database,
    encoder_folder: Path,
    decoding_server: AnsweringServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> ServiceOptions:
    models = tmp_path_factory.mktemp("models")
    inverter, corrector = stand_in_vec2text.build(models)
    home = tmp_path_factory.mktemp("home")
    return ServiceOptions(
        Settings(home=home, models=models, decoding_url=decoding_server.url),
        service_db.dsn,
        dataset="served",
        encoder=str(encoder_folder),
        inverter=inverter,
        corrector=corrector,
    )


@pytest.fixture(scope="session")
def decoding_server() -> Iterator[AnsweringServer]:
    """What listens where the decoding service is sought; `clients` lets it pass on."""
    with AnsweringServer() as server:
        yield server


@pytest.fixture(scope="session")
def stand_in(service_options: ServiceOptions) -> stand_in_vec2text.StandIn:
    """What stands in for vec2text's process."""
    spec = EncoderSpec(str(service_options.encoder))
    encoder = encoders.load_as(service_options.settings, spec)
    return stand_in_vec2text.StandIn(encoder, DECODED)


@pytest.fixture(scope="session")
def database_away(server_dsn: str) -> Callable[[Database], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def away(db: Database) -> Iterator[None]:
        """For a while connections to a database are refused, as when its server is down."""
        name = str(conninfo.conninfo_to_dict(db.dsn)["dbname"])
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        with psycopg.connect(server_dsn, autocommit=True) as connection:
            connection.execute(allow.format(sql.Identifier(name), sql.Literal(False)))
            try:
                # Services keep connections, which break.
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = %s",
                    [name],
                )
                yield
            finally:
                connection.execute(allow.format(sql.Identifier(name), sql.Literal(True)))

    return away


SUBJECTS = ("harbour", "glacier", "railway", "orchard", "library", "volcano", "market", "bridge")


@dataclass(frozen=True)
class Served:
    """Runs over the dataset "served": which are promoted, and what they read."""

    mean: int
    lstm: int
    articles: list[VectorArticle]


@pytest.fixture(scope="session")
def served(service_db: Database, encoder_folder: Path) -> Served:
    name = str(encoder_folder)
    encoder = SentenceEncoder.load(encoder_folder, EncoderSpec.of_name(name))
    articles = []
    for subject in SUBJECTS:
        texts = tuple(f"The {subject} was {k} years old when they came there." for k in range(6))
        vectors = encoder.encode(texts)
        articles.append(VectorArticle(subject, subject.title(), None, texts, "test:1", vectors))
    with service_db.begin() as connection:
        encoder_id = encoders.register(connection, encoder)
        ensure_dataset(connection, "served", encoder_id)
        hashes = [import_hash(article) for article in articles]
        store(connection, "served", encoder_id, articles, hashes)
    fractions = (Decimal("0.5"), Decimal("0.25"), Decimal("0.25"))
    spec = SequenceSpec("s", "served", context_len=3, fractions=fractions, allowed_leaks=10_000)
    sets.create(service_db, spec)
    mean = plan(service_db, "context-mean", "s", {})
    lstm = plan(service_db, "lstm", "s", {"hidden": "8", "layers": "1", "epochs": "1"})
    for run_id in (mean, lstm):
        train(service_db, run_id, device="cpu")
    aliases.promote(service_db, lstm)
    aliases.promote(service_db, mean, "plain")
    with service_db.raw_connection() as connection:
        connection.execute(
            "INSERT INTO evaluation (run_id, split, pool, metric, version, value, low, high, "
            "direction, pool_size, pool_fingerprint, queries, distinct_truths, chance) "
            "VALUES (%s, 'test', 'corpus', 'cosine', 1, .5, .4, .6, 1, 48, 'x', 6, 6, .1)",
            [mean],
        )
    building.build(service_db, "served", HNSW(), workers=0)
    return Served(mean, lstm, articles)


@pytest.fixture(scope="session")
def serving() -> Serving:
    @contextlib.contextmanager
    def serve(app: FastAPI, *, ready: bool = True) -> Iterator[TestClient]:
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            deadline = time.monotonic() + READY_SECONDS
            while ready and (answer := client.get("/health")).status_code != 200:
                assert time.monotonic() < deadline, answer.text
                time.sleep(0.05)
            yield client

    return serve


@pytest.fixture(scope="session")
def clients(
    serving: Serving,
    service_options: ServiceOptions,
    served: Served,
    stand_in: stand_in_vec2text.StandIn,
    decoding_server: AnsweringServer,
) -> Iterator[Mapping[str, TestClient]]:
    started = {"decoding": {"start": lambda _: stand_in}}
    with contextlib.ExitStack() as opened:
        made = {
            name: opened.enter_context(
                serving(
                    import_module(service.module).create(service_options, **started.get(name, {}))
                )
            )
            for name, service in SERVICES.items()
        }
        decoding_server.answer = lambda request: passed_on(made["decoding"], request)
        yield made


def passed_on(client: TestClient, request: Request) -> Answer:
    """What a service answers to a request that an `AnsweringServer` was sent."""
    answer = client.request(request.method, request.path, json=request.body)
    return Answer(answer.status_code, answer.json(), {})
