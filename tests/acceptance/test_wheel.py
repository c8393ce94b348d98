"""The wheel alone: installed where the checkout is not in sight, it does its work."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from lvmdb.db import revisions
from lvmdb.db.engine import Database

Lvmdb = Callable[..., str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and this one's packages without its own lvmdb."""
    folder = tmp_path_factory.mktemp("wheel")
    project = Path(__file__).parents[2]
    isolation = [] if importlib.util.find_spec("hatchling") is None else ["--no-isolation"]
    _run([sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", str(folder)], project)
    (wheel,) = folder.glob("lvmdb-*.whl")
    made = folder / "environment"
    _run([sys.executable, "-m", "venv", "--without-pip", str(made)], folder)
    python = made / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], folder)
    (packages,) = made.glob("lib/python*/site-packages")
    # A folder named in a .pth file has its own .pth files left alone: no editable install.
    (packages / "others.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    return made


@pytest.fixture
def lvmdb(environment: Path, tmp_path: Path) -> Lvmdb:
    """`lvmdb("migrate", "--sql")`: the wheel's program, from an empty folder; its output."""

    def run(*arguments: str) -> str:
        return _run([str(environment / "bin" / "lvmdb"), *arguments], tmp_path)

    return run


def _run(command: list[str], cwd: Path) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=kept)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_checkout_is_out_of_sight(environment: Path, tmp_path: Path) -> None:
    program = "import json, lvmdb, sys; print(json.dumps([lvmdb.__file__, sys.path]))"
    file, path = json.loads(_run([str(environment / "bin" / "python"), "-c", program], tmp_path))
    assert Path(file).is_relative_to(environment)
    assert str(Path(__file__).parents[2]) not in path


def test_it_does_its_work(lvmdb: Lvmdb, db: Database) -> None:
    assert lvmdb("--version").startswith("lvmdb, version ")
    assert "CREATE TABLE cpe_entry" in lvmdb("migrate", "--sql")
    assert lvmdb("migrate", "--dsn", db.dsn) == f"at {revisions.head()}\n"
    assert lvmdb("migrate", "--dsn", db.dsn, "--check").endswith("no difference\n")
    assert "leaderboard" in lvmdb("report")
    empty = lvmdb("report", "leaderboard", "--dsn", db.dsn, "--format", "csv", "-q")
    assert empty.startswith("sequence_set,")
