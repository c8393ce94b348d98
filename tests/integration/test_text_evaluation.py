"""Decoded text as rows, and vecRAG, on a corpus whose answers are worked out by hand.

The set has a context of one concept, and the run copies it: it predicts the concept before. In the
plane, by degrees: after 0 comes 10, which is nearest; after 10 comes 50, and 0 is nearer, of the
same article; after 21 comes 40, and 10 is nearest, of another; after 80 comes 55, which is nearest.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lvmdb.cli.app import App
from lvmdb.cli.main import cli
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.llm import Question
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION
from lvmdb.decoding.inverting import InvertingDecoder
from lvmdb.decoding.nearest import NearestDecoder
from lvmdb.decoding.vec2text import Inverted
from lvmdb.errors import EndpointError, RunError, UsageError
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.full_text import full_text
from lvmdb.evaluation.text_evaluation import Asking, EvaluatedText, evaluate_text
from lvmdb.reports.named import run_report
from lvmdb.retrieval.searcher import Searcher
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]

ARTICLES = (
    ((0, "harbour stone"), (10, "harbour pier"), (50, "pier of the harbour in storm")),
    ((21, "reed of Oboe"), (40, "Oboe tune")),
    ((80, "goat milk"), (55, "milk cheese")),
)


def on_circle(*degrees: float) -> np.ndarray:
    vectors = np.zeros((len(degrees), DIMENSION), dtype=np.float32)
    radians = np.radians(degrees)
    vectors[:, 0], vectors[:, 1] = np.cos(radians), np.sin(radians)
    return vectors


@pytest.fixture(scope="module")
def db(fresh_database: Fresh) -> Iterator[Database]:
    """The corpus, its set, and the run 1 that copies."""
    with fresh_database() as database:
        made = [
            VectorArticle(
                source_key=f"a{number}",
                title=f"Article {number}",
                url=None,
                texts=tuple(text for _, text in concepts),
                source="circle",
                vectors=on_circle(*(angle for angle, _ in concepts)),
            )
            for number, concepts in enumerate(ARTICLES)
        ]
        with database.begin() as connection:
            encoder_id = encoders.register_imported(connection, "plane")
            ensure_dataset(connection, "wiki", encoder_id)
            store(connection, "wiki", encoder_id, made, [import_hash(each) for each in made])
        fractions = (Decimal(1), Decimal(0), Decimal(0))
        sets.create(database, SequenceSpec("s", "wiki", context_len=1, fractions=fractions))
        train(database, plan(database, "copy-last", "s", {}), device="cpu")
        yield database


ASKING = Asking(split="train", timed=2, smoothed=4, device="cpu")


def ask(db: Database, **options: Any) -> EvaluatedText:
    with Searcher(db, "wiki", exact=True) as searcher:
        decoder = NearestDecoder(searcher, 1)
        return evaluate_text(db, 1, decoder, "nearest/exact", ASKING, **options)


def rows(db: Database, pool: str) -> dict[str, dict[str, Any]]:
    with db.raw_connection() as connection:
        cursor = connection.execute("SELECT * FROM evaluation WHERE pool = %s", [pool])
        names = [column.name for column in cursor.description or ()]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {row["metric"]: row for row in found}


def test_predictions_and_true_vectors_through_one_decoder(db: Database) -> None:
    ask(db)
    found = ask(db)
    decoded, truth = rows(db, "text/nearest/exact"), rows(db, "text/nearest/exact/truth")
    # Degrees between what was decoded and the truth.
    apart = [0, 50, 30, 0]
    expected = {
        "accuracy": (2 / 4, 1 / 6),
        "same_article": (3 / 4, (2 + 2 + 1 + 1) / 4 / 6),
        "exact_text": (2 / 4, 1 / 6),
        "cosine": (np.mean([math.cos(math.radians(a)) for a in apart]), None),
        "l2_r": (np.mean([2 * math.sin(math.radians(a / 2)) for a in apart]), None),
        # "harbour stone" beside six words that have one of its two; nothing of "Oboe tune".
        "rouge_l": ((1 + 2 * 1 / 8 + 0 + 1) / 4, None),
    }
    for name, (value, chance) in expected.items():
        assert decoded[name]["value"] == pytest.approx(value, abs=1e-6), name
        if chance is not None:
            assert decoded[name]["chance"] == pytest.approx(chance), name
    assert {name: truth[name]["value"] for name in expected} == pytest.approx(
        {**dict.fromkeys(expected, 1.0), "l2_r": 0.0}, abs=1e-3
    )
    assert truth["bleu_corpus"]["value"] == pytest.approx(1.0)
    assert decoded["ms_search_p50"]["value"] > 0
    assert decoded["ms_vectors_p95"]["queries"] == 2
    assert decoded["accuracy"]["pool_size"] == 7
    assert (decoded["accuracy"]["queries"], decoded["accuracy"]["distinct_truths"]) == (4, 4)
    assert {s.value for s in found.scores.values()} == {
        row["value"] for row in (*decoded.values(), *truth.values())
    }


def test_values_are_their_sums_by_article(db: Database) -> None:
    ask(db)
    with db.raw_connection() as connection:
        again = connection.execute(
            "SELECT count(DISTINCT e.evaluation_id), "
            "bool_and(abs(e.value - (SELECT sum(total) / sum(weight) FROM evaluation_article a "
            "WHERE a.evaluation_id = e.evaluation_id)) < 1e-9) "
            "FROM evaluation e JOIN evaluation_article USING (evaluation_id) "
            "WHERE pool LIKE 'text/%%/exact'",
        ).fetchone()
    assert again == (7, True)
    # The ordinary evaluation leaves them, and they leave it.
    Evaluator(db, device="cpu").evaluate(1, "train", "corpus")
    ask(db)
    assert rows(db, "corpus")["recall@1"]["value"] == pytest.approx(0.5)
    assert rows(db, "text/nearest/exact")["accuracy"]["value"] == 0.5


def test_written_texts_have_vectors_of_their_own(db: Database) -> None:
    """A decoder that says the same of every vector, of which the encoder has 25 degrees."""

    def invert(vectors: np.ndarray) -> list[Inverted]:
        (back,) = on_circle(25)
        return [Inverted("Oboe tune", 0.5, back) for _ in vectors]

    evaluate_text(db, 1, InvertingDecoder(invert), "vec2text", ASKING)
    written = rows(db, "text/vec2text")
    apart = [15, 25, 15, 30]
    assert written["cosine"]["value"] == pytest.approx(
        np.mean([math.cos(math.radians(each)) for each in apart]), abs=1e-6
    )
    assert written["exact_text"]["value"] == 1 / 4
    # It is no concept that could be the truth; nothing was searched for.
    assert not {"accuracy", "same_article", "ms_search_p50"} & set(written)
    assert written["ms_decode_p50"]["queries"] == 2
    assert rows(db, "text/vec2text/truth")["l2_r"]["value"] == written["l2_r"]["value"]


class Rewrites:
    """A language model that knows one text, adds a name to it, and fails at others."""

    model = "rewrites"

    def __init__(self, knows: str) -> None:
        self.knows = knows

    def ask(self, question: Question) -> str:
        text = question.user.split("<sentences>\n")[1].split("\n</sentences>")[0]
        if text != self.knows:
            raise EndpointError("it is late")
        return f"{text} by Rome"


def test_rewritten_texts(db: Database) -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        assert list(texts) == ["harbour pier by Rome"] * 2
        return on_circle(20, 20)

    found = ask(db, llm=Rewrites("harbour pier"), encode=encode)
    smoothed = {name: row["value"] for name, row in rows(db, "text/nearest/exact/smoothed").items()}
    assert smoothed["rewritten"] == 2 / 4
    assert smoothed["cosine_unsmoothed"] == pytest.approx(math.cos(math.radians(10)), abs=1e-6)
    # The truths of both: the pier itself, and the tune at 40.
    both = (math.cos(math.radians(10)) + math.cos(math.radians(20))) / 2
    assert smoothed["cosine"] == pytest.approx(both, abs=1e-6)
    assert smoothed["added_facts"] == 1.0
    assert found.unsmoothed == ("it is late",)
    # They stay as long as they are of what is decoded, and no longer.
    before = rows(db, "text/nearest/exact/smoothed")
    ask(db)
    assert rows(db, "text/nearest/exact/smoothed") == before
    ask(db, about="another index")
    assert not rows(db, "text/nearest/exact/smoothed")
    with pytest.raises(RunError, match="none of 3 texts: it is late"):
        ask(db, llm=Rewrites("?"), encode=encode)
    with pytest.raises(UsageError, match="encoder"):
        ask(db, llm=Rewrites("?"))


def test_the_command_and_the_reports(db: Database) -> None:
    words = "evaluate-text --run-id 1 --split train --exact --most 3 --timed 1 --device cpu"
    done = CliRunner().invoke(cli, [*words.split(), "--format", "json"], obj=App(dsn=db.dsn))
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert {row["queries"] for row in printed if not row["metric"].startswith("ms_")} == {3}
    report = run_report(db, "texts", run_id=1, split="train")
    by_metric = {row["metric"]: row for row in report.rows}
    assert by_metric["accuracy"]["decoder"] == "nearest, exact"
    assert by_metric["accuracy"]["of_truth"] == 1
    assert by_metric["accuracy"]["gap"] == 1 - by_metric["accuracy"]["value"]
    times = run_report(db, "text_times", run_id=1).rows
    assert [row["stage"] for row in times][:3] == ["vectors", "search", "decode"]
    told = CliRunner().invoke(cli, [*words.split(), "--beam", "2"], obj=App(dsn=db.dsn))
    assert "not for --decode nearest" in str(told.exception)
    asked = [*words.split(), "--smooth", "1"]
    refused = CliRunner().invoke(cli, asked, obj=App(dsn=db.dsn))
    assert refused.exit_code != 0


def test_vecrag(db: Database, tmp_path: Path) -> None:
    """Words find all that follows here; vectors half of it, the second and third at places 4, 2."""
    words = "bench vecrag --run-id 1 --split train --exact --timed 1 --rarest 1 --device cpu"
    picture = tmp_path / "p.png"
    done = CliRunner().invoke(
        cli,
        [*words.split(), "--format", "csv", "--picture", str(picture)],
        obj=App(dsn=db.dsn),
    )
    assert done.exit_code == 0, done.output
    found = {
        (row["relevant"], row["measure"], row["contender"]): row
        for row in csv.DictReader(io.StringIO(done.stdout))
    }
    value = {key: float(row["value"]) for key, row in found.items()}
    reciprocal = (1 + 1 / 4 + 1 / 2 + 1) / 4
    for name in ("plain vector", "prediction"):
        assert value["next", "P@1", name] == 0.5
        assert value["next", "P@5", name] == pytest.approx(1 / 5)
        assert value["next", "MRR@10", name] == pytest.approx(reciprocal)
        assert value["article", "P@1", name] == 0.75
        assert value["article", "P@5", name] == pytest.approx((2 + 2 + 1 + 1) / 4 / 5)
    for name in ("full text", "full text, rarest 1"):
        assert value["next", "P@1", name] == value["next", "MRR@10", name] == 1
    assert found["next", "P@1", "prediction"]["verdict"] == "too few articles"
    assert picture.read_bytes().startswith(b"\x89PNG")
    with db.raw_connection() as connection:
        stored = connection.execute(
            "SELECT contender, value FROM benchmark WHERE name = 'vecrag' AND unit = 'P@1' "
            "AND parameters ->> 'relevant' = 'next' AND parameters ->> 'run_id' = '1'"
        ).fetchall()
        assert ("full text", 1.0) in stored
        left = connection.execute("SELECT count(*) FROM pg_class WHERE relname ~ 'vecrag'")
        assert left.fetchone() == (0,)


def test_full_text_search(db: Database) -> None:
    with full_text(db, "wiki") as words:
        # Of a text whose words are in one concept alone, or do not count, nothing is found.
        assert words.nearest("the cheese of it", 5, []) == []
        (found,) = words.nearest("reed's oboe", 1, [])
        assert words.nearest("reed's oboe", 1, [], indexed=False) == [found]
        assert found not in words.nearest("reed's oboe", 5, [found])
    with (
        pytest.raises(UsageError, match="no text search configuration 'klingon'"),
        full_text(db, "wiki", "klingon"),
    ):
        pass
