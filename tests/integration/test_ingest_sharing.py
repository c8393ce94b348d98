"""Ingest by several processes, some of which die: the same database as by one that lives."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus import pipeline, store, writing
from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec
from lvmdb.corpus.episodes import EpisodeOptions
from lvmdb.corpus.ingest import ingest
from lvmdb.corpus.job_task import Task
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.readers.registry import get_reader
from lvmdb.corpus.shared_job import Orphaned, SharedJob
from lvmdb.corpus.tagging import Tag
from lvmdb.corpus.worker_session import HEARTBEAT_EVERY, LOCK_CLASS
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, InputError

Sql = Callable[..., list[tuple[Any, ...]]]

ARTICLES, RANGE = 34, 4
"""Nine ranges, the last of which is not full."""


class Drawn:
    """An encoder whose vectors depend, in their last bits, on what is encoded together."""

    name, revision, pooling, normalised, max_tokens = "drawn", "1", "mean", True, 64
    spec, precision = EncoderSpec("drawn"), "fp32"

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Vectors:
        rows = [np.random.default_rng([*text.encode()]).standard_normal(768) for text in texts]
        made = np.stack(rows) * (1 + len(texts))
        if progress is not None:
            progress(len(texts))
        made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        return np.asarray(made + np.float32(1e-6 * len(texts)), dtype=np.float32)

    def probe_vectors(self) -> Vectors:
        return self.encode(PROBE_SENTENCES)


class Lengths:
    """A tagger that goes by the number of words."""

    name = "embedding"
    options: dict[str, Any] = {"by": "length"}  # noqa: RUF012

    def tag(self, texts: Sequence[str], vectors: Vectors | None) -> list[Tag]:
        return [Tag((len(text) % 16, len(text) % 32, len(text) % 64)) for text in texts]


@pytest.fixture
def plan(tmp_path: Path) -> IngestPlan:
    source = tmp_path / "articles.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for n in range(ARTICLES):
            # One of them has nothing that is long enough.
            passages = [] if n == 9 else range(1 + n % 4)
            said = [f"Passage {k} of article {n} says this and nothing else." for k in passages]
            text = "\n\n".join(said) or "Too short."
            file.write(json.dumps({"id": str(n), "title": f"Article {n}", "text": text}) + "\n")
    return IngestPlan(
        dataset="news",
        reader_name="jsonl",
        reader=get_reader("jsonl"),
        source=str(source),
        chunker=get_chunker("sentence"),
        encoder="drawn",
        load_encoder=Drawn,
        tagger=Lengths(),
        episodes=EpisodeOptions(),
        range_articles=RANGE,
    )


@pytest.fixture
def straight(
    plan: IngestPlan, fresh_database: Callable[..., AbstractContextManager[Database]]
) -> Iterator[Callable[[Database], None]]:
    """`straight(db)`: `db` holds what one undisturbed process makes, row for row."""
    with fresh_database() as other:
        done = ingest(other, plan)
        assert (done.totals.added, done.totals.failed) == (ARTICLES - 1, 1)
        expected = _rows(other)
        assert len(expected) > 2 * ARTICLES

        def check(db: Database) -> None:
            assert _rows(db) == expected

        yield check


def _rows(db: Database) -> list[tuple[Any, ...]]:
    with db.raw_connection() as connection:
        return connection.execute(
            "SELECT a.ordinal, a.source_key, a.content_hash, a.text_hash, c.seq, c.cpe_id::text, "
            "c.concept_text, vector_send(c.concept_vec), c.tmd_code, c.tmd_source, "
            "vector_send(c.tmd_vec), e.ordinal, e.first_seq, e.last_seq, e.coherence "
            "FROM article a LEFT JOIN cpe_entry c USING (article_id) "
            "LEFT JOIN episode e USING (episode_id) ORDER BY a.ordinal, c.seq"
        ).fetchall()


def _dies(name: str, owner: Any, times: int, before: bool) -> None:
    """`owner.name` is this process's end, before or after the call of this number."""
    real = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal times
        times -= 1
        if times == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        made = real(*arguments, **options)
        if times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    setattr(owner, name, call)


