"""The reader of text and Markdown: what is prose, keys, order, and broken files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers import text as module
from lvmdb.corpus.readers.base import numbered
from lvmdb.corpus.readers.markdown import prose
from lvmdb.corpus.readers.text import read_text
from lvmdb.errors import InputError


def _folder(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _folder(
        tmp_path,
        **{
            "b.txt": "\ufeffB one.\n\nB two.\0",
            "a/z.md": "# Zed\n\nZ text.",
            "a/b.MD": "No heading.",
            "a.txt": "A.",
            "a/.hidden.txt": "no",
            ".git/x.txt": "no",
            "c.rst": "no",
            "empty.txt": "",
        },
    )


def test_a_folder_is_read_in_the_order_of_names(folder: Path) -> None:
    assert list(read_text(folder)) == [
        RawArticle("a/b.MD", "b", "No heading."),
        RawArticle("a/z.md", "Zed", "Z text."),
        RawArticle("a.txt", "a", "A."),
        RawArticle("b.txt", "b", "B one.\n\nB two."),
        RawArticle("empty.txt", "empty", ""),
    ]
    keys = [a.source_key for a in read_text(folder, start=1, limit=4)]
    assert keys == ["a/z.md", "a.txt", "b.txt"]


def test_one_file_is_a_source_too(folder: Path) -> None:
    assert list(read_text(folder / "b.txt")) == [RawArticle("b.txt", "b", "B one.\n\nB two.")]


def test_links_that_go_round_are_not_followed(folder: Path) -> None:
    before = list(read_text(folder))
    (folder / "a" / "round").symlink_to(folder)
    (folder / "dangling.txt").symlink_to(folder / "nowhere")
    errors: list[InputError] = []
    assert list(read_text(folder, on_error=errors.append)) == before
    assert ["dangling.txt: cannot be read: No such file" in str(e) for e in errors] == [True]


def test_a_broken_file_is_an_error_of_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.txt").write_bytes(b"line\nline \xff\n")
    (tmp_path / "2.txt").write_text("good")
    (tmp_path / "3.txt").write_text("x" * 21)
    monkeypatch.setattr(module, "_LARGEST", 20)
    errors: list[tuple[int, str]] = []
    found = numbered(read_text, tmp_path, on_error=lambda i, e: errors.append((i, str(e))))
    assert [(i, a.title) for i, a in found] == [(1, "2")]
    assert [i for i, _ in errors] == [0, 2]
    assert f"{tmp_path}/1.txt:2: not UTF-8" in errors[0][1]
    assert f"{tmp_path}/3.txt: larger than 64 MiB" in errors[1][1]


def test_a_name_that_is_not_utf8_makes_a_key_that_is(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    try:
        with open(path, "w") as file:  # noqa: PTH123
            file.write("text")
    except OSError:
        pytest.skip("this file system's names are UTF-8")
    assert [a.source_key for a in read_text(tmp_path)] == ["caf\\xe9.txt"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such file or folder"),
        ("c.rst", r"unknown kind of file; known: \.txt, \.md, \.markdown, and folders"),
        (".git", r"the folder holds no \.txt"),
    ],
)
def test_a_source_of_another_kind_is_refused(folder: Path, name: str, message: str) -> None:
    (folder / ".git" / "x.txt").unlink()
    with pytest.raises(InputError, match=message):
        list(read_text(folder / name, on_error=lambda _: None))


MARKDOWN = [
    pytest.param("# A *b*\n\ntext", ("A b", "text"), id="title"),
    pytest.param("A\n===\n\nB\n---\n\ntext", ("A", "text"), id="underlined"),
    pytest.param("---\ntitle: x\n---\n# T\n\ntext", ("T", "text"), id="yaml"),
    pytest.param("+++\nx = 1\n+++\ntext", ("", "text"), id="toml"),
    pytest.param("one\ntwo  \nthree\n\nfour", ("", "one two three\n\nfour"), id="lines"),
    pytest.param("a *b* **c** ~d~ `e_f` g", ("", "a b c ~d~ e_f g"), id="inline"),
    pytest.param("[a b](http://x) ![alt](i.png) <http://y>", ("", "a b http://y"), id="links"),
    pytest.param("a [b][1] c\n\n[1]: http://x 'y'", ("", "a b c"), id="reference"),
    pytest.param("x\n\n```py\ncode\n```\n\ny\n\n    code\n\nz", ("", "x\n\ny\n\nz"), id="code"),
    pytest.param("x\n\n| a | b |\n|---|---|\n| c | d |\n\ny", ("", "x\n\ny"), id="table"),
    pytest.param("- a\n- b\n\n  c\n\n1. d", ("", "a\n\nb\n\nc\n\nd"), id="lists"),
    pytest.param("> q\n> r\n\nx", ("", "q r\n\nx"), id="quotation"),
    pytest.param("<div>\nno\n</div>\n\na <b>c</b> d\n\n---\n\ne", ("", "a c d\n\ne"), id="html"),
    pytest.param(r"a \* b &amp; &#65; c", ("", "a * b & A c"), id="escapes"),
    pytest.param("# T", ("T", ""), id="nothing"),
]


@pytest.mark.parametrize(("markup", "expected"), MARKDOWN)
def test_markdown_leaves_its_prose(markup: str, expected: tuple[str, str]) -> None:
    assert prose(markup) == expected
