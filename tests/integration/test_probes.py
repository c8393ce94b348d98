"""Questions and their answers: streamed as SQL has them, trained on, refused where they are not."""

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
from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.errors import LvmdbError, SequenceError
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.sequences import sets
from lvmdb.sequences.batch import ProbeBatch
from lvmdb.sequences.probes import ProbeStream, chosen
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.fork import fork
from lvmdb.training.plan import plan
from lvmdb.training.reading import Reading
from lvmdb.training.step import Stepper
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Row = tuple[Any, ...]

SMALL: dict[str, object] = {
    **{"d_model": 16, "layers": 1, "headdim": 16, "d_state": 4},
    **{"batch_size": 8, "epochs": 2, "objective": "probe"},
}
KILL_ALL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@dataclass
class World:
    """A database with a set `s`, most of whose concepts have probes."""

    db: Database
    sequences: SequenceSet

    def sql(self, statement: str, *parameters: object) -> list[Row]:
        return ask(self.db, statement, parameters or None)

    def stream(self, split: str = "train", **values: Any) -> ProbeStream:
        given = {"batch_size": 5, "buffer_size": 24, "shuffle": True, **values}
        return ProbeStream(self.db, self.sequences, split, StreamOptions(**given))

    def run(self, seed: int = 1, **given: object) -> int:
        return plan(self.db, "mamba2", "s", {**SMALL, **given}, seed=seed)

    def trained(self, seed: int = 1, **given: object) -> int:
        run_id = self.run(seed, **given)
        assert train(self.db, run_id, device="cpu").trained
        return run_id

    def metrics(self, run_id: int) -> dict[tuple[str, str, int], float]:
        rows = self.sql("SELECT name, split, step, value FROM run_metric WHERE run_id = %s", run_id)
        return {(name, split, step): value for name, split, step, value in rows}

    def hashes(self, run_id: int) -> list[Row]:
        statement = "SELECT kind, sha256 FROM checkpoint WHERE run_id = %s ORDER BY kind"
        return self.sql(statement, run_id)


