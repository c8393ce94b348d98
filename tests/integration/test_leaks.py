"""Leaks: near-duplicates end on one side, or the set is refused, or they are admitted by number."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lvmdb.cli import main as program
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.encoders import register_imported
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION
from lvmdb.errors import SequenceError, UsageError
from lvmdb.progress import Progress
from lvmdb.sequences import leaks, near_duplicates, sets
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.training.plan import plan

Articles = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[object, ...]]]
Counts = Callable[[Database], dict[str, int]]
Refused = Callable[..., None]
Write = Callable[[list[VectorArticle]], None]
Run = Callable[..., tuple[int, str, str]]
Vectors = NDArray[np.float32]

SHARED = (
    "SELECT DISTINCT m.cpe_id FROM training_sequence w CROSS JOIN LATERAL "
    "unnest(w.context_cpe_ids || w.target_cpe_id) AS m (cpe_id) GROUP BY m.cpe_id "
    "HAVING count(DISTINCT w.split) > 1"
)
"""Concepts that stand in windows of more than one split, by the definition of a window."""


@pytest.fixture
def write(db: Database) -> Write:
    """`write(articles)`: add them to the dataset "wiki"."""

    def add(articles: list[VectorArticle]) -> None:
        with db.begin() as connection:
            encoder_id = register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)

    return add


@pytest.fixture
def run(db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("verify")`: exit code, standard output and standard error of the program."""
    monkeypatch.setenv("LVMDB_DSN", db.dsn)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lvmdb", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def near(vector: Vectors, cosine: float) -> Vectors:
    """A unit vector at this cosine from a unit vector."""
    other = np.random.default_rng(99).standard_normal(DIMENSION)
    other -= (other @ vector) * vector.astype(np.float64)
    other /= np.linalg.norm(other)
    mixed: Vectors = (cosine * vector + np.sqrt(1 - cosine**2) * other).astype(np.float32)
    return mixed


def with_vector(article: VectorArticle, seq: int, vector: Vectors) -> VectorArticle:
    vectors = article.vectors.copy()
    vectors[seq] = vector
    return replace(article, vectors=vectors)


def splits(sql: Sql, name: str = "s") -> dict[object, object]:
    """The split of each article, in the order of the set."""
    rows = sql(
        "SELECT source_key, split FROM sequence_article JOIN article USING (article_id) "
        "JOIN sequence_set USING (sequence_set_id) WHERE name = %s ORDER BY position",
        [name],
    )
    return {row[0]: row[1] for row in rows}


def leaking_draft(
    articles: list[VectorArticle], write: Write, sequence_set: MakeSet, sql: Sql, pairs: int = 3
) -> None:
    """A draft with so many near-duplicates between train and test, put there by SQL."""
    for seq in range(pairs):
        articles[1] = with_vector(articles[1], seq, near(articles[0].vectors[seq], 0.999))
    write(articles)
    sequence_set(freeze_it=False)
    assert len({splits(sql)["a0"], splits(sql)["a1"]}) == 1
    for key, split in (("a0", "train"), ("a1", "test")):
        sql(
            "UPDATE sequence_article sa SET split = %s FROM article a "
            "WHERE a.article_id = sa.article_id AND a.source_key = %s",
            [split, key],
        )


