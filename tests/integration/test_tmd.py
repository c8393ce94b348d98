"""TMD codes behind the concepts: as SQL has them, in every way of reading, and in runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from asking import ask
from numpy.typing import NDArray

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import native, queries, runs
from lvmdb.db.engine import Database
from lvmdb.errors import LvmdbError, SequenceError
from lvmdb.evaluation import ensembles
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.sequences import reader, sets
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.plan import plan
from lvmdb.training.reading import Reading
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Row = tuple[bytes, bytes]
"""A concept's vector and its code, as float32 in the machine's order."""

SMALL: dict[str, object] = {"batch_size": 8, "epochs": 1}
MAMBA2: dict[str, object] = {"d_model": 16, "layers": 1, "headdim": 16, "d_state": 4, **SMALL}
NO_CODE = np.zeros(16, dtype=np.float32).tobytes()

# One row a concept of the set; what the stream gathers is looked up in it.
CONCEPTS = """
SELECT c.article_id, c.seq, c.concept_vec::real[], c.tmd_vec::real[]
FROM sequence_article sa JOIN cpe_entry c USING (article_id)
"""


@dataclass
class World:
    """A database with a set `s`, a third of whose concepts have no code."""

    db: Database
    sequences: SequenceSet

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return ask(self.db, statement, parameters or None)

    def concepts(self) -> dict[tuple[int, int], Row]:
        return {
            (article, seq): (
                np.array(vector, dtype=np.float32).tobytes(),
                NO_CODE if code is None else np.array(code, dtype=np.float32).tobytes(),
            )
            for article, seq, vector, code in self.sql(CONCEPTS)
        }

    def stream(self, split: str = "train", **values: Any) -> SequenceStream:
        options = StreamOptions(
            **{"batch_size": 5, "buffer_size": 30, "shuffle": True, "tmd": True, **values}
        )
        return SequenceStream(self.db, self.sequences, split, options)

    def run(self, architecture: str = "mamba2", **given: object) -> int:
        options = MAMBA2 if architecture == "mamba2" else SMALL
        return plan(self.db, architecture, "s", {**options, **given}, seed=2)

    def trained(self, architecture: str = "mamba2", **given: object) -> int:
        run_id = self.run(architecture, **given)
        assert train(self.db, run_id, device="cpu").trained
        return run_id

    def outcome(self, run_id: int) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT name, split, step, value FROM run_metric WHERE run_id = %s ORDER BY 1, 2, 3",
            run_id,
        ) + self.sql("SELECT kind, sha256 FROM checkpoint WHERE run_id = %s ORDER BY kind", run_id)


def give_codes(db: Database, seed: int = 5) -> None:
    """Codes for two concepts of three, and the vectors that stand for them."""
    generator = np.random.default_rng(seed)
    with db.raw_connection() as connection:
        ids = connection.execute("SELECT cpe_id FROM cpe_entry ORDER BY cpe_id").fetchall()
        for number, (cpe_id,) in enumerate(ids):
            if number % 3 == 0:
                continue
            code = generator.standard_normal(16)
            code /= np.linalg.norm(code)
            connection.execute(
                "UPDATE cpe_entry SET domain_code = %s, task_code = 3, modifier_code = 7, "
                "tmd_source = 'given', tmd_vec = %s::vector WHERE cpe_id = %s",
                [number % 16, str(code.tolist()), cpe_id],
            )


@pytest.fixture(scope="module")
def world(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[World]:
    with fresh_database() as db:
        articles = make_articles([9, 4, 11, 6, 3, 13, 5, 8] * 2, walk=True)
        with db.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.6"), Decimal("0.2"), Decimal("0.2"))
        spec = SequenceSpec("s", "wiki", context_len=2, fractions=fractions, shards=4)
        made = sets.create(db, spec)
        # After the freeze, as a tagger may that is run later: the set's fingerprint allows it.
        give_codes(db)
        yield World(db, made)


def rows_of(batches: SequenceStream) -> list[list[tuple[int, int, list[Row], bytes]]]:
    """Of each batch: article, seq of the target, what the context holds, the target."""
    return [sorted(_rows(batch)) for batch in batches]


def _rows(batch: SequenceBatch) -> Iterator[tuple[int, int, list[Row], bytes]]:
    assert batch.context.shape[-1] == 784
    assert batch.target.shape[-1] == 768
    assert batch.target.is_contiguous()
    assert not batch.context[~batch.mask].any()
    for k in range(len(batch)):
        held = batch.context[k][batch.mask[k]].numpy()
        target = batch.target[k]
        yield (
            int(batch.article_id[k]),
            int(batch.target_seq[k]),
            [(row[:768].tobytes(), row[768:].tobytes()) for row in held],
            (target if target.dim() == 1 else target[batch.mask[k]]).numpy().tobytes(),
        )


# Reading


@pytest.mark.parametrize("objective", ["last", "every"])
@pytest.mark.parametrize("cache_bytes", [0, 10**8])
def test_each_concept_has_its_own_code_behind_it(
    world: World, objective: str, cache_bytes: int
) -> None:
    concepts = world.concepts()
    assert sum(code == NO_CODE for _, code in concepts.values()) > len(concepts) / 4
    batches = rows_of(world.stream(objective=objective, cache_bytes=cache_bytes, sequence_len=4))
    seen = 0
    for article, target_seq, held, target in chain.from_iterable(batches):
        first = target_seq - len(held)
        assert held == [concepts[article, seq] for seq in range(first, target_seq)]
        following = range(first + 1, target_seq + 1) if objective == "every" else [target_seq]
        assert target == b"".join(concepts[article, seq][0] for seq in following)
        seen += 1
    assert seen == world.stream(objective=objective, sequence_len=4).windows > 0


def test_any_world_and_any_readers_give_the_same(world: World) -> None:
    alone = rows_of(world.stream())
    assert rows_of(world.stream(readers=3, fetch_rows=2)) == alone
    parts = [rows_of(world.stream(rank=rank, world_size=2).at(0, 1)) for rank in range(2)]
    together = [sorted(chain.from_iterable(part)) for part in zip(*parts, strict=True)]
    assert together == alone[1:]


def test_forms_of_vectors_leave_the_codes_as_they_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, half = (list(world.stream(half=half)) for half in (False, True))
    for one, other in zip(exact, half, strict=True):
        assert torch.equal(one.context[..., 768:], other.context[..., 768:])
        assert torch.equal(one.context[..., :768].half().float(), other.context[..., :768])
    monkeypatch.setattr(native, "allowed", lambda _: False)
    for one, other in zip(exact, world.stream(), strict=True):
        assert torch.equal(one.context, other.context)


def test_without_codes_the_statement_is_the_one_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = queries.psycopg_sql

    def noted(file: str, name: str) -> str:
        asked.append(name)
        return real(file, name)

    monkeypatch.setattr(reader, "psycopg_sql", noted)
    for batch in world.stream(tmd=False):
        assert batch.context.shape[-1] == 768
    assert asked == ["stream_spans_native"]
    list(world.stream())
    assert asked[1:] == ["stream_spans_tmd_native"]


def test_a_code_of_another_width_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = queries.psycopg_sql("sequences", "stream_spans_tmd")
    short = genuine.replace("ARRAY[16]", "ARRAY[15]")
    assert short != genuine
    monkeypatch.setattr(reader, "psycopg_sql", lambda *_: short)
    monkeypatch.setattr(native, "allowed", lambda _: False)
    with pytest.raises(SequenceError, match="other concepts"):
        list(world.stream())


def test_a_cache_counts_the_codes(world: World) -> None:
    concepts = sum(
        count for (count,) in world.sql("SELECT concepts FROM sequence_article WHERE split='train'")
    )
    list(world.stream(tmd=False, cache_bytes=concepts * 768 * 4))
    with pytest.raises(SequenceError, match="--cache"):
        list(world.stream(cache_bytes=concepts * 768 * 4))


# Runs


@pytest.fixture(scope="module")
def trained(world: World) -> dict[str, int]:
    """Runs by what they do with codes; tests only read them."""
    sequences: dict[str, object] = {
        **{"tmd": "condition", "objective": "every", "sequence_len": 4, "centre": True}
    }
    plain: dict[str, object] = {
        **{"tmd": "input", "hidden": 8, "residual": False, "resolutions": "6,3"}
    }
    return {
        "condition": world.trained("mamba2", **sequences),
        "input": world.trained("lstm", **plain),
        "none": world.trained(),
    }


@pytest.mark.parametrize("tmd", ["condition", "input"])
def test_a_run_reads_codes_from_training_to_its_evaluation(
    world: World, trained: dict[str, int], tmd: str
) -> None:
    run_id = trained[tmd]
    ((row,),) = world.sql("SELECT hyperparameters FROM experiment_run WHERE run_id = %s", run_id)
    assert (row["tmd"], row["input_dim"], row["output_dim"]) == (tmd, 784, 768)
    assert len(row["tmd_fingerprint"]) == 64
    evaluator = Evaluator(world.db, device="cpu")
    assert evaluator.evaluate(run_id).queries == world.sequences.window_count("test")
    if tmd == "input":
        # Beside what reads none, over the same windows.
        assert evaluator.evaluate(trained["none"]).queries == world.sequences.window_count("test")


def test_codes_change_what_is_learnt_and_one_seed_gives_one_result(world: World) -> None:
    """However it is read."""
    given: dict[str, object] = {"tmd": "condition", "dropout": 0.2, "lr": 0.01}
    first, again = (world.run("mamba2", **given) for _ in range(2))
    train(world.db, first, device="cpu")
    train(world.db, again, device="cpu", reading=Reading(readers=2, cache_bytes=10**8))
    assert world.outcome(first) == world.outcome(again)
    without = world.trained(dropout=0.2, lr=0.01)
    ours, theirs = (
        world.sql(
            "SELECT value FROM run_metric WHERE run_id = %s AND name = 'loss' AND split = 'val'",
            run_id,
        )
        for run_id in (first, without)
    )
    assert ours != theirs


def test_members_of_an_ensemble_read_what_each_reads(world: World, trained: dict[str, int]) -> None:
    """Codes as a condition, codes as input, no codes; and a baseline, which knows none."""
    baseline = plan(world.db, "copy-last", "s", {}, reuse=True)
    train(world.db, baseline)
    members = [*trained.values(), baseline]
    each = [unit(predicted(world, run_id)) for run_id in members]
    for method in ("mean", "weighted"):
        run_id = ensembles.create(world.db, f"mixed-{method}", members, method)
        assert ensembles.fit(world.db, run_id, device="cpu").trained
        if method == "mean":
            assert np.allclose(predicted(world, run_id), sum(each) / 4, atol=1e-5)
    swap = "UPDATE cpe_entry SET task_code = task_code + %s WHERE task_code IS NOT NULL"
    world.sql(swap, 1)
    try:
        with pytest.raises(SequenceError, match=f"that run {members[0]} was planned on"):
            predicted(world, run_id)
    finally:
        world.sql(swap, -1)


def predicted(world: World, run_id: int) -> NDArray[np.float32]:
    """What a run says to the windows of the test split, `(windows, 768)`."""
    run = runs.get(world.db, run_id)
    predictor = load_predictor(world.db, run, world.sequences, torch.device("cpu"))
    stream = world.stream("test", shuffle=False, tmd=predictor.tmd)
    found: NDArray[np.float32] = torch.cat([predictor.predict(batch) for batch in stream]).numpy()
    return found


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def test_codes_that_changed_are_refused(world: World, trained: dict[str, int]) -> None:
    run_id = world.run(tmd="input")
    swap = (
        "UPDATE cpe_entry SET tmd_vec = (array_fill(0, '{16}')::vector) - tmd_vec "
        "WHERE seq = 2 AND tmd_vec IS NOT NULL"
    )
    world.sql(swap)
    try:
        refusal = rf"the TMD codes of sequence set 's' are not those that run {run_id} was planned"
        with pytest.raises(SequenceError, match=refusal):
            train(world.db, run_id, device="cpu")
        ((status,),) = world.sql("SELECT status FROM experiment_run WHERE run_id = %s", run_id)
        assert status == "planned"
        with pytest.raises(SequenceError, match=f"that run {trained['input']} was planned on"):
            Evaluator(world.db, device="cpu").evaluate(trained["input"])
        # What reads no codes does not mind.
        assert len(predicted(world, trained["none"]))
    finally:
        world.sql(swap)
    assert train(world.db, run_id, device="cpu").trained


def test_the_fingerprint_is_of_content_and_order(world: World) -> None:
    def planned() -> str:
        ((row,),) = world.sql(
            "SELECT hyperparameters FROM experiment_run WHERE run_id = %s", world.run(tmd="input")
        )
        return str(row["tmd_fingerprint"])

    before = planned()
    assert planned() == before
    change = "UPDATE cpe_entry SET task_code = %s WHERE seq = 1 AND task_code IS NOT NULL"
    world.sql(change, 4)
    try:
        assert planned() != before
    finally:
        world.sql(change, 3)
    assert planned() == before


@pytest.mark.parametrize(
    ("architecture", "given", "why"),
    [
        ("lstm", {"tmd": "condition"}, "which LSTM is not built on: use --set tmd=input"),
        ("lstm", {"tmd": "both"}, "tmd must be one of none, input, condition, not 'both'"),
        ("ridge", {"tmd": "input"}, "unknown option of ridge 'tmd'"),
        ("lstm", {"tmd_fingerprint": "00"}, "unknown option of lstm 'tmd_fingerprint'"),
    ],
)
def test_what_cannot_read_codes_is_refused(
    world: World, architecture: str, given: dict[str, object], why: str
) -> None:
    before = world.sql("SELECT count(*) FROM experiment_run")
    with pytest.raises(LvmdbError, match=why):
        plan(world.db, architecture, "s", given)
    assert world.sql("SELECT count(*) FROM experiment_run") == before


def test_a_set_without_codes_is_refused(world: World) -> None:
    with world.db.raw_connection() as connection:
        connection.execute("ALTER TABLE cpe_entry RENAME COLUMN tmd_vec TO kept")
        connection.execute("ALTER TABLE cpe_entry ADD COLUMN tmd_vec vector(16)")
    try:
        with pytest.raises(SequenceError, match="no concept of sequence set 's' has a TMD code"):
            world.run(tmd="input")
    finally:
        with world.db.raw_connection() as connection:
            connection.execute("ALTER TABLE cpe_entry DROP COLUMN tmd_vec")
            connection.execute("ALTER TABLE cpe_entry RENAME COLUMN kept TO tmd_vec")
