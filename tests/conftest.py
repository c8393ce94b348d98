"""What all tests share: a PostgreSQL server, a migrated database for each test, small corpora.

Fixtures:
    server_dsn      DSN of the test server's maintenance database (session).
    fresh_database  `with fresh_database() as db`: a clone of the migrated template, dropped at the
                    end; `fresh_database(migrated=False)` is an empty one (session, so that wider
                    fixtures can use it).
    db              a `Database` of the test's own, migrated and empty; what it commits stays in it.
                    `db.dsn` is its connection string.
    open_folders    `with open_folders() as folder`: an empty folder that every user may enter
                    (pytest's are closed), removed at the end; in memory where there is room.
    open_folder     one of the test's own.
    make_articles   `make_articles([7, 5])`: articles of so many concepts with seeded unit vectors.
    corpus          `corpus([7, 5], dataset="wiki")`: the same, written to `db` by the store.
    counts          `counts(db)`: rows of every table, to show that nothing changed.
    (autouse)       `LVMDB_*` variables are cleared, and `LVMDB_HOME` is a temporary folder.

The server is the embedded one, started once for all workers of pytest-xdist, with fsync off, in
memory where there is room: each database is 300 files, which cost a disk ten times as much. Or it
is the one at `LVMDB_TEST_DSN`, whose user must be allowed to create databases and the extension.
Without a server the tests fail; they are not skipped.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import conninfo, sql

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import migrate, server_settings
from lvmdb.db.engine import Database
from lvmdb.db.server import Server
from lvmdb.db.types import DIMENSION

HOME = "LVMDB_TEST_HOME"
"""Names the test server's folder to the workers; the controller makes and removes it."""

MEMORY, MEMORY_NEEDED = Path("/dev/shm"), 4 << 30
"""A file system in memory, and how much must be free there for the tests to use it."""

SERVER_MEMORY = 2 << 30
"""Bytes that the test server takes its machine to have."""

TOGETHER = (
    "/acceptance/",
    "/integration/test_calibration.py",
    "/integration/test_cli_bad_input.py",
    "/integration/test_cli_listings.py",
    "/integration/test_ingest.py",
    "/integration/test_report_files.py",
    "/integration/test_reproduce.py",
    "/integration/test_resume.py",
    "/integration/test_training.py",
    "/integration/services/",
    "/integration/test_worker_training.py",
    "/unit/corpus/test_encoder",
)
"""Where tests share something that takes seconds to make."""

# A machine that is busy with other work is slow, and that is no fault of what is tested; the same
# examples each time, so that a red run is red again.
settings.register_profile(
    "lvmdb", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lvmdb")

FreshDatabase = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[HOME] = str(_make_open_folder())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _remove_server(Path(os.environ.pop(HOME)))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: whoever collects garbage need not look at it again."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share what is dear to make go to one worker, first; others wherever there is one.

    By marks, xdist 3.8 would do it with a pytest before 9.2 only: there it cannot change an id.
    """
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((group for group in TOGETHER if group in nodeid), nodeid)

    return Together(config, log)


def _make_open_folder() -> Path:
    # Paths of sockets are short, so pytest's folders would not do either way.
    parent = MEMORY if _has_room(MEMORY) else Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix="lvmdb-test-", dir=parent))
    folder.chmod(0o755)
    return folder


def _has_room(folder: Path) -> bool:
    """Whether databases fit there, and programs may run from there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= MEMORY_NEEDED and not found.f_flag & os.ST_NOEXEC


def _remove_server(home: Path) -> None:
    server = Server(home)
    server.stop()
    shutil.rmtree(server.socket_folder, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("LVMDB_") and not name.startswith("LVMDB_TEST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LVMDB_HOME", str(tmp_path / "lvmdb-home"))


@pytest.fixture(scope="session")
def open_folders() -> Callable[[], AbstractContextManager[Path]]:
    """`with open_folders() as folder`: an empty folder that every user may enter."""

    @contextlib.contextmanager
    def make() -> Iterator[Path]:
        folder = _make_open_folder()
        yield folder
        shutil.rmtree(folder)

    return make


@pytest.fixture
def open_folder(open_folders: Callable[[], AbstractContextManager[Path]]) -> Iterator[Path]:
    """An empty folder that every user may enter."""
    with open_folders() as folder:
        yield folder


@pytest.fixture(scope="session")
def server_dsn() -> str:
    """DSN of the test server's maintenance database."""
    given = os.environ.get("LVMDB_TEST_DSN")
    if given:
        return given
    server = Server(Path(os.environ[HOME]))
    with pytest.MonkeyPatch.context() as patch:
        # As on a small machine: with each database that is made or dropped the server looks at all
        # its buffers.
        patch.setattr(server_settings, "machine_memory", lambda: SERVER_MEMORY)
        server.start()
    dsn = conninfo.make_conninfo(server.dsn, dbname="postgres")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        # What lies in memory stays small.
        connection.execute("ALTER SYSTEM SET max_wal_size = '512MB'")
        connection.execute("SELECT pg_reload_conf()")
    return dsn


@pytest.fixture(scope="session")
def fresh_database(server_dsn: str) -> Iterator[FreshDatabase]:
    """`with fresh_database() as db`: a database that lives as long as the block."""
    base = f"lvmdb_test_{os.getpid()}"
    numbers = itertools.count()
    left: deque[str] = deque()

    def execute(statement: str, name: str, *more: str) -> None:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, (name, *more))))

    def drop(keep: int) -> None:
        while len(left) > keep:
            execute("DROP DATABASE {} WITH (FORCE)", left.popleft())

    def dsn(name: str) -> str:
        return conninfo.make_conninfo(server_dsn, dbname=name)

    @contextlib.contextmanager
    def make(*, migrated: bool = True) -> Iterator[Database]:
        name = f"{base}_{next(numbers)}"
        # A copy of its files takes the server half the work of a copy through its log.
        execute(
            "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy",
            *(name, base if migrated else "template0"),
        )
        database = Database(dsn(name))
        try:
            yield database
        finally:
            database.close()
            # The server waits a tenth of a second for a session that is just ending, so the
            # database that goes now is an older one.
            left.append(name)
            drop(keep=1)

    with psycopg.connect(server_dsn, autocommit=True) as connection:
        execute("CREATE DATABASE {}", base)
        migrate.upgrade(Database(dsn(base)))
        yield make
        left.append(base)
        drop(keep=0)


