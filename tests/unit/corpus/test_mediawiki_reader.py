"""The reader of MediaWiki's dumps: which pages, what of their markup, and broken files."""

from __future__ import annotations

import bz2
import tracemalloc
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers import mediawiki
from lvmdb.corpus.readers.base import numbered
from lvmdb.corpus.readers.mediawiki import read_mediawiki
from lvmdb.corpus.readers.wikitext import prose
from lvmdb.errors import InputError

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">
  <siteinfo><base>https://de.wikipedia.org/wiki/Hauptseite</base>
  <namespaces><namespace key="0" /><namespace key="6">Datei</namespace></namespaces></siteinfo>
"""
TAIL = "</mediawiki>\n"


def page(
    number: int, title: str, *texts: str, ns: int = 0, extra: str = "", model: str = "wikitext"
) -> str:
    revisions = "".join(
        f"<revision><id>{number}00</id><contributor><username>U</username><id>77</id></contributor>"
        f'<model>{model}</model><text xml:space="preserve">{escape(text)}</text></revision>'
        for text in texts
    )
    return (
        f"  <page><title>{escape(title)}</title><ns>{ns}</ns><id>{number}</id>{extra}"
        f"{revisions}</page>\n"
    )


PAGES = [
    page(12, "AC/DC & Co", "'''AC''' is a [[band]].\n\n[[Datei:A.jpg|mini|no]]\nTwo."),
    page(13, "Redirect", "#REDIRECT [[AC/DC]]", extra='<redirect title="AC/DC" />'),
    page(14, "Talk:AC", "talk", ns=1),
    page(15, "Old and new", "old", "new"),
    page(16, "Styles", "a {}", model="css"),
    page(17, "Only a template", "{{x|y}}"),
    page(18, "Last", "last"),
]
ARTICLES = [
    RawArticle(
        "12", "AC/DC & Co", "AC is a band.\n\nTwo.", "https://de.wikipedia.org/wiki/AC/DC_%26_Co"
    ),
    RawArticle("15", "Old and new", "new", "https://de.wikipedia.org/wiki/Old_and_new"),
    RawArticle("17", "Only a template", "", "https://de.wikipedia.org/wiki/Only_a_template"),
    RawArticle("18", "Last", "last", "https://de.wikipedia.org/wiki/Last"),
]
DUMP = (HEAD + "".join(PAGES) + TAIL).encode()


def _written(path: Path, data: bytes) -> Path:
    """A file; compressed ones have three streams, as those with an index."""
    if path.suffix == ".bz2":
        third = len(data) // 3
        parts = (data[:third], data[third : 2 * third], data[2 * third :])
        data = b"".join(bz2.compress(part) for part in parts)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.xml", "a.xml.bz2"])
def test_a_dump_gives_its_articles_without_markup(tmp_path: Path, name: str) -> None:
    path = _written(tmp_path / name, DUMP)
    assert list(read_mediawiki(path)) == ARTICLES
    for start in range(5):
        assert list(read_mediawiki(path, start=start, limit=3)) == ARTICLES[start:3]


def test_a_dump_without_a_site_has_no_addresses(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.xml", b"<mediawiki>" + PAGES[-1].encode() + b"</mediawiki>")
    assert [a.url for a in read_mediawiki(path)] == [None]


def test_a_broken_page_is_an_error_of_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediawiki, "_LARGEST", 100)
    pages = [page(1, "Long", "x" * 101), page(2, "", "x"), page(3, "Good", "x" * 100)]
    path = _written(tmp_path / "a.xml", (HEAD + "".join(pages) + TAIL).encode())
    errors: list[tuple[int, str]] = []
    found = list(numbered(read_mediawiki, path, on_error=lambda i, e: errors.append((i, str(e)))))
    assert [(i, a.source_key, len(a.text)) for i, a in found] == [(2, "3", 100)]
    assert [i for i, _ in errors] == [0, 1]
    assert f"{path}: page 1 'Long': its text has more than 100 characters" in errors[0][1]
    assert f"{path}: page 2 '': an article needs a title and an id" in errors[1][1]


def test_memory_does_not_grow_with_the_dump(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with path.open("w") as file:
        file.write(HEAD)
        for number in range(200):
            file.write(page(number, f"T{number}", "word " * 8_000))
        file.write(TAIL)
    assert path.stat().st_size > 8_000_000
    tracemalloc.start()
    try:
        assert list(read_mediawiki(path, start=200)) == []
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE mediawiki [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<mediawiki><page><title>&b;</title></page></mediawiki>"""


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.xml", None, "no such file"),
        ("a.xml", b"", ":1: the file is truncated or empty: no element found"),
        ("a.xml", DUMP[:-40], r":13: the file is truncated or empty"),
        ("a.xml", b"<mediawiki>\n<page></mediawiki>", ":2: not well-formed XML: mismatched tag"),
        ("a.xml", b"<mediawiki>\n\xff</mediawiki>", ":2: not well-formed XML: .*invalid token"),
        ("a.xml", b"<html>\n</html>", ":1: <html> is no export of MediaWiki"),
        ("a.xml", b"<mediawiki></mediawiki>", "the file has no pages"),
        ("a.xml", BOMB, ":2: a document type is declared, which is refused"),
        ("a.xml.bz2", bz2.compress(DUMP)[:-30], "the file is truncated: its compressed data end"),
        ("a.xml.bz2", b"not bzip2", ":1: not valid bzip2 data"),
        ("a.sql", b"", r"unknown kind of file; known: \.xml, \.xml\.bz2"),
    ],
)
def test_a_broken_file_is_an_error_in_any_case(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=message) as e:
        list(read_mediawiki(path, on_error=lambda _: None))
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