def _start(
    db: Database, plan: IngestPlan, doing: Callable[[], object] = lambda: None
) -> multiprocessing.process.BaseProcess:
    """Another process that ingests, `doing` something before."""

    def work() -> None:
        doing()
        ingest(Database(db.dsn), plan)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def test_killed_at_any_moment_it_ends_in_the_same_database(
    db: Database, plan: IngestPlan, straight: Callable[[Database], None], sql: Sql
) -> None:
    moments: list[Callable[[], object]] = [
        lambda: _dies("encode", Drawn, 3, True),  # the labels, one range, and in the next
        lambda: _dies("copy_concepts", store, 2, False),  # its articles written, not committed
        lambda: _dies("done", SharedJob, 1, False),  # counted, not committed
        lambda: _dies("finish", writing.Writer, 2, False),  # right after a commit
        lambda: _dies("claim", SharedJob, 3, False),
        lambda: _dies("finish", SharedJob, 1, True),  # all done, and nobody has said so
    ]
    for moment in moments:
        process = _start(db, plan, moment)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        # What is there is a beginning of the source, in whole ranges.
        ((articles, last),) = sql("SELECT count(*), max(ordinal) FROM article")
        assert articles == (0 if last is None else last + 1)
        assert sql("SELECT count(*) FROM cpe_entry WHERE concept_vec IS NULL") == [(0,)]
    assert ingest(db, plan).totals.added == 0
    straight(db)
    assert sql("SELECT count(*) FROM ingest_range") == [(0,)]
    jobs = sql("SELECT status, read, added, unchanged FROM ingest_job ORDER BY job_id")
    assert len(jobs) == len(moments) + 1
    assert jobs[-1] == ("failed", ARTICLES, 0, ARTICLES - 1)
    assert sum(added for _, _, added, _ in jobs) == ARTICLES - 1
    # The article that has no concept was tried each time that its range was reached.
    tries = [tries for (tries,) in sql("SELECT tries FROM ingest_error ORDER BY error_id")]
    assert tries == list(range(1, len(tries) + 1))