def test_without_duplicates_the_split_is_that_of_the_order(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    articles = make_articles([4] * 20, walk=True)
    # Alike, but less than a copy.
    articles[3] = with_vector(articles[3], 1, near(articles[4].vectors[1], 0.994))
    write(articles)
    made = sequence_set(split=(70, 20, 10))
    assert list(splits(sql).values()) == ["train"] * 14 + ["val"] * 4 + ["test"] * 2
    assert made.leaks == 0
    assert sql("SELECT count(*) FROM sequence_leak") == [(0,)]


@pytest.mark.parametrize("cosine", [1.0, 0.9999, 0.9955])
def test_a_near_duplicate_puts_articles_on_one_side(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql, cosine: float
) -> None:
    articles = make_articles([4] * 20)
    write(articles)
    sequence_set()
    before = splits(sql)
    sql("DELETE FROM sequence_set")
    keys = list(before)
    first, last = (int(str(key)[1:]) for key in (keys[2], keys[-2]))
    vector = articles[first].vectors[2]
    write([with_vector(articles[last], 0, vector if cosine == 1 else near(vector, cosine))])
    made = sequence_set()
    after = splits(sql)
    assert list(after) == keys, "the order stays"
    # The later one in the corpus goes to the earlier, whichever split that is in.
    leader, follower = f"a{min(first, last)}", f"a{max(first, last)}"
    assert {key for key in keys if after[key] != before[key]} == {follower}
    assert after[follower] == before[leader]
    assert made.leaks == 0
    assert sql(SHARED) == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_copy_of_the_test_articles_never_ends_across_splits(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql, seed: int
) -> None:
    articles = make_articles([5] * 30)
    write(articles)
    sequence_set("before", seed=seed)
    tested = [int(str(k)[1:]) for k, split in splits(sql, "before").items() if split == "test"]
    sql("DELETE FROM sequence_set")
    write([replace(articles[n], source_key=f"copy-{n}") for n in tested])
    made = sequence_set("after", seed=seed)
    side = splits(sql, "after")
    assert [side[f"copy-{n}"] for n in tested] == [side[f"a{n}"] for n in tested]
    assert made.leaks == 0
    # No vector of a test window, context or target, is in a window of another split.
    by_vector = SHARED.replace("m.cpe_id", "c.concept_vec::text").replace(
        "AS m (cpe_id)", "AS m (cpe_id) JOIN cpe_entry c USING (cpe_id)"
    )
    assert sql(by_vector) == []


def test_copies_of_everything_leave_the_shares_as_they_are(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    """Copies follow their originals, which were drawn fairly."""
    articles = make_articles([3] * 60)
    write([*articles, *(replace(a, source_key=f"copy-{a.source_key}") for a in articles)])
    sequence_set(split=(50, 25, 25))
    counted = Counter(splits(sql).values())
    assert set(counted.values()) <= set(range(10, 90)), counted
    assert counted["train"] < 80


def test_articles_of_the_same_text_share_a_split_whatever_their_vectors(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    articles = make_articles([4] * 20)
    others = make_articles([4] * 6, seed=1)
    for n, other in enumerate(others):
        articles.append(replace(other, source_key=f"same{n}", texts=articles[0].texts))
    write(articles)
    sequence_set()
    side = splits(sql)
    assert len({side[key] for key in ("a0", *(f"same{n}" for n in range(6)))}) == 1


def test_boilerplate_moves_nothing_and_is_refused(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    """More than 5 % of the articles hang together: moving them would empty a split."""
    articles = make_articles([4] * 40)
    write(articles)
    sequence_set()
    before = splits(sql)
    sql("DELETE FROM sequence_set")
    write([with_vector(article, 3, articles[0].vectors[3]) for article in articles[:10]])
    with pytest.raises(SequenceError, match="pairs of near-duplicate concepts"):
        sequence_set()
    draft = sequence_set(freeze_it=False)
    assert draft.leaks is None
    assert splits(sql) == before
    held = [sum(before[f"a{n}"] == split for n in range(10)) for split in ("train", "val", "test")]
    across = (10**2 - sum(n**2 for n in held)) // 2
    made = sequence_set("admitted", allowed_leaks=across)
    assert made.leaks == across > 0
    # Two may always hang together, even of a few articles.
    sql("DELETE FROM sequence_set")
    write([with_vector(article, 3, article.vectors[2]) for article in articles[2:10]])
    assert sequence_set().leaks == 0


def test_a_draft_that_leaks_is_refused_and_nothing_changes(
    db: Database,
    make_articles: Articles,
    write: Write,
    sequence_set: MakeSet,
    sql: Sql,
    counts: Counts,
) -> None:
    leaking_draft(make_articles([6] * 10), write, sequence_set, sql)
    before = counts(db), sql("SELECT * FROM sequence_set"), sql("SELECT * FROM sequence_article")
    for allowed in (None, 0, 2):
        with pytest.raises(
            SequenceError,
            match=r"3 pairs .* between the splits of 's', [02] allowed, e.g. in 'Article 0' "
            r"\(train\) and 'Article 1' \(test\): .*--allow-leaks 3",
        ):
            sets.freeze(db, "s", allow_leaks=allowed)
    after = counts(db), sql("SELECT * FROM sequence_set"), sql("SELECT * FROM sequence_article")
    assert after == before


def test_admitted_leaks_are_stored_and_stamped(
    db: Database, make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    leaking_draft(make_articles([6] * 10), write, sequence_set, sql)
    frozen = sets.freeze(db, "s", allow_leaks=3)
    assert (frozen.leaks, frozen.allowed_leaks) == (3, 3)
    rows = sql(
        "SELECT a.source_key, b.source_key, l.split, l.other_split, c.seq, o.seq, "
        "round(cosine::numeric, 4) FROM sequence_leak l JOIN cpe_entry c USING (cpe_id) "
        "JOIN article a ON a.article_id = c.article_id JOIN cpe_entry o ON o.cpe_id = "
        "l.other_cpe_id JOIN article b ON b.article_id = o.article_id "
        "JOIN sequence_article sa ON sa.article_id = a.article_id AND sa.split = l.split "
        "JOIN sequence_article sb ON sb.article_id = b.article_id AND sb.split = l.other_split "
        "ORDER BY c.seq"
    )
    assert [row[:6] for row in rows] == [("a0", "a1", "train", "test", k, k) for k in range(3)]
    assert [float(str(row[6])) for row in rows] == [0.999] * 3
    plan(db, "copy-last", "s", {})
    assert sql("SELECT stamps FROM experiment_run") == [(["leaks=3"],)]
    # Frozen already: nothing.
    assert sets.freeze(db, "s", allow_leaks=9) == frozen


def test_leaks_of_a_frozen_set_cannot_be_changed(
    db: Database,
    make_articles: Articles,
    write: Write,
    sequence_set: MakeSet,
    sql: Sql,
    refused: Refused,
) -> None:
    leaking_draft(make_articles([6] * 10), write, sequence_set, sql)
    sets.freeze(db, "s", allow_leaks=5)
    for change in (
        "DELETE FROM sequence_leak",
        "UPDATE sequence_leak SET cosine = 0.5",
        "INSERT INTO sequence_leak SELECT sequence_set_id, other_cpe_id, cpe_id, other_split, "
        "split, cosine FROM sequence_leak",
    ):
        refused(change, "sequence set s is frozen")
    for change in ("leaks = 0", "allowed_leaks = 100"):
        refused(f"UPDATE sequence_set SET {change}", "sequence set s is frozen")
    # It goes with its set.
    sets.remove(db, "s")
    assert sql("SELECT count(*) FROM sequence_leak") == [(0,)]


def test_windows_across_articles_share_the_concepts_at_the_borders(
    db: Database, make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    articles = make_articles([7, 12, 3, 9, 6, 20, 2, 8, 11])
    write(articles)
    for context_len, stride in ((1, 1), (3, 1), (3, 2)):
        made = sequence_set(scope="corpus", context_len=context_len, stride=stride)
        stored = sql("SELECT cpe_id FROM sequence_leak WHERE cpe_id = other_cpe_id")
        assert set(stored) == set(sql(SHARED)) != set()
        assert made.leaks == len(stored)
        assert sql("SELECT count(*) FROM sequence_leak WHERE cpe_id <> other_cpe_id") == [(0,)]
        sets.remove(db, "s")
    # A copy far from any border is a leak beside them, and no reason to move or refuse anything.
    write([with_vector(articles[0], 1, articles[8].vectors[9])])
    assert sequence_set(scope="corpus", context_len=1).leaks == 3
    assert sql("SELECT split, other_split, cosine FROM sequence_leak WHERE cpe_id <> other_cpe_id")
    assert sql("SELECT count(*) FROM sequence_article WHERE split IS NOT NULL") == [(0,)]


def test_thousands_of_leaks_are_counted_and_stored_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
    make_articles: Articles,
    write: Write,
    sequence_set: MakeSet,
    sql: Sql,
) -> None:
    """All concepts of the corpus are the same vector."""
    articles = make_articles([30] * 20)
    same = articles[0].vectors[0]
    write([replace(a, vectors=np.repeat(same[None], 30, axis=0)) for a in articles])
    monkeypatch.setattr(leaks, "MOST_ROWS", 900)
    monkeypatch.setattr(leaks, "_STORED_ROWS", 250)
    held = {"train": 12 * 30, "val": 4 * 30, "test": 4 * 30}
    across = (600**2 - sum(n**2 for n in held.values())) // 2
    with pytest.raises(SequenceError, match=f"{across} pairs .*--allow-leaks {across}"):
        sequence_set()
    made = sequence_set(allowed_leaks=across)
    assert made.leaks == across
    assert sql("SELECT count(*) FROM sequence_leak") == [(900,)]
    monkeypatch.setattr(leaks, "MOST_COUNTED", across - 1)
    with pytest.raises(SequenceError, match="more than can be stored: take repeated text out"):
        sequence_set("more", scope="corpus")


def test_vectors_of_two_dimensions_are_refused_with_advice(
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
    make_articles: Articles,
    write: Write,
    sequence_set: MakeSet,
    counts: Counts,
) -> None:
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (10, 30))
    flat = np.zeros((10, 30, DIMENSION), dtype=np.float32)
    flat[..., 0], flat[..., 1] = np.cos(angles), np.sin(angles)
    articles = make_articles([30] * 10)
    write([replace(a, vectors=v) for a, v in zip(articles, flat, strict=True)])
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 500)
    before = counts(db)
    with pytest.raises(SequenceError, match=r"more than 500 pairs .*too alike to be told apart"):
        sequence_set()
    assert counts(db) == before


def test_a_draft_may_lack_vectors(
    db: Database, make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql
) -> None:
    articles = make_articles([5] * 10)
    articles[1] = with_vector(articles[1], 4, articles[0].vectors[4])
    write(articles)
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 1")
    sequence_set(freeze_it=False)
    assert splits(sql)["a0"] == splits(sql)["a1"]
    with pytest.raises(SequenceError, match="10 concepts of dataset 'wiki' have no vector"):
        sets.freeze(db, "s")


def test_create_says_what_was_kept_on_one_side(
    db: Database, make_articles: Articles, write: Write
) -> None:
    articles = make_articles([8] * 20)
    articles[1] = with_vector(articles[1], 0, articles[0].vectors[5])
    write(articles)
    for name, kept in (("first", True), ("second", False)):
        said = io.StringIO()
        sets.create(db, SequenceSpec(name, "wiki"), progress=Progress(stream=said))
        line = "2 articles share near-duplicate concepts with others: kept on one side"
        assert (line in said.getvalue()) == kept
        assert "looking for near-duplicates: 160 concepts in" in said.getvalue()
        with db.raw_connection() as connection:
            connection.execute("DELETE FROM sequence_set")
        write([articles[0], make_articles([8] * 2)[1]])


def test_the_commands_admit_show_and_verify_leaks(
    make_articles: Articles, write: Write, sequence_set: MakeSet, sql: Sql, run: Run
) -> None:
    leaking_draft(make_articles([6] * 10), write, sequence_set, sql)
    code, _, err = run("sequences", "freeze", "s", "--allow-leaks", "2")
    assert code == 1
    assert "3 pairs" in err
    assert run("sequences", "freeze", "s", "--allow-leaks", "-1")[0] == 2
    code, out, _ = run("sequences", "freeze", "s", "--allow-leaks", "4")
    assert code == 0
    assert "3 leaks between splits" in out
    assert "3,4," in run("sequences", "show", "s", "--format", "csv")[1]
    code, _, err = run("verify", "--sequences", "s")
    assert code == 0
    assert "s: 3 pairs of near-duplicate concepts between splits, 4 allowed" in err
    made = run("sequences", "create", "t", "--split", "60/20/20", "--allow-leaks", "1")
    assert made[0] == 0, made
    assert sql("SELECT leaks, allowed_leaks FROM sequence_set WHERE name = 't'") == [(0, 1)]


@pytest.mark.parametrize(("allowed", "expected"), [(2, 1), (3, 0)])
def test_verify_counts_where_the_freeze_did_not(
    make_articles: Articles,
    write: Write,
    sequence_set: MakeSet,
    sql: Sql,
    run: Run,
    allowed: int,
    expected: int,
) -> None:
    leaking_draft(make_articles([6] * 10), write, sequence_set, sql)
    assert run("sequences", "freeze", "s", "--allow-leaks", "3")[0] == 0
    # As a set that was frozen before leaks were looked for.
    sql(
        "SET session_replication_role = replica; "
        f"UPDATE sequence_set SET leaks = NULL, allowed_leaks = {allowed}"
    )
    code, _, err = run("verify", "--sequences", "s")
    assert code == expected
    assert f"s: 3 pairs of near-duplicate concepts between splits, {allowed} allowed" in err
    assert sql("SELECT leaks FROM sequence_set") == [(None,)]


@pytest.mark.parametrize("allowed", [-1, 2**31])
def test_a_number_of_leaks_that_cannot_be_is_refused(
    db: Database, make_articles: Articles, write: Write, sequence_set: MakeSet, allowed: int
) -> None:
    with pytest.raises(UsageError, match="--allow-leaks"):
        SequenceSpec("s", "wiki", allowed_leaks=allowed)
    write(make_articles([5] * 5))
    sequence_set(freeze_it=False)
    with pytest.raises(UsageError, match="--allow-leaks"):
        sets.freeze(db, "s", allow_leaks=allowed)