MARKUP = [
    pytest.param("a\nb\n\nc", "a b\n\nc", id="paragraphs"),
    pytest.param("'''''a''''' '''b''' ''c'' d's '''e'''s", "a b c d's es", id="quotes"),
    pytest.param("[[a]] [[b|c]]s [[d#e|f]] [[:Category:g]]", "a cs f Category:g", id="links"),
    pytest.param("x[[Category:y]] [[File:a.png|thumb|b [[c]] d]]z", "x z", id="media"),
    pytest.param("x [[de:Haus]] [[de:Haus|y]]", "x y", id="languages"),
    pytest.param("[http://a.org b c] http://d.org [http://e.org] f", "b c f", id="addresses"),
    pytest.param("a{{b|c={{d}}|e}} f{{g\n|h\n}}.", "a f.", id="templates"),
    pytest.param("a ({{b}}) c ({{d}}; e) f() (g {{h}}, i)", "a c (e) f() (g, i)", id="brackets"),
    pytest.param("a<ref>b</ref>c<ref name=d />.<ref\nname='e'>{{f}}</ref>", "ac.", id="references"),
    pytest.param("a\n{| class=b\n! c\n|-\n| d || {{e}}\n|}\nf", "a\n\nf", id="table"),
    pytest.param("a\n== b ==\nc\n===d===\n", "a\n\nc", id="headings"),
    pytest.param("a\n* b\n** c {{d\n|e}}\n# f\n: g\n; h : i\n----\nj", "a\n\nj", id="lists"),
    pytest.param("a <ul><li>b\nc</li></ul>\n\nd", "a\n\nd", id="html-lists"),
    pytest.param("a <gallery>\nb.jpg|c\n</gallery> d", "a d", id="gallery"),
    pytest.param("a <math>b_c</math> <code>d</code> <pre>e</pre>", "a d", id="formulas"),
    pytest.param("a<!-- b\n\nc -->d", "ad", id="comments"),
    pytest.param("a&nbsp;&amp; &#65;&#x42; &lt;b&gt; &bogus;", "a & AB <b> &bogus;", id="entities"),
    pytest.param("H<sub>2</sub>O<br>a<br />b <b>c</b>", "H2O a b c", id="tags"),
    pytest.param("<nowiki>[[a]] ''b''</nowiki> c", "a b c", id="nowiki"),
    pytest.param("<div class=a>b</div>c", "b\n\nc", id="blocks"),
    pytest.param("a < b <nowiki><p></nowiki> [[c", "a < b <p> c", id="loose-marks"),
    pytest.param("__NOTOC__ a __b__", "a __b__", id="behaviour"),
    pytest.param("a {{b\n\nc", "c", id="template-without-end"),
    pytest.param("a\n\n{| b\n\nc <p>d [[e", "a\n\nc d e", id="tags-without-end"),
    pytest.param("\0a {{{b|c}}}", "a", id="marks"),
    pytest.param("", "", id="nothing"),
]


@pytest.mark.parametrize(("markup", "expected"), MARKUP)
def test_markup_leaves_its_prose(markup: str, expected: str) -> None:
    assert prose(markup) == expected
