"""Readers of lines and of Python's reference: articles, their keys and places, broken files."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import numbered
from lvmdb.corpus.readers.jsonl import read_jsonl
from lvmdb.corpus.readers.python_docs import read_python_docs
from lvmdb.corpus.readers.registry import get_reader
from lvmdb.errors import InputError, UnknownNameError, UsageError


def _write(path: Path, *records: object) -> Path:
    data = "".join(json.dumps(r) + "\n" for r in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_jsonl_gives_articles_in_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    path = _write(
        tmp_path / name,
        {"title": "B", "text": "b"},
        {"title": "A", "text": "a", "id": 7, "url": "https://example.org/a"},
        {"title": "C", "text": "c\0d", "id": "x", "url": None},
    )
    assert list(read_jsonl(path)) == [
        RawArticle("B", "B", "b"),
        RawArticle("7", "A", "a", "https://example.org/a"),
        RawArticle("x", "C", "cd"),
    ]


def test_equal_titles_are_numbered_and_never_collide(tmp_path: Path) -> None:
    titles = ["A", "A", "A#2", "A", "B"]
    path = _write(tmp_path / "a.jsonl", *({"title": t, "text": "t"} for t in titles))
    keys = [a.source_key for a in read_jsonl(path)]
    assert keys == ["A", "A#2", "A#2#2", "A#3", "B"]
    assert keys == [a.source_key for a in read_jsonl(path)]
    assert keys[:3] == [a.source_key for a in read_jsonl(path, limit=3)]


def test_a_byte_order_mark_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n\n{"title": "A", "text": "a"}\n\n')
    assert len(list(read_jsonl(path))) == 1


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_limit_stops_reading(tmp_path: Path, limit: int) -> None:
    path = _write(tmp_path / "a.jsonl", {"title": "A", "text": "a"}, {"title": "B", "text": "b"})
    with path.open("ab") as file:
        file.write(b"broken\n")
    assert len(list(read_jsonl(path, limit=limit))) == limit


GOOD = b'{"title": "A", "text": "a"}\n'
BROKEN_LINES = [
    pytest.param(b"{oops\n", "not JSON", id="not-json"),
    pytest.param(b'{"title": "A", "text": "a', "not JSON", id="cut-off"),
    pytest.param(b"[" * 100_000 + b"\n", "not JSON", id="deeply-nested"),
    pytest.param(b'{"title": "A", "text": "\xff"}\n', "not UTF-8", id="not-utf8"),
    pytest.param(b'{"title": "A", "text": "\\ud800"}\n', "half a surrogate", id="surrogate"),
    pytest.param(b"[1]\n", "not a JSON object", id="not-an-object"),
    pytest.param(b'{"title": "A"}\n', "`text` is missing", id="no-text"),
    pytest.param(b'{"text": "a"}\n', "`title` is missing", id="no-title"),
    pytest.param(b'{"title": "A", "text": 3}\n', "`text` is not a string", id="number"),
    pytest.param(b'{"title": "A", "text": " \\u0000"}\n', "`text` is empty", id="empty-text"),
    pytest.param(b'{"title": "A", "text": "a", "id": true}\n', "`id` is not", id="id-is-true"),
    pytest.param(b'{"title": "B", "text": "b", "id": "A"}\n', "earlier line", id="id-taken"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN_LINES)
def test_a_broken_line_is_one_error_that_names_it(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line)
    with pytest.raises(InputError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(message)) as e:
        list(read_jsonl(path))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("line", "message"), BROKEN_LINES)
def test_reading_goes_on_behind_a_broken_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line.rstrip(b"\n") + b"\n" + b'{"title": "Z", "text": "z"}\n')
    errors: list[InputError] = []
    assert [a.title for a in read_jsonl(path, on_error=errors.append)] == ["A", "Z"]
    assert [message in str(error) for error in errors] == [True]


def test_an_article_has_one_place_wherever_reading_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [b'{"title": "A", "text": "%d"}\n' % i for i in range(5)]
    path.write_bytes(lines[0] + b"\n" + lines[1] + b"oops\n" + b"".join(lines[2:]))
    errors: list[tuple[int, str]] = []

    def broken(place: int, error: InputError) -> None:
        errors.append((place, str(error)))

    found = list(numbered(read_jsonl, path, on_error=broken))
    assert [(i, a.source_key) for i, a in found] == [
        (0, "A"),
        (1, "A#2"),
        (3, "A#3"),
        (4, "A#4"),
        (5, "A#5"),
    ]
    assert [place for place, _ in errors] == [2]
    assert f"{path}:4: " in errors[0][1]
    for start in range(7):
        for limit in (None, *range(7)):
            errors.clear()
            some = list(numbered(read_jsonl, path, start=start, limit=limit, on_error=broken))
            stop = 6 if limit is None else limit
            assert some == [(i, a) for i, a in found if start <= i < stop]
            assert len(errors) == (start <= 2 < stop)
    with pytest.raises(InputError, match="not JSON"):
        list(numbered(read_jsonl, path, start=1))
    assert len(list(numbered(read_jsonl, path, start=3))) == 3
    with pytest.raises(UsageError, match="at article 0 or later, not at -1"):
        list(read_jsonl(path, start=-1))


def _truncated_gzip(path: Path) -> None:
    lines = b"".join(b'{"title": "%d", "text": "%d"}\n' % (i, i * i) for i in range(5000))
    path.write_bytes(gzip.compress(lines)[:-2000])


def _bad_gzip(path: Path) -> None:
    path.write_bytes(b"not gzip at all")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.jsonl", lambda _: None, "no such file"),
        ("a.jsonl", Path.touch, "the file is empty"),
        ("a.jsonl", Path.mkdir, "cannot be read: Is a directory"),
        ("a.jsonl.gz", _truncated_gzip, "truncated"),
        ("a.jsonl.gz", _bad_gzip, "not valid gzip"),
        ("a.csv", Path.touch, "unknown kind of file; known: .jsonl, .jsonl.gz"),
    ],
)
def test_a_broken_file_is_an_error_in_any_case(
    tmp_path: Path, name: str, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as e:
        list(read_jsonl(path, on_error=lambda _: None))
    assert str(path) in str(e.value)


def test_python_docs_are_the_same_every_time_and_sorted() -> None:
    articles = list(read_python_docs())
    assert articles == list(read_python_docs())
    names = [a.source_key for a in articles]
    assert names == sorted(set(names))
    assert len(articles) > 40
    assert all(a.title and a.text for a in articles)


def test_python_docs_limit_takes_the_longest() -> None:
    every = list(read_python_docs())
    few = list(read_python_docs(limit=10))
    assert few == [a for a in every if a in few]
    assert len(few) == 10
    shortest = min(len(a.text) for a in few)
    assert all(len(a.text) <= shortest for a in every if a not in few)
    assert list(read_python_docs(limit=0)) == []
    assert list(read_python_docs(limit=10, start=4)) == few[4:]


def test_python_docs_are_prose_without_repeats() -> None:
    articles = list(read_python_docs())
    for article in articles:
        assert not re.search(r"^\s*>>>|::=|^[*=-]{4,}$", article.text, re.MULTILINE)
        assert all(p == " ".join(p.split()) for p in article.text.split("\n\n"))
    held = [frozenset(a.text.split("\n\n")) for a in articles]
    assert not any(a <= b for i, a in enumerate(held) for j, b in enumerate(held) if i != j)


def test_an_unknown_reader_lists_the_known() -> None:
    assert get_reader("jsonl") is read_jsonl
    with pytest.raises(UnknownNameError, match=r"did you mean 'jsonl'.*python-docs"):
        get_reader("jsonk")