def test_processes_share_a_job_and_one_may_die(
    db: Database,
    plan: IngestPlan,
    straight: Callable[[Database], None],
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first dies with ranges that come before those of the second, which waits for them."""
    joined = False
    reading, writing = os.pipe()
    # So that of nine ranges it leaves two: one is committed, and each step has one and a next.
    monkeypatch.setattr(pipeline, "DEPTH", 1)

    def dying() -> None:
        # It has claimed the first ranges, and says so; then it waits to be killed.
        real = SharedJob.await_turn

        def stuck(self: SharedJob, ordinal: int, meanwhile: Callable[[], object]) -> float:
            real(self, ordinal, meanwhile)
            os.write(writing, b"x")
            signal.pause()
            raise AssertionError("it is killed")

        monkeypatch.setattr(SharedJob, "await_turn", stuck)

    first = _start(db, plan, dying)
    os.read(reading, 1)
    waits = SharedJob.await_turn

    def waiting(self: SharedJob, ordinal: int, meanwhile: Callable[[], object]) -> float:
        nonlocal joined
        if not joined:
            joined = True
            # Its own ranges are behind those of the first.
            assert ordinal > 0
            first.kill()
            first.join()
        return waits(self, ordinal, meanwhile)

    monkeypatch.setattr(SharedJob, "await_turn", waiting)
    done = ingest(db, plan)
    straight(db)
    assert (done.joined, done.totals.workers, done.totals.added) == (True, 2, ARTICLES - 1)
    assert sql("SELECT count(*) FROM ingest_job") == [(1,)]
    assert sql("SELECT articles FROM ingest_worker ORDER BY worker_id") == [(0,), (ARTICLES - 1,)]
    assert sql("SELECT tries FROM ingest_error") == [(1,)]


def test_two_processes_do_no_article_twice(
    db: Database, plan: IngestPlan, straight: Callable[[Database], None], sql: Sql
) -> None:
    others = [_start(db, plan) for _ in range(2)]
    for process in others:
        process.join()
        assert process.exitcode == 0
    straight(db)
    ((added, unchanged),) = sql("SELECT sum(added), sum(unchanged) FROM ingest_job")
    # Whoever came after the end has found everything there.
    assert added == ARTICLES - 1
    assert unchanged in (0, ARTICLES - 1)
    assert sql("SELECT sum(articles) FROM ingest_worker") == [(ARTICLES - 1,)]


@pytest.fixture
def jobs(db: Database, plan: IngestPlan) -> Callable[..., SharedJob]:
    """`jobs()`: this process in the plan's job, once more."""
    with db.raw_connection() as connection:
        connection.execute("INSERT INTO dataset (dataset_source) VALUES ('news')")

    def enter(**options: Any) -> SharedJob:
        return SharedJob(db, Task("news", "jsonl", plan.source, {"a": 1, **options}))

    return enter


@pytest.fixture
def vanish(sql: Sql) -> Callable[[SharedJob], None]:
    """`vanish(job)`: its session ends, as if its process had died."""

    def end(job: SharedJob) -> None:
        job.session.close()
        here = "SELECT FROM live_ingest_worker WHERE worker_id = %s"
        while sql(here, [job.session.worker_id]):  # the server takes a moment to notice
            time.sleep(0.01)

    return end


def test_ranges_go_to_whoever_is_there(
    db: Database, jobs: Callable[..., SharedJob], sql: Sql, vanish: Callable[[SharedJob], None]
) -> None:
    one, two = jobs(), jobs()
    assert (one.joined, two.joined, two.job_id) == (False, True, one.job_id)
    assert [job.claim() for job in (one, two, one, two)] == [0, 1, 2, 3]
    # Another source or other options are another job.
    other = jobs(a=2)
    assert (other.joined, other.claim()) == (False, 0)
    other.leave()
    # What one gives back, the other takes, the first of it first.
    one.release()
    assert [two.claim() for _ in range(3)] == [0, 2, 4]
    # A process is gone with its session.
    assert sql("SELECT count(*) FROM live_ingest_worker") == [(2,)]
    vanish(two)
    assert [one.claim() for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    # So is one that has been silent for long, though its session is there.
    third = jobs()
    sql("UPDATE ingest_worker SET heartbeat_at = now() - interval '2 minutes' "
        "WHERE worker_id = %s", [one.session.worker_id])  # fmt: skip
    assert third.claim() == 0
    # Nothing of what has been taken from it can be committed.
    with db.begin() as connection:
        assert not one.may_commit(connection, 0)
        assert one.may_commit(connection, 1)
    third.source_ends(4)
    assert [third.claim() for _ in range(4)] == [1, 2, 3, None]
    with pytest.raises(CorpusError, match="give all of them the same source"):
        third.source_ends(5)
    one.leave()
    third.leave()
    assert sql("SELECT status FROM ingest_job ORDER BY job_id") == [("failed",), ("failed",)]


def test_ranges_behind_the_end_do_not_say_where_it_is(
    db: Database, jobs: Callable[..., SharedJob], plan: IngestPlan, sql: Sql
) -> None:
    """Several processes claim before anybody has read the last range."""

    def done(job: SharedJob, ordinal: int, read: int) -> None:
        with db.begin() as connection:
            assert job.may_commit(connection, ordinal)
            job.done(
                connection, ordinal, read=read, outcome=store.Stored(), seen=[], failures=[],
                failed=0,
            )  # fmt: skip

    first, second, third = jobs(), jobs(), jobs()
    assert [job.claim() for job in (first, second, third)] == [0, 1, 2]
    third.is_empty(2)
    # It does not go on and on behind the end, but takes what others give back.
    assert third.claim() is None
    second.release()
    assert third.claim() == 1
    third.is_empty(1)
    first.source_ends(1)
    assert sql("SELECT ordinal FROM ingest_range") == [(0,)]
    done(first, 0, 2)
    assert third.complete()
    # To whoever comes late with such a range nothing has happened.
    assert first.finish(vanished=False).read == 2
    with db.begin() as connection:
        assert not third.may_commit(connection, 2)
    assert third.finish(vanished=False).status == "succeeded"
    # But where something lies behind what another found empty, their sources are not the same.
    long, short = jobs(a=2), jobs(a=2)
    assert [job.claim() for job in (long, short, long)] == [0, 1, 2]
    short.is_empty(1)
    done(long, 0, 2)
    done(short, 1, 0)
    with pytest.raises(CorpusError, match="give all of them the same source"):
        long.source_ends(3)
    # So a process does that reads beyond the end.
    alone = jobs(a=3)
    sql("UPDATE ingest_job SET claimed = 1 WHERE job_id = %s", [alone.job_id])
    advanced: list[int] = []
    whole = replace(plan, encoder=None, tagger=None, episodes=None, range_articles=ARTICLES)
    pipeline.Pipeline(db, whole, alone, None, advanced.append).run()
    state = "SELECT ordinal, r.read, ranges FROM ingest_range r JOIN ingest_job USING (job_id) "
    assert sql(state + "WHERE job_id = %s", [alone.job_id]) == [(1, 0, None)]
    for job in (first, second, third, long, short, alone):
        job.leave()


def test_a_turn_that_nobody_has_is_told(
    jobs: Callable[..., SharedJob], vanish: Callable[[SharedJob], None]
) -> None:
    one, two = jobs(), jobs()
    assert [one.claim(), two.claim()] == [0, 1]
    vanish(one)
    with pytest.raises(Orphaned):
        two.await_turn(1)
    assert two.claim() == 0
    two.await_turn(0)
    two.leave()


def test_a_job_given_up_by_others_is_not_written_to(
    db: Database, jobs: Callable[..., SharedJob], sql: Sql
) -> None:
    silent = jobs()
    assert silent.claim() == 0
    sql("UPDATE ingest_worker SET heartbeat_at = now() - interval '2 minutes'")
    anew = jobs()
    assert (anew.joined, anew.claim()) == (False, 0)
    with pytest.raises(CorpusError, match="given up by others"), db.begin() as connection:
        silent.may_commit(connection, 0)
    # Nor is it said to be done.
    assert silent.complete()
    with pytest.raises(CorpusError, match="given up by others"):
        silent.finish(vanished=False)
    anew.leave()
    silent.session.close()


def test_the_lock_is_the_one_that_the_view_looks_for(db: Database) -> None:
    with db.raw_connection() as connection:
        ((view,),) = connection.execute(
            "SELECT pg_get_viewdef('live_ingest_worker'::regclass)"
        ).fetchall()
    assert str(LOCK_CLASS) in view
    assert "00:01:30" in view
    assert HEARTBEAT_EVERY * 9 == 90


def test_processes_that_cut_give_the_same(
    db: Database, plan: IngestPlan, straight: Callable[[Database], None]
) -> None:
    ingest(db, replace(plan, processes=1))
    straight(db)


def test_broken_articles_are_passed_over_where_that_is_asked_for(
    db: Database, plan: IngestPlan, sql: Sql
) -> None:
    source = Path(plan.source)
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join([*lines[:6], "{broken\n", *lines[6:11], "[]\n"]), encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        ingest(db, plan)
    done = ingest(db, replace(plan, skip_broken=True)).totals
    assert (done.read, done.added, done.failed) == (13, 10, 3)
    assert [row[:2] for row in sql(
        "SELECT step, source_key, message FROM ingest_error ORDER BY error_id"
    )] == [("read", None), ("chunk", "9"), ("read", None)]  # fmt: skip
    # Repaired, they find their place behind what is there.
    source.write_text("".join(lines[:13]), encoding="utf-8")
    again = ingest(db, replace(plan, skip_broken=True)).totals
    assert (again.added, again.unchanged, again.failed) == (2, 10, 1)
