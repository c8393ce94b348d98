"""`sql/` and `migrations/` are found in a wheel as they are in a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lvmdb.db import files, migrate, queries, revisions
from lvmdb.db.engine import Database

CHECKOUT = Path(__file__).resolve().parents[2]

ASK = """
import json, sys
import lvmdb
from lvmdb.db import files, migrate, queries, revisions
print(json.dumps({
    "package": lvmdb.__file__,
    "head": revisions.head(),
    "reports": queries.report_names(),
    "statement": str(queries.query("sequences", "stream_spans")),
    "folders": [str(files.project_folder(name)) for name in ("sql", "migrations")],
}))
if len(sys.argv) > 1:
    from lvmdb.db.engine import Database
    migrate.upgrade(Database(sys.argv[1]), "base")
    migrate.upgrade(Database(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run([*command, str(CHECKOUT)], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def ask(root: Path, cwd: Path, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_wheel_carries_them_inside_the_package(wheel: Path, tmp_path: Path, db: Database) -> None:
    answer = ask(wheel, tmp_path, db.dsn)
    assert answer == {
        "package": str(wheel / "lvmdb" / "__init__.py"),
        "head": revisions.head(),
        "reports": queries.report_names(),
        "statement": str(queries.query("sequences", "stream_spans")),
        "folders": [str(wheel / "lvmdb" / name) for name in ("sql", "migrations")],
    }
    assert migrate.drift(db) == []


def test_a_checkout_has_them_beside_the_package(tmp_path: Path) -> None:
    answer = ask(CHECKOUT, tmp_path)
    assert answer["package"] == str(CHECKOUT / "lvmdb" / "__init__.py")
    assert answer["folders"] == [str(CHECKOUT / name) for name in ("sql", "migrations")]
    assert files.project_folder("sql") == CHECKOUT / "sql"


def test_a_wheel_holds_every_file_of_both(wheel: Path) -> None:
    for name in ("sql", "migrations"):
        wanted = {p.relative_to(CHECKOUT) for p in (CHECKOUT / name).rglob("*.*")}
        wanted = {p for p in wanted if p.suffix in (".sql", ".py", ".mako")}
        assert wanted
        for path in wanted:
            assert (wheel / "lvmdb" / path).read_bytes() == (CHECKOUT / path).read_bytes()


def test_a_wheel_holds_what_the_page_is_made_of(wheel: Path) -> None:
    templates = Path("lvmdb/services/templates")
    wanted = {file.name: file.read_bytes() for file in (CHECKOUT / templates).iterdir()}
    assert {Path(name).suffix for name in wanted} == {".html", ".css", ".svg"}
    assert {file.name: file.read_bytes() for file in (wheel / templates).iterdir()} == wanted


def test_a_wheel_has_no_tests_in_it(wheel: Path) -> None:
    top = {path.name for path in wheel.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"lvmdb"}