@pytest.fixture
def db(fresh_database: FreshDatabase) -> Iterator[Database]:
    """A migrated database of the test's own."""
    with fresh_database() as database:
        yield database


@pytest.fixture(scope="session")
def make_articles() -> MakeArticles:
    """`make_articles(lengths)`: articles with deterministic texts and unit vectors.

    Args of the result:
        lengths: concepts of each article.
        seed: of texts and vectors.
        walk: neighbouring vectors are similar, as in real text; else they are independent.
        first: number of the first article's key, `a0` by default.
    """

    def make(
        lengths: Sequence[int], *, seed: int = 0, walk: bool = False, first: int = 0
    ) -> list[VectorArticle]:
        made = []
        for number, length in enumerate(lengths, start=first):
            generator = np.random.default_rng([seed, number])
            steps = generator.standard_normal((length, DIMENSION))
            if walk:
                for k in range(1, length):
                    steps[k] = 0.8 * steps[k - 1] + 0.6 * steps[k]
            vectors = (steps / np.linalg.norm(steps, axis=1, keepdims=True)).astype(np.float32)
            made.append(
                VectorArticle(
                    source_key=f"a{number}",
                    title=f"Article {number}",
                    url=None,
                    texts=tuple(f"Concept {k} of article {number}, {seed}." for k in range(length)),
                    source=f"test:{number + 1}",
                    vectors=vectors,
                )
            )
        return made

    return make


@pytest.fixture
def corpus(db: Database, make_articles: MakeArticles) -> MakeArticles:
    """`corpus(lengths)`: articles of `make_articles`, written by the store in one transaction.

    Further args: `dataset` ("wiki"), `encoder` ("test-encoder"), `into` (another database than
    `db`); those of `make_articles` besides.
    """

    def write(
        lengths: Sequence[int],
        *,
        dataset: str = "wiki",
        encoder: str = "test-encoder",
        into: Database = db,
        seed: int = 0,
        walk: bool = False,
        first: int = 0,
    ) -> list[VectorArticle]:
        written = make_articles(lengths, seed=seed, walk=walk, first=first)
        with into.begin() as connection:
            encoder_id = encoders.register_imported(connection, encoder)
            ensure_dataset(connection, dataset, encoder_id)
            hashes = [import_hash(article) for article in written]
            store(connection, dataset, encoder_id, written, hashes)
        return written

    return write


@pytest.fixture(scope="session")
def counts() -> Callable[[Database], dict[str, int]]:
    """`counts(db)`: the number of rows of every table."""

    def count(database: Database) -> dict[str, int]:
        with database.raw_connection() as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
            ).fetchall()
            counting = sql.SQL(" UNION ALL ").join(
                sql.SQL("SELECT {}, count(*) FROM {}").format(table, sql.Identifier(table))
                for (table,) in tables
            )
            return {table: int(rows) for table, rows in connection.execute(counting).fetchall()}

    return count
