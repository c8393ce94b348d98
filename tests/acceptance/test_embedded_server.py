"""`lvmdb db`: status, stop, start, psql, dump and restore, as a user calls them."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from lvmdb.db import runs
from lvmdb.training.plan import plan

FINGERPRINTS = """
SELECT name, fingerprint FROM sequence_set
UNION ALL SELECT run_id || ' ' || kind, sha256 FROM checkpoint
ORDER BY 1
"""


def items(program: Any) -> dict[str, Any]:
    rows = json.loads(program("db", "status", "--format", "json").stdout)
    return {row["item"]: row["value"] for row in rows}


def fingerprints(program: Any) -> dict[str, bytes]:
    """Of sequence sets, and of the weights of runs."""
    with program.database.raw_connection() as connection:
        return dict(connection.execute(FINGERPRINTS).fetchall())


def test_dump_and_restore(demo: Any, program: Any) -> None:
    """Into another home, and again into the same one: the same data, to the bit."""
    folder = program.home.parent
    whole, small, truncated = (folder / f"{name}.dump" for name in ("whole", "small", "half"))
    assert demo.program("db", "dump", str(whole)).stdout.startswith(f"wrote {whole} (")
    restored = program("db", "restore", str(whole), "--yes")
    assert restored.stdout == f"restored {whole}\n"
    assert "started PostgreSQL in " in restored.stderr
    expected = fingerprints(demo.program)
    assert len(expected) > 9
    assert fingerprints(program) == expected
    verified = program("verify", "--sequences", "python-docs-12")
    assert "the data is what was frozen" in verified.stderr
    program("migrate", "--check")

    # From here on without the weights of the two models, which are most of the bytes.
    for run_id in (8, 9):
        runs.remove(program.database, run_id)
    expected = fingerprints(program)
    program("db", "dump", str(small))
    runs.remove(program.database, 7)
    changed = fingerprints(program)
    assert changed != expected
    shutil.copyfile(small, truncated)
    os.truncate(truncated, small.stat().st_size // 2)
    failed = program("db", "restore", str(truncated), "--yes", code=1)
    assert failed.stderr.startswith("lvmdb: pg_restore: error")
    assert failed.stderr.count("\n") == 1
    assert fingerprints(program) == changed, "a restore that fails leaves everything as it was"
    program("db", "restore", str(small), "--yes")
    assert fingerprints(program) == expected

    # What is new takes no id of what was there.
    assert plan(program.database, "copy-last", "python-docs-12", {}, seed=3) == 10


def test_status_shows_the_largest_tables(demo: Any) -> None:
    found = items(demo.program)
    assert "table cpe_entry" in found
    assert "table prediction" in found


def test_status_stop_and_start(program: Any) -> None:
    before = items(program)
    assert before["embedded server"] == "stopped: 'lvmdb db start' starts it"
    assert not program.home.exists(), "to look is not to make"
    assert program("db", "stop").stdout == "was not running\n"

    assert program("db", "start").stdout.startswith("started: postgresql://")
    assert program("db", "start").stdout.startswith("running already: ")
    assert program("migrate").stdout.startswith("empty -> ")
    running = items(program)
    assert running["embedded server"].startswith("running (process ")
    assert running["PostgreSQL"].startswith("18")
    assert running["pgvector"].startswith("0.8")
    assert (running["jit"], running["fsync"], running["synchronous_commit"]) == ("off", "on", "on")
    assert running["shared_buffers"] != "128MB"
    assert running["LVMDB_HOME"] == str(program.home)

    assert program("db", "stop").stdout == "stopped\n"
    listed = program("runs", "list", "--format", "csv")
    assert "started PostgreSQL in " in listed.stderr
    assert listed.stdout.startswith("run,") or listed.stdout.startswith("run_id,")


def test_psql_gets_what_follows_and_gives_its_exit_code(demo: Any) -> None:
    assert demo.program("db", "psql", "--", "-Atqc", "select 1").stdout == "1\n"
    wrong = demo.program("db", "psql", "--", "-Atqc", "select nothing", code=1)
    assert 'column "nothing" does not exist' in wrong.stderr
    piped = demo.program.shell("echo 'select 6 * 7;' | lvmdb db psql -- -At")
    assert piped.stdout == "42\n"


def test_a_reader_that_leaves_early_is_no_error(demo: Any) -> None:
    done = demo.program.shell(
        "set -o pipefail; lvmdb report predictions --run-id 9 --format json -q | head -c 1"
    )
    assert (done.stdout, done.stderr) == ("[", "")


def test_destroying_asks_first(demo: Any) -> None:
    asked = demo.program.shell("echo n | lvmdb runs delete 9", code=130)
    assert "Delete run 9 and all that it measured?" in asked.stderr
    assert asked.stdout == ""
    assert demo.program("runs", "show", "9").stdout
