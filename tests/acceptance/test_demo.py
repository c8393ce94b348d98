"""`lvmdb demo`: from nothing to a leaderboard and a picture, and nothing twice."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from lvmdb.corpus.weights import DEMO_ENCODER, find_weights
from lvmdb.errors import EncoderError
from lvmdb.settings import Settings

# Where this machine keeps weights: read before the tests get homes of their own.
USUAL = Settings.from_environment(
    {name: os.environ.get(name, "") for name in ("LVMDB_HOME", "LVMDB_MODELS")}
)

BASELINES = {"random", "train-mean", "copy-last", "context-mean", "lag-weights", "ridge",
             "nearest-neighbour"}  # fmt: skip
MODELS = {"lstm", "mamba2"}

STATE = """
SELECT 'articles', count(*)::text, '' FROM article
UNION ALL SELECT 'concepts', count(*)::text, max(created_at)::text FROM cpe_entry
UNION ALL SELECT 'runs', count(*)::text, max(finished_at)::text FROM experiment_run
UNION ALL SELECT 'metrics', count(*)::text, '' FROM run_metric
UNION ALL SELECT 'predictions', count(*)::text, '' FROM prediction
UNION ALL SELECT 'evaluations', count(*)::text, max(created_at)::text FROM evaluation
UNION ALL SELECT 'checkpoints', count(*)::text,
                 md5(string_agg(sha256::text, '' ORDER BY run_id, kind)) FROM checkpoint
"""


def state(program: Any) -> list[tuple[Any, ...]]:
    """What a second call must leave as it is."""
    with program.database.raw_connection() as connection:
        return list(connection.execute(STATE).fetchall())


def test_it_works_from_nothing(demo: Any) -> None:
    assert "started PostgreSQL in " in demo.err
    assert "just migrated" in demo.err
    for step in range(1, 8):
        assert f"{step}/7 " in demo.err
    for model in ("8 epoch 2/2", "9 epoch 2/2"):
        assert f"run {model}: train loss" in demo.err
    assert "* best" in demo.err
    assert "Warning" not in demo.err
    assert "Traceback" not in demo.err


def test_the_leaderboard_has_seven_baselines_and_two_models(demo: Any) -> None:
    table = demo.out.partition("Three queries")[0]
    names = re.findall(r"^ +\d+ +([a-z0-9-]+) ", table, flags=re.MULTILINE)
    assert set(names) == BASELINES | MODELS
    assert len(names) == 9
    shown = demo.program("report", "leaderboard", "--format", "csv", "-q").stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [row["architecture"] for row in rows] == names
    cosines = [float(row["cosine"]) for row in rows]
    assert cosines == sorted(cosines, reverse=True)
    assert {row["pool"] for row in rows} == {state(demo.program)[1][1]}


def test_it_draws_a_picture(demo: Any) -> None:
    (line,) = [line for line in demo.out.splitlines() if "learning curves are in" in line]
    picture = Path(line.partition("learning curves are in ")[2])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.is_relative_to(demo.home)
    assert picture.stat().st_size > 10_000


def test_each_of_the_three_queries_runs_as_printed(demo: Any) -> None:
    told = demo.out.partition("Three queries to try")[2]
    queries = re.findall(r'^  (lvmdb (?:[^"\n]|"[^"]*")+)$', told, flags=re.MULTILINE)
    assert len(queries) == 3
    answers = [demo.program.shell(query).stdout for query in queries]
    assert "truth" in answers[0]
    assert "train" in answers[1]
    assert all(name in answers[2] for name in BASELINES | MODELS)


def test_a_second_call_repeats_nothing(demo: Any) -> None:
    before = state(demo.program)
    again = demo.program(*demo.arguments)
    assert state(demo.program) == before
    assert " epoch " not in again.stderr
    assert "fitted" not in again.stderr
    assert "predicts" not in again.stderr
    assert "0 articles added with 0 concepts, 12 were there" in again.stderr
    assert again.stdout == demo.out


def test_it_leaves_one_frozen_set_over_all_articles(demo: Any) -> None:
    shown = demo.program("sequences", "list", "--format", "csv").stdout
    (row,) = csv.DictReader(io.StringIO(shown))
    assert (row["articles"], row["context"]) == ("12", "5")
    assert row["frozen_at"]


@pytest.mark.real_weights
def test_text_is_found_with_the_published_weights(program: Any, tmp_path: Path) -> None:
    try:
        folder = find_weights(
            DEMO_ENCODER,
            models_folder=USUAL.models,
            cache_folder=USUAL.home / "models",
            offline=True,
        )
    except EncoderError as error:
        pytest.skip(f"no weights of {DEMO_ENCODER} on this machine: {error}")
    models = program.home / "models"
    models.mkdir(parents=True)
    (models / DEMO_ENCODER.replace("/", "--")).symlink_to(folder)
    # The demo's own corpus takes an encoder of this size minutes: a few sentences show the same.
    texts = {
        "exceptions": "An exception is raised where an error is found; a try statement handles it.",
        "loops": "A for loop takes the items of a sequence one by one until none is left over.",
        "numbers": "Integers have no limit, and floating point numbers follow the machine's own.",
    }
    source = tmp_path / "few.jsonl"
    source.write_text("".join(json.dumps({"title": k, "text": v}) + "\n" for k, v in texts.items()))
    arguments = ("ingest", "run", source, "--reader", "jsonl", "--dataset", "few")
    program("migrate")
    program(*arguments, "--encoder", DEMO_ENCODER)
    found = program("search", "how errors are dealt with", "--exact", "-k", "1", "-q")
    assert "try statement" in found.stdout
