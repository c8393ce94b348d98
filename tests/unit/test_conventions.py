"""Ways of writing that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "lvmdb").rglob("*.py"))
MODULES = [path for path in PACKAGE if path.name != "__init__.py"]
LONGEST = 330
"""About 300: a longer module wants a second room."""

_STATEMENT = re.compile(
    r"^\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|CREATE\s+\w+|DROP\s+\w+|"
    r"ALTER\s+\w+|COPY\s+\S+|WITH\s+\w+\s+AS|SET\s+LOCAL|TRUNCATE)\b",
    re.IGNORECASE | re.DOTALL,
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def made_at_run_time(tree: ast.AST) -> list[str]:
    """Texts that begin like SQL and are f-strings, or joined by + or %, or given to .format."""
    found: list[str] = []
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(_text(part) or "x" for part in node.values)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            text = _text(node.left)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            text = _text(node.func.value) if node.func.attr == "format" else ""
        if _STATEMENT.match(text):
            found.append(text)
    return found


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_no_sql_is_made_from_strings() -> None:
    found = {name_of(path): made_at_run_time(ast.parse(path.read_text())) for path in MODULES}
    assert {name: texts for name, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "source",
    [
        'f"SELECT {a} FROM t"',
        'f"DELETE FROM {table}"',
        '"INSERT INTO t VALUES (%s)" % value',
        '"DROP TABLE " + name',
        '"CREATE INDEX {}".format(name)',
    ],
)
def test_sql_made_from_strings_is_found(source: str) -> None:
    assert made_at_run_time(ast.parse(source))


def test_statements_are_composed_where_contributing_says() -> None:
    composing = {name_of(path) for path in MODULES if re.search(r"\bSQL\(", path.read_text())}
    assert {name for name in composing if not name.startswith("lvmdb/db/")} == {
        "lvmdb/corpus/bench.py",
        "lvmdb/retrieval/pgvector_engines.py",
    }


def test_every_module_says_what_it_is_for() -> None:
    for path in PACKAGE:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), name_of(path)
        if path.name == "__init__.py":
            assert len(tree.body) == 1, f"{name_of(path)} holds more than a docstring"


def test_modules_are_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_what_is_public_has_a_docstring() -> None:
    missing: list[str] = []

    def look(body: list[ast.stmt], prefix: str, *, derived: bool) -> None:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            # A method of a derived class may take its base's words for it.
            if not ast.get_docstring(node) and not derived:
                missing.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.", derived=bool(node.bases))

    for path in MODULES:
        look(ast.parse(path.read_text()).body, f"{name_of(path)}: ", derived=False)
    assert missing == []


def test_only_settings_reads_the_environment() -> None:
    readers = {
        name_of(path) for path in MODULES if re.search(r"os\.environ|os\.getenv", path.read_text())
    }
    # The server hands the environment on to PostgreSQL's programs.
    assert readers <= {"lvmdb/settings.py", "lvmdb/db/server.py", "lvmdb/db/server_programs.py"}
