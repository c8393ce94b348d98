"""Vectors to texts out of a real database: nearest concepts, thresholds, generation, commands."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from lvmdb.cli.app import App
from lvmdb.cli.main import cli
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle, Vectors
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.engine import Database
from lvmdb.decoding import decoders
from lvmdb.decoding.calibration import calibrate, stored_threshold
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.decoders import DecodingOptions
from lvmdb.decoding.drift import drift
from lvmdb.decoding.nearest import NearestDecoder
from lvmdb.decoding.passages import before, same_concepts
from lvmdb.decoding.spaces import Space
from lvmdb.decoding.typed import concepts_of, dataset_chunker
from lvmdb.decoding.vec2text import Inverted
from lvmdb.errors import (
    EncoderError,
    EndpointError,
    LvmdbError,
    RunError,
    SequenceError,
    UnknownNameError,
    UsageError,
)
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.inference import load_inference
from lvmdb.reports.named import run_report
from lvmdb.retrieval.searcher import Searcher
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.settings import Settings
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Run = Callable[..., Any]

ARTICLES, LENGTH = 14, 9


@pytest.fixture(scope="module")
def db(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[Database]:
    """Articles of which the first says twice what it begins with, and an evaluated baseline."""
    with fresh_database() as database:
        articles = make_articles([LENGTH] * ARTICLES, walk=True)
        first = articles[0]
        assert first.vectors is not None
        vectors = first.vectors.copy()
        vectors[8] = vectors[0]
        texts = (*first.texts[:8], f" {first.texts[0].upper()}")
        articles[0] = replace(first, texts=texts, vectors=vectors)
        with database.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.4"), Decimal("0.3"), Decimal("0.3"))
        sets.create(database, SequenceSpec("s", "wiki", context_len=3, fractions=fractions))
        train(database, plan(database, "context-mean", "s", {}), device="cpu")
        Evaluator(database, device="cpu").evaluate(1, "val", "corpus")
        yield database


@pytest.fixture
def searcher(db: Database) -> Iterator[Searcher]:
    with Searcher(db, "wiki", exact=True) as opened:
        yield opened


def concepts(db: Database, article: int = 0) -> tuple[int, list[uuid.UUID], np.ndarray]:
    """Id, concepts and vectors of the article of this number."""
    with db.raw_connection() as connection:
        rows = connection.execute(
            "SELECT article_id, cpe_id, concept_vec::text FROM cpe_entry JOIN article "
            "USING (article_id) WHERE source_key = %s ORDER BY seq",
            [f"a{article}"],
        ).fetchall()
    vectors = np.array([row[2][1:-1].split(",") for row in rows], dtype=np.float32)
    return rows[0][0], [row[1] for row in rows], vectors


def test_the_nearest_concept_is_the_text(db: Database, searcher: Searcher) -> None:
    _, ids, vectors = concepts(db, 3)
    decoder = NearestDecoder(searcher, 3)
    (found,) = decoder.decode(vectors[4:5] * 7)
    assert (found.text, found.method, found.band) == (
        "Concept 4 of article 3, 0.",
        "nearest",
        "certain",
    )
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.hits[0].cpe_id == ids[4]
    assert len(found.hits) == 3
    assert found.hits[0].title == "Article 3"
    assert {"search", "decode"} == set(found.seconds)
    # Many at once are as each alone, with and without what is left out.
    for without in (None, [[ids[0]], [], [ids[2], ids[3]]]):
        together = decoder.decode(vectors[:3], without=without)
        for row, each in enumerate(together):
            left_out = None if without is None else [without[row]]
            (alone,) = decoder.decode(vectors[row : row + 1], without=left_out)
            assert [hit.cpe_id for hit in alone.hits] == [hit.cpe_id for hit in each.hits]
            assert each.cosine == pytest.approx(alone.cosine, abs=1e-5)
    assert decoder.decode(vectors[:0]) == []
    with pytest.raises(UsageError, match="2 vectors need as many lists"):
        decoder.decode(vectors[:2], without=[[]])
    with pytest.raises(UsageError, match="-k is from 1 to 999, not 0"):
        NearestDecoder(searcher, 0)


def test_what_is_left_out_is_left_out_with_its_repetitions(
    db: Database, searcher: Searcher
) -> None:
    _, ids, vectors = concepts(db)
    decoder = NearestDecoder(searcher, 2)
    (found,) = decoder.decode(vectors[:1])
    assert {hit.cpe_id for hit in found.hits} == {ids[0], ids[8]}
    # The same words in capitals, at the article's end, are no news.
    (found,) = decoder.decode(vectors[:1], without=[[ids[0]]])
    assert not {hit.cpe_id for hit in found.hits} & {ids[0], ids[8]}
    assert len(found.hits) == 2
    assert found.cosine < 0.95
    # However many are left out: all but one article, which is far; and then all.
    everything = [each for article in range(ARTICLES) for each in concepts(db, article)[1]]
    kept = concepts(db, 5)[1]
    left_out = [each for each in everything if each not in kept]
    (found,) = decoder.decode(vectors[:1], without=[left_out])
    assert {hit.cpe_id for hit in found.hits} <= set(kept)
    assert len(found.hits) == 2
    (found,) = decoder.decode(vectors[:1], without=[everything])
    assert (found.text, found.band, list(found.hits)) == ("", "unsure", [])
    assert np.isnan(found.cosine)
    first, second = same_concepts(searcher, [vectors[[0, 3]], vectors[[3]]])
    assert (first, second) == ((*sorted([ids[0], ids[8]]), ids[3]), (ids[3],))


def test_a_threshold_is_measured_and_stored(db: Database, searcher: Searcher) -> None:
    sequences = sets.get(db, "s")
    with db.connect() as connection:
        assert stored_threshold(connection, "wiki", sequences.encoder_id) is None
    rows = calibrate(db, searcher, sequences, run_id=1, queries=20, step=0.05)
    (best,) = [row for row in rows if row.chosen]
    assert best.calibrated_on == "predictions"
    assert best.hit_rate > 0.7
    truths = [row for row in rows if row.calibrated_on == "truths"]
    # A true vector is its own concept's, whatever the threshold.
    assert {(row.hits, row.accuracy, row.same_article) for row in truths} == {(20, 1.0, 1.0)}
    held_out = [row for row in rows if row.calibrated_on == "held-out"]
    assert all(row.accuracy is None for row in held_out)
    assert held_out[0].hits < 20
    with db.connect() as connection:
        assert stored_threshold(connection, "wiki", sequences.encoder_id) == best.threshold
        assert stored_threshold(connection, "wiki", 99) is None
        assert stored_threshold(connection, "other", sequences.encoder_id) is None
    # The newest decides, and without a run held-out texts do.
    again = calibrate(db, searcher, sequences, queries=20, step=0.2)
    (newest,) = [row for row in again if row.chosen]
    assert newest.calibrated_on == "held-out"
    with db.connect() as connection:
        assert stored_threshold(connection, "wiki", sequences.encoder_id) == newest.threshold
    report = run_report(db, "decoding")
    assert len(report.rows) == len(rows) + len(again)
    (used,) = [row for row in report.rows if row["in_use"]]
    assert (used["threshold"], used["calibrated_on"]) == (newest.threshold, "held-out")
    assert used["hit_rate"] == pytest.approx(newest.hit_rate)
    assert len(run_report(db, "decoding", run_id=1).rows) == len(rows)
    with pytest.raises(RunError, match="lvmdb evaluate --run-id 1 --split test' comes first"):
        calibrate(db, searcher, sequences, "test", run_id=1)
    with pytest.raises(UsageError, match="--step is above 0"):
        calibrate(db, searcher, sequences, step=0.0)


def test_drift_is_measured_for_each_way(db: Database, searcher: Searcher) -> None:
    sequences = sets.get(db, "s")
    infer = load_inference(db, 1, torch.device("cpu"))
    found = {
        each.way: each for each in drift(db, infer, searcher, sequences, "val", steps=4, articles=3)
    }
    assert {name: each.cosine.shape for name, each in found.items()} == dict.fromkeys(
        ("truth", "none", "index", "copy"), (4, 3)
    )
    # Before anything was generated they have read the same.
    assert np.allclose(found["truth"].cosine[0], found["none"].cosine[0], atol=1e-6)
    assert np.allclose(found["none"].cosine[0], found["index"].cosine[0], atol=1e-6)
    assert not np.allclose(found["none"].cosine[1], found["index"].cosine[1])
    # With the truth before it each step is what the run predicts there: the mean of three.
    with db.connect() as connection:
        ids = connection.exec_driver_sql(
            "SELECT a.source_key FROM sequence_article sa JOIN article a USING (article_id) "
            "WHERE split = 'val' ORDER BY sha256(convert_to('0 ' || a.source_key, 'UTF8')) LIMIT 3"
        ).scalars()
        for column, key in enumerate(ids):
            vectors = concepts(db, int(key[1:]))[2].astype(np.float64)
            mean = vectors[3:6].mean(axis=0)
            expected = mean @ vectors[6] / np.linalg.norm(mean)
            assert found["truth"].cosine[3, column] == pytest.approx(expected, abs=1e-5)
            assert found["copy"].cosine[2, column] == pytest.approx(
                vectors[2] @ vectors[5], abs=1e-5
            )
    widths = set[int]()

    def coded(contexts: Sequence[Vectors]) -> Vectors:
        widths.update(each.shape[1] for each in contexts)
        return np.stack([each[-1, :768] for each in contexts])

    # With TMD codes, whatever is read.
    drift(db, coded, searcher, sequences, "val", steps=2, articles=2, tmd=True)
    assert widths == {784}
    with pytest.raises(SequenceError, match="no val article of 's' has 10 concepts"):
        drift(db, infer, searcher, sequences, "val", steps=7)


def test_passages_and_typed_texts(db: Database) -> None:
    article, ids, vectors = concepts(db, 3)
    passage = before(db, "wiki", article, 4, steps=2)
    assert list(passage.cpe_ids) == ids[:6]
    assert np.array_equal(passage.vectors, vectors[:6])
    assert not passage.codes.any()
    assert passage.title == "Article 3"
    for at in (0, 10):
        with pytest.raises(UsageError, match=f"from 1 to 9, not {at}"):
            before(db, "wiki", article, at)
    for dataset, number in (("other", article), ("wiki", 999)):
        with pytest.raises(UnknownNameError, match=f"unknown article '{number}'"):
            before(db, dataset, number, 4)
    chunker, own = dataset_chunker(db, "wiki")
    assert (chunker.name, own) == ("sentence", False)
    assert concepts_of(chunker, " Bees  fly. ") == ["Bees fly."]
    with pytest.raises(UsageError, match="--text is empty"):
        concepts_of(chunker, " \n")
    with db.raw_connection(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ingest_job (dataset_source, reader, source, options) "
            """VALUES ('wiki', 't', 's', '{"chunker": "paragraph", "min_words": 3, "range": 9}')"""
        )
        chunker, own = dataset_chunker(db, "wiki")
        connection.execute("DELETE FROM ingest_job WHERE reader = 't'")
    assert (chunker.name, chunker.options, own) == ("paragraph", {"min_words": 3}, True)


class Service:
    """What stands in for the decoding service: there and ready, or not."""

    why: LvmdbError | None = None

    @classmethod
    @contextmanager
    def from_settings(cls, settings: Settings, *, steps: int, beam: int) -> Iterator[Service]:
        assert (steps, beam) == (2, 4)
        yield cls()

    def require_ready(self) -> None:
        if self.why is not None:
            raise self.why

    def written_by(self, vectors: Vectors, encoder: Space) -> str:
        self.require_ready()
        assert (vectors.shape, encoder.encoder) == ((1, 768), "test-encoder")
        return "org/half@0+org/half@1"

    def decode(self, vectors: Vectors, encoder: Space) -> list[Inverted]:
        assert encoder.encoder == "test-encoder"
        return [Inverted("written", 0.9, each) for each in vectors]


def test_decoders_by_name_and_what_they_lack(
    db: Database, searcher: Searcher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoder_id = sets.get(db, "s").encoder_id
    _, ids, vectors = concepts(db, 3)
    far = -vectors[:1]
    said: list[str] = []

    def decoded(method: str, asked: Vectors) -> Decoded:
        options = DecodingOptions(method, k=1, steps=2)
        settings = Settings(home=tmp_path)
        said.clear()
        with decoders.decoder(db, settings, searcher, encoder_id, options, said.append) as made:
            (found,) = made.decode(asked)
        return found

    def depends_on(method: str) -> str:
        options = DecodingOptions(method, steps=2)
        settings = Settings(home=tmp_path)
        return decoders.depends_on(db, settings, searcher, encoder_id, options)

    monkeypatch.setattr(decoders, "Vec2Text", Service)
    monkeypatch.setattr(decoders, "stored_threshold", lambda *_: None)
    assert decoded("nearest", far).why is None
    assert decoded("auto", far).why == "no threshold is calibrated"
    assert "run 'lvmdb decode calibrate --run-id N'" in said[0]
    assert (depends_on("nearest"), depends_on("auto")) == ("", " without a threshold")
    monkeypatch.setattr(decoders, "stored_threshold", lambda *_: 0.8)
    # Vectors of an encoder without a fingerprint are nobody's to decode.
    assert decoded("auto", far).method == "nearest"
    assert "below a cosine of 0.80 texts stay the nearest concept's" in said[0]
    assert "has no fingerprint" in said[0]
    with pytest.raises(EncoderError, match="has no fingerprint"):
        decoded("vec2text", far)
    monkeypatch.setattr(decoders, "stored_fingerprint", lambda *_: np.eye(2, 768))
    assert decoded("auto", vectors[:1]).hits[0].cpe_id == ids[0]
    found = decoded("auto", far)
    assert (found.text, found.method, len(found.hits), said) == ("written", "vec2text", 1, [])
    assert decoded("vec2text", vectors[:1]).text == "written"
    assert depends_on("vec2text") == "org/half@0+org/half@1 2 4"
    assert depends_on("auto") == " 0.8 org/half@0+org/half@1 2 4"
    monkeypatch.setattr(Service, "why", EndpointError("away"))
    assert decoded("auto", far).why == "below 0.80, and no vec2text: away"
    assert said == ["below a cosine of 0.80 texts stay the nearest concept's: away"]
    assert depends_on("auto") == " 0.8 no vec2text"
    for asked in (decoded, lambda *_: depends_on("vec2text")):
        with pytest.raises(EndpointError, match="away"):
            asked("vec2text", far)
    with pytest.raises(UnknownNameError, match="unknown way to decode 'nearst'; did you mean"):
        DecodingOptions("nearst")


@pytest.fixture
def run(db: Database) -> Run:
    """`run("decode", ...)`: what a command prints, and what it says in the meantime."""

    def call(*words: object, fails: str | None = None) -> tuple[str, str]:
        result = CliRunner().invoke(cli, [*map(str, words)], obj=App(dsn=db.dsn))
        if fails is None:
            assert result.exception is None, result.output
        else:
            told = str(result.exception)
            assert isinstance(result.exception, LvmdbError), result.output
            assert fails in told, told
        return result.stdout, result.stderr

    return call


def test_decode_as_a_command(db: Database, run: Run, tmp_path: Path) -> None:
    _, ids, vectors = concepts(db, 3)
    np.save(tmp_path / "v.npy", vectors[2])
    asked = ("decode", "--exact", "--format", "json")
    found = json.loads(
        run(*asked, "--vector", tmp_path / "v.npy", "-k", 2, "--decode", "nearest")[0]
    )
    assert found[0]["cpe_id"] == str(ids[2])
    assert (len(found), found[0]["band"], found[0]["cosine"]) == (2, "certain", 1.0)
    with db.raw_connection() as connection:
        row = connection.execute("SELECT target_cpe_id FROM prediction LIMIT 1").fetchone()
    assert row is not None
    words, said = run(*asked, "--prediction", f"1:{row[0]}", "--decode", "nearest")
    assert "the truth, at a cosine of" in said
    with db.raw_connection() as connection:
        context = connection.execute(
            "SELECT unnest(context_cpe_ids)::text FROM training_sequence WHERE target_cpe_id = %s",
            [row[0]],
        ).fetchall()
    # The mean of a context is near to what it is the mean of, and that is no prediction.
    assert not {each for (each,) in context} & {each["cpe_id"] for each in json.loads(words)}
    # All of the dataset but what is left out, by each choice.
    everything = ("--prediction", f"1:{row[0]}", "--decode", "nearest", "-k", 999)
    left: dict[str, set[str]] = {}
    for exclude in ("none", "context", "article"):
        words, _ = run(*asked, *everything, "--exclude", exclude)
        left[exclude] = {each["cpe_id"] for each in json.loads(words)}
    assert len(left["none"]) == ARTICLES * LENGTH
    with db.raw_connection() as connection:
        earlier = connection.execute(
            "SELECT e.cpe_id::text FROM cpe_entry e JOIN cpe_entry t USING (article_id) "
            "WHERE t.cpe_id = %s AND e.seq < t.seq",
            [row[0]],
        ).fetchall()
    assert {each for (each,) in context} <= left["none"] - left["context"]
    assert {each for (each,) in earlier} <= left["none"] - left["article"]
    run(*asked, "--vector", tmp_path / "v.npy", "--exclude", "none", fails="is for --prediction")
    run("decode", fails="give --vector or --prediction")
    run("decode", "--prediction", "1:x", fails="--prediction is RUN:CPE")
    run("decode", "--prediction", f"9:{row[0]}", fails="unknown run '9'")
    run("decode", "--prediction", f"1:{uuid.UUID(int=1)}", fails="has no prediction for concept")
    run(
        *("decode", "--vector", tmp_path / "v.npy", "--decode", "nearest", "--beam", 2),
        fails="not for --decode nearest",
    )
    run("decode", "calibrate", fails="give --run-id or --sequences")
    words, _ = run(
        *("decode", "calibrate", "--run-id", 1, "--exact", "--queries", 9, "--format", "json")
    )
    assert {row["on"] for row in json.loads(words)} == {"predictions", "truths", "held-out"}
    assert sum(row["chosen"] for row in json.loads(words)) == 1


class Encodes:
    """An encoder that knows the texts of the test's articles, and the end of one."""

    name = "test-encoder"

    def __init__(self, known: dict[str, np.ndarray]) -> None:
        self.known = known

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.known[text] for text in texts])


