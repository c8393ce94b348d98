"""The stream is the view, read fast: same windows, same bytes, an order that is a function."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import native, patience, queries, snapshots
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.errors import ConnectionLostError, SequenceError, UsageError
from lvmdb.sequences import arena, reader, sets, sources, windows
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Fresh = Callable[..., AbstractContextManager[Database]]
Window = tuple[int, int, bytes, bytes]
"""Article, target seq, context bytes, target bytes."""

SPLITS = ("train", "val", "test")
LENGTHS = [7, 1, 12, 3, 9, 6, 20, 2, 8, 11, 5, 5]

# In corpus order within each split, which an unshuffled stream follows.
VIEW = """
SELECT w.article_id, w.target_seq, vector_send(w.target_vec),
       (SELECT string_agg(vector_send(v), ''::bytea ORDER BY n)
        FROM unnest(w.context_vecs) WITH ORDINALITY AS m (v, n))
FROM training_sequence_vector w
JOIN sequence_article sa USING (sequence_set_id, article_id)
WHERE w.sequence_set = %s AND w.split = %s
ORDER BY sa.position, w.target_seq
"""


def viewed(sql: Sql, name: str, split: str, context_len: int, **on: Database) -> list[Window]:
    """The windows of the view."""
    found = []
    for article_id, seq, target, context in sql(VIEW, [name, split], **on):
        size = len(target)
        sent = [context[i : i + size] for i in range(0, len(context), size)]
        assert len(sent) == context_len
        found.append(
            (
                article_id,
                seq,
                parsed_vectors(sent, 768).tobytes(),
                parsed_vectors([target], 768).tobytes(),
            )
        )
    return found


def streamed(batches: Iterator[SequenceBatch] | SequenceStream) -> list[Window]:
    """The windows of a stream, in its order."""
    return [window for batch in batches for window in windows_of(batch)]


def windows_of(batch: SequenceBatch) -> Iterator[Window]:
    assert batch.context.dtype == batch.target.dtype == torch.float32
    assert batch.mask.dtype == torch.bool
    assert batch.mask.all()
    assert batch.mask.shape == batch.context.shape[:2]
    assert batch.context.shape[2:] == batch.target.shape[1:] == (768,)
    for k in range(len(batch)):
        yield (
            int(batch.article_id[k]),
            int(batch.target_seq[k]),
            batch.context[k].numpy().tobytes(),
            batch.target[k].numpy().tobytes(),
        )


def options(**values: Any) -> StreamOptions:
    return StreamOptions(**values)


def leftovers() -> list[str]:
    """Threads of the stream that are still there."""
    return [t.name for t in threading.enumerate() if t.name in ("lvmdb-read", "lvmdb-stream")]


@pytest.fixture
def backends(db: Database) -> Callable[[], int]:
    """Connections to the database but the one that asks."""

    def count() -> int:
        with db.raw_connection() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    return count


# The definition


@pytest.mark.parametrize("scope", ["article", "corpus"])
@pytest.mark.parametrize(("context_len", "stride"), [(1, 1), (2, 1), (5, 1), (3, 2), (2, 5)])
def test_the_stream_is_the_view(
    db: Database,
    corpus: Corpus,
    sequence_set: MakeSet,
    sql: Sql,
    scope: str,
    context_len: int,
    stride: int,
) -> None:
    corpus(LENGTHS)
    made = sequence_set(scope=scope, context_len=context_len, stride=stride, split=(40, 30, 30))
    for split in SPLITS:
        expected = viewed(sql, "s", split, context_len)
        assert len(expected) == made.window_count(split) > 0
        for batch_size, buffer_size, fetch_rows in ((1, 1, 1), (4, 7, 3), (64, 4096, 500)):
            plain = options(batch_size=batch_size, buffer_size=buffer_size, fetch_rows=fetch_rows)
            assert streamed(SequenceStream(db, made, split, plain)) == expected
            mixed = options(
                batch_size=batch_size, buffer_size=buffer_size, fetch_rows=fetch_rows, shuffle=True
            )
            assert sorted(streamed(SequenceStream(db, made, split, mixed))) == sorted(expected)
    assert leftovers() == []


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_stream_is_the_view_of_any_corpus(
    fresh_database: Fresh, corpus: Corpus, sequence_set: MakeSet, sql: Sql, data: st.DataObject
) -> None:
    draw = data.draw
    context_len = draw(st.integers(1, 4))
    with fresh_database() as own, pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PIECE", draw(st.sampled_from([1, 4, 256])))
        corpus(draw(st.lists(st.integers(1, 14), min_size=1, max_size=8)), into=own)
        try:
            made = sequence_set(
                into=own,
                split=(100, 0, 0),
                context_len=context_len,
                stride=draw(st.integers(1, 3)),
                scope=draw(st.sampled_from(["article", "corpus"])),
            )
        except SequenceError:
            return
        read = options(
            batch_size=draw(st.integers(1, 9)),
            buffer_size=draw(st.integers(1, 30)),
            fetch_rows=draw(st.integers(1, 20)),
            shuffle=draw(st.booleans()),
            epoch=draw(st.integers(0, 3)),
        )
        found = streamed(SequenceStream(own, made, "train", read))
        expected = viewed(sql, "s", "train", context_len, on=own)
        assert (sorted(found) if read.shuffle else found) == (
            sorted(expected) if read.shuffle else expected
        )


def test_scope_corpus_is_the_seed_documents_loop(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    articles = corpus(LENGTHS)
    made = sequence_set(scope="corpus", context_len=5, split=(80, 10, 10))
    vectors = np.concatenate([article.vectors for article in articles])

    # From here on as the document has it.
    context_len = 5
    contexts, targets = [], []
    for i in range(context_len, len(vectors)):
        contexts.append(vectors[i - context_len : i])
        targets.append(vectors[i])
    n = len(contexts)
    train_split = int(0.8 * n)
    val_split = int(0.9 * n)
    cuts = {
        "train": slice(0, train_split),
        "val": slice(train_split, val_split),
        "test": slice(val_split, n),
    }

    for split, cut in cuts.items():
        batches = list(SequenceStream(db, made, split, options(batch_size=7, buffer_size=11)))
        context = torch.cat([batch.context for batch in batches]).numpy()
        target = torch.cat([batch.target for batch in batches]).numpy()
        assert context.tobytes() == np.array(contexts)[cut].tobytes()
        assert target.tobytes() == np.array(targets)[cut].tobytes()


# The order


@pytest.fixture
def made(corpus: Corpus, sequence_set: MakeSet) -> SequenceSet:
    corpus(LENGTHS)
    return sequence_set(split=(100, 0, 0), shards=4)


def places(db: Database, made: SequenceSet, **values: Any) -> list[tuple[int, int]]:
    read = options(**{"batch_size": 8, "buffer_size": 20, "shuffle": True, **values})
    return [window[:2] for window in streamed(SequenceStream(db, made, "train", read))]


def test_batches_are_full_but_for_the_last(db: Database, made: SequenceSet) -> None:
    read = SequenceStream(db, made, "train", options(batch_size=8, buffer_size=20, shuffle=True))
    sizes = [len(batch) for batch in read]
    assert len(sizes) == len(read)
    assert sizes == [8] * (len(sizes) - 1) + [made.window_count("train") - 8 * (len(sizes) - 1)]


def test_every_window_comes_once_an_epoch(db: Database, made: SequenceSet) -> None:
    plain = places(db, made, shuffle=False)
    assert len(set(plain)) == len(plain) == made.window_count("train")
    for epoch in range(3):
        assert sorted(places(db, made, epoch=epoch)) == sorted(plain)


def test_the_order_is_a_function_of_set_seed_and_epoch(db: Database, made: SequenceSet) -> None:
    order = places(db, made)
    assert places(db, made) == order
    assert places(db, made, fetch_rows=1) == order
    assert places(db, made, fetch_rows=10_000) == order
    # Batches only cut the same sequence.
    assert places(db, made, batch_size=3) == order
    assert places(db, made, readers=3) == order
    different = [
        places(db, made, epoch=1),
        places(db, made, seed=1),
        places(db, made, buffer_size=200),
        places(db, made, shuffle=False),
    ]
    assert all(other != order for other in different)
    assert different[0] != different[1]


def test_a_stream_gives_the_same_each_time_and_another_epoch_on_request(
    db: Database, made: SequenceSet
) -> None:
    read = SequenceStream(db, made, "train", options(batch_size=8, buffer_size=20, shuffle=True))
    first = streamed(read)
    assert streamed(read) == first
    assert [w[:2] for w in streamed(read.at(2))] == places(db, made, epoch=2)


def test_the_same_content_elsewhere_comes_in_the_same_order(
    db: Database,
    made: SequenceSet,
    corpus: Corpus,
    sequence_set: MakeSet,
    sql: Sql,
    fresh_database: Fresh,
) -> None:
    """Ids differ, the content does not: the order of the vectors is the same."""
    here = SequenceStream(db, made, "train", options(shuffle=True, buffer_size=20))
    with fresh_database() as other:
        corpus([3, 3], into=other, dataset="earlier")
        corpus(LENGTHS, into=other)
        copy = sequence_set(into=other, split=(100, 0, 0), shards=4)
        there = SequenceStream(other, copy, "train", options(shuffle=True, buffer_size=20))
        assert [w[2:] for w in streamed(there)] == [w[2:] for w in streamed(here)]
        assert [w[:2] for w in streamed(there)] != [w[:2] for w in streamed(here)]


# Ranks, readers, positions


def rows_of(batches: Iterator[SequenceBatch] | SequenceStream) -> list[list[Window]]:
    """The windows of each batch, in an order that does not depend on who read them."""
    return [
        sorted(
            (
                int(batch.article_id[k]),
                int(batch.target_seq[k]),
                batch.context[k][batch.mask[k]].numpy().tobytes(),
                (batch.target[k] if batch.target.dim() == 2 else batch.target[k][batch.mask[k]])
                .numpy()
                .tobytes(),
            )
            for k in range(len(batch))
        )
        for batch in batches
    ]


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_world_with_any_readers_from_any_batch_reads_the_same_global_batches(
    fresh_database: Fresh, corpus: Corpus, sequence_set: MakeSet, data: st.DataObject
) -> None:
    draw = data.draw
    with fresh_database() as own, pytest.MonkeyPatch.context() as patch:
        # Articles of several pieces, as long ones are.
        patch.setattr(windows, "PIECE", draw(st.sampled_from([4, 9, 256])))
        corpus(draw(st.lists(st.integers(3, 30), min_size=1, max_size=9)), into=own)
        made = sequence_set(
            into=own,
            split=(100, 0, 0),
            shards=draw(st.sampled_from([4, 8])),
            scope=(scope := draw(st.sampled_from(["article", "corpus"]))),
            stride=draw(st.integers(1, 3)),
        )
        objectives = ["last", "every"] if scope == "article" else ["last"]
        values = {
            "objective": draw(st.sampled_from(objectives)),
            "sequence_len": draw(st.integers(2, 7)),
            "batch_size": draw(st.integers(1, 20)),
            "buffer_size": draw(st.integers(1, 60)),
            "shuffle": draw(st.booleans()),
            "epoch": 1,
        }
        alone = rows_of(SequenceStream(own, made, "train", options(**values)))
        assert len(alone) == len(SequenceStream(own, made, "train", options(**values)))
        first = draw(st.integers(0, len(alone)))
        for world in (1, 2, 4):
            parts = [
                rows_of(
                    SequenceStream(
                        own,
                        made,
                        "train",
                        options(
                            **values,
                            rank=rank,
                            world_size=world,
                            readers=draw(st.integers(1, 3)),
                            fetch_rows=draw(st.integers(1, 50)),
                            cache_bytes=draw(st.sampled_from([0, 10**9])),
                        ),
                    ).at(1, first)
                )
                for rank in range(world)
            ]
            together = [sorted(chain.from_iterable(part)) for part in zip(*parts, strict=True)]
            assert together == alone[first:]


def test_more_processes_than_shards_are_refused(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus([9, 9])
    few = sequence_set(split=(100, 0, 0), shards=2)
    with pytest.raises(SequenceError, match="has 2 shards, too few for 3 processes"):
        SequenceStream(db, few, "train", options(world_size=3))


@pytest.mark.parametrize("shards", [0, 3, 2048])
def test_shards_are_a_power_of_two(corpus: Corpus, sequence_set: MakeSet, shards: int) -> None:
    corpus([9, 9])
    with pytest.raises(UsageError, match="--shards is a power of two between 1 and 1024"):
        sequence_set(shards=shards)


# Sequences


@pytest.mark.parametrize("sequence_len", [2, 5, 64])
def test_the_objective_every_reads_each_article_whole(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, sequence_len: int
) -> None:
    articles = corpus(LENGTHS)
    made = sequence_set(split=(100, 0, 0), shards=4)
    ids: dict[str, int] = dict(sql("SELECT source_key, article_id FROM article"))
    vectors = {ids[article.source_key]: article.vectors for article in articles}
    read = SequenceStream(
        db,
        made,
        "train",
        options(
            **{"objective": "every", "sequence_len": sequence_len, "batch_size": 3},
            **{"shuffle": True, "buffer_size": 40},
        ),
    )
    batches = list(read)
    assert len(batches) == len(read)
    assert sum(map(len, batches)) == read.windows
    seen = []
    for batch in batches:
        lengths = batch.mask.sum(1)
        longest = int(lengths.max())
        assert batch.context.shape == batch.target.shape == (len(batch), longest, 768)
        assert longest <= sequence_len
        assert batch.targets == int(lengths.sum())
        for k, length in enumerate(lengths.tolist()):
            article, last = int(batch.article_id[k]), int(batch.target_seq[k])
            first = last - length
            whole = torch.from_numpy(vectors[article])
            assert batch.mask[k].tolist() == [False] * (longest - length) + [True] * length
            assert torch.equal(batch.context[k, longest - length :], whole[first:last])
            assert torch.equal(batch.target[k, longest - length :], whole[first + 1 : last + 1])
            assert not batch.context[k, : longest - length].any()
            assert not batch.target[k, : longest - length].any()
            seen += [(article, seq) for seq in range(first + 1, last + 1)]
    assert sorted(seen) == sorted(
        (article, seq) for article, whole in vectors.items() for seq in range(1, len(whole))
    )


def test_sequences_do_not_run_across_articles(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus(LENGTHS)
    made = sequence_set(split=(100, 0, 0), scope="corpus")
    with pytest.raises(SequenceError, match="--scope article"):
        SequenceStream(db, made, "train", options(objective="every"))


# How vectors travel


def test_vectors_are_the_same_without_the_native_form(
    db: Database, made: SequenceSet, sql: Sql
) -> None:
    read = SequenceStream(db, made, "train", options(shuffle=True))
    with db.raw_connection() as connection:
        assert native.allowed(connection)
    expected = streamed(read)
    sql("ALTER EXTENSION vector DROP CAST (vector AS bytea); DROP CAST (vector AS bytea)")
    with db.raw_connection() as connection:
        assert not native.allowed(connection)
    assert streamed(read) == expected
    with db.begin() as writing:
        native.allow(writing)
        native.allow(writing)
    with db.raw_connection() as connection:
        assert native.allowed(connection)


def test_a_user_who_may_not_create_the_native_form_does_without(
    db: Database, made: SequenceSet, sql: Sql
) -> None:
    sql("ALTER EXTENSION vector DROP CAST (vector AS bytea); DROP CAST (vector AS bytea)")
    with db.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE ordinary_reader")
        connection.exec_driver_sql("SET LOCAL ROLE ordinary_reader")
        native.allow(connection)
        connection.exec_driver_sql("RESET ROLE")
        connection.exec_driver_sql("DROP ROLE ordinary_reader")
    with db.raw_connection() as raw:
        assert not native.allowed(raw)


def test_half_precision_rounds_and_nothing_else(db: Database, made: SequenceSet) -> None:
    exact = list(SequenceStream(db, made, "train", options(shuffle=True)))
    half = list(SequenceStream(db, made, "train", options(shuffle=True, half=True)))
    for one, other in zip(exact, half, strict=True):
        assert torch.equal(one.context.half().float(), other.context)
        assert torch.equal(one.target.half().float(), other.target)
        assert torch.equal(one.target_seq, other.target_seq)


def test_the_concepts_alone_come_in_corpus_order(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([7, 300, 12, 6, 1, 2])
    made = sequence_set(split=(100, 0, 0))
    expected = sql(
        "SELECT vector_send(c.concept_vec) FROM sequence_article sa JOIN cpe_entry c "
        "USING (article_id) ORDER BY sa.position, c.seq"
    )
    for count in (1, 3):
        read = SequenceStream(db, made, "train", options(readers=count, buffer_size=16))
        found = np.concatenate([rows.copy() for rows in read.vectors()])
        assert found.tobytes() == parsed_vectors([v for (v,) in expected], 768).tobytes()


# The cache


def test_the_cache_reads_once(
    db: Database, made: SequenceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SequenceStream(db, made, "train", options(shuffle=True, buffer_size=20))
    cached = SequenceStream(
        db, made, "train", options(shuffle=True, buffer_size=20, cache_bytes=10**7)
    )
    assert streamed(cached.at(0)) == streamed(plain.at(0))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    expected = streamed(plain.at(3, 1))
    monkeypatch.setattr(sources, "read_spans", refuse)
    assert streamed(cached.at(3, 1)) == expected


def test_a_cache_that_is_too_small_is_told(db: Database, made: SequenceSet) -> None:
    read = SequenceStream(db, made, "train", options(shuffle=True, cache_bytes=1000))
    with pytest.raises(SequenceError, match="--cache: the train split of sequence set 's' takes"):
        list(read)
    assert leftovers() == []


# The snapshot, and what is refused


def test_what_is_written_meanwhile_is_not_seen(
    db: Database, made: SequenceSet, corpus: Corpus, sql: Sql
) -> None:
    read = SequenceStream(db, made, "train", options(batch_size=2, buffer_size=2, fetch_rows=2))
    expected = streamed(read)
    batches = iter(read)
    found = list(windows_of(next(batches)))
    corpus([6, 6, 6], first=50)
    sets.remove(db, "s")
    sql("UPDATE cpe_entry SET concept_vec = array_fill(0, '{768}')::vector - concept_vec")
    assert found + streamed(batches) == expected


def test_all_readers_see_the_state_that_was_exported(
    db: Database, made: SequenceSet, corpus: Corpus, sql: Sql
) -> None:
    read = SequenceStream(db, made, "train", options(shuffle=True, readers=3))
    expected = streamed(read)
    with snapshots.reading(db) as exporter:
        shared = snapshots.export(exporter)
        corpus([6, 6, 6], first=50)
        sets.remove(db, "s")
        sql("UPDATE cpe_entry SET concept_vec = array_fill(0, '{768}')::vector - concept_vec")
        assert streamed(read.at(0, snapshot=shared)) == expected
    with pytest.raises(ConnectionLostError, match=r"snapshot .* is gone"):
        next(read._batches(0, shared))
    # Without it, what is there now is held against what was frozen.
    with pytest.raises(SequenceError, match="not what was frozen"):
        streamed(read.at(0, snapshot=shared))


def test_a_set_that_is_gone_is_told(db: Database, made: SequenceSet) -> None:
    read = SequenceStream(db, made, "train", options())
    sets.remove(db, "s")
    with pytest.raises(SequenceError, match="other concepts"):
        list(read)


@pytest.mark.parametrize(
    "tampering",
    [
        ("c.article_id = listed.article_id", "c.article_id = listed.article_id AND c.seq > 0"),
        ("c.article_id = listed.article_id", "c.article_id = listed.article_id AND c.seq < 4"),
        ("c.article_id = listed.article_id", "c.article_id = listed.article_id AND c.seq <> 1"),
        (") AS found", ") AS found ORDER BY listed.place DESC"),
        (") AS found", ") AS found ORDER BY random()"),
        (") AS found", ") AS found WHERE listed.place < 3"),
        ("vector_send(c.concept_vec)", "halfvec_send(c.concept_vec::halfvec(768))"),
        ("vector_send(c.concept_vec)", "vector_send(subvector(c.concept_vec, 1, 767))"),
    ],
)
def test_another_order_than_was_asked_for_is_an_error(
    db: Database, made: SequenceSet, monkeypatch: pytest.MonkeyPatch, tampering: tuple[str, str]
) -> None:
    genuine = queries.psycopg_sql("sequences", "stream_spans")
    assert tampering[0] in genuine
    monkeypatch.setattr(reader, "psycopg_sql", lambda *_: genuine.replace(*tampering))
    with pytest.raises(SequenceError, match="other concepts, or in another order"):
        streamed(SequenceStream(db, made, "train", options(shuffle=True, buffer_size=20)))
    assert leftovers() == []


@pytest.mark.parametrize("scope", ["article", "corpus"])
def test_data_that_was_changed_by_force_is_an_error(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, scope: str
) -> None:
    corpus(LENGTHS)
    made = sequence_set(split=(100, 0, 0), scope=scope)
    sql("SET session_replication_role = replica; DELETE FROM cpe_entry WHERE seq = 19")
    with pytest.raises(SequenceError, match="run 'lvmdb verify'"):
        streamed(SequenceStream(db, made, "train", options()))


def test_a_draft_cannot_be_streamed(db: Database, corpus: Corpus, sequence_set: MakeSet) -> None:
    corpus(LENGTHS)
    with pytest.raises(SequenceError, match="is a draft"):
        SequenceStream(db, sequence_set(freeze_it=False), "train", options())


KILL_ALL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_a_connection_that_is_lost_is_made_again(
    db: Database, made: SequenceSet, sql: Sql, readers: int, cache_bytes: int
) -> None:
    read = SequenceStream(
        db,
        made,
        "train",
        options(
            **{"batch_size": 2, "buffer_size": 2, "fetch_rows": 2, "shuffle": True},
            readers=readers,
            cache_bytes=cache_bytes,
        ),
    )
    expected = streamed(read)
    found = []
    for number, batch in enumerate(read):
        found += list(windows_of(batch))
        if number in (1, 2, 20):
            sql(KILL_ALL)
    assert found == expected
    assert leftovers() == []


def test_what_changed_while_the_server_was_away_is_told(
    db: Database, made: SequenceSet, sql: Sql
) -> None:
    batches = iter(
        SequenceStream(db, made, "train", options(batch_size=1, buffer_size=1, fetch_rows=1))
    )
    next(batches)
    sql(
        "SET session_replication_role = replica; "
        "UPDATE cpe_entry SET concept_vec = array_fill(0, '{768}')::vector - concept_vec "
        "WHERE seq = 3"
    )
    sql(KILL_ALL)
    with pytest.raises(SequenceError, match="not what was frozen"):
        list(batches)
    assert leftovers() == []


def test_a_server_that_stays_away_is_told(
    db: Database, made: SequenceSet, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = iter(
        SequenceStream(db, made, "train", options(batch_size=1, buffer_size=1, fetch_rows=1))
    )
    next(batches)
    monkeypatch.setattr(patience, "PATIENCE", 0.3)

    def refuse(**_: object) -> None:
        raise ConnectionLostError("the database does not answer")

    monkeypatch.setattr(db, "raw_connection", refuse)
    with db.connect() as connection:
        connection.exec_driver_sql(KILL_ALL)
    with pytest.raises(ConnectionLostError, match="does not answer"):
        list(batches)
    assert leftovers() == []


def test_an_empty_split_gives_no_batch(db: Database, made: SequenceSet) -> None:
    assert len(SequenceStream(db, made, "val", options())) == 0
    assert list(SequenceStream(db, made, "val", options(shuffle=True))) == []


# What is held


def test_stopping_early_leaves_no_thread_and_no_connection(
    db: Database, made: SequenceSet, backends: Callable[[], int]
) -> None:
    before = backends()
    batches = iter(
        SequenceStream(db, made, "train", options(batch_size=2, buffer_size=2, fetch_rows=2))
    )
    next(batches)
    assert sorted(leftovers()) == ["lvmdb-read", "lvmdb-stream"]
    assert backends() == before + 1
    batches.close()  # type: ignore[attr-defined]
    assert leftovers() == []
    assert backends() == before

    for batch in SequenceStream(db, made, "train", options(batch_size=2, buffer_size=2)):
        del batch
        break
    gc.collect()
    assert leftovers() == []
    assert backends() == before


def test_an_error_of_the_consumer_leaves_nothing_either(
    db: Database, made: SequenceSet, backends: Callable[[], int]
) -> None:
    before = backends()

    def consume() -> None:
        for _ in SequenceStream(db, made, "train", options(batch_size=2, buffer_size=2)):
            raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        consume()
    gc.collect()
    assert leftovers() == []
    assert backends() == before


@pytest.mark.parametrize("scope", ["article", "corpus"])
def test_memory_does_not_grow_with_the_corpus(
    fresh_database: Fresh,
    corpus: Corpus,
    sequence_set: MakeSet,
    monkeypatch: pytest.MonkeyPatch,
    scope: str,
) -> None:
    held: list[int] = []

    class Counted(arena.Arena):
        def __init__(self, slots: int, rows: int, width: int) -> None:
            super().__init__(slots, rows, width)
            held.append(slots * rows)

    monkeypatch.setattr(sources, "Arena", Counted)
    monkeypatch.setattr(windows, "PIECE", 16)
    read = options(batch_size=7, buffer_size=64, shuffle=True, readers=2, fetch_rows=16)
    for articles in (40, 160):
        with fresh_database() as own:
            corpus([8] * articles, into=own)
            made = sequence_set(split=(100, 0, 0), scope=scope, shards=4, into=own)
            batches = SequenceStream(own, made, "train", read)
            assert sum(len(batch) for batch in batches) == made.window_count("train")
    assert held[1] <= held[0] <= 12 * 64


def test_batches_own_their_memory(db: Database, made: SequenceSet) -> None:
    """What the training loop does to a batch reaches no other."""
    read = SequenceStream(db, made, "train", options(batch_size=4, buffer_size=30))
    expected = streamed(read)
    found = []
    for batch in read:
        found += list(windows_of(batch))
        batch.context.zero_()
        batch.target.zero_()
    assert found == expected
