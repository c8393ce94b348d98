"""What the tests of the page share: a corpus with vectors of the tiny encoder, and runs on it.

Fixtures:
    tried_db        the database: dataset `tried`, runs 1 (promoted), 2 (a model) and 3 (session).
    tried_options   options of a service on it (session).
    page            a client of the LVM service, which is ready (session).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.encoder import EncoderSpec
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.aliases import promote
from lvmdb.db.engine import Database
from lvmdb.db.indexes import HNSW
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.retrieval import building
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.services import lvm
from lvmdb.services.options import ServiceOptions
from lvmdb.training.plan import plan
from lvmdb.training.train import train

FreshDatabase = Callable[..., AbstractContextManager[Database]]
Serving = Callable[..., AbstractContextManager[TestClient]]

HOSTILE = '<script>alert("1")</script> & <b>'
"""The title of an article, which is in some of its concepts as well."""

WORDS = (
    "harbour ice river mountain winter bread paper king battle song market island bridge school "
    "engine garden night stone letter doctor train forest painter glass"
)


def _articles(encoder: SentenceEncoder) -> list[VectorArticle]:
    made, generator = [], np.random.default_rng(8)
    for number in range(10):
        title = HOSTILE if number == 3 else f"Article {number}"
        texts = [
            f"Concept {place} of {title}: the {' '.join(generator.choice(WORDS.split(), 5))}."
            for place in range(9)
        ]
        vectors = encoder.encode(texts)
        made.append(
            VectorArticle(f"a{number}", title, None, tuple(texts), f"test:{number}", vectors)
        )
    return made


@pytest.fixture(scope="session")
def tried_db(fresh_database: FreshDatabase, encoder_folder: Path) -> Iterator[Database]:
    encoder = SentenceEncoder.load(encoder_folder, EncoderSpec.of_name(str(encoder_folder)))
    articles = _articles(encoder)
    with fresh_database() as db:
        with db.begin() as connection:
            encoder_id = encoders.register(connection, encoder)
            ensure_dataset(connection, "tried", encoder_id)
            hashes = [import_hash(each) for each in articles]
            store(connection, "tried", encoder_id, articles, hashes)
        fractions = (Decimal("0.6"), Decimal("0.2"), Decimal("0.2"))
        sets.create(db, SequenceSpec("s", "tried", context_len=3, fractions=fractions))
        tiny: dict[str, dict[str, str]] = {
            "context-mean": {},
            "lstm": {"hidden": "8", "epochs": "2"},
            "copy-last": {},
        }
        for name, options in tiny.items():
            train(db, plan(db, name, "s", options), device="cpu")
        for run_id in (1, 2):
            Evaluator(db, device="cpu").evaluate(run_id)
        building.build(db, "tried", HNSW(), workers=0)
        promote(db, 1)
        yield db


@pytest.fixture(scope="session")
def tried_options(service_options: ServiceOptions, tried_db: Database) -> ServiceOptions:
    return replace(service_options, dsn=tried_db.dsn, dataset=None, encoder=None)


@pytest.fixture(scope="session")
def page(serving: Serving, tried_options: ServiceOptions) -> Iterator[TestClient]:
    with serving(lvm.create(tried_options)) as client:
        client.headers["origin"] = "http://127.0.0.1"
        yield client