def unit(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def give_probes(db: Database) -> None:
    """Of each article all but the third concept; every second one has a domain and a code."""
    generator = np.random.default_rng(4)
    with db.raw_connection() as connection:
        concepts = connection.execute(
            "SELECT cpe_id, seq, concept_vec::real[] FROM cpe_entry c JOIN article a "
            "USING (article_id) ORDER BY a.ordinal, c.seq"
        ).fetchall()
        for number, (cpe_id, seq, vector) in enumerate(concepts):
            if seq == 2:
                continue
            probe = unit(np.array(vector) + 0.03 * generator.standard_normal(768))
            code = unit(generator.standard_normal(16))
            known = number % 2 == 0
            connection.execute(
                "UPDATE cpe_entry SET probe_vec = %s::vector, domain_code = %s, task_code = %s, "
                "modifier_code = %s, tmd_source = %s, tmd_vec = %s::vector WHERE cpe_id = %s",
                [
                    str(probe.tolist()),
                    *([number % 3, 1, 1, "given", str(code.tolist())] if known else [None] * 5),
                    cpe_id,
                ],
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
        made = sets.create(db, SequenceSpec("s", "wiki", 2, fractions=fractions, shards=4))
        give_probes(db)
        yield World(db, made)


@pytest.fixture(scope="module")
def trained(world: World) -> int:
    """A run that has answered questions; tests only read it."""
    return world.trained(residual=False, lr=0.01)


def floats(values: list[float] | None) -> bytes:
    return np.array([0.0] * 16 if values is None else values, dtype=np.float32).tobytes()


def rows_of(batches: ProbeStream) -> list[list[Row]]:
    """What the rows of each batch hold, as bytes, in an order that is not the reader's."""
    found = []
    for batch in batches:
        assert isinstance(batch, ProbeBatch)
        assert batch.mask.shape == (len(batch), 1)
        assert bool(batch.mask.all())
        assert batch.soft.shape == batch.hard.shape == (len(batch), 3, 768)
        columns = zip(
            batch.article_id.tolist(),
            batch.target_seq.tolist(),
            *([t.numpy().tobytes() for t in batch.context.flatten(1)],),
            *([t.numpy().tobytes() for t in batch.target],),
            *(
                [t[p].numpy().tobytes() for t, p in zip(*pair, strict=True)]
                for pair in ((batch.soft, batch.soft_present), (batch.hard, batch.hard_present))
            ),
            strict=True,
        )
        found.append(sorted(columns))
    return found


# Reading


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_stream_is_what_sql_says(world: World, split: str) -> None:
    expected = sorted(
        (article, seq, floats(probe) + floats(code), floats(concept))
        for article, seq, probe, code, concept in world.sql(
            "SELECT c.article_id, c.seq, c.probe_vec::real[], c.tmd_vec::real[], "
            "c.concept_vec::real[] FROM sequence_article sa JOIN cpe_entry c USING (article_id) "
            "WHERE sa.split = %s AND c.probe_vec IS NOT NULL",
            split,
        )
    )
    for values in ({"shuffle": False}, {"buffer_size": 4096}, {"epoch": 3, "batch_size": 1}):
        stream = world.stream(split, tmd=True, **values)
        batches = rows_of(stream)
        assert sorted(row[:4] for row in chain.from_iterable(batches)) == expected
        assert len(batches) == len(stream) == -(-stream.windows // stream.options.batch_size)
    assert stream.windows == len(expected) > 10
    plain = next(iter(world.stream(split)))
    assert plain.context.shape == (5, 1, 768)


def test_the_order_is_a_function_of_seed_and_epoch_open_at_any_batch(world: World) -> None:
    stream = world.stream()
    first = rows_of(stream)
    assert rows_of(stream) == first
    assert rows_of(stream.at(0, 3)) == first[3:]
    assert rows_of(stream.at(0, len(first))) == []
    places = [[row[:2] for row in batch] for batch in first]
    for other in (stream.at(1), world.stream(seed=1), world.stream(shuffle=False)):
        assert [[row[:2] for row in batch] for batch in rows_of(other)] != places


@pytest.mark.parametrize("first", [0, 2])
def test_any_number_of_processes_reads_the_same_global_batches(world: World, first: int) -> None:
    """Negatives included, which are chosen from the whole of each."""
    alone = rows_of(world.stream())[first:]
    assert any(row[4] or row[5] for row in chain.from_iterable(alone))
    for size in (2, 4):
        parts = [rows_of(world.stream(rank=r, world_size=size).at(0, first)) for r in range(size)]
        together = [sorted(chain.from_iterable(part)) for part in zip(*parts, strict=True)]
        assert together == alone


def test_a_connection_that_is_lost_is_made_again(world: World) -> None:
    verified: list[bool] = []
    read = StreamOptions(batch_size=2, buffer_size=24, shuffle=True)
    stream = ProbeStream(
        world.db, world.sequences, "train", read, verify=lambda: verified.append(True)
    ).at(1)
    expected = [batch.target_seq.tolist() for batch in stream]
    found = []
    for number, batch in enumerate(stream):
        found.append(batch.target_seq.tolist())
        if number == 1:
            world.sql(KILL_ALL)
    assert found == expected
    # What is there now was held against what the run was planned on.
    assert verified == [True]


def test_no_more_is_held_than_the_buffers_and_a_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = world.stream(buffer_size=8, batch_size=3)
    real, parsed, given = ProbeStream._parsed, 0, 0

    def counted(self: ProbeStream, row: Row) -> Any:
        nonlocal parsed
        parsed += 1
        return real(self, row)

    monkeypatch.setattr(ProbeStream, "_parsed", counted)
    for batch in stream._batches(0, None):
        given += len(batch)
        assert parsed - given <= 4 * 16 + 3
    assert given == stream.windows


# Negatives


def test_the_rule_by_hand() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal((4, 768))
    rows = base[generator.integers(0, 4, 40)] + 0.65 * generator.standard_normal((40, 768))
    target = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    domain = generator.integers(-1, 3, 40)
    soft, hard = chosen(target, domain)
    kinds = {"soft": 0, "hard": 0}
    for row in range(40):
        cosine = {n: float(target[row].astype(float) @ target[n].astype(float)) for n in range(40)}
        alike = [
            n
            for n, value in cosine.items()
            if 0.6 <= value <= 0.8 and domain[n] == domain[row] >= 0
        ]
        unlike = [n for n, value in cosine.items() if value < 0.5]
        for name, found, allowed in (("soft", soft[row], alike), ("hard", hard[row], unlike)):
            assert found.tolist() == sorted(allowed, key=lambda n: -cosine[n])[:3]
            kinds[name] += len(found)
    assert kinds["soft"] > 20
    assert kinds["hard"] == 120
    assert row not in soft[row]


def test_without_stored_ones_the_rule_chooses_from_the_batch(world: World) -> None:
    for batch in world.stream():
        assert isinstance(batch, ProbeBatch)
        rows = batch.target.numpy()
        domains = {
            (article, seq): -1 if domain is None else domain
            for article, seq, domain in world.sql(
                "SELECT article_id, seq, domain_code FROM cpe_entry"
            )
        }
        places = zip(batch.article_id.tolist(), batch.target_seq.tolist(), strict=True)
        soft, hard = chosen(rows, np.array([domains[place] for place in places]))
        for row in range(len(batch)):
            for found, present, expected in (
                (batch.soft, batch.soft_present, soft[row]),
                (batch.hard, batch.hard_present, hard[row]),
            ):
                assert present[row].tolist() == [n < len(expected) for n in range(3)]
                assert found[row, : len(expected)].numpy().tobytes() == rows[expected].tobytes()
                assert not found[row, len(expected) :].any()


def test_stored_ones_are_found_by_their_texts_within_the_split(world: World) -> None:
    """At most three, in their order; without the concept itself and without what is no concept."""
    texts: dict[str, list[tuple[str, bytes]]] = {}
    for split, text, vector in world.sql(
        "SELECT sa.split, c.concept_text, c.concept_vec::real[] FROM sequence_article sa "
        "JOIN cpe_entry c USING (article_id) ORDER BY sa.position, c.seq"
    ):
        texts.setdefault(split, []).append((text, floats(vector)))
    train_texts, held_out = texts["train"], texts["test"]
    ((cpe_id, article, seq, own),) = world.sql(
        "SELECT c.cpe_id, c.article_id, c.seq, c.concept_text FROM sequence_article sa "
        "JOIN cpe_entry c USING (article_id) WHERE sa.split = 'train' AND c.seq = 3 "
        "ORDER BY sa.position LIMIT 1"
    )
    chosen_ones = [one for one in train_texts if one[0] != own][5:10]
    soft = ["no concept", chosen_ones[1][0], held_out[0][0], own, chosen_ones[0][0]]
    hard = [one[0] for one in chosen_ones]
    change = "UPDATE cpe_entry SET soft_negatives = %s, hard_negatives = %s WHERE cpe_id = %s"
    world.sql(change, soft, hard, cpe_id)
    try:
        rows = {row[:2]: row for batch in rows_of(world.stream()) for row in batch}
        assert rows[article, seq][4] == chosen_ones[1][1] + chosen_ones[0][1]
        assert rows[article, seq][5] == b"".join(vector for _, vector in chosen_ones[:3])
        # Of a kind of which no text is a concept, as of one that has none, the rule chooses.
        world.sql(change, ["nothing", "known"], [], cpe_id)
        again = {row[:2]: row for batch in rows_of(world.stream()) for row in batch}
        assert again[article, seq][4] != rows[article, seq][4]
        assert again[article, seq][5] != rows[article, seq][5]
    finally:
        world.sql(change, None, None, cpe_id)
    plain = {row[:2]: row for batch in rows_of(world.stream()) for row in batch}
    assert again == plain


# Runs


def test_a_run_learns_to_answer_and_its_weights_go_on_to_the_next_vector(
    world: World, trained: int
) -> None:
    found = world.metrics(trained)
    names = {name for name, split, _ in found if split == "val"}
    assert names == {"loss", "mse_sum", "mse", "cosine", "soft_margin", "hard_margin"}
    losses = [
        value
        for (name, split, _), value in sorted(found.items())
        if (name, split) == ("loss", "val")
    ]
    assert losses[-1] < losses[0]
    for (name, split, step), value in found.items():
        if (name, split) == ("loss", "val"):
            margins = found["soft_margin", "val", step] + found["hard_margin", "val", step]
            assert value == pytest.approx(found["mse_sum", "val", step] / 2 + margins, rel=1e-5)
    # What it has learnt is where training on the next vector starts.
    after = fork(world.db, trained, {"objective": "last", "epochs": 1, "lr": 1e-30})
    assert train(world.db, after, device="cpu").trained
    rows = world.sql(
        "SELECT hyperparameters->>'objective', hyperparameters->>'probe_fingerprint', "
        "parent_run_id FROM experiment_run WHERE run_id = ANY (%s) ORDER BY run_id",
        [trained, after],
    )
    assert [(objective, len(found or ""), parent) for objective, found, parent in rows] == [
        ("probe", 64, None),
        ("last", 0, trained),
    ]
    assert {name for name, *_ in world.metrics(after)} == {"loss", "mse_sum", "mse", "cosine", "lr"}
    cpu, read = torch.device("cpu"), StreamOptions()
    loaded = [
        load_predictor(world.db, runs.get(world.db, run_id), world.sequences, cpu)
        for run_id in (trained, after)
    ]
    for batch in SequenceStream(world.db, world.sequences, "test", read):
        first, second = (predictor.predict(batch) for predictor in loaded)
        torch.testing.assert_close(first, second)


def test_a_residual_model_begins_at_the_question_itself(world: World) -> None:
    run_id = world.trained(lr=1e-12, epochs=1)
    ((value,),) = world.sql(
        "SELECT value FROM run_metric WHERE run_id = %s AND (name, split) = ('cosine', 'val')",
        run_id,
    )
    ((cosine,),) = world.sql(
        "SELECT avg(1 - (c.probe_vec <=> c.concept_vec)) FROM sequence_article sa "
        "JOIN cpe_entry c USING (article_id) WHERE sa.split = 'val'"
    )
    assert value == pytest.approx(cosine, abs=1e-5)


def test_interrupted_anywhere_it_ends_with_the_same_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {
        **{"dropout": 0.2, "tmd": "condition", "centre": True, "epochs": 1, "batch_size": 16},
    }
    undisturbed, run_id = world.trained(3, **given), world.run(3, **given)
    real, steps = Stepper.step, 0

    def failing(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps += 1
        if steps in (2, 4):
            raise OSError("the disk went away")
        return real(self, *arguments)

    monkeypatch.setattr(Stepper, "step", failing)
    for _ in range(2):
        with pytest.raises(OSError, match="disk went away"):
            train(world.db, run_id, device="cpu", reading=Reading(checkpoint_every=0))
    assert train(world.db, run_id, device="cpu").epochs == 1
    assert world.metrics(run_id) == world.metrics(undisturbed)
    assert world.hashes(run_id) == world.hashes(undisturbed)


# What is refused


def test_probes_that_changed_are_refused(world: World, trained: int) -> None:
    run_id = world.run(5, epochs=1)
    ids = world.sql("SELECT array_agg(cpe_id) FROM cpe_entry WHERE seq = 4 AND domain_code = 0")[0]
    update = "UPDATE cpe_entry SET {} WHERE cpe_id = ANY (%s)"
    why = rf"the probes of sequence set 's' are not those that run {run_id} was planned on"
    for change, back in (
        ("hard_negatives = '{x}'", "hard_negatives = NULL"),
        ("domain_code = 9", "domain_code = 0"),
        (
            "probe_vec = concept_vec, expected_answer = probe_vec",
            "probe_vec = expected_answer::vector",
        ),
    ):
        world.sql(update.format(change), *ids)
        with pytest.raises(SequenceError, match=why):
            train(world.db, run_id, device="cpu")
        if change == "domain_code = 9":
            # What is predicted of windows does not rest on probes.
            run = runs.get(world.db, trained)
            assert load_predictor(world.db, run, world.sequences, torch.device("cpu"))
        world.sql(update.format(back), *ids)
    assert train(world.db, run_id, device="cpu").trained


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"half": True}, "half is for windows and sequences"),
        ({"curriculum": "quantiles"}, "train it with objective=last"),
        ({"margin_soft": -0.1}, "margin_soft must be from 0 to 2"),
        ({"margin_hard": 2.5}, "margin_hard must be from 0 to 2"),
        ({"probe_fingerprint": "00"}, "unknown option of mamba2 'probe_fingerprint'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    world: World, given: dict[str, object], why: str
) -> None:
    with pytest.raises(LvmdbError, match=why):
        world.run(1, **given)


def test_a_set_without_probes_is_refused(db: Database, corpus: Any, sequence_set: Any) -> None:
    corpus([9, 8, 7, 6, 5])
    sequence_set()
    with pytest.raises(SequenceError, match=r"^[^\n]*'s' has no probes to train on: no concept"):
        plan(db, "mamba2", "s", SMALL)
    with db.raw_connection() as connection:
        connection.execute(
            "UPDATE cpe_entry c SET probe_vec = concept_vec FROM sequence_article sa "
            "WHERE sa.article_id = c.article_id AND sa.split = 'train'"
        )
    with pytest.raises(SequenceError, match=r"^[^\n]*'s' has no probes to find the best epoch by"):
        plan(db, "mamba2", "s", SMALL)
    with db.raw_connection() as connection:
        connection.execute("UPDATE cpe_entry SET probe_vec = concept_vec")
    assert plan(db, "mamba2", "s", SMALL)
    sequence_set("across", scope="corpus")
    with pytest.raises(LvmdbError, match=r"--set objective=probe reads articles' probes.*'across'"):
        plan(db, "mamba2", "across", SMALL)
    with pytest.raises(SequenceError, match="create a set with --scope article"):
        ProbeStream(db, sets.get(db, "across"), "train", StreamOptions())


def test_a_cache_is_refused(world: World) -> None:
    with pytest.raises(SequenceError, match="--cache holds windows, and this run reads probes"):
        train(world.db, world.run(), device="cpu", reading=Reading(cache_bytes=10**8))
    assert isinstance(world.stream(), SequenceStream)