def test_generate_as_a_command(db: Database, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    article, ids, vectors = concepts(db, 3)
    asked = ("generate", "--run-id", 1, "--exact", "--decode", "nearest", "--format", "json")
    words, said = run(*asked, "--article", article, "--at", 4, "--steps", 3)
    # Of imported vectors nobody knows the encoder, and without it no end.
    assert "without the encoder no end concept ends it" in said
    found = json.loads(words)
    assert found["stopped"] == {
        "reason": "length", "step": 3, "told": "3 concepts, as many as were asked for"
    }  # fmt: skip
    assert found["context"] == [f"Concept {k} of article 3, 0." for k in (1, 2, 3)]
    mean = vectors[1:4].mean(axis=0)
    truth = float(mean @ vectors[4] / np.linalg.norm(mean))
    assert found["steps"][0]["true_cosine"] == pytest.approx(truth, abs=1e-3)
    # Neither the article so far nor what was said is said again.
    said_ids = [step["cpe_id"] for step in found["steps"]]
    assert len(set(said_ids)) == 3
    assert not set(said_ids) & {str(each) for each in ids[:4]}
    assert set(found["seconds"]) == {"vectors", "search", "decode", "feed"}
    assert set(found["seconds"]["search"]) == {"p50", "p95"}
    # In a loop of its own predictions it goes elsewhere, from the second step on.
    alone = ("--article", article, "--at", 4, "--steps", 3, "--loop", "none")
    # There a mean of means soon says the same again.
    assert json.loads(run(*asked, *alone)[0])["stopped"]["reason"] == "repetition"
    other = json.loads(run(*asked, *alone, "--repeated", 2)[0])["steps"]
    assert other[0]["cpe_id"] == said_ids[0]
    assert other[1]["cosine"] != found["steps"][1]["cosine"]

    end = vectors[1]
    known = {"Concept 1 of article 3, 0.": vectors[1], "End of text.": end}
    monkeypatch.setattr(encoders, "load_beside", lambda *_, **__: Encodes(known))
    typed = ("--text", "Concept 1 of article 3, 0.")
    found = json.loads(run(*asked, *typed)[0])
    # A mean of one concept is that one, and here that ends a text.
    assert (found["steps"], found["stopped"]["reason"]) == ([], "end")
    words, said = run(*asked[:-2], *typed, "--steps", 1, "--end-cosine", 2)
    assert "Concept 1 of article 3" not in words
    assert "ended by length" in words
    assert "search: p50" in words
    assert "the text is cut by the sentence chunker" in said
    # Whoever is to rewrite it is looked for before anything is generated.
    run(*asked, *typed, "--smooth", fails="LVMDB_LLM_URL")
    run(*asked, fails="give --text or --article")
    run(*asked, *typed, "--at", 3, fails="--article and --at go together")
    run(*asked, *typed, "--loop", "vec2text", fails="add --decode vec2text")


def test_bench_generate_as_a_command(db: Database, run: Run) -> None:
    asked = ("bench", "generate", "--run-id", 1, "--split", "val", "--steps", 2, "--exact")
    first = json.loads(run(*asked, "--format", "json")[0])[0]
    assert (first["contender"], first["unit"]) == ("truth 1", "cosine")
    words, _ = run(*asked, "--format", "csv")
    assert words.splitlines()[0].startswith("step,articles,truth,none,index,copy")
    rows = run_report(db, "generation", run_id=1).rows
    assert [row["step"] for row in rows] == [1, 2, 1, 2]
    assert rows[0]["truth"] == pytest.approx(np.mean(first["samples"]))
    assert rows[0]["snapped"] == pytest.approx(rows[0]["none"])
    assert run_report(db, "generation", run_id=99).rows == []
